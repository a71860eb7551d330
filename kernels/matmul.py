"""Matrix product

    y[..., i, j] = Σ_{k<K} a[..., i, k] · b[..., k, j]        i < M, j < N

    a (..., M, K), b (..., K, N) → y (..., M, N); leading dimensions broadcast, as np.matmul's do

2·M·N·K FLOPs a matrix; at least every array once through memory. The fast version lets BLAS do the
products and shares them out over Numba's threads: the matrices of a batch, or the rows or columns
of one large product. Transposed views are read as they lie. Small products are np.matmul's: below
SMALL OpenBLAS uses no threads, so that no second pool fights with Numba's. On the device the tile
loop of product.cuh does it, which needs no cuBLAS, so that it can be captured in a graph.
"""

import math

import numba
import numpy as np
from numba import prange

from .common import empty, gemm, kernel, one_blas_thread, threaded
from .cuda import launch_tiles, xp

SMALL = 1 << 18  # M·N·K of the largest product that OpenBLAS leaves to one thread


def check(a, b):
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ValueError(f"matmul: the leading dimensions of a {a.shape} and b {b.shape} "
                         "do not broadcast") from None


@kernel(check, a="* M K strided", b="* K N strided")
def matmul(a, b):
    return np.matmul(a, b)


@matmul.version("cpu")
def matmul(a, b):
    (M, K), N = a.shape[-2:], b.shape[-1]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    B = math.prod(lead)
    if B * M * N * K <= SMALL:
        return np.matmul(a, b)
    y = empty((*lead, M, N), a.dtype)
    if b.ndim == 2 and a.flags.c_contiguous:  # the rows of all matrices are those of one
        a, out = a.reshape(B * M, K), y.reshape(1, B * M, N)
    else:
        out = y.reshape(B, M, N)
    a, ta = _matrices(a, lead)
    b, tb = _matrices(b, lead)
    parts = -(-2 * numba.get_num_threads() // len(out)) if len(out) < numba.get_num_threads() else 1
    with one_blas_thread():
        _products(a, ta, b, tb, out, min(parts, max(out.shape[1:])))
    return y


def _matrices(x, lead):
    """x as matrices (1 or B, rows, columns) with rows that lie together, and whether they are to
    be read transposed."""
    *some, rows, columns = x.shape
    if math.prod(some) > 1:
        x = np.broadcast_to(x, (*lead, rows, columns))
    x = x.reshape(-1, rows, columns)
    if x.strides[2] == x.itemsize and x.strides[1] >= columns * x.itemsize:
        return x, False
    if x.strides[1] == x.itemsize and x.strides[2] >= rows * x.itemsize:
        return x.swapaxes(1, 2), True
    return np.ascontiguousarray(x), False


@matmul.version("cuda")
def matmul(a, b):
    (M, K), N = a.shape[-2:], b.shape[-1]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = xp(a).empty((*lead, M, N), a.dtype)
    if b.ndim == 2 and a.flags.c_contiguous:  # the rows of all matrices are those of one
        lead, M = (), math.prod(a.shape[:-1])
        a = a.reshape(M, K)
    a, b = (_matrices_as_they_lie(x, lead) for x in (a, b))
    (an, ai, ak), (bn, bk, bj) = (
        [n // x.itemsize if m > 1 else 0 for m, n in zip(x.shape, x.strides, strict=True)]
        for x in (a, b))
    launch_tiles("matmul.cu", "matmul", (M, N), math.prod(lead),
                 (a, b, y, M, N, K, np.int64(an), ai, ak, np.int64(bn), bk, bj), a.dtype)
    return y


def _matrices_as_they_lie(x, lead):
    """x as matrices (1 or B, rows, columns), with any strides that are not negative."""
    if math.prod(x.shape[:-2]) > 1:
        x = xp(x).broadcast_to(x, (*lead, *x.shape[-2:]))
    x = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    return x if min(x.strides) >= 0 else xp(x).ascontiguousarray(x)


@threaded
def _products(a, ta, b, tb, y, parts):
    B, M, N = y.shape
    K = b.shape[2] if tb else b.shape[1]
    lda, ldb = a.strides[1] // a.itemsize, b.strides[1] // b.itemsize
    for item in prange(B * parts):
        n, part = item // parts, item % parts
        i0, i1, j0, j1 = 0, M, 0, N
        if M >= N:
            i0, i1 = part * M // parts, (part + 1) * M // parts
        else:
            j0, j1 = part * N // parts, (part + 1) * N // parts
        ai, ak = (0, i0) if ta else (i0, 0)
        bk, bj = (j0, 0) if tb else (0, j0)
        gemm(ta, tb, i1 - i0, j1 - j0, K, a[n % len(a), ai:, ak:], lda,
             b[n % len(b), bk:, bj:], ldb, 0, y[n, i0:, j0:], N)
