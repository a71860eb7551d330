"""Cross-entropy with integer targets, and its gradient, without storing the log-probabilities

    top[a,b] = max_c x[a,c,b]        total[a,b] = Σ_{c<C} e^(x[a,c,b] − top[a,b])
    y[a,b] = log total[a,b] + (top[a,b] − x[a, t[a,b], b])
    gx[a,c,b] = g[a,b] · (e^(x[a,c,b] − top[a,b]) / total[a,b] − [c = t[a,b]])

    x (A, C, B), t (A, B) integers in 0 … C − 1 → y, top, total (A, B); g (A, B) → gx (A, C, B)

About 8 FLOPs and two exponentials per element; x is read once or twice, gx written once. A chain of
log_softmax, the selection of one entry, and their gradients would write and read arrays of x's size
six times. The largest x[a,:,b] is subtracted first, so that nothing overflows, and kept separately:
in the sum top + log total the logarithm would be rounded to the precision of top. On the CPU each
thread takes a range of a, and vectors run along b, or along c where B = 1; on the device a thread
computes one (a, b), or a warp where B = 1, as in softmax.cu.
"""

import numpy as np

from .common import empty, kernel, row_chunks, share
from .cuda import launch_rows, xp
from .exponential import difference, exp, larger, largest
from .once import threaded


def _check_targets(name, t, C):
    if isinstance(t, np.ndarray) and t.size and (t.min() < 0 or t.max() >= C):
        raise IndexError(f"{name}: targets reach from {t.min()} to {t.max()}, expected [0, {C})")


def check(x, t):
    _check_targets("cross_entropy", t, x.shape[1])


def check_backward(g, x, t, top, total):
    _check_targets("cross_entropy_backward", t, x.shape[1])


@kernel(check, x="A C B", t="A B int")
def cross_entropy(x, t):
    top = x.max(1)
    total = np.exp(x - top[:, None]).sum(1)
    return np.log(total) + (top - np.take_along_axis(x, t[:, None], 1)[:, 0]), top, total


@cross_entropy.version("cpu")
def cross_entropy(x, t):
    results = [empty(t.shape, x.dtype) for _ in range(3)]
    if x.shape[2] == 1:
        _rows(row_chunks(x), x[..., 0], t[:, 0], *(a[:, 0] for a in results))
    else:
        _columns(row_chunks(x), x, t, *results)
    return tuple(results)


@cross_entropy.version("cuda")
def cross_entropy(x, t):
    results = [xp(x).empty(t.shape, x.dtype) for _ in range(3)]
    launch_rows("cross_entropy.cu", "cross_entropy", x, (x, t.astype(np.int64), *results))
    return tuple(results)


@threaded
def _rows(chunk, chunks, x, t, y, top, total):
    """Along the last axis of x (A, C)."""
    for a in share(len(x), chunk, chunks):
        row, row_max, sum = x[a], largest(x[a]), x.dtype.type(0)
        for c in range(len(row)):
            sum += exp(row[c] - row_max)
        top[a], total[a] = row_max, sum
        y[a] = np.log(sum) + difference(row_max, row[t[a]])


@threaded
def _columns(chunk, chunks, x, t, y, top, total):
    """Along the middle axis of x (A, C, B)."""
    A, C, B = x.shape
    for a in share(A, chunk, chunks):
        for b in range(B):
            top[a, b], total[a, b] = x[a, 0, b], 0
        for c in range(1, C):
            for b in range(B):
                top[a, b] = larger(top[a, b], x[a, c, b])
        for c in range(C):
            for b in range(B):
                total[a, b] += exp(x[a, c, b] - top[a, b])
        for b in range(B):
            y[a, b] = np.log(total[a, b]) + difference(top[a, b], x[a, t[a, b], b])


@kernel(check_backward, g="A B", x="A C B", t="A B int", top="A B", total="A B")
def cross_entropy_backward(g, x, t, top, total):
    gx = np.exp(x - top[:, None]) / total[:, None]
    A, B = np.indices(t.shape)
    gx[A, t, B] -= 1
    return g[:, None] * gx


@cross_entropy_backward.version("cpu")
def cross_entropy_backward(g, x, t, top, total):
    gx = empty(x.shape, x.dtype)
    if x.shape[2] == 1:
        _rows_backward(row_chunks(x), x[..., 0], *(a[:, 0] for a in (g, t, top, g / total)),
                       gx[..., 0])
    else:
        _columns_backward(row_chunks(x), x, g, t, top, g / total, gx)
    return gx


@cross_entropy_backward.version("cuda")
def cross_entropy_backward(g, x, t, top, total):
    gx = xp(x).empty_like(x)
    launch_rows("cross_entropy.cu", "cross_entropy_backward", x,
                (x, t.astype(np.int64), top, total, g, gx))
    return gx


@threaded
def _rows_backward(chunk, chunks, x, g, t, top, scale, gx):
    for a in share(len(x), chunk, chunks):
        row, dst, factor, shift = x[a], gx[a], scale[a], top[a]
        for c in range(len(row)):
            dst[c] = factor * exp(row[c] - shift)
        gx[a, t[a]] -= g[a]


@threaded
def _columns_backward(chunk, chunks, x, g, t, top, scale, gx):
    A, C, B = x.shape
    for a in share(A, chunk, chunks):
        for c in range(C):
            for b in range(B):
                gx[a, c, b] = scale[a, b] * exp(x[a, c, b] - top[a, b])
        for b in range(B):
            gx[a, t[a, b], b] -= g[a, b]
