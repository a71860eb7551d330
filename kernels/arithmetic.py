"""Sums, differences, products, … of two arrays whose shapes broadcast

    add  y = a + b        subtract  y = a − b        multiply  y = a · b        divide  y = a / b
    maximum  y = max(a, b)        minimum  y = min(a, b), each NaN where a or b is

    a, b of any shapes that broadcast → y

One FLOP per element; memory takes all of the time. NumPy has only one thread add, and where an
array is broadcast along the last axes, as the scale of a channel is, it starts a loop for every few
numbers: a fifth of the speed. Here neighbouring axes are merged wherever both arrays advance along
them, or the same one does. y then is a sequence of runs, each of which is one vectorised loop:
(N, C, H, W) · (1, C, 1, 1) has N · C runs, of H · W numbers.
"""

import functools

import numpy as np

from .common import PART, Kernel, chunks, empty, inlined
from .once import threaded

AXES = 4  # that remain after merging; with more of them, or with runs of fewer than
SHORT = 32  # numbers, NumPy is as fast


def arithmetic(reference):
    """Turn a function of two numbers, or of two arrays of NumPy or CuPy, into a kernel."""
    f = inlined(reference)

    def fill(chunk, chunks, a, b, y, sizes, a_steps, b_steps):
        """Compute part number `chunk` of y, which may begin and end within a run."""
        length, a_step, b_step = sizes[-1], a_steps[-1], b_steps[-1]
        start, stop = chunk * len(y) // chunks, (chunk + 1) * len(y) // chunks
        while start < stop:
            run, first = start // length, start % length
            i, j, n = first * a_step, first * b_step, min(length - first, stop - start)
            for axis in range(AXES - 2, -1, -1):
                run, at = run // sizes[axis], run % sizes[axis]
                i, j = i + at * a_steps[axis], j + at * b_steps[axis]
            # an index of unsigned type is never negative: see common.part
            i, j, at, n = np.uintp(i), np.uintp(j), np.uintp(start), np.uintp(n)
            if a_step and b_step:
                for k in range(n):
                    y[at + k] = f(a[i + k], b[j + k])
            elif a_step:
                for k in range(n):
                    y[at + k] = f(a[i + k], b[j])
            else:
                for k in range(n):
                    y[at + k] = f(a[i], b[j + k])
            start += length - first

    fill = threaded(fill, reference)

    def run(a, b):
        if not (runs := _runs(a.shape, b.shape)):
            return reference(a, b)
        shape, *steps = runs
        y = empty(shape, a.dtype)
        fill(chunks(1 + y.size // PART), a.reshape(-1), b.reshape(-1), y.reshape(-1), *steps)
        return y

    kernel = Kernel(reference, {"a": "*", "b": "*"}, None)
    kernel.version("cpu")(run)
    return kernel.version("cuda")(reference)  # CuPy makes one pass of it


@functools.lru_cache
def _runs(a, b):
    """The shape to which shapes a and b broadcast; the lengths of its axes once they are merged;
    and by how many numbers a and b advance along each: (AXES,) integers. None if NumPy should
    compute the result, or say that there is none."""
    merged = []  # [length, whether a advances, whether b does]
    ndim = max(len(a), len(b))
    for n, m in zip((1,) * (ndim - len(a)) + a, (1,) * (ndim - len(b)) + b, strict=True):
        if n != m and 1 not in (n, m) or 0 in (n, m):
            return None
        if merged and (n == m == 1 or merged[-1][1:] == [n > 1, m > 1]):
            merged[-1][0] *= max(n, m)
        else:
            merged.append([max(n, m), n > 1, m > 1])
    if not merged or len(merged) > AXES or merged[-1][0] < SHORT:
        return None
    sizes, *moves = np.array([[1, 0, 0]] * (AXES - len(merged)) + merged).T
    steps = [np.append(np.cumprod(np.where(move, sizes, 1)[:0:-1])[::-1], 1) * move
             for move in moves]
    return np.broadcast_shapes(a, b), sizes, *steps


@arithmetic
def add(a, b): return a + b
@arithmetic
def subtract(a, b): return a - b
@arithmetic
def multiply(a, b): return a * b
@arithmetic
def divide(a, b): return a / b
@arithmetic
def maximum(a, b): return np.maximum(a, b)
@arithmetic
def minimum(a, b): return np.minimum(a, b)
