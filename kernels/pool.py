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
takes one image plane after another, so that a plane stays in cache while its windows overlap.
"""

import math

import numpy as np

from .columns import conv_size, windows
from .common import chunks, empty, kernel, share
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


@threaded
def _max_pool2d(chunk, chunks, x, kernel_size, stride, padding, y, index):
    (N, H, W), (_, P, Q) = x.shape, y.shape
    (R, S), (sh, sw), (ph, pw) = kernel_size, stride, padding
    for n in share(N, chunk, chunks):
        for p in range(P):
            h0, h1 = max(0, p * sh - ph), min(H, p * sh - ph + R)
            for q in range(Q):
                w0, w1 = max(0, q * sw - pw), min(W, q * sw - pw + S)
                best, at = x[n, h0, w0], h0 * W + w0
                for h in range(h0, h1):
                    for w in range(w0, w1):
                        value = x[n, h, w]
                        if value > best or (value != value and best == best):
                            best, at = value, h * W + w
                y[n, p, q], index[n, p, q] = best, at


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
    (N, H, W), (_, P, Q) = x.shape, y.shape
    (R, S), (sh, sw), (ph, pw) = kernel_size, stride, padding
    for n in share(N, chunk, chunks):
        for p in range(P):
            for q in range(Q):
                y[n, p, q] = 0
                for h in range(max(0, p * sh - ph), min(H, p * sh - ph + R)):
                    for w in range(max(0, q * sw - pw), min(W, q * sw - pw + S)):
                        y[n, p, q] += x[n, h, w]
                y[n, p, q] /= R * S


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
    (N, P, Q), (_, H, W) = g.shape, y.shape
    (R, S), (sh, sw), (ph, pw) = kernel_size, stride, padding
    for n in share(N, chunk, chunks):
        y[n] = 0
        for p in range(P):
            for q in range(Q):
                part = g[n, p, q] / (R * S)
                for h in range(max(0, p * sh - ph), min(H, p * sh - ph + R)):
                    for w in range(max(0, q * sw - pw), min(W, q * sw - pw + S)):
                        y[n, h, w] += part
