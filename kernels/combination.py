"""Sums of a few arrays with factors known beforehand, for compiled loops

    y_i[l] = Σ_j M[i,j] · x_j[l],   l < size

A loop that reads six arrays and writes six is not vectorised by LLVM, for which they might overlap,
and one loop for each y_i reads the x_j six times. So the vectors are asked for here: each x_j is
read once, factors are constants, terms with a factor 0 are left out and 1 is not multiplied by. Of
rows or columns of M that differ in signs alone, as Winograd's do for points ±p, the sum and the
difference are made of two sums that both need: a third fewer additions.
"""

import functools
import itertools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .common import LINE
from .once import written


def combination(matrices):
    """``combine(which, times, size, x, at, step, skip, y, to, stride, hop)``, M = matrices[which]:
    x_j starts at x[at + j·step], y_i at y[to + i·stride]; all of it `times` over, each time `skip`
    further in x and `hop` further in y. x and y are addresses of numbers of one dtype, apart:
    call it from a function that is compiled once_bare."""
    @intrinsic
    def combine(typing, which, times, size, x, at, step, skip, y, to, stride, hop):
        return types.void(which, times, size, x, at, step, skip, y, to, stride, hop), written(
            functools.partial(_define, matrices, x.dtype.bitwidth // 8))
    return combine


def _define(matrices, bytes, builder, which, times, size, x, at, step, skip, y, to, stride, hop):
    """The body of `combine` for numbers of so many bytes."""
    of = lambda n: ir.Constant(ir.IntType(64), n)
    lanes, number = LINE // bytes, x.type.pointee
    whole = builder.sub(size, builder.srem(size, of(lanes)))
    for i, M in enumerate(matrices):
        with (builder.if_then(builder.icmp_signed("==", which, of(i))),
              cgutils.for_range(builder, times) as loop):
            of_x = builder.gep(x, [builder.add(at, builder.mul(loop.index, skip))])
            of_y = builder.gep(y, [builder.add(to, builder.mul(loop.index, hop))])
            for first, last, n in ((of(0), whole, lanes), (whole, size, 1)):
                with cgutils.for_range_slice(builder, first, last, of(n)) as (l, _):
                    _vectors(builder, M, ir.VectorType(number, n), bytes,
                             _places(builder, of_x, step, l), _places(builder, of_y, stride, l))


def _places(builder, array, step, l):
    """The address of array[i·step + l], for a given i."""
    return lambda i: builder.gep(array, [builder.add(builder.mul(ir.Constant(step.type, i), step),
                                                     l)])


def _vectors(builder, M, vector, align, x, y):
    """Load a vector from each x(j), store the sums to y(i)."""
    at = lambda address: builder.bitcast(address, vector.as_pointer())
    loaded = [builder.load(at(x(j)), align=align) for j in range(M.shape[1])]
    for i, total in enumerate(_sums(builder, M, loaded)):
        builder.store(total, at(y(i)), align=align)


def _sums(builder, M, x):
    """The rows of M x. Of two columns that differ in signs alone, x_j + x_k stands where the signs
    are alike and x_j − x_k where they are not; of two such rows, one is the sum of the terms with
    like signs and of the others, and one their difference."""
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
    """Pairs (i, k) of rows, each in one at most, that differ in some of their signs alone."""
    found, free = [], set(range(len(rows)))
    for i, k in itertools.combinations(range(len(rows)), 2):
        same = np.count_nonzero(rows[i] * rows[k] > 0)
        if {i, k} <= free and (abs(rows[i]) == abs(rows[k])).all() and (
                0 < same < np.count_nonzero(rows[i])):
            found.append((i, k))
            free -= {i, k}
    return found


def _sum(builder, row, x):
    """Σ_j row[j] · x_j, of which some are not 0."""
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
