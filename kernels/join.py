"""Two matrices side by side: arrays concatenated along an axis

    y[r, l] = a[r, l]    y[r, L + m] = b[r, m]        a (R, L), b (R, M) → y (R, L + M)

All three arrays pass through memory once, which takes all of the time: NumPy copies with one
thread, which cannot use the whole memory bandwidth, and the other threads fall asleep meanwhile.
"""

import numpy as np

from .common import chunks, empty, kernel, share
from .cuda import xp
from .once import threaded


@kernel(a="R L", b="R M")
def join(a, b):
    return np.concatenate([a, b], 1)


@join.version("cpu")
def join(a, b):
    y = empty((len(a), a.shape[1] + b.shape[1]), a.dtype)
    _join(chunks(len(a)), a, b, y)
    return y


@join.version("cuda")
def join(a, b):  # CuPy copies each in one pass
    return xp(a).concatenate([a, b], 1)


@threaded
def _join(chunk, chunks, a, b, y):
    R, L = a.shape
    for r in share(R, chunk, chunks):
        left, right = y[r, :L], y[r, L:]
        for l in range(L):
            left[l] = a[r, l]
        for m in range(b.shape[1]):
            right[m] = b[r, m]
