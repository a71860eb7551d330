"""Sums of large arrays that every training step needs

    axis_sum      y[a,b] = Σ_c x[a,c,b]       x (A, C, B) → y (A, B)
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
from .once import num_threads, threaded

BLOCK = 1 << 10  # elements summed in x's dtype; the sums of these parts are added in float64


@kernel(x="A C B")
def axis_sum(x):
    return x.sum(1)


@axis_sum.version("cpu")
def axis_sum(x):
    return _axis_sum(x).astype(x.dtype)


def _axis_sum(x):
    """`axis_sum` in float64."""
    A, C, B = x.shape
    T = 1 if A >= num_threads() or C <= B else chunks(C)
    parts = np.empty((T, A, B))
    n = T if T > 1 else chunks(max(A, B))
    if B == 1:
        _line_sums(n, x[..., 0], parts[..., 0])
    else:
        _row_sums(n, x, parts)
    return parts.sum(0) if T > 1 else parts[0]


@axis_sum.version("cuda")
def axis_sum(x):  # CuPy's is a reduction in shared memory
    return x.sum(1)


@kernel(x="N C L")
def channel_sum(x):
    return x.sum((0, 2))


@channel_sum.version("cpu")
def channel_sum(x):
    if x.size <= PART:
        return x.sum((0, 2))
    N, C, L = x.shape
    return _axis_sum(x.reshape(N * C, L, 1)).reshape(N, C).sum(0).astype(x.dtype)


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
def _line_sums(chunk, chunks, x, parts):
    """Sums of the rows of x (A, C). A chunk is one of T ranges of C or, if T = 1, of A."""
    (A, C), T = x.shape, len(parts)
    t, ranges = chunk * T // chunks, chunks // T
    c0, c1 = t * C // T, (t + 1) * C // T
    for a in share(A, chunk % ranges, ranges):
        parts[t, a] = 0
        for c in range(c0, c1, BLOCK):
            parts[t, a] += _sum(x[a, c:min(c + BLOCK, c1)])


@threaded
def _row_sums(chunk, chunks, x, parts):
    """Sums along C of x (A, C, B), of four rows at a time, so that the sums are read and written a
    quarter as often. A chunk is one of T ranges of C or, if T = 1, of A or of B."""
    (A, C, B), T = x.shape, len(parts)
    t, ranges = chunk * T // chunks, chunks // T
    matrices = share(A, chunk % ranges, ranges) if A >= ranges else range(A)
    columns = share(B, chunk % ranges, ranges) if A < ranges else range(B)
    c0, c1, b0, b1 = t * C // T, (t + 1) * C // T, columns.start, columns.stop
    for a in matrices:
        sums = parts[t, a, b0:b1]
        sums[:] = 0
        for c in range(c0, c1 - 3, 4):
            p, q, r, s = x[a, c, b0:b1], x[a, c + 1, b0:b1], x[a, c + 2, b0:b1], x[a, c + 3, b0:b1]
            for b in range(len(sums)):
                sums[b] += (p[b] + q[b]) + (r[b] + s[b])
        for c in range(c1 - (c1 - c0) % 4, c1):
            row = x[a, c, b0:b1]
            for b in range(len(sums)):
                sums[b] += row[b]


@threaded
def _square_sum(chunk, chunks, table, dtype, parts):
    for k in range(len(table)):
        x = piece(table, k, 1, chunk, chunks, dtype)
        for i in range(0, len(x), BLOCK):
            parts[chunk, k] += _squares(x[i:i + BLOCK])
