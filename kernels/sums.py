"""Sums of large arrays that every training step needs

    channel_sum   y[c] = Σ_n Σ_l x[n,c,l]     x (N, C, L) → y (C,): the gradient of a bias
    square_sum    s = Σ x²                     x (...) → a number, on a device an array of no axes:
                                               for the norm of gradients; for lists see many.py

One or two FLOPs per element; each array passes through memory once, which takes all of the time.
NumPy's expressions are slower because of what else they do: x·x is an array, written and read
again, and only one thread adds. Here x is summed in parts of at most BLOCK elements, in order of
position, so that the rounding error stays small and every run gives the same bits. Fewer than PART
elements are not worth waking the threads; on a device, PART have a block of their own.
"""

import numpy as np
from numba import prange

from .common import PART, chunks, compiled, kernel, threaded
from .cuda import MAX_INT_ELEMENTS, blocks, launch, real_macro, xp
from .many import foreach, num_chunks, piece

BLOCK = 1 << 10  # elements summed in x's dtype; the sums of these parts are added in float64


@kernel(x="N C L")
def channel_sum(x):
    return x.sum((0, 2))


@channel_sum.version("cpu")
def channel_sum(x):
    if x.size <= PART:
        return x.sum((0, 2))
    parts = np.empty((chunks(len(x)), x.shape[1]))
    if x.shape[2] == 1:
        _row_sum(x[..., 0], parts)
    else:
        _channel_sum(x, 1 if len(parts) > 1 else chunks(x.shape[1]), parts)
    return parts.sum(0).astype(x.dtype)


@channel_sum.version("cuda")
def channel_sum(x):
    (N, C, L), y = x.shape, xp(x).empty(x.shape[1], x.dtype)
    if N * L >= MAX_INT_ELEMENTS:
        raise ValueError(f"channel_sum of {x.shape}: {N * L} numbers in a channel, on CUDA at most "
                         f"{MAX_INT_ELEMENTS - 1}")
    threads = 1024 if N * L > 4096 else 256
    launch("sums.cu", "channel_sum", C, threads, (x, y, N, C, L), **real_macro(x.dtype))
    return y


@foreach(x="...")
def square_sum(x):
    return float((x * x).sum(dtype=np.float64))


@square_sum.foreach_cpu
def square_sum(table, dtype):
    chunks = num_chunks(table)
    parts = np.zeros((chunks, len(table)))
    if chunks == 1:
        _square_sum(0, 1, table, dtype, parts)
    else:
        _square_sum_threads(chunks, table, dtype, parts)
    return parts.sum(0).tolist()


@square_sum.version("cuda")
def square_sum(x):
    parts = xp(x).empty(blocks(x.size, PART), x.dtype)
    launch("sums.cu", "square_sum", len(parts), 256, (x, parts, np.int64(x.size), PART),
           **real_macro(x.dtype))
    return parts.sum(dtype=np.float64)


@compiled
def _sum(x):
    total = x.dtype.type(0)
    for i in range(len(x)):
        total += x[i]
    return total


@compiled
def _squares(x):
    total = x.dtype.type(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    return total


@threaded
def _channel_sum(x, ranges, parts):
    """A thread takes one of T ranges of images or, if T = 1, one of `ranges` of the channels."""
    (N, C, L), (T, _) = x.shape, parts.shape
    for item in prange(T * ranges):
        t, c_range = item // ranges, item % ranges
        first, last = c_range * C // ranges, (c_range + 1) * C // ranges
        for c in range(first, last):
            parts[t, c] = 0
        for n in range(t * N // T, (t + 1) * N // T):
            for c in range(first, last):
                for start in range(0, L, BLOCK):
                    parts[t, c] += _sum(x[n, c, start:start + BLOCK])


@threaded
def _row_sum(x, parts):
    """The sums of T ranges of the rows of x (N, C), with vectors along C."""
    N, T = len(x), len(parts)
    for t in prange(T):
        sums = parts[t]
        sums[:] = 0
        for n in range(t * N // T, (t + 1) * N // T):
            row = x[n]
            for c in range(len(sums)):
                sums[c] += row[c]


@compiled
def _square_sum(chunk, chunks, table, dtype, parts):
    for k in range(len(table)):
        x = piece(table, k, 1, chunk, chunks, dtype)
        for i in range(0, len(x), BLOCK):
            parts[chunk, k] += _squares(x[i:i + BLOCK])


@threaded
def _square_sum_threads(chunks, table, dtype, parts):
    for c in prange(chunks):
        _square_sum(c, chunks, table, dtype, parts)
