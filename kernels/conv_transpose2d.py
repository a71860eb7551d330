"""Transposed convolution: the adjoint of conv2d with respect to its image

    y[n, d + D·g, p·stride + r·dilation − padding, q·stride + s·dilation − padding]
        = b[d + D·g] + Σ w[k,d,r,s] · x[n,k,p,q]      over all k, p, q, r, s that reach this pixel

    n < N, k < K, d < D, r < R, s < S, p < P, q < Q;  g = k // (K / groups)
    x (N, K, P, Q), w (K, D, R, S), b (C,) or None → y (N, C, H, W);  C = D·groups
    size = (H, W) is one of the image sizes for which conv2d gives (P, Q)

2·N·K·P·Q·D·R·S FLOPs; every array passes through memory at least once. The fast version depends on
the shape: for filters as large as the image it is a plain matrix product, for 3×3 filters at stride
1 and 4×4 filters at stride 2 Winograd's algorithm (winograd.py), for others at stride 1 conv2d with
the filters rotated by 180° and their channels swapped, which gathers where this operation scatters.
Otherwise each thread multiplies a few images at a time, col = xᵀ·w (columns.py, matmul.py), and
adds the columns to an image with the channels innermost, in contiguous runs of S·D elements.
"""

import numpy as np

from . import winograd
from .columns import (
    balanced_block,
    channels_first,
    channels_innermost,
    channels_last,
    check_conv,
    is_full_size,
    pixel_offsets,
    rotate180,
    rotated_padding,
)
from .common import buffer, chunks, empty, kernel, share
from .conv2d import conv2d
from .cuda import blocks, launch_tiles, pack, per_output, pixels, xp
from .matmul import PANEL, matmul, multiply
from .once import once, threaded

ROWS = 64  # pixels multiplied at a time, at least: the filters are read once for all of them


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
    N, (K, D, R, S) = len(x), w.shape
    if is_full_size((R, S), size, padding, groups):
        y = matmul.cpu(x.reshape(N, K), w.reshape(K, D * R * S), None).reshape(N, D, R, S)
        return y if b is None else y + b[:, None, None]
    tiled = [(n + p % s - 1) // s + 1 for n, p, s in zip(size, padding, stride, strict=True)]
    fits = winograd.fits(N, D, K, x.shape[2:], (R, S), stride, dilation, groups, tiled)
    back = rotated_padding((R, S), padding, dilation)
    if not fits and stride == (1, 1) and min(back) >= 0:
        return conv2d.cpu(x, rotate180(w, groups), b, stride, back, dilation, groups)
    y = empty((N, D * groups, *size), x.dtype)
    bias = np.zeros(D * groups, x.dtype) if b is None else b
    if fits:
        winograd.conv_transpose2d(x, w, bias, stride, padding, y)
        return y
    threads = chunks(N * D * groups)
    blocks = threads if N * groups < threads and D % threads == 0 else 1  # of channels
    w = channels_innermost(w.reshape(K * blocks, D // blocks, R, S))
    w = w.reshape(K, blocks, R, S, D // blocks).swapaxes(0, 1)
    images = balanced_block(N, threads, -(-ROWS // (x.shape[2] * x.shape[3])))
    _columns(threads, x, np.ascontiguousarray(w), bias, y, stride, padding, dilation, groups,
             images)
    return y


@conv_transpose2d.version("numba_cuda")
def conv_transpose2d(x, w, b, size, stride, padding, dilation, groups):
    C = w.shape[1] * groups
    y = xp(x).empty((len(x), C, *size), x.dtype)
    _output(y, x, w, xp(x).zeros(C, x.dtype) if b is None else b, (C, *size), stride, padding,
            dilation, groups)
    return y


@per_output
def _output(i, x, w, b, size, stride, padding, dilation, groups):
    C, H, W = size
    n, c, h, v = i // (C * H * W), i // (H * W) % C, i // W % H, i % W
    K, P, Q = x.shape[1:]
    D, R, S = w.shape[1:]
    M = K // groups
    sum = b[c]
    for k in range(c // D * M, (c // D + 1) * M):
        for r in range(R):
            for s in range(S):
                p = h + padding[0] - r * dilation[0]  # p · stride, q · stride, if divisible
                q = v + padding[1] - s * dilation[1]
                if p >= 0 and q >= 0 and p % stride[0] == 0 and q % stride[1] == 0:
                    if p // stride[0] < P and q // stride[1] < Q:
                        sum += w[k, c % D, r, s] * x[n, k, p // stride[0], q // stride[1]]
    return sum


@conv_transpose2d.version("cuda")
def conv_transpose2d(x, w, b, size, stride, padding, dilation, groups):
    (N, K, P, Q), (D, R, S), (H, W) = x.shape, w.shape[1:], size
    M, (sh, sw) = K // groups, stride
    y = xp(x).empty((N, D * groups, H, W), x.dtype)
    w, x = pack((w, (groups, D * R * S, M), (M * D * R * S, 1, D * R * S)),
                pixels(x, groups))
    launch_tiles("conv_transpose2d.cu", "conv_transpose2d",
                 (D, N * blocks(H, sh) * blocks(W, sw)), groups * sh * sw,
                 (w, x, b, y, N, D, H, W, x.shape[2], R, S, P, Q, *stride, *padding, *dilation,
                  groups), y.dtype)
    return y


@threaded
def _columns(chunk, chunks, x, w, b, y, stride, padding, dilation, groups, images):
    (N, K, P, Q), (H, W), (blocks, _, R, S, D) = x.shape, y.shape[2:], w.shape
    M, L, size = K // groups, R * S * D, P * Q
    height, width = H + 2 * padding[0], W + 2 * padding[1]
    items = -(-N // images) * groups * blocks
    image = buffer(height * width * D, x)
    pixels, w_panel = buffer(images * size * M, x).reshape(images * size, M), buffer(PANEL, x)
    col = buffer(images * size * L, x).reshape(images * size, L)
    offsets = pixel_offsets((H, W), (height, width), D)
    for item in share(items, chunk, chunks):
        batch, g, block = item // (groups * blocks), item // blocks % groups, item % blocks
        n0, n1 = batch * images, min((batch + 1) * images, N)
        for n in range(n0, n1):
            channels_last(x[n, g * M:(g + 1) * M], 0, 0, (P, Q),
                          pixels[(n - n0) * size:].reshape((images - n + n0) * size * M), M)
        multiply(pixels, False, w[block, g * M:(g + 1) * M].reshape(M, L), False, b[:0],
                 0, (n1 - n0) * size, 0, L, col.reshape(images * size * L), L, w_panel)
        d = (g * blocks + block) * D
        for n in range(n0, n1):
            image[:] = 0
            col2im(col[(n - n0) * size:], (P, Q), (R, S), stride, dilation, image, width, D)
            channels_first(image, width, padding[0], padding[1], b[d:], y[n, d:d + D], offsets)


@once
def col2im(col, out, kernel, stride, dilation, image, width, channels):
    """Add the rows of col (P·Q, R·S·channels) to their pixels in image (h, width, channels)."""
    (P, Q), (R, S), (sh, sw), (dh, dw) = out, kernel, stride, dilation
    pieces, run = (1, S * channels) if dw == 1 else (S, channels)
    for p in range(P):
        for q in range(Q):
            row = col[p * Q + q]
            for r in range(R):
                for s in range(pieces):
                    src = row[(r * S + s) * channels:]
                    dst = image[((p * sh + r * dh) * width + q * sw + s * dw) * channels:]
                    for i in range(run):
                        dst[i] += src[i]
