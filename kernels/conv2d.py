"""2-D convolution (cross-correlation, as everywhere in deep learning)

    y[n,k,p,q] = b[k] + Σ_{d<D, r<R, s<S} w[k,d,r,s] · x[n, d + D·g,
                      p·stride + r·dilation − padding, q·stride + s·dilation − padding]

    n < N, k < K, p < P, q < Q;  g = k // (K / groups);  x is zero outside [0, H) × [0, W)
    x (N, C, H, W), w (K, D, R, S), b (K,) or None → y (N, K, P, Q);  D = C / groups
    P = (H + 2·padding − dilation·(R − 1) − 1) // stride + 1, Q likewise

2·N·K·P·Q·D·R·S FLOPs; every array passes through memory at least once. The fast version depends on
the shape: Winograd's algorithm (winograd.py) for 3×3 filters at stride 1 and 4×4 filters at stride
2; a plain matrix product for 1×1 filters at stride 1 and for filters as large as the image; with
few channels or filters, rows of y as products with rows of x; otherwise a product with the columns
(columns.py) of a few images at a time, which stay in the core's cache: no large intermediate ever
reaches memory.
"""

import numpy as np

from . import winograd
from .columns import (
    MIN_VECTOR,
    blocking,
    channels_first,
    channels_last,
    check_conv,
    column_offsets,
    conv_size,
    filters_last,
    is_full_size,
    pixel_offsets,
    polyphase,
    tap_offsets,
    use_pixel_vectors,
    windows,
)
from .common import buffer, chunks, empty, kernel, row_bands, share
from .cuda import launch_tiles, pack, per_output, pixels, xp
from .matmul import matmul
from .once import once, threaded
from .product import product

DEPTH = 256  # terms of the product at a time: their part of the filters stays in cache


def check(x, w, b, stride, padding, dilation, groups):
    check_conv("conv2d", x.shape, None, w.shape, stride, padding, dilation, groups)


@kernel(check, x="N C H W", w="K D R S", b="K or None")
def conv2d(x, w, b, stride, padding, dilation, groups):
    N, (K, D, R, S) = len(x), w.shape
    win = windows(x, (R, S), stride, padding, dilation)  # (N, C, P, Q, R, S)
    P, Q = win.shape[2:4]
    y = np.einsum("ngdpqrs,gkdrs->ngkpq", win.reshape(N, groups, D, P, Q, R, S),
                  w.reshape(groups, K // groups, D, R, S), optimize=True).reshape(N, K, P, Q)
    return y if b is None else y + b[:, None, None]


@conv2d.version("cpu")
def conv2d(x, w, b, stride, padding, dilation, groups):
    K, D, R, S = w.shape
    P, Q = conv_size(x.shape[2:], (R, S), stride, padding, dilation)
    if is_full_size((R, S), x.shape[2:], padding, groups):
        y = matmul.cpu(x.reshape(len(x), D * R * S), w.reshape(K, D * R * S).T, b)
        return y[..., None, None]
    y = empty((len(x), K, P, Q), x.dtype)
    bias = np.zeros(K, x.dtype) if b is None else b
    if winograd.fits(len(x), *w.shape[1::-1], (P, Q), (R, S), stride, dilation, groups):
        winograd.conv2d(x, w, bias, stride, padding, y)
        return y
    threads = chunks(len(x) * P)
    images, rows = blocking(len(x), D * stride[0] * stride[1] + K // groups, (P, Q), threads,
                            x.itemsize)
    if (R, S, *stride, *padding) == (1, 1, 1, 1, 0, 0) and P * Q >= MIN_VECTOR:
        _pointwise(threads, x, w, bias, y, groups, rows)
    elif use_pixel_vectors(D, K // groups, Q):
        rows_of_y = _few_channels if D < K // groups else _few_filters
        rows_of_y(threads, x, w, bias, y, stride, padding, dilation, groups)
    else:
        _columns(threads, x, filters_last(w, groups), bias, y, stride, padding, dilation, images,
                 rows)
    return y


@conv2d.version("numba_cuda")
def conv2d(x, w, b, stride, padding, dilation, groups):
    K = len(w)
    P, Q = conv_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
    y = xp(x).empty((len(x), K, P, Q), x.dtype)
    _output(y, x, w, xp(x).zeros(K, x.dtype) if b is None else b, (K, P, Q), stride, padding,
            dilation, groups)
    return y


@per_output
def _output(i, x, w, b, size, stride, padding, dilation, groups):
    K, P, Q = size
    n, k, p, q = i // (K * P * Q), i // (P * Q) % K, i // Q % P, i % Q
    C, H, W = x.shape[1:]
    D, R, S = w.shape[1:]
    sum = b[k]
    for d in range(D):
        for r in range(R):
            for s in range(S):
                h = p * stride[0] + r * dilation[0] - padding[0]
                v = q * stride[1] + s * dilation[1] - padding[1]
                if 0 <= h < H and 0 <= v < W:
                    sum += w[k, d, r, s] * x[n, d + D * (k // (K // groups)), h, v]
    return sum


@conv2d.version("cuda")
def conv2d(x, w, b, stride, padding, dilation, groups):
    N, (H, W), (K, D, R, S) = len(x), x.shape[2:], w.shape
    P, Q = conv_size((H, W), (R, S), stride, padding, dilation)
    y = xp(x).empty((N, K, P, Q), x.dtype)
    w, x = pack((w, (K, R * S, D), (D * R * S, 1, R * S)), pixels(x, groups))
    launch_tiles("conv2d.cu", "conv2d", (K // groups, N * P * Q), groups, (
        w, x, b, y, N, x.shape[2], H, W, K, R, S, P, Q, *stride, *padding, *dilation, groups),
        y.dtype)
    return y


@threaded
def _pointwise(chunk, chunks, x, w, b, y, groups, rows):
    """1×1 filters at stride 1: an image is its own colᵀ, taken `rows` rows at a time."""
    (N, K, P, Q), D = y.shape, w.shape[1]
    M, bands = K // groups, -(-P // rows)
    for item in share(N * bands, chunk, chunks):
        n, p0 = item // bands, item % bands * rows
        p1 = min(p0 + rows, P)
        for g in range(groups):
            _fill(y[n, g * M:(g + 1) * M], p0, p1, b[g * M:])
            product(M, (p1 - p0) * Q, D, w, g * M * D, D, 1,
                    x, ((n * groups + g) * D * P + p0) * Q, P * Q, True,
                    y, ((n * K + g * M) * P + p0) * Q, P * Q)


@threaded
def _few_channels(chunk, chunks, x, w, b, y, stride, padding, dilation, groups):
    """Rows of y are w times rows of x, of which each filter column has its own copy, so that a
    product makes `rows` rows of y in place."""
    (N, K, P, Q), (_, D, R, S), sh = y.shape, w.shape, stride[0]
    (M, L), (rows, bands) = (K // groups, D * R * S), row_bands(N, P, chunks)
    height, _, starts = tap_offsets(D, R, S, (sh, S), (dilation[0], 1), rows, Q)
    image = buffer(D * sh * S * height * Q, x)
    for item in share(N * bands, chunk, chunks):
        n, p0 = item // bands, item % bands * rows
        p1 = min(p0 + rows, P)
        for g in range(groups):
            polyphase(x[n, g * D:(g + 1) * D], padding[0] - p0 * sh, padding[1], stride, S,
                      dilation[1], height, Q, image)
            _fill(y[n, g * M:(g + 1) * M], p0, p1, b[g * M:])
            product(M, (p1 - p0) * Q, L, w, g * M * L, L, 1, image, 0, starts, True,
                    y, ((n * K + g * M) * P + p0) * Q, P * Q)


@threaded
def _few_filters(chunk, chunks, x, w, b, y, stride, padding, dilation, groups):
    """Rows of y are w times rows of x. One product makes `rows` rows of y, and with them the values
    between the rows, which are dropped."""
    (N, K, P, Q), (_, D, R, S), (sh, sw) = y.shape, w.shape, stride
    (M, L), (rows, bands) = (K // groups, D * R * S), row_bands(N, P, chunks)
    height, width, starts = tap_offsets(D, R, S, stride, dilation, rows, Q)
    image, out = buffer(D * sh * sw * height * width, x), buffer(M * rows * width, x)
    for item in share(N * bands, chunk, chunks):
        n, p0 = item // bands, item % bands * rows
        for g in range(groups):
            polyphase(x[n, g * D:(g + 1) * D], padding[0] - p0 * sh, padding[1], stride, sw, 1,
                      height, width, image)
            product(M, (rows - 1) * width + Q, L, w, g * M * L, L, 1, image, 0, starts, False, out,
                    0, rows * width)
            for k in range(M):
                bias, plane = b[g * M + k], y[n, g * M + k]
                for p in range(p0, min(p0 + rows, P)):
                    row, src = plane[p], out[(k * rows + p - p0) * width:]
                    for q in range(Q):
                        row[q] = src[q] + bias


@once
def _fill(y, p0, p1, b):
    """y[k] = b[k] in rows p0 to p1 of the planes y (K, P, Q)."""
    for k in range(len(y)):
        rows = y[k, p0:p1].reshape((p1 - p0) * y.shape[2])
        for i in range(len(rows)):
            rows[i] = b[k]


@threaded
def _columns(chunk, chunks, x, w, b, y, stride, padding, dilation, images, rows):
    """w (groups, R, S, D, M): a row of col times the filters of a group gives M outputs."""
    (N, _, P, Q), (groups, R, S, D, M) = y.shape, w.shape
    height, width, starts, taps = column_offsets(images, D, (rows, Q), (R, S), stride, dilation)
    bands = -(-P // rows)
    image, out = buffer(images * height * width * D, x), buffer(images * rows * Q * M, x)
    offsets = pixel_offsets(x.shape[2:], (height, width), D)
    for item in share(-(-N // images) * bands, chunk, chunks):
        n0, p0 = item // bands * images, item % bands * rows
        n1, p1 = min(n0 + images, N), min(p0 + rows, P)
        size = (p1 - p0) * Q
        for g in range(groups):
            for n in range(n0, n1):
                channels_last(x[n, g * D:(g + 1) * D], padding[0] - p0 * stride[0], padding[1],
                              (height, width), image[(n - n0) * height * width * D:], offsets)
            for l in range(0, len(taps), DEPTH):
                product((n1 - n0) * size, M, min(DEPTH, len(taps) - l), image, 0, starts, taps[l:],
                        w, (g * len(taps) + l) * M, M, l > 0, out, 0, M)
            for n in range(n0, n1):
                channels_first(out[(n - n0) * size * M:], Q, 0, 0, b[g * M:(g + 1) * M],
                               y[n, g * M:(g + 1) * M, p0:p1], M)
