"""Sums of a few arrays with factors known beforehand, for compiled loops

    y_i[l] = Σ_j M[i,j] · x_j[l],   l < size

A loop that reads six arrays and writes six is not vectorised by LLVM, for which they might overlap,
and one loop for each y_i reads the x_j six times. So the vectors are asked for here: each x_j is
read once, factors are constants, terms with a factor 0 are left out and 1 is not multiplied by.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BYTES = 64  # of a vector; where the machine's are shorter, LLVM takes several


def combination(matrices):
    """``combine(which, x, at, step, y, to, stride, size)`` with M = matrices[which]: x_j starts at
    x[at + j·step], y_i at y[to + i·stride]; x and y are flat arrays of one dtype, apart."""
    @intrinsic
    def combine(typing, which, x, at, step, y, to, stride, size):
        index, item = types.intp, x.dtype

        def emit(context, builder, signature, args):
            which, x, at, step, y, to, stride, size = args
            x, y = (context.make_array(signature.args[i])(context, builder, a).data
                    for i, a in ((1, x), (4, y)))
            number, lanes = context.get_value_type(item), BYTES * 8 // item.bitwidth
            of = lambda n: ir.Constant(ir.IntType(64), n)
            whole = builder.sub(size, builder.srem(size, of(lanes)))
            for i, M in enumerate(matrices):
                with builder.if_then(builder.icmp_signed("==", which, of(i))):
                    for first, last, n in ((of(0), whole, lanes), (whole, size, 1)):
                        with cgutils.for_range_slice(builder, first, last, of(n)) as (l, _):
                            _vectors(builder, M, ir.VectorType(number, n), item.bitwidth // 8,
                                     lambda j, l=l: _place(builder, x, at, j, step, l),
                                     lambda i, l=l: _place(builder, y, to, i, stride, l))
            return context.get_dummy_value()

        return types.void(index, x, index, index, y, index, index, index), emit
    return combine


def _place(builder, array, start, i, step, l):
    """The address of array[start + i·step + l]."""
    offset = builder.add(builder.add(start, l), builder.mul(ir.Constant(step.type, i), step))
    return builder.gep(array, [offset])


def _vectors(builder, M, vector, align, x, y):
    """Load a vector from each x(j), store the sums to y(i)."""
    at = lambda address: builder.bitcast(address, vector.as_pointer())
    loaded = [builder.load(at(x(j)), align=align) for j in range(M.shape[1])]
    for i, row in enumerate(M):
        total = None
        for factor, v in zip(row, loaded, strict=True):
            if factor == 0:
                continue
            if abs(factor) != 1:
                size = ir.Constant(vector, [abs(factor)] * vector.count)
                v = builder.fmul(v, size, flags=("contract",))
            if total is None:
                total = builder.fneg(v) if factor < 0 else v
            else:
                add = builder.fsub if factor < 0 else builder.fadd
                total = add(total, v, flags=("contract",))
        builder.store(total, at(y(i)), align=align)
