"""The adjoint of conv2d with respect to its filters

    gw[k,d,r,s] = Σ_{n<N, p<P, q<Q} g[n,k,p,q] · x[n, d + D·(k // (K / groups)),
                      p·stride + r·dilation − padding, q·stride + s·dilation − padding]

    k < K, d < D, r < R, s < S;  x is zero outside [0, H) × [0, W)
    g (N, K, P, Q), x (N, C, H, W) → gw (K, D, R, S);  D = C / groups, size = (R, S)

2·N·K·P·Q·D·R·S FLOPs; every array passes through memory at least once. The fast version is chosen
as for conv2d: Winograd's algorithm, or gwᵀ = colᵀ·g over blocks of images in the core's cache
(columns.py) or, with few channels or filters, over rows of x, read in place; if the filters are the
fewer, x and g may swap roles, and the result is rotated by 180°. Every chunk of the batch
accumulates a gradient of its own; these are added at the end, in order.
"""

import numpy as np

from . import winograd
from .columns import (
    blocking,
    channels_last,
    check_conv,
    column_offsets,
    filters_first,
    is_full_size,
    pixel_offsets,
    polyphase,
    rotate180,
    rotated_padding,
    tap_offsets,
    use_pixel_vectors,
    windows,
)
from .common import buffer, chunks, empty, kernel, row_bands, share
from .cuda import blocks, launch, launch_tiles, pack, pixels, real_macro, tiling, xp
from .matmul import matmul
from .once import threaded
from .product import FEW, dot, product

ROWS = 48  # of gwᵀ at a time, so that its memory is written block after block


def check(g, x, size, stride, padding, dilation, groups):
    check_conv("conv2d_weight", x.shape, g.shape, (g.shape[1], x.shape[1] // max(groups, 1), *size),
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
    M, L = K // groups, D * size[0] * size[1]
    if is_full_size(size, x.shape[2:], padding, groups):
        return matmul.cpu(g.reshape(N, K).T, x.reshape(N, L), None).reshape(K, D, *size)
    if winograd.fits(N, x.shape[1], K, (P, Q), size, stride, dilation, groups):
        return winograd.conv2d_weight(g, x, size, stride, padding)
    if use_pixel_vectors(D, M, Q):
        back = rotated_padding(size, padding, dilation)
        if M < D and stride == (1, 1) and min(back) >= 0:  # swap: vectors run along the filters
            return rotate180(conv2d_weight.cpu(x, g, size, stride, back, dilation, groups), groups)
        parts = np.zeros((chunks(N), groups, L, M), x.dtype)
        _rows(len(parts), g, x, parts, size, stride, padding, dilation)
        return np.ascontiguousarray(parts.sum(0).swapaxes(1, 2)).reshape(K, D, *size)
    parts = empty((chunks(N * P), groups, *size, D, M), x.dtype)
    if (*size, *stride, *padding) == (1, 1, 1, 1, 0, 0):
        _pointwise(len(parts), g, x, parts)
    else:
        _columns(len(parts), g, x, parts, stride, padding, dilation,
                 *blocking(N, D * stride[0] * stride[1] + M, (P, Q), len(parts), x.itemsize))
    return filters_first(parts)


@conv2d_weight.version("cuda")
def conv2d_weight(g, x, size, stride, padding, dilation, groups):
    (N, K, P, Q), (C, H, W), (R, S) = g.shape, x.shape[1:], size
    M, D = K // groups, C // groups
    gw = xp(x).empty((K, D, R, S), x.dtype)
    g, x = pack(pixels(g, groups), pixels(x, groups))
    size = M, R * S * x.shape[2]
    *_, parts = tiling(size, groups, gw.dtype, blocks(N * P * Q, 256))
    sums = xp(x).empty((parts, K, size[1]), gw.dtype)
    launch_tiles("conv2d_weight.cu", "conv2d_weight", size, groups * parts,
                 (g, x, sums, parts, N, x.shape[2], H, W, K, g.shape[2], R, S, P, Q, *stride,
                  *padding, *dilation, groups), gw.dtype)
    launch("sums.cu", "add_parts", blocks(sums[0].size, 256), 256,
           (sums, gw, parts, K, D, R * S, x.shape[2]), **real_macro(gw.dtype))
    return gw


@threaded
def _pointwise(chunk, chunks, g, x, parts):
    """1×1 filters at stride 1: gwᵀ (D, M) is a sum over rows of x, read in place, times pixels of
    g."""
    (N, _, P, Q), (_, groups, _, _, D, M) = g.shape, parts.shape
    rows, bands = row_bands(N, P, chunks)
    out = buffer(rows * Q * M, x)
    parts[chunk] = 0
    for item in share(N * bands, chunk, chunks):
        n, p0 = item // bands, item % bands * rows
        p1 = min(p0 + rows, P)
        for j in range(groups):
            channels_last(g[n, j * M:(j + 1) * M], -p0, 0, (p1 - p0, Q), out, M)
            product(D, M, (p1 - p0) * Q, x, ((n * groups + j) * D * P + p0) * Q, P * Q, 1,
                    out, 0, M, True, parts, (chunk * groups + j) * D * M, M)


@threaded
def _rows(chunk, chunks, g, x, parts, kernel, stride, padding, dilation):
    """For few channels or filters: gwᵀ (L, M) is a sum over rows of x, read in place, times rows of
    g, padded with zeros where x has further pixels between its rows."""
    (N, _, P, Q), (R, S), (sh, sw) = g.shape, kernel, stride
    groups, L, M = parts.shape[1:]
    D = L // (R * S)
    height, width, starts = tap_offsets(D, R, S, stride, dilation, P, Q)
    image, out = buffer(D * sh * sw * height * width, x), buffer(P * width * M, x)
    offsets, size = pixel_offsets((P, Q), (P, width), M), (P - 1) * width + Q
    for n in share(N, chunk, chunks):
        for j in range(groups):
            polyphase(x[n, j * D:(j + 1) * D], *padding, stride, sw, 1, height, width, image)
            if M < FEW:
                polyphase(g[n, j * M:(j + 1) * M], 0, 0, (1, 1), 1, 1, P, width, out)
                for l in range(L):
                    for m in range(M):
                        parts[chunk, j, l, m] += dot(image[starts[l]:], out[m * P * width:], size)
            else:
                channels_last(g[n, j * M:(j + 1) * M], 0, 0, (P, width), out, offsets)
                product(L, M, size, image, 0, starts, 1, out, 0, M, True, parts,
                        (chunk * groups + j) * L * M, M)


@threaded
def _columns(chunk, chunks, g, x, parts, stride, padding, dilation, images, rows):
    (N, _, P, Q), (groups, R, S, D, M) = g.shape, parts.shape[1:]
    height, width, starts, taps = column_offsets(images, D, (rows, Q), (R, S), stride, dilation)
    L, bands = R * S * D, -(-P // rows)
    image, out = buffer(images * height * width * D, x), buffer(images * rows * Q * M, x)
    offsets = pixel_offsets(x.shape[2:], (height, width), D)
    shared = share(-(-N // images) * bands, chunk, chunks)
    if len(shared) == 0:
        parts[chunk] = 0
    for item in shared:
        n0, p0 = item // bands * images, item % bands * rows
        n1, p1 = min(n0 + images, N), min(p0 + rows, P)
        size = (p1 - p0) * Q
        for j in range(groups):
            for n in range(n0, n1):
                channels_last(x[n, j * D:(j + 1) * D], padding[0] - p0 * stride[0], padding[1],
                              (height, width), image[(n - n0) * height * width * D:], offsets)
                channels_last(g[n, j * M:(j + 1) * M], -p0, 0, (p1 - p0, Q),
                              out[(n - n0) * size * M:], M)
            for l in range(0, L, ROWS):
                product(min(ROWS, L - l), M, (n1 - n0) * size, image, 0, taps[l:], starts, out, 0,
                        M, item > shared.start, parts, ((chunk * groups + j) * L + l) * M, M)
