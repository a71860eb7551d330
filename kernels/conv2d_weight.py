"""The adjoint of conv2d with respect to its filters

    gw[k,d,r,s] = Σ_{n<N, p<P, q<Q} g[n,k,p,q] · x[n, d + D·(k // (K / groups)),
                      p·stride + r·dilation − padding, q·stride + s·dilation − padding]

    k < K, d < D, r < R, s < S;  x is zero outside [0, H) × [0, W)
    g (N, K, P, Q), x (N, C, H, W) → gw (K, D, R, S);  D = C / groups, size = (R, S)

2·N·K·P·Q·D·R·S FLOPs; at least every array once through memory. The fast version: gw = g·col over
blocks of images in the core's cache (columns.py); every chunk of the batch adds to a gradient of
its own, and these are added at the end, in order.
"""

import numpy as np
from numba import prange

from . import winograd
from .columns import blocking, channels_last, check_conv, im2col, windows
from .common import chunks, kernel, threaded
from .cuda import FILL, blocks, launch_tiles, xp
from .product import product


def check(g, x, size, stride, padding, dilation, groups):
    check_conv("conv2d_weight", x.shape, g.shape, (g.shape[1], x.shape[1] // groups, *size),
               stride, padding, dilation, groups)


@kernel(check, g="N K P Q", x="N C H W")
def conv2d_weight(g, x, size, stride, padding, dilation, groups):
    (N, K, P, Q), C, (R, S) = g.shape, x.shape[1], size
    win = windows(x, size, stride, padding, dilation)  # (N, C, P, Q, R, S)
    gw = np.einsum("ngkpq,ngdpqrs->gkdrs", g.reshape(N, groups, K // groups, P, Q),
                   win.reshape(N, groups, C // groups, P, Q, R, S), optimize=True)
    return gw.reshape(K, C // groups, R, S)


@conv2d_weight.version("cpu")
def conv2d_weight(g, x, size, stride, padding, dilation, groups):
    (N, K, P, Q), D = g.shape, x.shape[1] // groups
    if winograd.fits(N, x.shape[1], K, (P, Q), size, stride, dilation, groups):
        return winograd.conv2d_weight(g, x, size, stride, padding)
    parts = np.zeros((chunks(N * P), K, *size, D), x.dtype)
    _columns(g, x, parts, stride, padding, dilation, groups,
             *blocking(N, D * size[0] * size[1], (P, Q), len(parts), x.itemsize))
    return np.ascontiguousarray(parts.sum(0).transpose(0, 3, 1, 2))


@conv2d_weight.version("cuda")
def conv2d_weight(g, x, size, stride, padding, dilation, groups):
    (N, K, P, Q), (C, H, W), (R, S) = g.shape, x.shape[1:], size
    M, D = K // groups, C // groups
    tiles = blocks(M, 64) * blocks(D * R * S, 64) * groups
    parts = max(1, min(FILL // tiles, blocks(N * P * Q, 256)))
    gw = xp(x).empty((parts, K, D, R, S), x.dtype)
    launch_tiles("conv2d_weight.cu", "conv2d_weight", (M, D * R * S), groups * parts,
                 (g, x, gw, parts, N, C, H, W, K, D, R, S, P, Q, *stride, *padding, *dilation,
                  groups), x.dtype)
    return gw.sum(0)


@threaded
def _columns(g, x, parts, stride, padding, dilation, groups, images, rows):
    (N, K, P, Q), (chunks, _, R, S, D) = g.shape, parts.shape
    M, L, block = K // groups, D * R * S, images * rows * Q
    width, bands = (Q - 1) * stride[1] + (S - 1) * dilation[1] + 1, -(-P // rows)
    height = (rows - 1) * stride[0] + (R - 1) * dilation[0] + 1
    items = -(-N // images) * bands
    for chunk in prange(chunks):
        image = np.empty(height * width * D, x.dtype)
        col = np.empty((block, L), x.dtype)
        out = np.empty((M, block), x.dtype)
        for item in range(chunk * items // chunks, (chunk + 1) * items // chunks):
            n0, p0 = item // bands * images, item % bands * rows
            n1, p1 = min(n0 + images, N), min(p0 + rows, P)
            size = (p1 - p0) * Q
            for j in range(groups):
                for n in range(n0, n1):
                    channels_last(x[n, j * D:(j + 1) * D], padding[0] - p0 * stride[0], padding[1],
                                  (height, width), image)
                    im2col(image, width, D, (p1 - p0, Q), (R, S), stride, dilation,
                           col[(n - n0) * size:])
                    for k in range(M):
                        to = out[k, (n - n0) * size:]
                        this = g[n, j * M + k, p0:p1].reshape(size)
                        for i in range(size):
                            to[i] = this[i]
                product(M, L, (n1 - n0) * size, out.reshape(M * block), block, 1,
                        col.reshape(block * L), L, True,
                        parts[chunk, j * M:(j + 1) * M].reshape(M * L), L)
