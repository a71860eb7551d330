"""The column matrix of a convolution, and what its three kernels share.

    col[(d, r, s), (n, p, q)] = x[n, d, p·stride + r·dilation − padding, q·stride + ...]

with zeros outside the image: a convolution is then one matrix product, w (K, D·R·S) · col. The
matrix of a whole batch is R·S times the input and would go to memory and back; so the kernels
build it for a few images at a time, in a buffer that stays in the core's own cache.
"""

import numpy as np

from .common import compiled

CACHE = 1 << 20  # bytes of columns a core works on at a time


def conv_size(size, kernel, stride, padding, dilation=(1, 1)):
    """The size (P, Q) of a convolution's or pool's output."""
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                 for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True))


def check_conv(name, image, out, w, stride, padding, dilation, groups):
    """Check the shapes of an image (N, C, H, W), an output (N, K, P, Q) and filters (K, D, R, S)
    against each other; an output of None is not known yet."""
    C, (K, D), size = image[1], w[:2], tuple(image[2:])
    if groups < 1 or C != D * groups or K % groups:
        raise ValueError(f"{name}: {C} channels, {K} filters of {D} channels and "
                         f"groups = {groups} do not fit")
    P, Q = conv_size(size, w[2:], stride, padding, dilation)
    if min(P, Q) < 1:
        raise ValueError(f"{name}: filters of {w[2:]}, dilation {dilation} are larger than the "
                         f"image of {size}, padding {padding}")
    if out is not None and tuple(out[2:]) != (P, Q):
        raise ValueError(f"{name}: an image of {size} gives an output of {(P, Q)}, "
                         f"not {tuple(out[2:])}")


def windows(x, kernel, stride, padding, dilation=(1, 1), fill=0):
    """A view (N, C, P, Q, R, S): for every output pixel the input pixels under the filter."""
    (R, S), (sh, sw), (ph, pw), (dh, dw) = kernel, stride, padding, dilation
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(
        x, (dh * (R - 1) + 1, dw * (S - 1) + 1), axis=(2, 3))
    return view[:, :, ::sh, ::sw, ::dh, ::dw]


def blocking(N, rows, pixels, threads, itemsize):
    """How many images, or else how many of an image's P rows of Q pixels, make one block of
    columns of `rows` rows: fitting in cache, yet leaving work for every thread."""
    P, Q = pixels
    width = max(256, CACHE // (rows * itemsize))
    images = max(1, min(width // (P * Q), -(-N // threads)))
    return images, (P if images > 1 else max(1, min(P, width // Q, -(-P * N // threads))))


@compiled
def span(size, out, offset, stride):
    """The outputs [begin, end) whose input offset + stride·q lies within [0, size)."""
    begin = max(0, -(offset // stride))
    return min(begin, out), max(min(begin, out), min(out, (size - 1 - offset) // stride + 1))


@compiled
def im2col(x, channels, images, rows, Q, kernel, stride, padding, dilation, col):
    """Fill col with the columns of ranges of channels, images and output rows."""
    (c0, c1), (n0, n1), (p0, p1) = channels, images, rows
    (R, S), (sh, sw), (ph, pw), (dh, dw) = kernel, stride, padding, dilation
    H, W = x.shape[2:]
    i = 0
    for c in range(c0, c1):
        for r in range(R):
            for s in range(S):
                at = s * dw - pw
                q0, q1 = span(W, Q, at, sw)
                j = 0
                for n in range(n0, n1):
                    for p in range(p0, p1):
                        h = p * sh + r * dh - ph
                        to = col[i, j:j + Q]
                        if h < 0 or h >= H:
                            to[:] = 0
                        else:
                            to[:q0] = 0
                            to[q1:] = 0
                            to = to[q0:q1]
                            row = x[n, c, h, at + q0 * sw:]
                            if sw == 1:
                                for q in range(len(to)):
                                    to[q] = row[q]
                            else:
                                for q in range(len(to)):
                                    to[q] = row[q * sw]
                        j += Q
                i += 1


@compiled
def col2im(col, Q, kernel, stride, padding, dilation, y):
    """Add the columns (channels·R·S, P·Q) of one image to y (channels, H, W), where they came
    from: the adjoint of im2col."""
    (R, S), (sh, sw), (ph, pw), (dh, dw) = kernel, stride, padding, dilation
    H, W = y.shape[1:]
    i = 0
    for c in range(y.shape[0]):
        for r in range(R):
            for s in range(S):
                at = s * dw - pw
                q0, q1 = span(W, Q, at, sw)
                p0, p1 = span(H, col.shape[1] // Q, r * dh - ph, sh)
                for p in range(p0, p1):
                    row = y[c, p * sh + r * dh - ph, at + q0 * sw:]
                    this = col[i, p * Q + q0:p * Q + q1]
                    if sw == 1:
                        for q in range(len(this)):
                            row[q] += this[q]
                    else:
                        for q in range(len(this)):
                            row[q * sw] += this[q]
                i += 1
