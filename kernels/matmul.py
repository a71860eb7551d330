"""Matrix product

    y[..., i, j] = Σ_{k<K} a[..., i, k] · b[..., k, j]        i < M, j < N

    a (..., M, K), b (..., K, N) → y (..., M, N); leading dimensions broadcast, as np.matmul's do

2·M·N·K FLOPs a matrix; at least every array once through memory. The fast version lets BLAS do the
products and shares them out over Numba's threads: the matrices of a batch, or the rows or columns
of one large product. Transposed views are read as they lie. Small products are np.matmul's: below
SMALL OpenBLAS uses no threads, so that no second pool fights with Numba's.
"""

import numpy as np
from numba import prange

from .common import chunks, gemm, kernel, one_blas_thread, threaded

SMALL = 1 << 18  # M·N·K of the largest product that OpenBLAS leaves to one thread


@kernel(a="* M K strided", b="* K N strided")
def matmul(a, b):
    return np.matmul(a, b)


@matmul.version("cpu")
def matmul(a, b):
    (M, K), N = a.shape[-2:], b.shape[-1]
    if M * N * K == 0 or a.ndim == b.ndim == 2 and M * N * K <= SMALL:
        return np.matmul(a, b)
    if b.ndim == 2:
        a, lead = a.reshape(1, -1, K) if a.flags.c_contiguous else a, a.shape[:-1]
    else:
        lead = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), M)
    a, b = (_matrices(x, lead[:-1]) for x in (a, b))
    y = np.empty((max(len(a), len(b)), a.shape[1], N), a.dtype)
    ...
