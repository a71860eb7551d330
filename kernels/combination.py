"""Linear combinations of a few arrays with constant factors, for compiled loops

    y_i[l] = Σ_j M[i,j] · x_j[l],   l < size

LLVM does not vectorise a loop that reads six arrays and writes six, because they might overlap, and
a loop for each y_i would read the x_j six times. So the vector instructions are written out here:
each x_j is read once, factors are constants, and terms with factor 0 and multiplications by 1 are
left out. For rows or columns of M that differ only in signs, as Winograd's do for points ±p, common
sums and differences are computed once: a third fewer additions.
"""

import functools
import itertools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .common import LINE
from .once import codegen


def combination(matrices):
    """``combine(which, times, size, x, x0, x_step, x_skip, y, y0, y_step, y_skip)``, with
    M = matrices[which]: x_j starts at x[x0 + j·x_step], y_i at y[y0 + i·y_step]; this is repeated
    `times` times, each time x_skip further in x and y_skip further in y. x and y are pointers to
    arrays of one dtype that do not overlap: call it from a function compiled with once_pointers."""
    @intrinsic
    def combine(typing, which, times, size, x, x0, x_step, x_skip, y, y0, y_step, y_skip):
        signature = types.void(which, times, size, x, x0, x_step, x_skip, y, y0, y_step, y_skip)
        return signature, codegen(functools.partial(_define, matrices, x.dtype.bitwidth // 8))
    return combine


def _define(matrices, bytes, builder, which, times, size, x, x0, x_step, x_skip, y, y0, y_step,
            y_skip):
    """The body of `combine` for elements of `bytes` bytes."""
    const = lambda n: ir.Constant(ir.IntType(64), n)
    lanes, number = LINE // bytes, x.type.pointee
    whole = builder.sub(size, builder.srem(size, const(lanes)))
    for i, M in enumerate(matrices):
        with (builder.if_then(builder.icmp_signed("==", which, const(i))),
              cgutils.for_range(builder, times) as loop):
            x_start = builder.gep(x, [builder.add(x0, builder.mul(loop.index, x_skip))])
            y_start = builder.gep(y, [builder.add(y0, builder.mul(loop.index, y_skip))])
            for first, last, n in ((const(0), whole, lanes), (whole, size, 1)):
                with cgutils.for_range_slice(builder, first, last, const(n)) as (l, _):
                    _vectors(builder, M, ir.VectorType(number, n), bytes,
                             _addresses(builder, x_start, x_step, l),
                             _addresses(builder, y_start, y_step, l))


def _addresses(builder, array, step, l):
    """The address of array[i·step + l], for a given i."""
    return lambda i: builder.gep(array, [builder.add(builder.mul(ir.Constant(step.type, i), step),
                                                     l)])


def _vectors(builder, M, vector, align, x, y):
    """Load a vector from each x(j), store the sums to y(i)."""
    pointer = lambda address: builder.bitcast(address, vector.as_pointer())
    loaded = [builder.load(pointer(x(j)), align=align) for j in range(M.shape[1])]
    for i, total in enumerate(_sums(builder, M, loaded)):
        builder.store(total, pointer(y(i)), align=align)


def _sums(builder, M, x):
    """The rows of M x. For two columns that differ only in signs, x_j + x_k is used in the rows
    where the signs agree, x_j − x_k where they do not. For two such rows, the terms whose signs
    agree and the others are summed apart: one row is the sum of the two, one the difference."""
    M, x, y = M.copy(), [*x], {}
    for j, k in _pairs(M.T):
        like = M[:, j] == M[:, k]
        M[:, k] = np.where(like, 0, M[:, j])
        M[:, j] -= M[:, k]
        x[j], x[k] = builder.fadd(x[j], x[k]), builder.fsub(x[j], x[k])
    for i, k in _pairs(M):
        like = M[i] == M[k]
        a, b = _sum(builder, np.where(like, M[i], 0), x), _sum(builder, np.where(like, 0, M[i]), x)
        y[i], y[k] = builder.fadd(a, b), builder.fsub(a, b)
    return [y[i] if i in y else _sum(builder, M[i], x) for i in range(len(M))]


def _pairs(rows):
    """Disjoint pairs (i, k) of rows that differ only in signs, in some but not all of them."""
    found, free = [], set(range(len(rows)))
    for i, k in itertools.combinations(range(len(rows)), 2):
        same = np.count_nonzero(rows[i] * rows[k] > 0)
        if {i, k} <= free and (abs(rows[i]) == abs(rows[k])).all() and (
                0 < same < np.count_nonzero(rows[i])):
            found.append((i, k))
            free -= {i, k}
    return found


def _sum(builder, row, x):
    """Σ_j row[j] · x_j, for a row that is not all zeros."""
    total = None
    for factor, v in zip(row, x, strict=True):
        if factor == 0:
            continue
        if abs(factor) != 1:
            size = ir.Constant(v.type, [abs(factor)] * v.type.count)
            v = builder.fmul(v, size, flags=("contract",))
        if total is None:
            total = builder.fneg(v) if factor < 0 else v
        else:
            add = builder.fsub if factor < 0 else builder.fadd
            total = add(total, v, flags=("contract",))
    return total
