"""Softmax and its logarithm along one axis, and their adjoints

    softmax                y[a,c,b] = e^x[a,c,b] / Σ_{j<C} e^x[a,j,b]
    log_softmax            y[a,c,b] = x[a,c,b] − log Σ_{j<C} e^x[a,j,b]
    softmax_backward      gx[a,c,b] = y[a,c,b] · (g[a,c,b] − Σ_{j<C} g[a,j,b]·y[a,j,b])
    log_softmax_backward  gx[a,c,b] = g[a,c,b] − e^y[a,c,b] · Σ_{j<C} g[a,j,b]

    x (A, C, B) → y (A, C, B), g, y (A, C, B) → gx (A, C, B)

The largest x[a,:,b] is subtracted first, so that nothing overflows; an x[a,c,b] of −∞ among finite
values gives a softmax of exactly 0.

About 6 FLOPs and one exponential per element; x and y pass through memory at least once. The fast
versions keep a row, or the rows of one a, in cache for all passes. On the CPU each thread takes a
range of a, and vectors run along b, or along c where B = 1; on the device a thread takes a row, or
a warp does where B = 1. For the cross-entropy with integer targets see cross_entropy.py.
"""

import numpy as np

from .common import empty, kernel, row_chunks, share
from .cuda import launch_rows, xp
from .exponential import exp, larger, largest
from .once import threaded


@kernel(x="A C B")
def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True, initial=-np.inf))
    return e / e.sum(1, keepdims=True)


@kernel(x="A C B")
def log_softmax(x):
    d = x - x.max(1, keepdims=True, initial=-np.inf)
    return d - np.log(np.exp(d).sum(1, keepdims=True))


@softmax.version("cpu")
def softmax(x):
    return _on_threads(x, False)


@log_softmax.version("cpu")
def log_softmax(x):
    return _on_threads(x, True)


def _on_threads(x, log):
    y = empty(x.shape, x.dtype)
    if not x.size:  # perhaps an axis of no elements, which have no largest
        return y
    if x.shape[2] == 1:
        _rows(row_chunks(x), x[..., 0], y[..., 0], log)
    else:
        _columns(row_chunks(x), x, y, log)
    return y


@kernel(g="A C B", y="A C B")
def softmax_backward(g, y):
    return y * (g - (g * y).sum(1, keepdims=True))


@kernel(g="A C B", y="A C B")
def log_softmax_backward(g, y):
    return g - np.exp(y) * g.sum(1, keepdims=True)


@softmax_backward.version("cpu")
def softmax_backward(g, y):
    return _back_on_threads(g, y, False)


@log_softmax_backward.version("cpu")
def log_softmax_backward(g, y):
    return _back_on_threads(g, y, True)


def _back_on_threads(g, y, log):
    gx = empty(y.shape, y.dtype)
    if y.shape[2] == 1:
        _rows_backward(row_chunks(y), g[..., 0], y[..., 0], gx[..., 0], log)
    else:
        _columns_backward(row_chunks(y), g, y, gx, log)
    return gx


@threaded
def _rows(chunk, chunks, x, y, log):
    """Along the last axis of x (A, C)."""
    for a in share(len(x), chunk, chunks):
        top, total, one, dst = largest(x[a]), x.dtype.type(0), x.dtype.type(1), y[a]
        for c in range(len(dst)):
            dst[c] = x[a, c] - top  # stored: top + log Σ would be rounded to the precision of top
        for c in range(len(dst)):
            e = exp(dst[c])
            total += e
            dst[c] = dst[c] if log else e
        scale, shift = one / total, np.log(total)
        for c in range(len(dst)):
            dst[c] = dst[c] - shift if log else dst[c] * scale


@threaded
def _columns(chunk, chunks, x, y, log):
    """Along the middle axis of x (A, C, B)."""
    A, C, B = x.shape
    for a in share(A, chunk, chunks):
        top, total = x[a, 0].copy(), np.zeros(B, x.dtype)
        for c in range(1, C):
            for b in range(B):
                top[b] = larger(top[b], x[a, c, b])
        for c in range(C):
            for b in range(B):
                y[a, c, b] = x[a, c, b] - top[b]
            for b in range(B):
                e = exp(y[a, c, b])
                total[b] += e
                y[a, c, b] = y[a, c, b] if log else e
        for b in range(B):
            total[b] = np.log(total[b]) if log else 1 / total[b]
        for c in range(C):
            for b in range(B):
                y[a, c, b] = y[a, c, b] - total[b] if log else y[a, c, b] * total[b]


@threaded
def _rows_backward(chunk, chunks, g, y, gx, log):
    for a in share(len(y), chunk, chunks):
        g_row, y_row, dst, total = g[a], y[a], gx[a], y.dtype.type(0)
        for c in range(len(dst)):
            total += g_row[c] if log else g_row[c] * y_row[c]
        for c in range(len(dst)):
            dst[c] = g_row[c] - exp(y_row[c]) * total if log else y_row[c] * (g_row[c] - total)


@threaded
def _columns_backward(chunk, chunks, g, y, gx, log):
    A, C, B = y.shape
    for a in share(A, chunk, chunks):
        total = np.zeros(B, y.dtype)
        for c in range(C):
            for b in range(B):
                total[b] += g[a, c, b] if log else g[a, c, b] * y[a, c, b]
        for c in range(C):
            for b in range(B):
                value, slope = y[a, c, b], g[a, c, b]
                gx[a, c, b] = slope - exp(value) * total[b] if log else value * (slope - total[b])


@softmax.version("cuda")
def softmax(x):
    return _launch("softmax", x)


@log_softmax.version("cuda")
def log_softmax(x):
    return _launch("log_softmax", x)


@softmax_backward.version("cuda")
def softmax_backward(g, y):
    return _launch("softmax_backward", g, y)


@log_softmax_backward.version("cuda")
def log_softmax_backward(g, y):
    return _launch("log_softmax_backward", g, y)


def _launch(name, *arrays):
    result = xp(arrays[0]).empty_like(arrays[0])
    launch_rows("softmax.cu", name, result, (*arrays, result))
    return result
