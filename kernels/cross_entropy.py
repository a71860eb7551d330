"""Cross-entropy with integer targets, and its gradient, without the array of log-probabilities

    lse[a,b] = log Σ_{c<C} e^x[a,c,b]          y[a,b] = lse[a,b] − x[a, t[a,b], b]
    gx[a,c,b] = g[a,b] · (e^(x[a,c,b] − lse[a,b]) − [c = t[a,b]])

    x (A, C, B), t (A, B) integers in 0 … C − 1 → y, lse (A, B); g (A, B) → gx (A, C, B)

About 8 FLOPs and two exponentials an element; x is read once or twice, gx written once. As a chain,
log_softmax, the choice of one entry, and their gradients write and read arrays of x's size six
times. The largest x[a,:,b] is taken out first, so that nothing overflows. On the CPU a thread takes
a range of a, and its vectors run along b, or along c where B = 1; on the device a thread takes a
place, or a warp where B = 1, as in softmax.cu.
"""

import numpy as np
from numba import prange

from .common import empty, kernel, threaded
from .cuda import launch_rows, xp
from .exponential import exp, largest


@kernel(x="A C B", t="A B int")
def cross_entropy(x, t):
    top = x.max(1, keepdims=True)
    lse = (top + np.log(np.exp(x - top).sum(1, keepdims=True)))[:, 0]
    return lse - np.take_along_axis(x, t[:, None], 1)[:, 0], lse


@cross_entropy.version("cpu")
def cross_entropy(x, t):
    y, lse = empty(t.shape, x.dtype), empty(t.shape, x.dtype)
    if x.shape[2] == 1:
        _rows(x[..., 0], t[:, 0], y[:, 0], lse[:, 0])
    else:
        _columns(x, t, y, lse)
    return y, lse


@cross_entropy.version("cuda")
def cross_entropy(x, t):
    y, lse = xp(x).empty(t.shape, x.dtype), xp(x).empty(t.shape, x.dtype)
    launch_rows("cross_entropy.cu", "cross_entropy", x, (x, t.astype(np.int64), y, lse))
    return y, lse


@threaded
def _rows(x, t, y, lse):
    """Along the last axis of x (A, C)."""
    for a in prange(len(x)):
        row, top, total = x[a], largest(x[a]), x.dtype.type(0)
        for c in range(len(row)):
            total += exp(row[c] - top)
        lse[a] = top + np.log(total)
        y[a] = lse[a] - row[t[a]]


@threaded
def _columns(x, t, y, lse):
    """Along the middle axis of x (A, C, B)."""
    A, C, B = x.shape
    for a in prange(A):
        for b in range(B):
            lse[a, b], y[a, b] = x[a, 0, b], 0
        for c in range(1, C):
            for b in range(B):
                here = x[a, c, b]
                lse[a, b] = lse[a, b] if lse[a, b] > here else here
        for c in range(C):
            for b in range(B):
                y[a, b] += exp(x[a, c, b] - lse[a, b])
        for b in range(B):
            lse[a, b] += np.log(y[a, b])
            y[a, b] = lse[a, b] - x[a, t[a, b], b]


@kernel(g="A B", x="A C B", t="A B int", lse="A B")
def cross_entropy_backward(g, x, t, lse):
    gx = np.exp(x - lse[:, None])
    A, B = np.indices(t.shape)
    gx[A, t, B] -= 1
    return g[:, None] * gx


@cross_entropy_backward.version("cpu")
def cross_entropy_backward(g, x, t, lse):
    gx = empty(x.shape, x.dtype)
    if x.shape[2] == 1:
        _rows_backward(g[:, 0], x[..., 0], t[:, 0], lse[:, 0], gx[..., 0])
    else:
        _columns_backward(g, x, t, lse, gx)
    return gx


@cross_entropy_backward.version("cuda")
def cross_entropy_backward(g, x, t, lse):
    gx = xp(x).empty_like(x)
    launch_rows("cross_entropy.cu", "cross_entropy_backward", x,
                (x, t.astype(np.int64), lse, g, gx))
    return gx


@threaded
def _rows_backward(g, x, t, lse, gx):
    for a in prange(len(x)):
        row, to, scale, shift = x[a], gx[a], g[a], lse[a]
        for c in range(len(row)):
            to[c] = scale * exp(row[c] - shift)
        gx[a, t[a]] -= g[a]


@threaded
def _columns_backward(g, x, t, lse, gx):
    A, C, B = x.shape
    for a in prange(A):
        for c in range(C):
            for b in range(B):
                gx[a, c, b] = g[a, b] * exp(x[a, c, b] - lse[a, b])
        for b in range(B):
            gx[a, t[a, b], b] -= g[a, b]
