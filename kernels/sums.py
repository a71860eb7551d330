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

from .common import PART, chunks, compiled, kernel, share
from .cuda import MAX_INT_ELEMENTS, blocks, launch, real_macro, xp
from .many import foreach, num_chunks, piece
from .once import threaded

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
        _row_sum(len(parts), x[..., 0], parts)
    else:
        _channel_sum(len(parts) if len(parts) > 1 else chunks(x.shape[1]), x, parts)
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
    parts = np.zeros((num_chunks(table), len(table)))
    _square_sum(len(parts), table, dtype, parts)
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
def _channel_sum(chunk, chunks, x, parts):
    """A chunk is one of T ranges of images or, if T = 1, one of the channels."""
    (N, C, L), (T, _) = x.shape, parts.shape
    t, ranges = chunk * T // chunks, chunks // T
    for c in share(C, chunk % ranges, ranges):
        parts[t, c] = 0
    for n in share(N, t, T):
        for c in share(C, chunk % ranges, ranges):
            for start in range(0, L, BLOCK):
                parts[t, c] += _sum(x[n, c, start:start + BLOCK])


@threaded
def _row_sum(chunk, chunks, x, parts):
    """The sum of a range of the rows of x (N, C), with vectors along C."""
    sums = parts[chunk]
    sums[:] = 0
    for n in share(len(x), chunk, chunks):
        row = x[n]
        for c in range(len(sums)):
            sums[c] += row[c]


@threaded
def _square_sum(chunk, chunks, table, dtype, parts):
    for k in range(len(table)):
        x = piece(table, k, 1, chunk, chunks, dtype)
        for i in range(0, len(x), BLOCK):
            parts[chunk, k] += _squares(x[i:i + BLOCK])
