"""Matrix product

    y[..., i, j] = Σ_{k<K} a[..., i, k] · b[..., k, j]  (+ c[j])        i < M, j < N

    a (..., M, K), b (..., K, N), c (N,) or None → y (..., M, N); leading dimensions broadcast as
    in np.matmul

2·M·N·K FLOPs per matrix; every array passes through memory at least once. The fast version divides
the work among the threads: the matrices of a batch, or the rows or columns of one large product.
Each thread copies a panel of b, DEPTH × COLUMNS, into its core's cache and multiplies all rows of a
by it (product.py), ROWS at a time, accumulating into rows of y that start as c. If a has few rows,
b is read in place instead. Transposed views need no copy. Small products are left to NumPy: up to
SMALL its BLAS uses no threads, so that no second pool competes with Numba's. On the device the
product is the tile loop of product.cuh, which needs no cuBLAS and so can be captured in a graph.
"""

import math

import numpy as np

from .common import buffer, empty, kernel
from .cuda import launch_tiles, pack, xp
from .once import num_threads, once, threaded
from .product import FEW, dot, panel, product

SMALL = 1 << 18  # M·N·K of the largest product that OpenBLAS leaves to one thread
DEPTH, COLUMNS, ROWS = 128, 256, 48  # a panel of b; the rows of a that it multiplies at a time
PAD = 16  # elements between a panel's rows: rows a power of two apart share cache sets
PANEL = DEPTH * (COLUMNS + PAD)


def check(a, b, c):
    try:
        _lead(a, b)
    except ValueError:
        raise ValueError(f"matmul: the leading dimensions of a {a.shape} and b {b.shape} "
                         "do not broadcast") from None


def _lead(a, b):
    """The leading dimensions of the result."""
    return a.shape[:-2] if b.ndim == 2 else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])


@kernel(check, a="* M K strided", b="* K N strided", c="N or None")
def matmul(a, b, c):
    y = np.matmul(a, b)
    return y if c is None else y + c


@matmul.version("cpu")
def matmul(a, b, c):
    (M, K), N = a.shape[-2:], b.shape[-1]
    lead = _lead(a, b)
    B = math.prod(lead)
    if B * M * N * K <= SMALL:
        return matmul.reference(a, b, c)
    y = empty((*lead, M, N), a.dtype)
    if b.ndim == 2 and a.flags.c_contiguous:  # the rows of all matrices form one matrix
        a, out = a.reshape(B * M, K), y.reshape(1, B * M, N)
    else:
        out = y.reshape(B, M, N)
    a, ta = _matrices(a, lead)
    b, tb = _matrices(b, lead)
    threads = num_threads()
    _products(len(out) * (1 if len(out) >= threads else threads), a, ta, b, tb,
              np.empty(0, y.dtype) if c is None else c, out)
    return y


def _matrices(x, lead):
    """x as matrices (1 or B, rows, columns) with contiguous rows, and whether they are to be read
    transposed."""
    rows, columns = x.shape[-2:]
    if x.ndim > 2 and math.prod(x.shape[:-2]) > 1:
        x = np.broadcast_to(x, (*lead, rows, columns))
    x = x.reshape(-1, rows, columns)
    one, (_, row, column) = x.itemsize, x.strides
    if math.gcd(*x.strides) % one:  # a field of a structured array
        return np.ascontiguousarray(x), False
    if column == one and row >= columns * one:
        return x, False
    if row == one and column >= rows * one:
        return x.swapaxes(1, 2), True
    return np.ascontiguousarray(x), False


@matmul.version("cuda")
def matmul(a, b, c):
    (M, K), N = a.shape[-2:], b.shape[-1]
    lead = _lead(a, b)
    y = xp(a).empty((*lead, M, N), a.dtype)
    if b.ndim == 2 and a.flags.c_contiguous:  # the rows of all matrices form one matrix
        lead, M = (), math.prod(a.shape[:-1])
        a = a.reshape(M, K)
    a, b = (_matrices_as_they_lie(x, lead) for x in (a, b.swapaxes(-1, -2)))
    a, b = pack(*((x, x.shape, [n // x.itemsize if m > 1 else 0 for m, n in
                                zip(x.shape, x.strides, strict=True)]) for x in (a, b)))
    steps = [np.int64(math.prod(x.shape[1:]) if len(x) > 1 else 0) for x in (a, b)]
    launch_tiles("matmul.cu", "matmul", (M, N), math.prod(lead),
                 (a, b, y, M, N, a.shape[2], *steps), y.dtype)
    if c is not None:
        y += c
    return y


def _matrices_as_they_lie(x, lead):
    """x as matrices (1 or B, rows, columns), with any non-negative strides."""
    if math.prod(x.shape[:-2]) > 1:
        x = xp(x).broadcast_to(x, (*lead, *x.shape[-2:]))
    x = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    whole = math.gcd(*x.strides) % x.itemsize == 0  # false for a field of a structured array
    return x if whole and min(x.strides) >= 0 else xp(x).ascontiguousarray(x)


@threaded
def _products(item, items, a, ta, b, tb, c, y):
    """One part of one matrix: of its rows, or its columns if there are more."""
    B, M, N = y.shape
    parts = items // B
    n, part, i0, i1, j0, j1 = item // parts, item % parts, 0, M, 0, N
    if M >= N:
        i0, i1 = part * M // parts, (part + 1) * M // parts
    else:
        j0, j1 = part * N // parts, (part + 1) * N // parts
    multiply(a[n % len(a)], ta, b[n % len(b)], tb, c, i0, i1, j0, j1, y[n].reshape(M * N), N,
             buffer(PANEL, y))


@once
def multiply(a, ta, b, tb, c, i0, i1, j0, j1, y, ldy, b_panel):
    """y[i·ldy + j] = (a b)[i, j] + c[j] for i0 ≤ i < i1 and j0 ≤ j < j1, without c[j] if c is
    empty; ta and tb: a or b is stored transposed; b_panel (PANEL,) is a buffer."""
    K, lda = b.shape[1] if tb else b.shape[0], a.strides[0] // a.itemsize
    row, column = (1, lda) if ta else (lda, 1)
    if i1 - i0 < FEW and not ta:
        _few_rows(a, b, tb, c, i0, i1, j0, j1, y, ldy)
        return
    for j in range(j0, j1, COLUMNS):
        for k in range(0, K, DEPTH):
            width, depth = min(COLUMNS, j1 - j), min(DEPTH, K - k)
            panel(b, tb, k, j, depth, width, b_panel, COLUMNS + PAD)
            for i in range(i0, i1, ROWS):
                rows = min(ROWS, i1 - i)
                if k == 0 and len(c):
                    for r in range(i, i + rows):
                        dst, bias = y[r * ldy + j:], c[j:j + width]
                        for q in range(width):
                            dst[q] = bias[q]
                product(rows, width, depth, a, i * row + k * column, row, column,
                        b_panel, 0, COLUMNS + PAD, k > 0 or len(c) > 0, y, i * ldy + j, ldy)


@once
def _few_rows(a, b, tb, c, i0, i1, j0, j1, y, ldy):
    """As `multiply`, for so few rows of a, stored by rows, that b is better read in place."""
    K, lda, ldb = a.shape[1], a.strides[0] // a.itemsize, b.strides[0] // b.itemsize
    for j in range(j0, j1):
        for i in range(i0, i1):
            y[i * ldy + j] = c[j] if len(c) else 0
            if tb:
                y[i * ldy + j] += dot(a[i], b[j], K)
    if not tb:
        for k in range(0, K, DEPTH):
            product(i1 - i0, j1 - j0, min(DEPTH, K - k), a, i0 * lda + k, lda, 1,
                    b, k * ldb + j0, ldb, True, y, i0 * ldy + j0, ldy)
