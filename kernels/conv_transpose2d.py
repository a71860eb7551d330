"""Transposed convolution: the adjoint of conv2d with respect to its image

    y[n, d + D·g, p·stride + r·dilation − padding, q·stride + s·dilation − padding]
        = b[d + D·g] + Σ w[k,d,r,s] · x[n,k,p,q]      over all k, p, q, r, s that lead there

    n < N, k < K, d < D, r < R, s < S, p < P, q < Q;  g = k // (K / groups)
    x (N, K, P, Q), w (K, D, R, S), b (C,) or None → y (N, C, H, W);  C = D·groups
    size = (H, W) is one of the sizes which conv2d turns into (P, Q)

2·N·K·P·Q·D·R·S FLOPs; at least every array once through memory. The fast version: with stride 1 it
is conv2d with the filters turned by 180° and their channels swapped, which reads where this writes.
Otherwise each thread multiplies one image at a time, col = wᵀ·x, and adds the columns to the image.
"""

import numpy as np
from numba import prange

from .columns import CACHE, check_conv, col2im
from .common import chunks, gemm, kernel, one_blas_thread, threaded
from .conv2d import conv2d


def check(x, w, b, size, stride, padding, dilation, groups):
    C = w.shape[1] * groups
    check_conv("conv_transpose2d", (len(x), C, *size), x.shape, w.shape, stride, padding, dilation,
               groups)
    if b is not None and len(b) != C:
        raise ValueError(f"conv_transpose2d: b has shape {b.shape}, expected ({C},)")


@kernel(check, x="N K P Q", w="K D R S", b="C or None")
def conv_transpose2d(x, w, b, size, stride, padding, dilation, groups):
    (N, K, P, Q), (D, R, S), (H, W) = x.shape, w.shape[1:], size
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    col = np.einsum("ngkpq,gkdrs->ngdpqrs", x.reshape(N, groups, K // groups, P, Q),
                    w.reshape(groups, K // groups, D, R, S), optimize=True)
    y = np.zeros((N, groups, D, H + 2 * ph, W + 2 * pw), x.dtype)
    for r, s in np.ndindex(R, S):
        y[..., r * dh:r * dh + sh * P:sh, s * dw:s * dw + sw * Q:sw] += col[..., r, s]
    y = y[..., ph:ph + H, pw:pw + W].reshape(N, D * groups, H, W)
    return y if b is None else y + b[:, None, None]


@conv_transpose2d.version("cpu")
def conv_transpose2d(x, w, b, size, stride, padding, dilation, groups):
    (N, K, P, Q), (D, R, S) = x.shape, w.shape[1:]
    turned = [d * (k - 1) - p for d, k, p in zip(dilation, (R, S), padding, strict=True)]
    if stride == (1, 1) and min(turned) >= 0:
        w = w.reshape(groups, K // groups, D, R, S)[..., ::-1, ::-1].swapaxes(1, 2)
        w = np.ascontiguousarray(w).reshape(groups * D, K // groups, R, S)
        return conv2d.cpu(x, w, b, stride, tuple(turned), dilation, groups)
    y = np.empty((N, D * groups, *size), x.dtype)
    bias = np.zeros(D * groups, x.dtype) if b is None else b
    fit = max(1, CACHE // (R * S * P * Q * x.itemsize))  # channels whose columns fit in the cache
    few = -(-D * groups * N // chunks(D * groups * N))  # channels that leave work for every thread
    with one_blas_thread():
        _columns(x, w, bias, y, stride, padding, dilation, groups, chunks(D * groups * N),
                 max(1, min(D, fit, few)))
    return y


@threaded
def _columns(x, w, b, y, stride, padding, dilation, groups, chunks, block):
    N, K, P, Q = x.shape
    D, R, S = w.shape[1:]
    M, L = K // groups, D * R * S
    blocks = -(-D // block)
    items = N * groups * blocks
    for chunk in prange(chunks):
        col = np.empty((block * R * S, P * Q), x.dtype)
        for item in range(chunk * items // chunks, (chunk + 1) * items // chunks):
            n, g, d0 = item // (groups * blocks), item // blocks % groups, item % blocks * block
            d1 = min(d0 + block, D)
            gemm(True, False, (d1 - d0) * R * S, P * Q, M, w[g * M:, d0:], L, x[n, g * M:], P * Q,
                 0, col, P * Q)
            image = y[n, g * D + d0:g * D + d1]
            for d in range(d1 - d0):
                image[d] = b[g * D + d0 + d]
            col2im(col, Q, (R, S), stride, padding, dilation, image)
