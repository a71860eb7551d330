"""Pooling and its adjoints

    max_pool2d            y[n,c,p,q] = max_{r<R, s<S} x[n, c, p·stride + r − padding, q·stride + …]
                          index = h·W + w of the first maximum; padding never wins, NaN always does
    max_unpool2d          y[n, c, index[n,c,p,q]] += g[n,c,p,q]       the adjoint for a given index,
                          which lies in its window: on the device a pixel reads the windows it is in
    max_pool2d_at         y[n,c,p,q] = x[n, c, index[n,c,p,q]]        the adjoint of max_unpool2d
    avg_pool2d            y[n,c,p,q] = 1/(R·S) Σ_{r<R, s<S} x[n, c, p·stride + r − padding, …]
                          with zeros outside the image (PyTorch's count_include_pad=True)
    avg_pool2d_transpose  the adjoint of avg_pool2d

    x (N, C, H, W), y, g (N, C, P, Q), kernel_size = (R, S), size = (H, W)
    P = (H + 2·padding − R) // stride + 1, Q likewise;  padding ≤ kernel_size / 2

R·S operations per output; x, y and index pass through memory once. In the fast version each thread
takes one image plane after another, so that a plane stays in cache while its windows overlap. For a
row of windows it first reduces the columns of R pixels, with vectors along the row, then S columns
at a time: R + S operations instead of R·S where windows overlap.
"""

import math

import numpy as np

from .columns import conv_size, windows
from .common import chunks, empty, inlined, kernel, share
from .cuda import launch_elementwise, xp
from .once import threaded


def _check_pool(name, size, out, kernel_size, stride, padding):
    P, Q = conv_size(size, kernel_size, stride, padding)
    if min(P, Q, *size) < 1 or any(2 * p > k for p, k in zip(padding, kernel_size, strict=True)):
        raise ValueError(f"{name}: windows of {kernel_size}, padding {padding} do not fit an image "
                         f"of {size} (padding at most half a window)")
    if out is not None and tuple(out) != (P, Q):
        raise ValueError(f"{name}: an image of {size} gives an output of {(P, Q)}, not {out}")


def check_max(x, kernel_size, stride, padding):
    _check_pool("max_pool2d", x.shape[2:], None, kernel_size, stride, padding)


def check_avg(x, kernel_size, stride, padding):
    _check_pool("avg_pool2d", x.shape[2:], None, kernel_size, stride, padding)


def check_avg_transpose(g, size, kernel_size, stride, padding):
    _check_pool("avg_pool2d_transpose", size, g.shape[2:], kernel_size, stride, padding)


def _check_index(name, index, size):
    if not isinstance(index, np.ndarray):
        return  # on a device the host would have to wait; the kernels stay in bounds
    if index.size and (index.min() < 0 or index.max() >= size[0] * size[1]):
        raise ValueError(f"{name}: index reaches from {index.min()} to {index.max()}, expected "
                         f"[0, {size[0] * size[1]}) for an image of {tuple(size)}")


def check_unpool(g, index, size, kernel_size, stride, padding):
    _check_pool("max_unpool2d", size, g.shape[2:], kernel_size, stride, padding)
    _check_index("max_unpool2d", index, size)


def check_at(x, index):
    _check_index("max_pool2d_at", index, x.shape[2:])


@kernel(check_max, x="N C H W")
def max_pool2d(x, kernel_size, stride, padding):
    N, C, H, W = x.shape
    win = windows(x, kernel_size, stride, padding, fill=-np.inf)
    at = windows(np.arange(H * W).reshape(1, 1, H, W), kernel_size, stride, padding, fill=-1)
    win, at = (a.reshape(*a.shape[:4], kernel_size[0] * kernel_size[1]) for a in (win, at))
    y = win.max(-1)
    first = (((win == y[..., None]) | np.isnan(win)) & (at >= 0)).argmax(-1)[..., None]
    index = np.take_along_axis(np.broadcast_to(at, win.shape), first, -1)[..., 0]
    return y, index.astype(np.int32)


@max_pool2d.version("cpu")
def max_pool2d(x, kernel_size, stride, padding):
    shape = (*x.shape[:2], *conv_size(x.shape[2:], kernel_size, stride, padding))
    y, index = empty(shape, x.dtype), np.empty(shape, np.int32)
    planes = _planes(x)
    _max_pool2d(chunks(len(planes)), planes, kernel_size, stride, padding, _planes(y),
                _planes(index))
    return y, index


@max_pool2d.version("cuda")
def max_pool2d(x, kernel_size, stride, padding):
    size = conv_size(x.shape[2:], kernel_size, stride, padding)
    y = xp(x).empty((*x.shape[:2], *size), x.dtype)
    index = xp(x).empty(y.shape, np.int32)
    launch_elementwise("pool.cu", "max_pool2d", y, (x, index),
                       (*x.shape[2:], *size, *kernel_size, *stride, *padding))
    return y, index


def _planes(x):
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _flat(x):
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2] * x.shape[3])


@inlined
def _wins(a, b):
    """Whether a is larger than b, as NaN is than all numbers."""
    return (a > b) | (a != a) & (b == b)


@threaded
def _max_pool2d(chunk, chunks, x, kernel_size, stride, padding, y, index):
    """For each row of windows: the first maximum of every column and its row, then the first of S
    columns at a time. Column indices are unsigned: see common.part."""
    (N, H, W), (_, P, Q) = x.shape, y.shape
    (R, S), (sh, sw), (ph, pw) = kernel_size, stride, padding
    top, row = np.full(W + 2 * pw, -np.inf, x.dtype), np.full(W + 2 * pw, H, np.int32)
    inner, inner_row = top[pw:pw + W], row[pw:pw + W]
    for n in share(N, chunk, chunks):
        for p in range(P):
            h0, h1 = max(0, p * sh - ph), min(H, p * sh - ph + R)
            inner[:] = x[n, h0]
            inner_row[:] = h0
            for h in range(h0 + 1, h1):
                values, h32 = x[n, h], np.int32(h)
                for w in range(W):
                    best, value = inner[w], values[w]
                    new = _wins(value, best)
                    inner[w] = value if new else best
                    inner_row[w] = h32 if new else inner_row[w]
            out, at = y[n, p], index[n, p]
            for q in range(Q):
                w = np.uintp(q * sw)
                best, h, first = top[w], row[w], w
                for s in range(q * sw + 1, q * sw + S):
                    w = np.uintp(s)
                    if _wins(top[w], best) or row[w] < h and not _wins(best, top[w]):
                        best, h, first = top[w], row[w], w
                out[q], at[q] = best, h * W + np.int32(first) - pw


@kernel(check_unpool, g="N C P Q", index="N C P Q int")
def max_unpool2d(g, index, size, kernel_size, stride, padding):
    y = np.zeros((*g.shape[:2], *size), g.dtype)
    np.add.at(_flat(y), (np.arange(len(_flat(y)))[:, None], _flat(index)), _flat(g))
    return y


@max_unpool2d.version("cpu")
def max_unpool2d(g, index, size, kernel_size, stride, padding):
    y = empty((*g.shape[:2], *size), g.dtype)
    planes = _flat(g)
    _max_unpool2d(chunks(len(planes)), planes, _flat(index), _flat(y))
    return y


@max_unpool2d.version("cuda")
def max_unpool2d(g, index, size, kernel_size, stride, padding):
    y = xp(g).empty((*g.shape[:2], *size), g.dtype)
    launch_elementwise("pool.cu", "max_unpool2d", y, (g, index.astype(np.int32, copy=False)),
                       (*size, *g.shape[2:], *kernel_size, *stride, *padding))
    return y


@threaded
def _max_unpool2d(chunk, chunks, g, index, y):
    for n in share(len(g), chunk, chunks):
        y[n] = 0
        for i in range(g.shape[1]):
            y[n, index[n, i]] += g[n, i]


@kernel(check_at, x="N C H W", index="N C P Q int")
def max_pool2d_at(x, index):
    return np.take_along_axis(_flat(x), _flat(index), -1).reshape(index.shape)


@max_pool2d_at.version("cpu")
def max_pool2d_at(x, index):
    y = empty(index.shape, x.dtype)
    planes = _flat(x)
    _max_pool2d_at(chunks(len(planes)), planes, _flat(index), _flat(y))
    return y


@max_pool2d_at.version("cuda")
def max_pool2d_at(x, index):
    y = xp(x).empty(index.shape, x.dtype)
    launch_elementwise("pool.cu", "max_pool2d_at", y, (x, index.astype(np.int32, copy=False)),
                       (math.prod(x.shape[2:]), math.prod(index.shape[2:])))
    return y


@threaded
def _max_pool2d_at(chunk, chunks, x, index, y):
    for n in share(len(x), chunk, chunks):
        for i in range(y.shape[1]):
            y[n, i] = x[n, index[n, i]]


@kernel(check_avg, x="N C H W")
def avg_pool2d(x, kernel_size, stride, padding):
    return windows(x, kernel_size, stride, padding).mean((-2, -1))


@avg_pool2d.version("cpu")
def avg_pool2d(x, kernel_size, stride, padding):
    size = conv_size(x.shape[2:], kernel_size, stride, padding)
    y = empty((*x.shape[:2], *size), x.dtype)
    planes = _planes(x)
    _avg_pool2d(chunks(len(planes)), planes, kernel_size, stride, padding, _planes(y))
    return y


@avg_pool2d.version("cuda")
def avg_pool2d(x, kernel_size, stride, padding):
    size = conv_size(x.shape[2:], kernel_size, stride, padding)
    y = xp(x).empty((*x.shape[:2], *size), x.dtype)
    launch_elementwise("pool.cu", "avg_pool2d", y, (x,),
                       (*x.shape[2:], *size, *kernel_size, *stride, *padding))
    return y


@threaded
def _avg_pool2d(chunk, chunks, x, kernel_size, stride, padding, y):
    """For each row of windows: the sum of every column, then of S columns at a time."""
    (N, H, W), (_, P, Q) = x.shape, y.shape
    (R, S), (sh, sw), (ph, pw) = kernel_size, stride, padding
    sums, scale = np.zeros(W + 2 * pw, x.dtype), x.dtype.type(1 / (R * S))
    inner = sums[pw:pw + W]
    for n in share(N, chunk, chunks):
        for p in range(P):
            inner[:] = 0
            for h in range(max(0, p * sh - ph), min(H, p * sh - ph + R)):
                row = x[n, h]
                for w in range(W):
                    inner[w] += row[w]
            out = y[n, p]
            for q in range(Q):
                total = sums[q * sw]
                for s in range(q * sw + 1, q * sw + S):
                    total += sums[s]
                out[q] = total * scale


@kernel(check_avg_transpose, g="N C P Q")
def avg_pool2d_transpose(g, size, kernel_size, stride, padding):
    (P, Q), (H, W) = g.shape[2:], size
    (R, S), (sh, sw), (ph, pw) = kernel_size, stride, padding
    y = np.zeros((*g.shape[:2], H + 2 * ph, W + 2 * pw), g.dtype)
    for r, s in np.ndindex(R, S):
        y[:, :, r:r + sh * P:sh, s:s + sw * Q:sw] += g / (R * S)
    return y[:, :, ph:ph + H, pw:pw + W].copy()


@avg_pool2d_transpose.version("cpu")
def avg_pool2d_transpose(g, size, kernel_size, stride, padding):
    y = empty((*g.shape[:2], *size), g.dtype)
    planes = _planes(g)
    _avg_pool2d_transpose(chunks(len(planes)), planes, kernel_size, stride, padding, _planes(y))
    return y


@avg_pool2d_transpose.version("cuda")
def avg_pool2d_transpose(g, size, kernel_size, stride, padding):
    y = xp(g).empty((*g.shape[:2], *size), g.dtype)
    launch_elementwise("pool.cu", "avg_pool2d_transpose", y, (g,),
                       (*size, *g.shape[2:], *kernel_size, *stride, *padding))
    return y


@threaded
def _avg_pool2d_transpose(chunk, chunks, g, kernel_size, stride, padding, y):
    """For each row of windows: what it gives to every column, added to all of its R rows."""
    (N, P, Q), (_, H, W) = g.shape, y.shape
    (R, S), (sh, sw), (ph, pw) = kernel_size, stride, padding
    parts, scale = np.empty(W + 2 * pw, g.dtype), g.dtype.type(1 / (R * S))
    inner = parts[pw:pw + W]
    for n in share(N, chunk, chunks):
        y[n] = 0
        for p in range(P):
            parts[:] = 0
            row = g[n, p]
            for q in range(Q):
                part = row[q] * scale
                for s in range(q * sw, q * sw + S):
                    parts[s] += part
            for h in range(max(0, p * sh - ph), min(H, p * sh - ph + R)):
                out = y[n, h]
                for w in range(W):
                    out[w] += inner[w]
