"""Softmax and its logarithm along one axis

    softmax       y[a,c,b] = e^x[a,c,b] / Σ_{j<C} e^x[a,j,b]
    log_softmax   y[a,c,b] = x[a,c,b] − log Σ_{j<C} e^x[a,j,b]

    x (A, C, B) → y (A, C, B);  the largest x[a,:,b] is taken out first, so that nothing overflows;
    an x[a,c,b] of −∞ beside others gives y = 0, exactly

About 6 FLOPs and an exponential an element; x and y at least once through memory. The fast versions
keep a row, or the rows of one a, in cache for all passes. On the CPU a thread takes a range of a,
and its vectors run along b, or along c where B = 1; on the device a thread takes a row, or a warp
where B = 1. With integer targets see cross_entropy.py.
"""

import numpy as np
from numba import prange

from .common import empty, kernel, threaded
from .cuda import launch_rows, xp
from .exponential import exp, largest


@kernel(x="A C B")
def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@kernel(x="A C B")
def log_softmax(x):
    d = x - x.max(1, keepdims=True)
    return d - np.log(np.exp(d).sum(1, keepdims=True))


@softmax.version("cpu")
def softmax(x):
    return _on_threads(x, False)


@log_softmax.version("cpu")
def log_softmax(x):
    return _on_threads(x, True)


def _on_threads(x, log):
    y = empty(x.shape, x.dtype)
    if x.shape[2] == 1:
        _rows(x[..., 0], y[..., 0], log)
    else:
        _columns(x, y, log)
    return y


@threaded
def _rows(x, y, log):
    """Along the last axis of x (A, C)."""
    for a in prange(len(x)):
        top, total, one, to = largest(x[a]), x.dtype.type(0), x.dtype.type(1), y[a]
        for c in range(len(to)):
            to[c] = x[a, c] - top  # kept: top + log Σ would be rounded to the size of top
        for c in range(len(to)):
            e = exp(to[c])
            total += e
            to[c] = to[c] if log else e
        scale, shift = one / total, np.log(total)
        for c in range(len(to)):
            to[c] = to[c] - shift if log else to[c] * scale


@threaded
def _columns(x, y, log):
    """Along the middle axis of x (A, C, B)."""
    A, C, B = x.shape
    for a in prange(A):
        top, total = x[a, 0].copy(), np.zeros(B, x.dtype)
        for c in range(1, C):
            for b in range(B):
                this = x[a, c, b]
                top[b] = top[b] if top[b] > this else this
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


@softmax.version("cuda")
def softmax(x):
    return _launch("softmax", x)


@log_softmax.version("cuda")
def log_softmax(x):
    return _launch("log_softmax", x)


def _launch(name, x):
    y = xp(x).empty_like(x)
    launch_rows("softmax.cu", name, x, (x, y))
    return y
