"""Two matrices side by side: arrays concatenated along an axis

    y[r, l] = a[r, l]    y[r, L + m] = b[r, m]        a (R, L), b (R, M) → y (R, L + M)

All three arrays pass through memory once, which takes all of the time: NumPy copies with one
thread, which cannot use the whole memory bandwidth, and the other threads fall asleep meanwhile.
"""

import numpy as np
from numba import prange

from .common import chunks, empty, kernel, threaded
from .cuda import xp


@kernel(a="R L", b="R M")
def join(a, b):
    return np.concatenate([a, b], 1)


@join.version("cpu")
def join(a, b):
    y = empty((len(a), a.shape[1] + b.shape[1]), a.dtype)
    _join(a, b, y, chunks(len(a)))
    return y


@join.version("cuda")
def join(a, b):  # CuPy copies each in one pass
    return xp(a).concatenate([a, b], 1)


@threaded
def _join(a, b, y, chunks):
    R, L = a.shape
    for chunk in prange(chunks):
        for r in range(chunk * R // chunks, (chunk + 1) * R // chunks):
            left, right = y[r, :L], y[r, L:]
            for l in range(L):
                left[l] = a[r, l]
            for m in range(b.shape[1]):
                right[m] = b[r, m]
