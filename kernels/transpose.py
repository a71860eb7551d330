"""Transposing a block of a matrix in registers, for compiled loops

    y[y0 + y_rows(j0 + j) + i] = x[x0 + x_rows(i0 + i) + j] + b[b0 + j]

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
from .once import codegen, once_pointers


@once_pointers
def transpose(x, x0, x_rows, i0, b, b0, y, y0, y_rows, j0):
    """x, b and y are arrays of one dtype, of which y does not overlap the others; offsets count
    from their first elements, whatever their shapes. x_rows(i) is x_rows[i] if x_rows is an array
    of np.intp, i·x_rows if it is a number; y_rows(j) is defined in the same way. b may be 0."""
    _transpose(x, x0, x_rows, i0, b, b0, y, y0, y_rows, j0)


@intrinsic
def _transpose(typing, x, x0, x_rows, i0, b, b0, y, y0, y_rows, j0):
    return types.void(x, x0, x_rows, i0, b, b0, y, y0, y_rows, j0), codegen(
        functools.partial(_define, x.dtype.bitwidth // 8))


def _define(bytes, builder, x, x0, x_rows, i0, b, b0, y, y0, y_rows, j0):
    """The body of `transpose` for elements of `bytes` bytes."""
    lanes = LINE // bytes
    vector = ir.VectorType(x.type.pointee, lanes)
    const = lambda i: ir.Constant(ir.IntType(64), i)
    as_vector = lambda *place: builder.bitcast(builder.gep(place[0], [place[1]]),
                                               vector.as_pointer())

    def entry(start, offsets, first, i):
        i = builder.add(first, const(i))
        number = isinstance(offsets.type, ir.IntType)
        return builder.add(start, builder.mul(i, offsets) if number else
                           builder.load(builder.gep(offsets, [i])))
    rows = [builder.load(as_vector(x, entry(x0, x_rows, i0, i)), align=bytes) for i in range(lanes)]
    if not isinstance(b.type, ir.IntType):
        bias = builder.load(as_vector(b, b0), align=bytes)
        rows = [builder.fadd(row, bias) for row in rows]
    for stride in (2 ** n for n in range(lanes.bit_length() - 1)):
        for i in range(lanes):
            if not i & stride:
                rows[i], rows[i + stride] = _exchange(builder, rows[i], rows[i + stride], stride)
    for j in range(lanes):
        builder.store(rows[j], as_vector(y, entry(y0, y_rows, j0, j)), align=bytes)


def _exchange(builder, low, high, stride):
    """low keeps its lanes l without the bit `stride` and takes the others from lanes l − stride of
    high; high takes its lanes l without the bit from lanes l + stride of low and keeps the others.
    """
    lanes = range(low.type.count)
    mask = lambda chosen: ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), chosen)
    return (builder.shuffle_vector(low, high, mask(
                [len(lanes) + l - stride if l & stride else l for l in lanes])),
            builder.shuffle_vector(low, high, mask(
                [len(lanes) + l if l & stride else l + stride for l in lanes])))
