"""2-D convolution (cross-correlation, as everywhere in deep learning)

    y[n,k,p,q] = b[k] + Σ_{d<D, r<R, s<S} w[k,d,r,s] · x[n, d + D·g,
                      p·stride + r·dilation − padding, q·stride + s·dilation − padding]

    n < N, k < K, p < P, q < Q;  g = k // (K / groups);  x is zero outside [0, H) × [0, W)
    x (N, C, H, W), w (K, D, R, S), b (K,) or None → y (N, K, P, Q);  D = C / groups
    P = (H + 2·padding − dilation·(R − 1) − 1) // stride + 1, Q likewise

2·N·K·P·Q·D·R·S FLOPs; at least every array once through memory. The fast version turns a block of
images into columns (columns.py) inside the core's cache and multiplies there, each thread its own
blocks: no large intermediate ever reaches memory.
"""

import numpy as np
from numba import prange

from . import winograd
from .columns import (
    blocking,
    channels_first,
    channels_last,
    check_conv,
    conv_size,
    filters_last,
    im2col,
    windows,
)
from .common import chunks, empty, kernel, threaded
from .cuda import launch_tiles, per_output, xp
from .product import product

DEPTH = 256  # terms of the product at a time: their filters stay in the core's cache


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
    y = empty((len(x), K, P, Q), x.dtype)
    bias = np.zeros(K, x.dtype) if b is None else b
    if winograd.fits(len(x), *w.shape[1::-1], (P, Q), (R, S), stride, dilation, groups):
        winograd.conv2d(x, w, bias, stride, padding, y)
        return y
    _columns(x, filters_last(w, groups), bias, y, stride, padding, dilation, chunks(len(x) * P),
             *blocking(len(x), D * R * S, (P, Q), chunks(len(x) * P), x.itemsize))
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
    (N, C, H, W), (K, D, R, S) = x.shape, w.shape
    P, Q = conv_size((H, W), (R, S), stride, padding, dilation)
    y = xp(x).empty((N, K, P, Q), x.dtype)
    launch_tiles("conv2d.cu", "conv2d", (K // groups, N * P * Q), groups, (
        x, w, b, y, N, C, H, W, K, D, R, S, P, Q, *stride, *padding, *dilation, groups), x.dtype)
    return y


@threaded
def _columns(x, w, b, y, stride, padding, dilation, chunks, images, rows):
    """w (groups, R, S, D, M): a row of columns times the filters of a group is M outputs."""
    (N, _, P, Q), (groups, R, S, D, M) = y.shape, w.shape
    L, block = R * S * D, images * rows * Q
    pointwise = R * S == 1 and stride == (1, 1) and padding == (0, 0) and images == 1
    width, bands = (Q - 1) * stride[1] + (S - 1) * dilation[1] + 1, -(-P // rows)
    height = (rows - 1) * stride[0] + (R - 1) * dilation[0] + 1
    items = -(-N // images) * bands
    for chunk in prange(chunks):
        image = np.empty(height * width * D, x.dtype)
        col = np.empty((block, L), x.dtype)
        out = np.empty(block * M, x.dtype)
        for item in range(chunk * items // chunks, (chunk + 1) * items // chunks):
            n0, p0 = item // bands * images, item % bands * rows
            n1, p1 = min(n0 + images, N), min(p0 + rows, P)
            size = (p1 - p0) * Q
            for g in range(groups):
                filters, bias = w[g].reshape(L * M), b[g * M:(g + 1) * M]
                if pointwise:  # the image is its own column matrix
                    to = y[n0, g * M:(g + 1) * M].reshape(M * P * Q)[p0 * Q:]
                    product(M, size, L, filters, 1, M,
                            x[n0, g * D:(g + 1) * D].reshape(L * P * Q)[p0 * Q:], P * Q,
                            False, to, P * Q)
                    for k in range(M):
                        for j in range(k * P * Q, k * P * Q + size):
                            to[j] += bias[k]
                    continue
                for n in range(n0, n1):
                    channels_last(x[n, g * D:(g + 1) * D], padding[0] - p0 * stride[0],
                                  padding[1], (height, width), image)
                    im2col(image, width, D, (p1 - p0, Q), (R, S), stride, dilation,
                           col[(n - n0) * size:])
                for l in range(0, L, DEPTH):
                    product((n1 - n0) * size, M, min(DEPTH, L - l), col.reshape(block * L)[l:], L,
                            1, filters[l * M:], M, l > 0, out, M)
                for n in range(n0, n1):
                    channels_first(out[(n - n0) * size * M:], Q, 0, 0, bias,
                                   y[n, g * M:(g + 1) * M, p0:p1])
