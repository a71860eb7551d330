"""Batch normalisation in training mode, and its adjoint

    mean[c], var[c] over all n < N, l < L;   rstd[c] = 1 / √(var[c] + eps)
    y[n,c,l] = (x[n,c,l] − mean[c]) · rstd[c] · weight[c] + bias[c]          (the adjoint: norm.py)

    x (N, C, L), weight, bias (C,) or None → y (N, C, L), mean, var (divided by N·L), rstd (C,)
    g (N, C, L) → gx (N, C, L), gw, gb (C,), None without a weight

About 8 FLOPs per element each way; x and y (backward: g, x, gx) pass through memory at least once,
x twice if it does not fit in cache. The fast version combines the means and squared deviations of
the rows x[n,c] by Chan's update: one pass, as accurate as two. Threads take ranges of channels.
"""

import numpy as np

from .common import chunks, empty, kernel, share
from .norm import (
    launch_norm,
    launch_norm_backward,
    moments,
    normalise,
    normalise_backward,
    scale_and_shift,
    sums_of,
)
from .once import threaded


@kernel(x="N C L", weight="C or None", bias="C or None")
def batch_norm(x, weight, bias, eps):
    weight, bias = scale_and_shift(weight, bias, x.shape[1], x.dtype)
    xhat, mean, var, rstd = normalise(x, (0, 2), eps)
    y = xhat * weight[:, None] + bias[:, None]
    return y, mean[0, :, 0], var[0, :, 0], rstd[0, :, 0]


@batch_norm.version("cpu")
def batch_norm(x, weight, bias, eps):
    y, stats = empty(x.shape, x.dtype), np.empty((3, x.shape[1]), x.dtype)
    weight, bias = scale_and_shift(weight, bias, x.shape[1], x.dtype)
    _batch_norm(chunks(x.shape[1]), x, weight, bias, float(eps), y, stats)
    return y, *stats


@batch_norm.version("cuda")
def batch_norm(x, weight, bias, eps):
    return launch_norm(x, None, weight, bias, eps)


@threaded
def _batch_norm(chunk, chunks, x, weight, bias, eps, y, stats):
    N, C, L = x.shape
    mean, squares = np.zeros(C), np.zeros(C)
    for n in range(N):
        for c in share(C, chunk, chunks):
            m, s = moments(x[n, c])
            delta = m - mean[c]
            mean[c] += delta / (n + 1)
            squares[c] += s + delta * delta * L * n / (n + 1)
    for c in share(C, chunk, chunks):
        var = squares[c] / (N * L)
        stats[0, c], stats[1, c], stats[2, c] = mean[c], var, 1 / np.sqrt(var + eps)
    for n in range(N):
        for c in share(C, chunk, chunks):
            scale = stats[2, c] * weight[c]
            for i in range(L):
                y[n, c, i] = (x[n, c, i] - stats[0, c]) * scale + bias[c]


@kernel(g="N C L", x="N C L", weight="C or None", mean="C", rstd="C")
def batch_norm_backward(g, x, weight, mean, rstd):
    xhat, r = (x - mean[:, None]) * rstd[:, None], rstd[:, None]
    if weight is None:
        return normalise_backward(g, xhat, (0, 2), r), None, None
    gx = normalise_backward(g * weight[:, None], xhat, (0, 2), r)
    return gx, (g * xhat).sum((0, 2)), g.sum((0, 2))


@batch_norm_backward.version("cpu")
def batch_norm_backward(g, x, weight, mean, rstd):
    gx, sums = empty(x.shape, x.dtype), np.empty((2, x.shape[1]), x.dtype)
    w = scale_and_shift(weight, None, x.shape[1], x.dtype)[0]
    _batch_norm_backward(chunks(x.shape[1]), g, x, w, mean, rstd, gx, sums)
    return (gx, None, None) if weight is None else (gx, *sums)


@batch_norm_backward.version("cuda")
def batch_norm_backward(g, x, weight, mean, rstd):
    return launch_norm_backward(g, x, None, weight, None, mean, rstd)


@threaded
def _batch_norm_backward(chunk, chunks, g, x, weight, mean, rstd, gx, sums):
    N, C, L = x.shape
    gw, gb = np.zeros(C), np.zeros(C)
    for n in range(N):
        for c in share(C, chunk, chunks):
            a, b = sums_of(g[n, c], x[n, c], mean[c], rstd[c])
            gw[c] += a
            gb[c] += b
    for c in share(C, chunk, chunks):
        sums[0, c], sums[1, c] = gw[c], gb[c]
    for n in range(N):
        for c in share(C, chunk, chunks):
            scale = weight[c] * rstd[c]
            slope = scale * rstd[c] * sums[0, c] / (N * L)
            shift = scale * sums[1, c] / (N * L)
            for i in range(L):
                gx[n, c, i] = scale * g[n, c, i] - shift - slope * (x[n, c, i] - mean[c])
