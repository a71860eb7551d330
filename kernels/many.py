"""Kernels for all parameters of a model at once: lists of arrays in place of arrays

A model has a hundred parameters, most of them small. A call for each takes 10 µs of Python and
wakes the threads again, which for a bias is all of the time. So compiled code is given a table of
the arrays' addresses, which has the same type for every model, and divides all arrays, laid end to
end, evenly among its threads (`piece`).
"""

import ctypes

import numpy as np
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from .common import PART, Kernel, chunks, compiled, start


class ForeachKernel(Kernel):
    """A Kernel whose arguments are first arrays, then options. All arrays may be given as lists:
    then the result is a list, whose i-th entry is the result for the i-th arrays of all lists.

    Its version "cpu" is made from f(table, dtype, *options), decorated with `foreach_cpu`, which
    handles what a table can hold. Other arrays are processed one by one, read-only ones by the
    reference.
    """

    def __call__(self, *args, **kw):
        if not args or type(args[0]) is not list:
            return super().__call__(*args, **kw)
        n = len(self.arrays)
        rows = args[0] and self._pick(type(args[0][0])) is self.cpu and table(args[:n])
        return (self.run_all(*rows, *args[n:]) if rows else
                [self(*arrays, *args[n:]) for arrays in zip(*args[:n], strict=True)])

    def foreach_cpu(self, run_all):
        """Add the version "cpu"."""
        def single(*args):
            n = len(self.arrays)
            rows = table([[a] for a in args[:n]])
            results = run_all(*rows, *args[n:]) if rows else [self.reference(*args)]
            return results and results[0]
        self.run_all = run_all
        return self.version("cpu")(single)


def foreach(**shapes):
    """Turn the decorated reference into a Kernel for many arrays."""
    return lambda reference: ForeachKernel(reference, shapes, None)


def table(lists):
    """The addresses of the arrays, for `piece`, and their dtype. A row is for the arrays of one
    result: the number of elements up to its end, and the addresses. None unless all are NumPy
    arrays of one dtype, float32 or float64, in C order and writeable, with one shape per row."""
    dtype, total, rows = lists[0][0].dtype, 0, []
    if dtype not in (np.float32, np.float64):
        return None
    for arrays in zip(*lists, strict=True):
        total, shape = total + arrays[0].size, arrays[0].shape
        for a in arrays:
            if type(a) is not np.ndarray or a.dtype != dtype or a.shape != shape:
                return None
        try:
            rows.append([total, *map(ctypes.addressof, map(start, arrays))])
        except TypeError:  # strided or read-only
            return None
    return np.array(rows, np.int64), dtype


def num_chunks(table):
    """The number of chunks into which the arrays, all together, are cut."""
    total = table[-1, 0]
    return 1 if total < PART else chunks(total)


@intrinsic
def _pointer(typing, address):
    return types.voidptr(types.int64), lambda context, builder, signature, args: (
        builder.inttoptr(args[0], cgutils.voidptr_t))


@compiled
def piece(table, k, i, chunk, chunks, dtype):
    """The part of the i-th array of row k (i = 1, 2, ...) in a chunk: a flat array, often empty."""
    begin, end, total = table[k - 1, 0] if k else 0, table[k, 0], table[-1, 0]
    first, last = chunk * total // chunks - begin, (chunk + 1) * total // chunks - begin
    return carray(_pointer(table[k, i]), end - begin, dtype)[max(0, first):max(0, last)]
