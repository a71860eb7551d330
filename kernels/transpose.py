"""Transposing a block of a matrix in registers, for compiled loops

    y[y0 + to(to0 + j) + i] = x[x0 + at(at0 + i) + j] + b[b0 + j]

    i, j < LANES = LINE / itemsize

A loop that moves one element at a time takes a cycle for each. Here LANES vectors are loaded, and
in log₂ LANES rounds the vectors 1, 2, 4, … apart exchange half of their lanes: a quarter of a cycle
per element.
"""

import functools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .common import LINE
from .once import once_bare, written


@once_bare
def transpose(x, x0, at, at0, b, b0, y, y0, to, to0):
    """x, b and y are arrays of one dtype, of which y does not overlap the others; offsets count
    from their first elements, whatever their shapes. at(i) is at[i] if `at` is an array of np.intp,
    i·at if it is a number; to(i) is defined in the same way. b may be 0."""
    _transpose(x, x0, at, at0, b, b0, y, y0, to, to0)


@intrinsic
def _transpose(typing, x, x0, at, at0, b, b0, y, y0, to, to0):
    return types.void(x, x0, at, at0, b, b0, y, y0, to, to0), written(
        functools.partial(_define, x.dtype.bitwidth // 8))


def _define(bytes, builder, x, x0, at, at0, b, b0, y, y0, to, to0):
    """The body of `transpose` for elements of `bytes` bytes."""
    lanes = LINE // bytes
    vector = ir.VectorType(x.type.pointee, lanes)
    of = lambda i: ir.Constant(ir.IntType(64), i)
    as_vector = lambda *place: builder.bitcast(builder.gep(place[0], [place[1]]),
                                               vector.as_pointer())

    def entry(start, places, first, i):
        i = builder.add(first, of(i))
        number = isinstance(places.type, ir.IntType)
        return builder.add(start, builder.mul(i, places) if number else
                           builder.load(builder.gep(places, [i])))
    rows = [builder.load(as_vector(x, entry(x0, at, at0, i)), align=bytes) for i in range(lanes)]
    if not isinstance(b.type, ir.IntType):
        bias = builder.load(as_vector(b, b0), align=bytes)
        rows = [builder.fadd(row, bias) for row in rows]
    for apart in (2 ** n for n in range(lanes.bit_length() - 1)):
        for i in range(lanes):
            if not i & apart:
                rows[i], rows[i + apart] = _exchange(builder, rows[i], rows[i + apart], apart)
    for j in range(lanes):
        builder.store(rows[j], as_vector(y, entry(y0, to, to0, j)), align=bytes)


def _exchange(builder, low, high, apart):
    """low keeps its lanes l without the bit `apart` and takes the others from lanes l − apart of
    high; high takes its lanes l without the bit from lanes l + apart of low and keeps the others.
    """
    lanes = range(low.type.count)
    mask = lambda chosen: ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), chosen)
    return (builder.shuffle_vector(low, high, mask(
                [len(lanes) + l - apart if l & apart else l for l in lanes])),
            builder.shuffle_vector(low, high, mask(
                [len(lanes) + l if l & apart else l + apart for l in lanes])))
