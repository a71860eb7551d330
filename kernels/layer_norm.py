"""Layer normalisation, and its adjoint

    mean[m], var[m] over d < D;   y[m,d] = (x[m,d] − mean[m]) · rstd[m] · weight[d] + bias[d]
    rstd[m] = 1 / √(var[m] + eps)                                            (the adjoint: norm.py)

    x (M, D), weight, bias (D,) or None → y (M, D), mean, rstd (M,)
    g (M, D) → gx (M, D), gw, gb (D,), None without a weight

About 8 FLOPs per element each way; x and y (backward: g, x, gx) pass through memory once: a row
stays in cache for both passes. Sums over the rows are kept per chunk.
"""

import numpy as np

from .common import empty, kernel, row_chunks, share
from .norm import (
    launch_norm,
    launch_norm_backward,
    moments,
    normalise,
    normalise_backward,
    scale_and_shift,
)
from .once import threaded


@kernel(x="M D", weight="D or None", bias="D or None")
def layer_norm(x, weight, bias, eps):
    weight, bias = scale_and_shift(weight, bias, x.shape[1], x.dtype)
    xhat, mean, _, rstd = normalise(x, 1, eps)
    return xhat * weight + bias, mean[:, 0], rstd[:, 0]


@layer_norm.version("cpu")
def layer_norm(x, weight, bias, eps):
    y, stats = empty(x.shape, x.dtype), np.empty((2, len(x)), x.dtype)
    weight, bias = scale_and_shift(weight, bias, x.shape[1], x.dtype)
    _layer_norm(row_chunks(x), x, weight, bias, float(eps), y, stats)
    return y, *stats


@layer_norm.version("cuda")
def layer_norm(x, weight, bias, eps):
    y, mean, _, rstd = launch_norm(x[..., None], 1, weight, bias, eps)
    return y[..., 0], mean, rstd


@threaded
def _layer_norm(chunk, chunks, x, weight, bias, eps, y, stats):
    M, D = x.shape
    for m in share(M, chunk, chunks):
        mean, squares = moments(x[m])
        stats[0, m], stats[1, m] = mean, 1 / np.sqrt(squares / D + eps)
        for d in range(D):
            y[m, d] = (x[m, d] - stats[0, m]) * stats[1, m] * weight[d] + bias[d]


@kernel(g="M D", x="M D", weight="D or None", mean="M", rstd="M")
def layer_norm_backward(g, x, weight, mean, rstd):
    xhat, r = (x - mean[:, None]) * rstd[:, None], rstd[:, None]
    if weight is None:
        return normalise_backward(g, xhat, 1, r), None, None
    return normalise_backward(g * weight, xhat, 1, r), (g * xhat).sum(0), g.sum(0)


@layer_norm_backward.version("cpu")
def layer_norm_backward(g, x, weight, mean, rstd):
    gx, sums = empty(x.shape, x.dtype), np.zeros((row_chunks(x), 2, x.shape[1]))
    w = scale_and_shift(weight, None, x.shape[1], x.dtype)[0]
    _layer_norm_backward(len(sums), g, x, w, mean, rstd, gx, sums)
    return (gx, None, None) if weight is None else (gx, *sums.sum(0).astype(x.dtype))


@layer_norm_backward.version("cuda")
def layer_norm_backward(g, x, weight, mean, rstd):
    args = g[..., None], x[..., None], 1, weight, None, mean, rstd
    gx, gw, gb = launch_norm_backward(*args, per_element=True)
    return gx[..., 0], gw, gb


@threaded
def _layer_norm_backward(chunk, chunks, g, x, weight, mean, rstd, gx, sums):
    (M, D), factors = x.shape, np.empty(2, x.dtype)
    for m in share(M, chunk, chunks):
        slope, shift = 0.0, 0.0
        for d in range(D):
            xhat, h = (x[m, d] - mean[m]) * rstd[m], g[m, d] * weight[d]
            slope += h * xhat
            shift += h
            sums[chunk, 0, d] += g[m, d] * xhat
            sums[chunk, 1, d] += g[m, d]
        factors[0], factors[1] = slope / D, shift / D
        for d in range(D):
            xhat = (x[m, d] - mean[m]) * rstd[m]
            gx[m, d] = rstd[m] * (g[m, d] * weight[d] - factors[1] - xhat * factors[0])
