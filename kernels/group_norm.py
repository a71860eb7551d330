"""Group normalisation, and its adjoint

    mean[n,j], var[n,j] over the C/G channels of group j and l < L
    y[n,c,l] = (x[n,c,l] − mean[n,j]) · rstd[n,j] · weight[c] + bias[c],   j = c // (C / G)
    rstd[n,j] = 1 / √(var[n,j] + eps)                                        (the adjoint: norm.py)

    x (N, C, L), num_groups = G, weight, bias (C,) or None → y (N, C, L), mean, rstd (N, G)
    g (N, C, L) → gx (N, C, L), gw, gb (C,), None without a weight

About 8 FLOPs an element each way; x and y (backward: g, x, gx) once through memory: a group lies
together, is small, and stays in cache for both passes. Sums over the batch are kept by chunk.
"""

import numpy as np
from numba import prange

from .common import chunks, kernel, threaded
from .norm import moments, normalise, normalise_backward, scale_and_shift, sums_of


def _check_groups(name, x, num_groups):
    if num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(f"{name}: {x.shape[1]} channels do not fall into {num_groups} groups")


def check_group(x, num_groups, weight, bias, eps):
    _check_groups("group_norm", x, num_groups)


def check_group_backward(g, x, num_groups, weight, mean, rstd):
    _check_groups("group_norm_backward", x, num_groups)
    if mean.shape[1] != num_groups:
        raise ValueError(f"group_norm_backward: mean has shape {mean.shape}, expected "
                         f"({len(x)}, {num_groups})")


@kernel(check_group, x="N C L", weight="C or None", bias="C or None")
def group_norm(x, num_groups, weight, bias, eps):
    N, C, L = x.shape
    weight, bias = scale_and_shift(weight, bias, C, x.dtype)
    xhat, mean, _, rstd = normalise(x.reshape(N, num_groups, C // num_groups * L), 2, eps)
    return (xhat.reshape(N, C, L) * weight[:, None] + bias[:, None], mean[..., 0], rstd[..., 0])


@group_norm.version("cpu")
def group_norm(x, num_groups, weight, bias, eps):
    y, stats = np.empty_like(x), np.empty((2, len(x), num_groups), x.dtype)
    weight, bias = scale_and_shift(weight, bias, x.shape[1], x.dtype)
    _group_norm(x, weight, bias, float(eps), y, stats)
    return y, *stats


@threaded
def _group_norm(x, weight, bias, eps, y, stats):
    (N, C, L), G = x.shape, stats.shape[2]
    M = C // G
    for item in prange(N * G):
        n, group = item // G, item % G
        mean, squares = moments(x[n, group * M:(group + 1) * M].reshape(M * L))
        rstd = 1 / np.sqrt(squares / (M * L) + eps)
        stats[0, n, group], stats[1, n, group] = mean, rstd
        for c in range(group * M, (group + 1) * M):
            scale = stats[1, n, group] * weight[c]
            for i in range(L):
                y[n, c, i] = (x[n, c, i] - stats[0, n, group]) * scale + bias[c]


@kernel(check_group_backward, g="N C L", x="N C L", weight="C or None", mean="N G", rstd="N G")
def group_norm_backward(g, x, num_groups, weight, mean, rstd):
    grouped = (len(x), num_groups, x.shape[1] // num_groups * x.shape[2])
    xhat = (x.reshape(grouped) - mean[..., None]) * rstd[..., None]
    h = g if weight is None else g * weight[:, None]
    gx = normalise_backward(h.reshape(grouped), xhat, 2, rstd[..., None]).reshape(x.shape)
    if weight is None:
        return gx, None, None
    return gx, (g * xhat.reshape(x.shape)).sum((0, 2)), g.sum((0, 2))


@group_norm_backward.version("cpu")
def group_norm_backward(g, x, num_groups, weight, mean, rstd):
    gx, sums = np.empty_like(x), np.zeros((chunks(len(x)), 2, x.shape[1]))
    w = scale_and_shift(weight, None, x.shape[1], x.dtype)[0]
    _group_norm_backward(g, x, w, mean, rstd, gx, sums)
    return (gx, None, None) if weight is None else (gx, *sums.sum(0).astype(x.dtype))


@threaded
def _group_norm_backward(g, x, weight, mean, rstd, gx, sums):
    (N, C, L), G, chunks = x.shape, mean.shape[1], len(sums)
    M = C // G
    for chunk in prange(chunks):
        factors = np.empty(2, x.dtype)
        for n in range(chunk * N // chunks, (chunk + 1) * N // chunks):
            for group in range(G):
                m, r = mean[n, group], rstd[n, group]
                slope, shift = 0.0, 0.0
                for c in range(group * M, (group + 1) * M):
                    gw, gb = sums_of(g[n, c], x[n, c], m, r)
                    sums[chunk, 0, c] += gw
                    sums[chunk, 1, c] += gb
                    slope += weight[c] * gw
                    shift += weight[c] * gb
                factors[0], factors[1] = slope * r * r / (M * L), shift * r / (M * L)
                for c in range(group * M, (group + 1) * M):
                    scale = weight[c] * r
                    for i in range(L):
                        gx[n, c, i] = (scale * g[n, c, i] - factors[1]
                                       - factors[0] * (x[n, c, i] - m))
