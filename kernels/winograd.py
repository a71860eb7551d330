"""Winograd's convolution F(4×4, r×r), for 3×3 filters at stride 1 and 4×4 filters at stride 2
(arXiv:1509.09308)

A 4×4 tile of the output, from the n×n tile d of the image under it, n = 4 + r − 1, and an r×r
filter w:

    y = Aᵀ [(G w Gᵀ) ∘ (Bᵀ d B)] A         n² products in place of 16·r²: 36 for 144, 25 for 64

Summed over channels, ∘ is n² matrix products, one for each place in the tile. The adjoint with
respect to w gives the gradient of the filters from g:

    gw = Gᵀ [(A g Aᵀ) ∘ (Bᵀ d B)] G

A 4×4 filter at stride 2 is a 2×2 filter at stride 1 on the four images of every second pixel (the
phases), one in the place of each channel; its transpose has the phases in the output. Row 2h + a,
column 2w + b of an image with channels innermost, (2H, 2W, C), is number (h, a, w, b, c): so the
phases b lie beside the channels already, and those of a are rows further on.

In float32 the result is good to about 1e-5 of its largest value. The transforms run on images with
channels innermost, so that every step is a plain loop over many channels.
"""

import numpy as np
from numba import prange

from .columns import channels_first, channels_last, even
from .common import chunks, compiled, gemm, one_blas_thread, threaded
from .matmul import matmul

TILES = 96  # tiles in a block, at least: what makes the products efficient


def toom_cook(r):
    """Aᵀ (4, n), Bᵀ (n, n) and G ⊗ G (n², r²), which makes G w Gᵀ of a flattened filter: product i
    is of the polynomials' values at point i, the last at infinity."""
    points = np.array([0, 1, -1, 2, -2])[:r + 2]
    others = [np.delete(points, i) for i in range(len(points))]
    AT = np.vander(points, 4, increasing=True).T
    BT = [np.append(np.poly(o)[::-1], 0) for o in others] + [np.poly(points)[::-1]]
    G = [p ** np.arange(r) / np.prod(p - o) for p, o in zip(points, others, strict=True)]
    last = lambda n: np.eye(n)[-1]
    G = np.array([*G, last(r)])
    return np.column_stack([AT, last(4)]), np.array(BT), np.kron(G, G)


MATRICES = {r: toom_cook(r) for r in (2, 3)}
PHASES = {((3, 3), (1, 1)): 1, ((4, 4), (2, 2)): 2}  # of filter and stride


def fits(N, C, K, out, kernel, stride, dilation, groups):
    """Whether Winograd is the faster way: enough channels, images for all threads, little waste."""
    return ((kernel, stride) in PHASES and dilation == (1, 1) and groups == 1
            and min(C, K) >= 16 and N >= chunks(N) and min(out) >= 4)


def conv2d(x, w, b, stride, padding, y):
    K, C = w.shape[:2]
    AT, BT, GG = (M.astype(x.dtype) for M in MATRICES[w.shape[2] // stride[0]])
    s = stride[0]
    u = matmul.cpu(GG, _phases(w, s)).reshape(-1, s, K, s * C)
    with one_blas_thread():
        _conv2d(x, u, b, padding, (0, 0), y, BT, AT, 1, chunks(len(x)))


def conv_transpose2d(x, w, b, stride, padding, y):
    """For stride 2: at stride 1 it is conv2d of the turned filters."""
    K, C = w.shape[:2]
    AT, BT, GG = (M.astype(x.dtype) for M in MATRICES[w.shape[2] // stride[0]])
    s, r = stride[0], w.shape[2] // stride[0]
    turned = _phases(w, s)[::-1].reshape(r * r, s, K, s * C).swapaxes(2, 3)
    u = matmul.cpu(GG, np.ascontiguousarray(turned).reshape(r * r, -1))
    with one_blas_thread():
        _conv2d(x, u.reshape(-1, 1, s * s * C, K), b, (r - 1, r - 1), padding, y, BT, AT, s,
                chunks(len(x)))


def conv2d_weight(g, x, size, stride, padding):
    K, C, s = g.shape[1], x.shape[1], stride[0]
    r = size[0] // s
    AT, BT, GG = (M.astype(x.dtype) for M in MATRICES[r])
    parts = np.empty((chunks(len(x)), len(GG), s, K, s * C), x.dtype)
    with one_blas_thread():
        _weight(g, x, padding, BT, np.ascontiguousarray(AT.T), parts)
    gw = matmul.cpu(GG.T, parts.sum(0).reshape(len(GG), -1)).reshape(r, r, s, K, s, C)
    return np.ascontiguousarray(gw.transpose(3, 5, 0, 2, 1, 4)).reshape(K, C, *size)


def _phases(w, s):
    """w (K, C, r·s, r·s) as (r², [a, k, b, c]): filters r×r of every phase (a, b)."""
    K, C, R, S = w.shape
    w = w.reshape(K, C, R // s, s, S // s, s).transpose(2, 4, 3, 0, 5, 1)
    return np.ascontiguousarray(w).reshape(R * S // s ** 2, -1)


@compiled
def _combine(M, x, at, step, y, to, stride, size):
    """y_i = Σ_j M[i,j] · x_j, all of one size; x_j starts at + j·step, y_i at to + i·stride."""
    a, b, c, d = x[at:], x[at + step:], x[at + 2 * step:], x[at + 3 * step:]
    e, f = x[at + min(4, M.shape[1] - 1) * step:], x[at + min(5, M.shape[1] - 1) * step:]
    for i in range(len(M)):
        out = y[to + i * stride:]
        p, q, r, s = M[i, 0], M[i, 1], M[i, 2], M[i, 3]
        if M.shape[1] == 4:
            for l in range(size):
                out[l] = p * a[l] + q * b[l] + r * c[l] + s * d[l]
        elif M.shape[1] == 5:
            t = M[i, 4]
            for l in range(size):
                out[l] = p * a[l] + q * b[l] + r * c[l] + s * d[l] + t * e[l]
        else:
            t, u = M[i, 4], M[i, 5]
            for l in range(size):
                out[l] = p * a[l] + q * b[l] + r * c[l] + s * d[l] + t * e[l] + u * f[l]


@compiled
def _tiles(x, M, top, left, rows, columns, phases, image, half, v, tile, tiles):
    """v[i, tile, a, j, (b, c)] = (M d Mᵀ)[i, j] for all tiles d of the phases (a, b) of one image
    x (C, H, W), from `tile` on.

    Tiles are as large as M is wide, 4 apart; image and half are buffers.
    """
    n, m = M.shape
    B, height, width = phases * len(x), 4 * rows + m - 4, 4 * columns + m - 4
    channels_last(x, top, left, (phases * height, phases * width), image)
    for h in range(phases * height):
        for t in range(columns):
            _combine(M, image, (h * width + 4 * t) * B, B, half, (h * columns + t) * n * B, B, B)
    for r in range(rows):
        for t in range(columns):
            for a in range(phases):
                to = ((tile + r * columns + t) * phases + a) * n * B
                _combine(M, half, ((4 * r * phases + a) * columns + t) * n * B,
                         phases * columns * n * B, v, to, tiles * phases * n * B, n * B)


@threaded
def _conv2d(x, u, b, padding, crop, y, BT, AT, out, chunks):
    """u (n², phases of x, K, B), B channels of x and K of y, those of its phases included, `out`
    each way; of y, made whole tiles at a time, `crop` is cut off above and to the left."""
    (N, _, H, W), n, (_, phases, K, B) = y.shape, len(BT), u.shape
    rows, columns = (H + crop[0] - 1) // out // 4 + 1, (W + crop[1] - 1) // out // 4 + 1
    images = even(N, chunks, -(-TILES // (rows * columns)))
    tiles, items = images * rows * columns, -(-N // images)
    height, width, D = 4 * rows + n - 4, 4 * columns + n - 4, K // out
    for chunk in prange(chunks):
        image = np.empty(height * width * max(phases * B, K), x.dtype)
        half = np.empty(max(phases * height * columns * n * B, 4 * n * K), x.dtype)
        v = np.empty(n * n * tiles * phases * B, x.dtype)
        m = np.empty(n * n * tiles * K, x.dtype)
        for item in range(chunk * items // chunks, (chunk + 1) * items // chunks):
            n0, n1 = item * images, min(N, (item + 1) * images)
            for i in range(n0, n1):
                _tiles(x[i], BT, padding[0], padding[1], rows, columns, phases, image, half,
                       v, (i - n0) * rows * columns, tiles)
            for i in range(n):
                for j in range(n):
                    for a in range(phases):
                        gemm(False, True, (n1 - n0) * rows * columns, K, B,
                             v[((i * tiles * phases + a) * n + j) * B:], phases * n * B,
                             u[i * n + j, a], B, a > 0, m[(i * tiles * n + j) * K:], n * K)
            for i in range(n0, n1):
                for r in range(rows):
                    for t in range(columns):
                        tile = ((i - n0) * rows + r) * columns + t
                        _combine(AT, m, tile * n * K, tiles * n * K, half, 0, n * K, n * K)
                        for h in range(4):
                            for a in range(out):
                                to = (((4 * r + h) * out + a) * columns + t) * 4 * D
                                _combine(AT, half, h * n * K + a * D, K, image, to, D, D)
                channels_first(image, 4 * columns * out, crop[0], crop[1], b, y[i])


@threaded
def _weight(g, x, padding, BT, A, parts):
    (N, K, P, Q), (chunks, _, phases, _, B) = g.shape, parts.shape
    n, rows, columns = len(BT), -(-P // 4), -(-Q // 4)
    images = even(N, chunks, -(-TILES // (rows * columns)))
    tiles, items = images * rows * columns, -(-N // images)
    height, width = 4 * rows + n - 4, 4 * columns + n - 4
    for chunk in prange(chunks):
        image = np.empty(height * width * max(phases * B, K), x.dtype)
        half = np.empty(height * columns * n * max(phases * B, K), x.dtype)
        v = np.empty(n * n * tiles * phases * B, x.dtype)
        z = np.empty(n * n * tiles * K, x.dtype)
        first, last = chunk * items // chunks, (chunk + 1) * items // chunks
        if first == last:
            parts[chunk] = 0
        for item in range(first, last):
            n0, n1 = item * images, min(N, (item + 1) * images)
            for i in range(n0, n1):
                tile = (i - n0) * rows * columns
                _tiles(x[i], BT, padding[0], padding[1], rows, columns, phases, image, half,
                       v, tile, tiles)
                _tiles(g[i], A, 0, 0, rows, columns, 1, image, half, z, tile, tiles)
            for i in range(n):
                for j in range(n):
                    for a in range(phases):
                        gemm(True, False, K, B, (n1 - n0) * rows * columns,
                             z[(i * tiles * n + j) * K:], n * K,
                             v[((i * tiles * phases + a) * n + j) * B:], phases * n * B,
                             item > first, parts[chunk, i * n + j, a], B)
