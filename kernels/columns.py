"""The column matrix of a convolution (im2col), and what the three convolution kernels share.

    col[(n, p, q), (r, s, d)] = x[n, d, p·stride + r·dilation − padding, q·stride + s·dilation − …]

with zeros outside the image: a convolution is then one matrix product, col · wᵀ. The matrix is R·S
times as large as the input, but no number in it is new: in images with the channels innermost,
(h, w, C), surrounded by zeros, its elements are found at the sum of two offsets, one for the row
(n, p, q) and one for the column (r, s, d). Products read it there (product.py), a few images, or a
few rows of one, at a time, which stay in the core's own cache, and vectors run along channels.
Where there are few of these, vectors run along rows of pixels: the pixels that one filter element
multiplies are contiguous in the image or, with a stride, in one of its phases.
"""

import numpy as np

from .common import LINE, compiled, empty
from .once import once, threaded
from .transpose import transpose

CACHE = 1 << 18  # bytes of images and outputs that a core works on at a time
MIN_VECTOR = 16  # channels or filters: with fewer, vectors run along the pixels
CHANNELS = 8  # channels of the filters that a thread reorders at a time


def conv_output_size(i, k, s=1, p=0, d=1):
    """The length o of a convolution's output, for input length i, filter k, stride s, padding p,
    dilation d: o = ⌊(i + 2p − d(k − 1) − 1) / s⌋ + 1."""
    return (i + 2 * p - d * (k - 1) - 1) // s + 1  # eq: conv-output-size


def conv_size(size, kernel, stride, padding, dilation=(1, 1)):
    """The output size (P, Q) of a convolution or of pooling."""
    return tuple(map(conv_output_size, size, kernel, stride, padding, dilation))


def check_conv(name, image, out, w, stride, padding, dilation, groups):
    """Check the shapes of an image (N, C, H, W), an output (N, K, P, Q) and filters (K, D, R, S)
    against each other; out is None if the output is not known yet."""
    C, (K, D), size = image[1], w[:2], tuple(image[2:])
    if min(groups, *w) < 1 or C != D * groups or K % groups:
        raise ValueError(f"{name}: {C} channels, {K} filters of {D} channels and "
                         f"groups = {groups} do not fit: filters take channels / groups")
    P, Q = conv_size(size, w[2:], stride, padding, dilation)
    if min(P, Q) < 1:
        raise ValueError(f"{name}: filters of {w[2:]}, dilation {dilation} are larger than the "
                         f"image of {size}, padding {padding}")
    if out is not None and tuple(out[2:]) != (P, Q):
        raise ValueError(f"{name}: an image of {size} gives an output of {(P, Q)}, "
                         f"not {tuple(out[2:])}")


def is_full_size(kernel, size, padding, groups):
    """Whether the filters are as large as the image, so that a convolution is a plain product of
    flattened images (N, C·H·W) and flattened filters (K, C·H·W)."""
    return tuple(kernel) == tuple(size) and padding == (0, 0) and groups == 1


def windows(x, kernel, stride, padding, dilation=(1, 1), fill=0):
    """A view (N, C, P, Q, R, S): the input pixels under the filter at each output pixel."""
    (R, S), (sh, sw), (ph, pw), (dh, dw) = kernel, stride, padding, dilation
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(
        x, (dh * (R - 1) + 1, dw * (S - 1) + 1), axis=(2, 3))
    return view[:, :, ::sh, ::sw, ::dh, ::dw]


@compiled
def balanced_block(N, threads, block):
    """The block size, about `block`, at which every thread gets equally many blocks of N images."""
    return max(1, -(-N // (threads * max(1, round(N / (threads * block))))))


def blocking(N, entries, pixels, threads, itemsize):
    """How many images, or how many of the P rows (of Q pixels) of a single image, make a block that
    fits in cache, given its entries per pixel, yet leaves work for every thread."""
    P, Q = pixels
    width = max(256, CACHE // (entries * itemsize))
    images = balanced_block(N, threads, max(1, width // (P * Q)))
    return images, (P if images > 1 else max(1, min(P, width // Q, -(-P * N // threads))))


@once
def pixel_offsets(pixels, size, C):
    """Offsets of pixels (H, W) in an image (h, w, C), size = (h, w), from the first of them. The
    image has room for all W columns, but perhaps not for all H rows."""
    (H, W), (h, w) = pixels, size
    offsets = np.empty(min(H, h) * W, np.intp)
    for i in range(min(H, h)):
        row = offsets[i * W:(i + 1) * W]
        for j in range(W):
            row[j] = (i * w + j) * C
    return offsets


@once
def channels_last(x, top, left, size, image, offsets):
    """Write x (C, H, W) to image (h, w, C), size = (h, w), surrounded by zeros, `top` rows above x
    and `left` columns to its left; a negative top skips rows of x. offsets: `pixel_offsets`, or C
    where the pixels are contiguous (w = W)."""
    (C, H, W), (h, w), lanes = x.shape, size, LINE // x.itemsize
    i0, i1 = min(max(top, 0), h), max(min(top + H, h), 0)  # no rows where all is padding
    j0, j1 = min(left, w), min(left + W, w)
    done = 0
    for i in range(i0, i1 + 1):  # zeros around x
        gap = image[done:(i * w + j0) * C if i < i1 else h * w * C]
        for j in range(len(gap)):
            gap[j] = 0
        done = (i * w + j1) * C
    plane, count = x.strides[0] // x.itemsize, (i1 - i0) * W
    whole = C - C % lanes if j1 - j0 == W and count >= lanes else 0
    for p in range(0, count if whole else 0, lanes):
        p = min(p, count - lanes)
        for c in range(0, whole, lanes):
            transpose(x, c * plane + (i0 - top) * W + p, plane, 0, 0, 0,
                      image, (i0 * w + j0) * C + c, offsets, p)
    for c in range(whole, C):  # c is outermost: planes a power of two apart share cache sets
        for i in range(i0, i1):
            dst, src = image[(i * w + j0) * C + c:], x[c, i - top]
            for j in range(j1 - j0):
                dst[j * C] = src[j]


@once
def channels_first(image, width, top, left, b, y, offsets):
    """y (C, H, W) ← image (h, width, C), without its first `top` rows and `left` columns, plus
    b (C,). offsets: `pixel_offsets`, or C where the pixels are contiguous (width = W)."""
    (C, H, W), lanes, plane = y.shape, LINE // y.itemsize, y.strides[0] // y.itemsize
    whole = C - C % lanes if H * W >= lanes else 0
    for p in range(0, H * W if whole else 0, lanes):
        p = min(p, H * W - lanes)
        for c in range(0, whole, lanes):
            transpose(image, (top * width + left) * C + c, offsets, p, b, c,
                      y, c * plane + p, plane, 0)
    for c in range(whole, C):
        for h in range(H):
            src, dst, bias = image[((h + top) * width + left) * C + c:], y[c, h], b[c]
            for w in range(W):
                dst[w] = src[w * C] + bias


def filters_last(w, groups=1):
    """Filters (K, D, R, S) as (groups, R, S, D, K / groups)."""
    K, D, R, S = w.shape
    out = np.empty((groups, R, S, D, K // groups), w.dtype)
    _filters_last(groups * -(-D // CHANNELS), w.reshape(groups, K // groups, D, R * S),
                  out.reshape(groups, R * S * D, K // groups))
    return out


def channels_innermost(w):
    """Filters (K, D, R, S) as (K, R, S, D)."""
    K, D, R, S = w.shape
    return filters_last(w.reshape(K * D, 1, R, S), K).reshape(K, R, S, D)


def filters_first(parts):
    """The sum of parts (chunks, groups, R, S, D, M) as filters (groups·M, D, R, S)."""
    chunks, groups, R, S, D, M = parts.shape
    w = empty((groups * M, D, R, S), parts.dtype)
    _filters_first(groups * -(-D // CHANNELS), parts.reshape(chunks, groups, R * S * D, M),
                   w.reshape(groups, M, D, R * S))
    return w


def rotate180(w, groups):
    """Filters w (K, D, R, S) rotated by 180°, with input and output channels exchanged:
    (groups·D, K / groups, R, S)."""
    K, D, R, S = w.shape
    w = w.reshape(groups, K // groups, D, R, S)[..., ::-1, ::-1].swapaxes(1, 2)
    return np.ascontiguousarray(w).reshape(groups * D, K // groups, R, S)


def rotated_padding(kernel, padding, dilation):
    """The padding with which the rotated filters undo the shift due to `padding`, at stride 1."""
    return tuple(d * (k - 1) - p for k, p, d in zip(kernel, padding, dilation, strict=True))


@threaded
def _filters_last(item, items, w, out):
    """One block of CHANNELS channels of one group."""
    groups, M, D, T = w.shape
    blocks = items // groups
    g, d0 = item // blocks, item % blocks * CHANNELS
    d1 = min(d0 + CHANNELS, D)
    rows, lanes = _filter_offsets(w[g], d0, d1), LINE // w.itemsize
    whole = M - M % lanes if len(rows) >= lanes else 0
    for k in range(0, whole, lanes):
        for j in range(0, len(rows), lanes):
            j = min(j, len(rows) - lanes)
            transpose(w, ((g * M + k) * D + d0) * T + j, D * T, 0, 0, 0, out,
                      g * T * D * M + k, rows, j)
    for k in range(whole, M):
        for d in range(d0, d1):
            for t in range(T):
                out[g, t * D + d, k] = w[g, k, d, t]


@threaded
def _filters_first(item, items, parts, w):
    (chunks, groups, _, M), (D, T) = parts.shape, w.shape[2:]
    blocks = items // groups
    g, d0 = item // blocks, item % blocks * CHANNELS
    d1 = min(d0 + CHANNELS, D)
    rows, lanes = _filter_offsets(w[g], d0, d1), LINE // w.itemsize
    for chunk in range(1, chunks):
        for row in rows:
            sum, part = parts[0, g, row // M], parts[chunk, g, row // M]
            for k in range(M):
                sum[k] += part[k]
    whole = M - M % lanes if len(rows) >= lanes else 0
    for k in range(0, whole, lanes):
        for j in range(0, len(rows), lanes):
            j = min(j, len(rows) - lanes)
            transpose(parts, g * T * D * M + k, rows, j, 0, 0, w,
                      ((g * M + k) * D + d0) * T + j, D * T, 0)
    for k in range(whole, M):
        for d in range(d0, d1):
            for t in range(T):
                w[g, k, d, t] = parts[0, g, t * D + d, k]


@once
def _filter_offsets(w, d0, d1):
    """Offsets in filters (T, D, M) of the elements of the first filter of w (M, D, T), channels d0
    to d1."""
    M, D, T = w.shape
    rows = np.empty((d1 - d0) * T, np.intp)
    for j in range(len(rows)):
        rows[j] = (j % T * D + d0 + j // T) * M
    return rows


@once
def column_offsets(images, D, out, kernel, stride, dilation):
    """Where `images` images (height, width, D), one behind the other, contain their columns:
    col[i, l] is at starts[i] + taps[l]. Returns height, width, starts, taps."""
    (P, Q), (R, S), (sh, sw), (dh, dw) = out, kernel, stride, dilation
    height, width = (P - 1) * sh + (R - 1) * dh + 1, (Q - 1) * sw + (S - 1) * dw + 1
    starts, taps = np.empty(images * P * Q, np.intp), np.empty(R * S * D, np.intp)
    for i in range(len(starts)):
        starts[i] = ((i // (P * Q) * height + i // Q % P * sh) * width + i % Q * sw) * D
    for l in range(len(taps)):
        taps[l] = (l // (S * D) * dh * width + l // D % S * dw) * D + l % D
    return height, width, starts, taps


def use_pixel_vectors(D, M, Q):
    """Whether rows of pixels make better vectors than channels."""
    return min(D, M) < MIN_VECTOR <= 2 * Q


@once
def polyphase(x, top, left, stride, columns, step, height, width, image):
    """Split x (D, H, W) into images of every sh-th row and sw-th column, in which the pixels that
    one filter element multiplies are contiguous: the flat array image (D, sh, columns, height,
    width) gets [d, a, b, h, v] = x[d, h·sh + a − top, v·sw + b·step − left], 0 outside."""
    (D, H, W), (sh, sw), i = x.shape, stride, 0
    for d in range(D):
        for a in range(sh):
            for b in range(columns):
                j = b * step - left
                v0 = min(width, max(0, -(j // sw)))
                v1 = max(v0, min(width, -((j - W) // sw)))
                for h in range(height):
                    row, line = image[i * width:(i + 1) * width], h * sh + a - top
                    i += 1
                    if not 0 <= line < H:
                        row[:] = 0
                        continue
                    row[:v0] = row[v1:] = 0
                    dst, src = row[v0:v1], x[d, line, max(0, v0 * sw + j):]
                    for v in range(len(dst)):  # unsigned, never negative: see common.part
                        dst[v] = src[np.uintp(v * sw)]


@once
def tap_offsets(D, R, S, stride, dilation, P, Q):
    """The height and width of `polyphase`'s images for P×Q output pixels, and the offset in them of
    the first pixel that each filter element (d, r, s) multiplies; that for output (p, q) comes
    p·width + q later. Given S as stride sw, and dw = 1, each s has images of its own, Q wide."""
    (sh, sw), starts = stride, np.empty(D * R * S, np.intp)
    height, width = P + (R - 1) * dilation[0] // sh, Q + (S - 1) * dilation[1] // sw
    for l in range(len(starts)):
        d, h, v = l // (R * S), l // S % R * dilation[0], l % S * dilation[1]
        plane = (d * sh + h % sh) * sw + v % sw
        starts[l] = (plane * height + h // sh) * width + v // sw
    return height, width, starts
