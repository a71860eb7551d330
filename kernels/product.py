"""A matrix product for compiled loops, for small matrices, thousands of them

    C[i,j] = Σ_p A[i,p] · B[p,j]  (+ C[i,j])         i < m, j < n, p < k

A BLAS copies both matrices into an order of its own before it multiplies: for 96×64×64 it reaches
half of its speed. Here they are read where they lie: C is computed in tiles of rows × vectors that
stay in registers while p runs, at each step a row of B times one number of A for each row of the
tile. The tiles are spelled out, because LLVM finds no such order by itself. 2·m·n·k FLOPs.
"""

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# bytes of a vector, vectors, rows of a tile, from wide to narrow: as many as there are registers.
_WIDE = [(64, 4, 6), (64, 3, 8), (64, 2, 12), (64, 1, 12), (32, 1, 12), (16, 1, 12)]
_NARROW = [(32, 2, 6), (32, 1, 12), (16, 1, 12)]
TILES = _WIDE if binding.get_host_cpu_features().get("avx512f") else _NARROW


@intrinsic
def product(typing, m, n, k, a, row, column, b, ldb, add, c, ldc):
    """C = A B, or C + A B where `add`: A[i,p] is a[i·row + p·column], B[p,j] is b[p·ldb + j] and
    C[i,j] is c[i·ldc + j]; a, b, c are flat arrays of one dtype, c apart from the others."""
    index, item = types.intp, a.dtype

    def emit(context, builder, signature, args):
        m, n, k, a, row, column, b, ldb, add, c, ldc = args
        a, b, c = (context.make_array(signature.args[i])(context, builder, array).data
                   for i, array in ((3, a), (6, b), (9, c)))
        number, size = context.get_value_type(item), item.bitwidth // 8
        of = lambda i: ir.Constant(ir.IntType(64), i)
        j = of(0)
        for width, vectors, rows in [*TILES, (size, 1, 12)]:
            columns = of(width // size * vectors)
            last = builder.add(j, builder.mul(builder.sdiv(builder.sub(n, j), columns), columns))
            with cgutils.for_range_slice(builder, j, last, columns) as (j0, _):
                whole = builder.mul(builder.sdiv(m, of(rows)), of(rows))
                for first, end, together in ((of(0), whole, rows), (whole, m, 1)):
                    with cgutils.for_range_slice(builder, first, end, of(together)) as (i0, _):
                        _tile(builder, ir.VectorType(number, width // size), size, together,
                              vectors, k, (a, row, column), (b, ldb), add, (c, ldc), i0, j0)
            j = last
        return context.get_dummy_value()

    return types.void(index, index, index, a, index, index, b, index, types.boolean, c, index), emit


def _tile(builder, vector, size, rows, vectors, k, A, B, add, C, i0, j0):
    """C[i0 + r, j0 + …] for r < rows: sums are kept in registers."""
    (a, row, column), (b, ldb), (c, ldc) = A, B, C
    of = lambda i: ir.Constant(ir.IntType(64), i)
    at = lambda array, *terms: builder.gep(array, [_sum(builder, terms)])
    as_vector = lambda address: builder.bitcast(address, vector.as_pointer())
    places = [[as_vector(at(c, builder.mul(builder.add(i0, of(r)), ldc), j0,
                            of(v * vector.count))) for v in range(vectors)] for r in range(rows)]
    sums = [[cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * vector.count))
             for _ in range(vectors)] for _ in range(rows)]
    with cgutils.for_range(builder, k) as loop:
        p = loop.index
        of_b = [builder.load(as_vector(at(b, builder.mul(p, ldb), j0, of(v * vector.count))),
                             align=size) for v in range(vectors)]
        for r in range(rows):
            of_a = builder.load(at(a, builder.mul(builder.add(i0, of(r)), row),
                                   builder.mul(p, column)))
            factor = _repeated(builder, of_a, vector)
            for v in range(vectors):
                term = builder.fmul(of_b[v], factor, flags=("contract",))
                builder.store(builder.fadd(builder.load(sums[r][v]), term, flags=("contract",)),
                              sums[r][v])
    for r in range(rows):
        for v in range(vectors):
            with builder.if_then(add):
                builder.store(builder.fadd(builder.load(sums[r][v]),
                                           builder.load(places[r][v], align=size)), sums[r][v])
            builder.store(builder.load(sums[r][v]), places[r][v], align=size)


def _sum(builder, terms):
    total, *others = terms
    for term in others:
        total = builder.add(total, term)
    return total


def _repeated(builder, number, vector):
    """A vector of one number."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number,
                                 ir.Constant(ir.IntType(32), 0))
    nowhere = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), nowhere)
