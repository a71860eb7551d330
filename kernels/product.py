"""A matrix product for compiled loops, made for thousands of small matrices

    C[i,j] = Σ_p A[i,p] · B[p,j]  (+ C[i,j])         i < m, j < n, p < k

A BLAS packs both matrices into a layout of its own before it multiplies: for 96×64×64 it reaches
half of its full speed. Here they are read in place: C is computed in tiles of rows × vectors that
stay in registers while p runs; each step multiplies a row of B by one element of A for each row of
the tile. The tiles are written out, because LLVM does not find this order by itself; the last
columns are a vector of which only some lanes are loaded and stored. 2·m·n·k FLOPs. Where B is
large, or stored by columns, `panel` first copies a part of it into the order in which it is read.
"""

import functools

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .common import LINE, compiled
from .once import codegen, once, once_pointers
from .transpose import transpose

# Bytes of a vector, vectors and rows of a tile, from wide to narrow: as many as registers allow. In
# the last tile lanes are masked, which takes long where vectors have 32 bytes (twice the time for 8
# columns on an EPYC, Zen 3): so it gets fewer than 4 columns there.
_WIDE = [(64, 4, 6), (64, 3, 8), (64, 2, 12), (64, 1, 12)]
_NARROW = [(32, 2, 6), (32, 1, 12), (16, 1, 12), (16, 1, 12)]
TILES = _WIDE if binding.get_host_cpu_features().get("avx512f") else _NARROW
# Matrices of fewer than 4 rows fill no tile, but 8 sums at once keep both multipliers busy.
FEW, ROW_TILE = 4, (TILES[0][0], 8, 1)


@once_pointers
def product(m, n, k, a, a0, row, column, b, b0, ldb, add, c, c0, ldc):
    """C = A B, or C + A B if `add`: A[i,p] is a[a0 + i·row + p·column], B[p,j] is
    b[b0 + p·ldb + j] and C[i,j] is c[c0 + i·ldc + j]; a, b, c are arrays of one dtype, of which c
    does not overlap the others; offsets count from their first elements, whatever their shapes.
    Where distances are irregular, row (m,), column (k,) and ldb (k,) may be arrays of offsets,
    np.intp: A[i,p] is then a[a0 + row[i] + column[p]]."""
    _product(m, n, k, a, a0, row, column, b, b0, ldb, add, c, c0, ldc)


@intrinsic
def _product(typing, m, n, k, a, a0, row, column, b, b0, ldb, add, c, c0, ldc):
    tables = [isinstance(step, types.CPointer) for step in (row, column, ldb)]
    return types.void(m, n, k, a, a0, row, column, b, b0, ldb, add, c, c0, ldc), codegen(
        functools.partial(_define, a.dtype.bitwidth // 8, tables))


def _define(size, tables, builder, m, n, k, a, a0, row, column, b, b0, ldb, add, c, c0, ldc):
    """The body of `product` for elements of `size` bytes; tables: which of row, column and ldb are
    arrays."""
    a, b, c = builder.gep(a, [a0]), builder.gep(b, [b0]), builder.gep(c, [c0])
    const = lambda i: ir.Constant(ir.IntType(64), i)
    row_at, column_at, b_at = (
        (lambda i, offsets=offsets: builder.load(builder.gep(offsets, [i]))) if table else
        (lambda i, stride=offsets: builder.mul(i, stride))
        for offsets, table in zip((row, column, ldb), tables, strict=True))
    j, few = const(0), builder.icmp_signed("<", m, const(FEW))
    for number, (width, vectors, rows) in enumerate((ROW_TILE, *TILES)):
        vector = ir.VectorType(a.type.pointee, width // size)
        columns, masked = const(vector.count * vectors), number == len(TILES)
        last = n if masked else builder.sub(n, builder.srem(builder.sub(n, j), columns))
        parts = [(const(0), m, 1)]
        if rows == 1:
            last = builder.select(few, last, j)
        else:
            whole = _rows_in_tiles(builder, m, rows)
            by_four = builder.sub(m, builder.srem(builder.sub(m, whole), const(4)))
            parts = [(const(0), whole, rows), (whole, by_four, 4), (by_four, m, 1)]
        with cgutils.for_range_slice(builder, j, last, columns) as (j0, _):
            access = _Access(builder, vector, size, builder.sub(n, j0) if masked else None)
            for first, end, step in parts:
                with cgutils.for_range_slice(builder, first, end, const(step)) as (i0, _):
                    _tile(builder, access, vector, step, vectors, k, (a, row_at, column_at),
                          (b, b_at), add, (c, ldc), i0, j0)
        j = last


def _rows_in_tiles(builder, m, rows):
    """How many of m rows tiles of `rows` rows compute. The rest is left to tiles of 4 rows, and of
    1, which are slow: of 32 rows, 4 tiles of 6 leave 8, where 5 would leave 2 single ones."""
    const = lambda i: ir.Constant(ir.IntType(64), i)
    rest = builder.srem(m, const(rows))
    more = builder.add(rest, const(rows))
    fewer_single = builder.icmp_signed("<", builder.srem(more, const(4)),
                                       builder.srem(rest, const(4)))
    enough = builder.icmp_signed(">=", m, more)
    return builder.sub(m, builder.select(builder.and_(fewer_single, enough), more, rest))


@once
def panel(b, by_columns, p0, j0, k, n, dst, ld):
    """dst[p·ld + j] = B[p0 + p, j0 + j], which is b[p0 + p, j0 + j], or b[j0 + j, p0 + p] if B is
    stored by columns; p < k, j < n."""
    lanes, stride = LINE // b.itemsize, b.strides[0] // b.itemsize
    if not by_columns:
        for p in range(k):
            row, src = dst[p * ld:], b[p0 + p, j0:j0 + n]
            for j in range(n):
                row[j] = src[j]
    elif min(k, n) < lanes:
        for p in range(k):
            for j in range(n):
                dst[p * ld + j] = b[j0 + j, p0 + p]
    else:
        for j in range(0, n, lanes):
            j = min(j, n - lanes)
            for p in range(0, k, lanes):
                p = min(p, k - lanes)
                transpose(b, (j0 + j) * stride + p0 + p, stride, 0, 0, 0, dst, p * ld + j, ld, 0)


@compiled
def dot(a, b, k):
    """Σ_p a[p] · b[p], p < k: what to use where C would have a single row and few columns."""
    sum = a.dtype.type(0)
    for p in range(k):
        sum += a[p] * b[p]
    return sum


class _Access:
    """Loads and stores of vectors or, if `lanes` is given, of at most so many of their elements."""

    def __init__(self, builder, vector, size, lanes):
        self.builder, self.vector, self.align = builder, vector, ir.Constant(ir.IntType(32), size)
        self.mask = ir.VectorType(ir.IntType(1), vector.count)
        self.kept = ir.Constant(self.mask, [1] * vector.count)
        if lanes is not None:
            index = ir.VectorType(ir.IntType(64), vector.count)
            numbers = ir.Constant(index, list(range(vector.count)))
            self.kept = builder.icmp_signed("<", numbers, _splat(builder, lanes, index))

    def load(self, address):
        return self._masked("load", self.vector, address, self.align, self.kept,
                            ir.Constant(self.vector, [0.0] * self.vector.count))

    def store(self, value, address):
        self._masked("store", ir.VoidType(), value, address, self.align, self.kept)

    def _masked(self, what, result, *args):
        kind = "f32" if self.vector.element == ir.FloatType() else "f64"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(result, [a.type for a in args]),
            f"llvm.masked.{what}.v{self.vector.count}{kind}.p0")
        return self.builder.call(function, args)


def _tile(builder, access, vector, rows, vectors, k, A, B, add, C, i0, j0):
    """C[i0 + r, j0 + …] for r < rows, with the sums in registers."""
    (a, row_at, column_at), (b, b_at), (c, ldc) = A, B, C
    const = lambda i: ir.Constant(ir.IntType(64), i)
    at = lambda array, *terms: builder.gep(array, [_sum(builder, terms)])
    as_vector = lambda address: builder.bitcast(address, vector.as_pointer())
    numbers = [builder.add(i0, const(r)) for r in range(rows)]
    c_pointers = [as_vector(at(c, builder.mul(i, ldc), j0, const(v * vector.count)))
                  for i in numbers for v in range(vectors)]
    sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * vector.count))
            for _ in c_pointers]
    a_rows = [at(a, row_at(i)) for i in numbers]
    with cgutils.for_range(builder, k) as loop:
        p = loop.index
        b_row, a_column = b_at(p), column_at(p)
        b_vectors = [access.load(as_vector(at(b, b_row, j0, const(v * vector.count))))
                     for v in range(vectors)]
        for r in range(rows):
            a_value = builder.load(at(a_rows[r], a_column))
            factor = _splat(builder, a_value, vector)
            for v in range(vectors):
                sum, term = sums[r * vectors + v], builder.fmul(b_vectors[v], factor,
                                                                flags=("contract",))
                builder.store(builder.fadd(builder.load(sum), term, flags=("contract",)), sum)
    with builder.if_then(add):  # last: a long sum is one of parts, each with its own rounding error
        for sum, pointer in zip(sums, c_pointers, strict=True):
            builder.store(builder.fadd(access.load(pointer), builder.load(sum)), sum)
    for sum, pointer in zip(sums, c_pointers, strict=True):
        access.store(builder.load(sum), pointer)


def _sum(builder, terms):
    total, *others = terms
    for term in others:
        total = builder.add(total, term)
    return total


def _splat(builder, number, vector):
    """A vector with `number` in every lane."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number,
                                 ir.Constant(ir.IntType(32), 0))
    nowhere = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), nowhere)
