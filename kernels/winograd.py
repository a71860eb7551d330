"""Winograd's convolution F(4×4, 3×3), for 3×3 filters at stride 1 (arXiv:1509.09308)

A 4×4 tile of the output, from the 6×6 tile d of the image under it and a 3×3 filter w:

    y = Aᵀ [(G w Gᵀ) ∘ (Bᵀ d B)] A                       36 products in place of 16·9 = 144

Summed over channels, ∘ is 36 matrix products, one for each place in the tile: a quarter of the
FLOPs that columns take. The adjoint with respect to w gives the gradient of the filters from g:

    gw = Gᵀ [(A g Aᵀ) ∘ (Bᵀ d B)] G

In float32 the result is good to about 1e-5 of its largest value. The transforms run on images with
channels innermost, so that every step is a plain loop over many channels.
"""

import numpy as np
from numba import prange

from .columns import channels_first, channels_last, even
from .common import chunks, compiled, gemm, one_blas_thread, threaded
from .matmul import matmul

AT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
BT = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
               [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
GG = np.kron(G, G)  # (36, 9): G w Gᵀ of a flattened filter

TILES = 96  # tiles in a block, at least: what makes the products efficient


def fits(N, C, K, out, kernel, stride, dilation, groups):
    """Whether Winograd is the faster way: enough channels, images for all threads, little waste."""
    P, Q = out
    return (kernel == (3, 3) and stride == dilation == (1, 1) and groups == 1
            and min(C, K) >= 16 and N >= chunks(N) and min(P, Q) >= 4)


def conv2d(x, w, b, padding, y):
    K, C = w.shape[:2]
    u = matmul.cpu(GG.astype(x.dtype), w.reshape(K * C, 9).T).reshape(36, K, C)
    with one_blas_thread():
        _conv2d(x, u, b, padding, y, BT.astype(x.dtype), AT.astype(x.dtype), chunks(len(x)))


def conv2d_weight(g, x, padding):
    K, C = g.shape[1], x.shape[1]
    parts = np.zeros((chunks(len(x)), 36, K, C), x.dtype)
    with one_blas_thread():
        _weight(g, x, padding, BT.astype(x.dtype), np.ascontiguousarray(AT.T, x.dtype), parts)
    return matmul.cpu(parts.sum(0).reshape(36, K * C).T, GG.astype(x.dtype)).reshape(K, C, 3, 3)


@compiled
def _combine(M, x, at, step, y, to, stride, size):
    """y_i = Σ_j M[i,j] · x_j, all vectors of one size; x_j starts at + j·step, y_i to + i·stride."""
    a, b, c, d = x[at:], x[at + step:], x[at + 2 * step:], x[at + 3 * step:]
    if M.shape[1] == 4:
        for i in range(len(M)):
            out = y[to + i * stride:]
            p, q, r, s = M[i, 0], M[i, 1], M[i, 2], M[i, 3]
            for l in range(size):
                out[l] = p * a[l] + q * b[l] + r * c[l] + s * d[l]
    else:
        e, f = x[at + 4 * step:], x[at + 5 * step:]
        for i in range(len(M)):
            out = y[to + i * stride:]
            p, q, r, s, t, u = M[i, 0], M[i, 1], M[i, 2], M[i, 3], M[i, 4], M[i, 5]
            for l in range(size):
                out[l] = p * a[l] + q * b[l] + r * c[l] + s * d[l] + t * e[l] + u * f[l]


@compiled
def _tiles(x, M, top, left, rows, columns, image, half, v, tile, tiles):
    """v[i, tile, j, c] = (M d Mᵀ)[i, j] for all tiles d of one image x (C, H, W), from `tile` on.

    Tiles are as large as M is wide, 4 apart; image and half are buffers.
    """
    C, n = len(x), M.shape[1]
    height, width = 4 * rows + n - 4, 4 * columns + n - 4
    channels_last(x, top, left, (height, width), image)
    for h in range(height):
        for t in range(columns):
            _combine(M, image, (h * width + 4 * t) * C, C, half, (h * columns + t) * 6 * C, C, C)
    for r in range(rows):
        for t in range(columns):
            _combine(M, half, (4 * r * columns + t) * 6 * C, columns * 6 * C,
                     v, (tile + r * columns + t) * 6 * C, tiles * 6 * C, 6 * C)


@threaded
def _conv2d(x, u, b, padding, y, BT, AT, chunks):
    (N, K, P, Q), C = y.shape, x.shape[1]
    rows, columns = -(-P // 4), -(-Q // 4)
    images = even(N, chunks, -(-TILES // (rows * columns)))
    tiles, items = images * rows * columns, -(-N // images)
    for chunk in prange(chunks):
        image = np.empty((4 * rows + 2) * (4 * columns + 2) * max(C, K), x.dtype)
        half = np.empty((4 * rows + 2) * columns * 6 * max(C, K), x.dtype)
        v = np.empty(36 * tiles * C, x.dtype)
        m = np.empty(36 * tiles * K, x.dtype)
        for item in range(chunk * items // chunks, (chunk + 1) * items // chunks):
            n0, n1 = item * images, min(N, (item + 1) * images)
            for n in range(n0, n1):
                _tiles(x[n], BT, padding[0], padding[1], rows, columns, image, half,
                       v, (n - n0) * rows * columns, tiles)
            for i in range(6):
                for j in range(6):
                    gemm(False, True, (n1 - n0) * rows * columns, K, C,
                         v[(i * tiles * 6 + j) * C:], 6 * C, u[i * 6 + j], C,
                         0, m[(i * tiles * 6 + j) * K:], 6 * K)
            for n in range(n0, n1):
                for r in range(rows):
                    for t in range(columns):
                        tile = ((n - n0) * rows + r) * columns + t
                        _combine(AT, m, tile * 6 * K, tiles * 6 * K, half, 0, 6 * K, 6 * K)
                        for i in range(4):
                            _combine(AT, half, i * 6 * K, K,
                                     image, ((4 * r + i) * columns + t) * 4 * K, K, K)
                channels_first(image, 4 * columns, 0, 0, b, y[n])


@threaded
def _weight(g, x, padding, BT, A, parts):
    (N, K, P, Q), (chunks, _, _, C) = g.shape, parts.shape
    rows, columns = -(-P // 4), -(-Q // 4)
    images = even(N, chunks, -(-TILES // (rows * columns)))
    tiles, items = images * rows * columns, -(-N // images)
    for chunk in prange(chunks):
        image = np.empty((4 * rows + 2) * (4 * columns + 2) * max(C, K), x.dtype)
        half = np.empty((4 * rows + 2) * columns * 6 * max(C, K), x.dtype)
        v = np.empty(36 * tiles * C, x.dtype)
        z = np.empty(36 * tiles * K, x.dtype)
        for item in range(chunk * items // chunks, (chunk + 1) * items // chunks):
            n0, n1 = item * images, min(N, (item + 1) * images)
            for n in range(n0, n1):
                tile = (n - n0) * rows * columns
                _tiles(x[n], BT, padding[0], padding[1], rows, columns, image, half, v, tile, tiles)
                _tiles(g[n], A, 0, 0, rows, columns, image, half, z, tile, tiles)
            for i in range(6):
                for j in range(6):
                    gemm(True, False, K, C, (n1 - n0) * rows * columns,
                         z[(i * tiles * 6 + j) * K:], 6 * K, v[(i * tiles * 6 + j) * C:], 6 * C,
                         1, parts[chunk, i * 6 + j], C)
