"""Winograd's convolution F(4×4, r×r), for 3×3 filters at stride 1 and 4×4 filters at stride 2
(arXiv:1509.09308)

A 4×4 tile of the output, from the n×n tile d of the image under it, n = 4 + r − 1, and an r×r
filter w:

    y = Aᵀ [(G w Gᵀ) ∘ (Bᵀ d B)] A         n² products instead of 16·r²: 36 for 144, 25 for 64

Summed over channels, ∘ is n² matrix products, one for each position in the tile. The adjoint with
respect to w gives the gradient of the filters from g:

    gw = Gᵀ [(A g Aᵀ) ∘ (Bᵀ d B)] G

A 4×4 filter at stride 2 is a 2×2 filter at stride 1 on the four images of every second pixel (the
phases), which replace each channel; its transpose has the phases in the output. Row 2h + a, column
2w + b of an image with channels innermost, (2H, 2W, C), has the index (h, a, w, b, c): so the
phases b are already next to the channels, and the phases a are rows apart.

In float32, with 128 channels, the RMS error is at most 2.5e-6 of the RMS of the result, against
3e-7 for a product of columns; the largest error is 1e-5 of the largest value. Errors spread over
whole tiles: next to a value a million times larger small ones are lost, and next to an infinite one
they become NaN, while a product of columns would keep them. The transforms run on images with
channels innermost, so that every step is a plain loop over many channels.
"""

import math

import numpy as np

from .columns import (
    balanced_block,
    channels_first,
    channels_innermost,
    channels_last,
    filters_last,
    pixel_offsets,
)
from .combination import combination
from .common import buffer, chunks, compiled, empty, share
from .matmul import matmul
from .once import once, once_pointers, threaded
from .product import product

TILES = 24  # tiles in a block, at least: few enough to stay in cache along with the filters
MANY_TILES, LARGE_FILTERS = 64, 1 << 20  # if the filters, in bytes, do not stay in cache
MIN_TILES = 32  # tiles from which transforming the filters pays off


def toom_cook(r):
    """Aᵀ (4, n), Bᵀ (n, n) and G (n, r): product i multiplies the polynomials' values at point i;
    the last point is infinity."""
    points = np.array([0, 1, -1, 2, -2])[:r + 2]
    others = [np.delete(points, i) for i in range(len(points))]
    AT = np.vander(points, 4, increasing=True).T
    BT = [np.append(np.poly(o)[::-1], 0) for o in others] + [np.poly(points)[::-1]]
    G = [p ** np.arange(r) / np.prod(p - o) for p, o in zip(points, others, strict=True)]
    last = lambda n: np.eye(n)[-1]
    return np.column_stack([AT, last(4)]), np.array(BT), np.array([*G, last(r)])


MATRICES = {r: toom_cook(r) for r in (2, 3)}
_sums = combination([M for AT, BT, G in MATRICES.values() for M in (BT, AT, AT.T, G.T)])
KRON = {(r, dtype): np.kron(G, G).astype(dtype)  # makes G w Gᵀ of flattened filters
        for r, (_, _, G) in MATRICES.items() for dtype in (np.dtype("f4"), np.dtype("f8"))}


@once_pointers
def _combine(which, times, size, x, x0, x_step, x_skip, y, y0, y_step, y_skip):
    _sums(which, times, size, x, x0, x_step, x_skip, y, y0, y_step, y_skip)


BT, AT, A, GT, PER_R = range(5)  # indices of the matrices for r = 2; for r = 3 add PER_R
SHAPES = {((3, 3), (1, 1)), ((4, 4), (2, 2))}  # filter and stride


def fits(N, C, K, pixels, kernel, stride, dilation, groups, tiled=None):
    """Whether Winograd's algorithm is faster: there are enough channels and tiles, and it needs at
    most two thirds of the multiplications of a product of columns, which would run over the
    `pixels` of an image. `tiled` is the size that the tiles cover, if it differs from `pixels`."""
    if (kernel, stride) not in SHAPES or dilation != (1, 1) or groups > 1 or min(C, K) < 16:
        return False
    r = kernel[0] // stride[0]
    tiles = math.prod(-(-n // 4) for n in tiled or pixels)
    return N * tiles >= MIN_TILES and r**2 * math.prod(pixels) >= 1.5 * (r + 3)**2 * tiles


def conv2d(x, w, b, stride, padding, y):
    (K, C), s, r = w.shape[:2], stride[0], w.shape[2] // stride[0]
    w = filters_last(w)[0].reshape(r, s, r, s, C, K).swapaxes(1, 2)  # (i, j), a, (b, c), k
    u = _transform_filters(w, r).reshape(-1, s, s * C, K)
    _conv2d(chunks(len(x)), x, u, b, padding, (0, 0), y, r, 1)


def conv_transpose2d(x, w, b, stride, padding, y):
    (K, C), s, r = w.shape[:2], stride[0], w.shape[2] // stride[0]
    w = channels_innermost(w).reshape(K, r, s, r, s, C)[:, ::-1, :, ::-1]
    u = _transform_filters(w.transpose(1, 3, 0, 2, 4, 5), r)
    off = [min(r - 1, p // s) for p in padding]  # what would be computed only to be cut off
    _conv2d(chunks(len(x)), x, u.reshape(-1, 1, K, s * s * C), b, tuple(r - 1 - i for i in off),
            tuple(p - s * i for p, i in zip(padding, off, strict=True)), y, r, s)


def conv2d_weight(g, x, size, stride, padding):
    K, C, s = g.shape[1], x.shape[1], stride[0]
    r = size[0] // s
    parts = np.empty((chunks(len(x)), (r + 3)**2, s, K, s * C), x.dtype)
    _weight(len(parts), g, x, padding, r, parts)
    gw = empty((K, C, r, s, r, s), x.dtype)
    _filter_gradient(K, parts, r, gw)
    return gw.reshape(K, C, *size)


def _transform_filters(w, r):
    """G w Gᵀ of the filters w (r, r, …): (n², …)."""
    w = np.ascontiguousarray(w).reshape(r * r, -1)
    return matmul.cpu(KRON[r, w.dtype], w, None)


@threaded
def _filter_gradient(k, filters, parts, r, gw):
    """gw[k, c, i, a, j, b] = (Gᵀ z G)[i, j], z[p, q] = Σ_chunk parts[chunk, (p, q), a, k, (b, c)];
    z is left in parts[0]."""
    (chunks, points, phases, K, B), n, C = parts.shape, r + 3, gw.shape[1]
    z, size = parts.reshape(parts.size), phases * K * B
    half, w, which = buffer(r * n * B, gw), buffer(r * r * B, gw), GT + PER_R * (r - 2)
    for a in range(phases):
        for chunk in range(1, chunks):
            for point in range(points):
                sum, part = parts[0, point, a, k], parts[chunk, point, a, k]
                for i in range(B):
                    sum[i] += part[i]
        _combine(which, n, B, z, (a * K + k) * B, n * size, size, half, 0, n * B, B)
        _combine(which, r, B, half, 0, B, n * B, w, 0, B, r * B)
        for t in range(r * r):
            for b in range(phases):
                for c in range(C):
                    gw[k, c, t // r, a, t % r, b] = w[t * B + b * C + c]


@once
def _tiles(x, which, n, m, top, left, rows, columns, phases, image, offsets, half, v, tile, tiles):
    """v[i, a, tile, j, (b, c)] = (M d Mᵀ)[i, j] for all tiles d of the phases (a, b) of one image
    x (C, H, W), numbered from `tile` on; M (n, m) is matrix number `which`.

    Tiles are m×m, 4 apart; image and half are buffers, offsets the `pixel_offsets` of x in image.
    """
    B, height, width = phases * len(x), 4 * rows + m - 4, 4 * columns + m - 4
    channels_last(x, top, left, (phases * height, phases * width), image, offsets)
    size = columns * n * B
    for r in range(rows):
        for h in range((4 * r + (m - 4 if r else 0)) * phases, (4 * r + m) * phases):
            _combine(which, columns, B, image, h * width * B, B, 4 * B, half, h * size, B, n * B)
        for a in range(phases):
            _combine(which, 1, size, half, (4 * r * phases + a) * size, phases * size, 0,
                     v, (a * tiles + tile) * n * B + r * size, phases * tiles * n * B, 0)


@compiled
def _images(N, chunks, tiles, filters):
    """How many images, of `tiles` tiles each, make a block."""
    least = MANY_TILES if filters.nbytes > LARGE_FILTERS else TILES
    return balanced_block(N, chunks, -(-least // tiles))


@threaded
def _conv2d(chunk, chunks, x, u, b, padding, crop, y, r, out):
    """u (n², row phases of x, B, K): B counts x's channels and column phases, K those of y with its
    out × out phases; y is computed in whole tiles, and `crop` is cut off above and to the left."""
    (N, _, H, W), n, (_, phases, B, K) = y.shape, r + 3, u.shape
    which = PER_R * (r - 2)
    rows, columns = (H + crop[0] - 1) // out // 4 + 1, (W + crop[1] - 1) // out // 4 + 1
    images = _images(N, chunks, rows * columns, u)
    tiles, items = images * rows * columns, -(-N // images)
    height, width, D, size = 4 * rows + n - 4, 4 * columns + n - 4, K // out, columns * n * K
    image = buffer(height * width * max(phases * B, K), x)
    half = buffer(columns * n * max(phases * height * B, 4 * K), x)
    v = buffer(n * phases * tiles * n * B, x)
    m = buffer(n * tiles * n * K, x)
    x_off = pixel_offsets(x.shape[2:], (phases * height, phases * width), x.shape[1])
    y_off = pixel_offsets((H, W), (4 * rows * out, 4 * columns * out), y.shape[1])
    for item in share(items, chunk, chunks):
        n0, n1 = item * images, min(N, (item + 1) * images)
        for i in range(n0, n1):
            _tiles(x[i], which + BT, n, n, padding[0], padding[1], rows, columns, phases,
                   image, x_off, half, v, (i - n0) * rows * columns, tiles)
        for i in range(n):
            for j in range(n):
                for a in range(phases):
                    product((n1 - n0) * rows * columns, K, B,
                            v, ((i * phases + a) * tiles * n + j) * B, n * B, 1,
                            u, ((i * n + j) * phases + a) * B * K, K, a > 0,
                            m, (i * tiles * n + j) * K, n * K)
        for i in range(n0, n1):
            for p in range(rows):
                _combine(which + AT, 1, size, m, ((i - n0) * rows + p) * size, tiles * n * K, 0,
                         half, 0, size, 0)
                for h in range(4):
                    for a in range(out):
                        _combine(which + AT, columns, D, half, h * size + a * D, K, n * K, image,
                                 ((4 * p + h) * out + a) * columns * 4 * D, D, 4 * D)
            channels_first(image, 4 * columns * out, crop[0], crop[1], b, y[i], y_off)


@threaded
def _weight(chunk, chunks, g, x, padding, r, parts):
    (N, K, P, Q), (_, phases, _, B) = g.shape, parts.shape[1:]
    n, which, rows, columns = r + 3, PER_R * (r - 2), -(-P // 4), -(-Q // 4)
    images = _images(N, chunks, rows * columns, parts[chunk])
    tiles, items = images * rows * columns, -(-N // images)
    height, width = 4 * rows + n - 4, 4 * columns + n - 4
    image = buffer(height * width * max(phases * B, K), x)
    half = buffer(height * columns * n * max(phases * B, K), x)
    v = buffer(n * phases * tiles * n * B, x)
    z = buffer(n * tiles * n * K, x)
    x_off = pixel_offsets(x.shape[2:], (phases * height, phases * width), x.shape[1])
    g_off = pixel_offsets((P, Q), (4 * rows, 4 * columns), K)
    shared = share(items, chunk, chunks)
    if len(shared) == 0:
        parts[chunk] = 0
    for item in shared:
        n0, n1 = item * images, min(N, (item + 1) * images)
        for i in range(n0, n1):
            tile = (i - n0) * rows * columns
            _tiles(x[i], which + BT, n, n, padding[0], padding[1], rows, columns, phases,
                   image, x_off, half, v, tile, tiles)
            _tiles(g[i], which + A, n, 4, 0, 0, rows, columns, 1,
                   image, g_off, half, z, tile, tiles)
        for i in range(n):
            for j in range(n):
                for a in range(phases):
                    product(K, B, (n1 - n0) * rows * columns,
                            z, (i * tiles * n + j) * K, 1, n * K,
                            v, ((i * phases + a) * tiles * n + j) * B, n * B, item > shared.start,
                            parts, (((chunk * n + i) * n + j) * phases + a) * K * B, B)
