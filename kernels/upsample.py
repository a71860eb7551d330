"""Up-sampling (or down-sampling, from any size to any other), and its adjoints

    y[n,c,p,q] = Σ_{h<H, w<W} A[p,h] · B[q,w] · x[n,c,h,w]

    nearest:   A[p,h] = [h = ⌊p·H/P⌋]
    bilinear:  A[p,h] = max(0, 1 − |u − h|) at u = (p + ½)·H/P − ½, clipped to [0, H − 1]
               (PyTorch's align_corners=False);   B likewise for the width
    x (N, C, H, W), size = (P, Q) → y (N, C, P, Q); the transposes take g like y, size = (H, W)

⌊p·H/P⌋ is computed in float32, as in PyTorch: for some odd sizes the ratio's rounding decides it.
At most 8 FLOPs per output; x and y pass through memory once. The fast versions never form A and B:
a row has one or two entries, kept as (lo, hi, t), A[p,lo] = 1 − t, A[p,hi] = t. Each thread takes
one plane after another.
"""

import numpy as np

from .common import chunks, empty, kernel, share
from .cuda import launch_elementwise, xp
from .once import threaded


def nearest(n, m):
    """For each of m outputs, the index of the one of n inputs that it copies."""
    ratio = np.float32(n) / np.float32(m)
    return np.minimum((np.arange(m, dtype=np.float32) * ratio).astype(np.int64), n - 1)


def bilinear(n, m, dtype):
    """For each of m outputs, the inputs lo, hi that it lies between, and its distance from lo."""
    u = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    lo = u.astype(np.int64)
    return lo, np.minimum(lo + 1, n - 1), (u - lo).astype(dtype)


def _matrix(n, m, dtype, mode):
    """The matrix A (m, n) of the module's docstring."""
    rows, A = np.arange(m), np.zeros((m, n), dtype)
    if mode is nearest:
        A[rows, nearest(n, m)] = 1
    else:
        lo, hi, t = bilinear(n, m, dtype)
        A[rows, lo] += 1 - t
        A[rows, hi] += t
    return A


def _apply(x, size, mode):
    A, B = (_matrix(n, m, x.dtype, mode) for n, m in zip(x.shape[2:], size, strict=True))
    return A @ x @ B.T


def _apply_transpose(g, size, mode):
    A, B = (_matrix(n, m, g.dtype, mode) for n, m in zip(size, g.shape[2:], strict=True))
    return A.T @ g @ B


def _check(x, size):
    if min(*x.shape[2:], *size) < 1:
        raise ValueError(f"upsample: cannot go from {x.shape[2:]} to {tuple(size)} pixels")


def _planes(x):
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


@kernel(_check, x="N C H W")
def upsample_nearest(x, size):
    h, w = (nearest(n, m) for n, m in zip(x.shape[2:], size, strict=True))
    return x[:, :, h[:, None], w]


@upsample_nearest.version("cpu")
def upsample_nearest(x, size):
    y = empty((*x.shape[:2], *size), x.dtype)
    h, w = (nearest(n, m) for n, m in zip(x.shape[2:], size, strict=True))
    planes = _planes(x)
    _nearest(chunks(len(planes)), planes, h, w, _planes(y))
    return y


@threaded
def _nearest(chunk, chunks, x, h, w, y):
    for n in share(len(x), chunk, chunks):
        for p in range(len(h)):
            if p and h[p] == h[p - 1]:
                y[n, p] = y[n, p - 1]
            else:
                for q in range(len(w)):
                    y[n, p, q] = x[n, h[p], w[q]]


@kernel(_check, g="N C P Q")
def upsample_nearest_transpose(g, size):
    return _apply_transpose(g, size, nearest)


@upsample_nearest_transpose.version("cpu")
def upsample_nearest_transpose(g, size):
    y = empty((*g.shape[:2], *size), g.dtype)
    h, w = (nearest(n, m) for n, m in zip(size, g.shape[2:], strict=True))
    planes = _planes(g)
    _nearest_transpose(chunks(len(planes)), planes, h, w, _planes(y))
    return y


@threaded
def _nearest_transpose(chunk, chunks, g, h, w, y):
    for n in share(len(g), chunk, chunks):
        y[n] = 0
        for p in range(len(h)):
            for q in range(len(w)):
                y[n, h[p], w[q]] += g[n, p, q]


@kernel(_check, x="N C H W")
def upsample_bilinear(x, size):
    return _apply(x, size, bilinear)


@upsample_bilinear.version("cpu")
def upsample_bilinear(x, size):
    y = empty((*x.shape[:2], *size), x.dtype)
    tables = (bilinear(n, m, x.dtype) for n, m in zip(x.shape[2:], size, strict=True))
    planes = _planes(x)
    _bilinear(chunks(len(planes)), planes, *tables, _planes(y))
    return y


@threaded
def _bilinear(chunk, chunks, x, rows, columns, y):
    (h0, h1, th), (w0, w1, tw) = rows, columns
    for n in share(len(x), chunk, chunks):
        for p in range(len(h0)):
            up, down, t = x[n, h0[p]], x[n, h1[p]], th[p]
            for q in range(len(w0)):
                left = (1 - t) * up[w0[q]] + t * down[w0[q]]
                right = (1 - t) * up[w1[q]] + t * down[w1[q]]
                y[n, p, q] = (1 - tw[q]) * left + tw[q] * right


@kernel(_check, g="N C P Q")
def upsample_bilinear_transpose(g, size):
    return _apply_transpose(g, size, bilinear)


@upsample_bilinear_transpose.version("cpu")
def upsample_bilinear_transpose(g, size):
    y = empty((*g.shape[:2], *size), g.dtype)
    tables = (bilinear(n, m, g.dtype) for n, m in zip(size, g.shape[2:], strict=True))
    planes = _planes(g)
    _bilinear_transpose(chunks(len(planes)), planes, *tables, _planes(y))
    return y


@threaded
def _bilinear_transpose(chunk, chunks, g, rows, columns, y):
    (h0, h1, th), (w0, w1, tw) = rows, columns
    for n in share(len(g), chunk, chunks):
        y[n] = 0
        for p in range(len(h0)):
            up, down, t = y[n, h0[p]], y[n, h1[p]], th[p]
            for q in range(len(w0)):
                left, right = (1 - tw[q]) * g[n, p, q], tw[q] * g[n, p, q]
                up[w0[q]] += (1 - t) * left
                up[w1[q]] += (1 - t) * right
                down[w0[q]] += t * left
                down[w1[q]] += t * right


def _launch(name, shape_of):
    def run(x, size):
        y = xp(x).empty((*x.shape[:2], *size), x.dtype)
        launch_elementwise("upsample.cu", name, y, (x,), shape_of(tuple(x.shape[2:]), tuple(size)))
        return y
    return run


for _kernel in (upsample_nearest, upsample_bilinear):
    _kernel.version("cuda")(_launch(_kernel.name, lambda x, y: (*x, *y)))
for _kernel in (upsample_nearest_transpose, upsample_bilinear_transpose):
    _kernel.version("cuda")(_launch(_kernel.name, lambda g, y: (*y, *g)))
