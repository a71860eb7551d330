"""Cumulative sums along an axis

    y[n, t, c] = Σ_{s≤t} x[n, s, c]        x (N, T, C) → y (N, T, C)

One FLOP per element; both arrays pass through memory once. NumPy sums one column after another,
each element waiting for the one before it. Here whole rows x[n, t] are added, in vectors along c,
and the threads share the matrices n or, if there are more, the columns. If C = 1, the sums remain
one after another, on all threads. Every sum keeps its order, and so its bits.
"""

import numpy as np

from .common import chunks, empty, kernel, share
from .cuda import xp
from .once import threaded


@kernel(x="N T C")
def cumsum(x):
    return np.cumsum(x, 1)


@cumsum.version("cpu")
def cumsum(x):
    N, T, C = x.shape
    y = empty(x.shape, x.dtype)
    if C == 1:
        _along_rows(chunks(N), x[..., 0], y[..., 0])
    else:
        _down_columns(chunks(max(N, C)), x, y)
    return y


@cumsum.version("cuda")
def cumsum(x):  # CuPy's is a scan
    return xp(x).cumsum(x, 1)


@threaded
def _along_rows(chunk, chunks, x, y):
    for n in share(len(x), chunk, chunks):
        row, out, total = x[n], y[n], x.dtype.type(0)
        for t in range(len(row)):
            total += row[t]
            out[t] = total


@threaded
def _down_columns(chunk, chunks, x, y):
    """A chunk is a range of the N matrices or, if there are more columns, of the columns."""
    N, T, C = x.shape
    matrices, columns = (share(N, chunk, chunks), range(C)) if N >= C else (
        range(N), share(C, chunk, chunks))
    start, width = columns.start, columns.stop - columns.start
    for n in matrices:
        for t in range(T):
            row, out = x[n, t, start:start + width], y[n, t, start:start + width]
            above = y[n, max(t - 1, 0), start:start + width]
            for c in range(width):
                out[c] = row[c] + above[c] if t else row[c]
