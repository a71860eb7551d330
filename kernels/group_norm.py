"""Group normalisation, with or without SiLU, and its adjoint

    mean[n,j], var[n,j] over the C/G channels of group j and l < L
    h[n,c,l] = (x[n,c,l] − mean[n,j]) · rstd[n,j] · weight[b,c] + bias[b,c],   j = c // (C / G)
    rstd[n,j] = 1 / √(var[n,j] + eps)                                        (the adjoint: norm.py)
    y = h σ(h) with `silu`, else h

    x (N, C, L), num_groups = G, weight, bias (B, C) or None, with B = 1 (shared by all samples,
    b = 0) or B = N (each sample has its own, b = n) → y (N, C, L), mean, rstd (N, G)
    g (N, C, L) → gx (N, C, L), gw, gb (N, C), per sample, None without a weight

About 8 FLOPs per element each way, 30 more with `silu`; x and y (backward: g, x, gx) pass through
memory once: a group is contiguous and small, and stays in cache for all passes. The backward pass
recomputes h, so that nothing is stored between the norm and its activation.
"""

import numpy as np

from .activation import silu as silu_kernel
from .activation import silu_backward
from .common import empty, kernel
from .exponential import exp
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


def _check_groups(name, x, num_groups, weight, bias):
    if num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(f"{name}: {x.shape[1]} channels do not fall into {num_groups} groups")
    if weight is not None and len(weight) not in (1, len(x)):
        raise ValueError(f"{name}: weight is for {len(weight)} samples, expected 1 (all alike) or "
                         f"{len(x)}")
    if weight is None and bias is not None and len(bias) > 1:
        raise ValueError(f"{name}: biases of {len(bias)} samples, but no weights: pass ones")


def check_group(x, num_groups, weight, bias, eps, silu):
    _check_groups("group_norm", x, num_groups, weight, bias)


def check_group_backward(g, x, num_groups, weight, bias, mean, rstd, silu):
    _check_groups("group_norm_backward", x, num_groups, weight, bias)
    if mean.shape[1] != num_groups:
        raise ValueError(f"group_norm_backward: mean has shape {mean.shape}, expected "
                         f"({len(x)}, {num_groups})")


@kernel(check_group, x="N C L", weight="B C or None", bias="B C or None")
def group_norm(x, num_groups, weight, bias, eps, silu):
    N, C, L = x.shape
    weight, bias = scale_and_shift(weight, bias, (1, C), x.dtype)
    xhat, mean, _, rstd = normalise(x.reshape(N, num_groups, C // num_groups * L), 2, eps)
    h = xhat.reshape(N, C, L) * weight[..., None] + bias[..., None]
    return (silu_kernel.reference(h) if silu else h), mean[..., 0], rstd[..., 0]


@group_norm.version("cpu")
def group_norm(x, num_groups, weight, bias, eps, silu):
    y, stats = empty(x.shape, x.dtype), np.empty((2, len(x), num_groups), x.dtype)
    weight, bias = scale_and_shift(weight, bias, (1, x.shape[1]), x.dtype)
    _group_norm(stats[0].size, x, weight, bias, float(eps), bool(silu), y, stats)
    return y, *stats


@group_norm.version("cuda")
def group_norm(x, num_groups, weight, bias, eps, silu):
    y, mean, _, rstd = launch_norm(x, num_groups, weight, bias, eps, silu)
    return y, mean.reshape(len(x), num_groups), rstd.reshape(len(x), num_groups)


@threaded
def _group_norm(group, groups, x, weight, bias, eps, silu, y, stats):
    """One group of one image, of all."""
    (_, C, L), G, one = x.shape, stats.shape[2], stats.dtype.type(1)
    M, n, group = C // G, group // G, group % G
    b = n % len(weight)
    mean, squares = moments(x[n, group * M:(group + 1) * M].reshape(M * L))
    rstd = 1 / np.sqrt(squares / (M * L) + eps)
    stats[0, n, group], stats[1, n, group] = mean, rstd
    for c in range(group * M, (group + 1) * M):
        scale = stats[1, n, group] * weight[b, c]
        for i in range(L):
            y[n, c, i] = (x[n, c, i] - stats[0, n, group]) * scale + bias[b, c]
    if silu:  # over the whole group: one channel of 7×7 would be three vectors and a bit
        h = y[n, group * M:(group + 1) * M].reshape(M * L)
        for i in range(M * L):
            h[i] = h[i] / (one + exp(-h[i]))


@kernel(check_group_backward, g="N C L", x="N C L", weight="B C or None", bias="B C or None",
        mean="N G", rstd="N G")
def group_norm_backward(g, x, num_groups, weight, bias, mean, rstd, silu):
    grouped = (len(x), num_groups, x.shape[1] // num_groups * x.shape[2])
    xhat = (x.reshape(grouped) - mean[..., None]) * rstd[..., None]
    w, b = scale_and_shift(weight, bias, (1, x.shape[1]), x.dtype)
    if silu:
        g = silu_backward.reference(g, xhat.reshape(x.shape) * w[..., None] + b[..., None])
    gx = normalise_backward((g * w[..., None]).reshape(grouped), xhat, 2, rstd[..., None])
    gx = gx.reshape(x.shape)
    return (gx, None, None) if weight is None else (
        gx, (g * xhat.reshape(x.shape)).sum(2), g.sum(2))


@group_norm_backward.version("cpu")
def group_norm_backward(g, x, num_groups, weight, bias, mean, rstd, silu):
    gx, sums = empty(x.shape, x.dtype), np.empty((2, *x.shape[:2]), x.dtype)
    w, b = scale_and_shift(weight, bias, (1, x.shape[1]), x.dtype)
    _group_norm_backward(mean.size, g, x, w, b, mean, rstd, bool(silu), gx, sums)
    return (gx, None, None) if weight is None else (gx, *sums)


@group_norm_backward.version("cuda")
def group_norm_backward(g, x, num_groups, weight, bias, mean, rstd, silu):
    return launch_norm_backward(g, x, num_groups, weight, bias, mean, rstd, silu)


@threaded
def _group_norm_backward(group, groups, g, x, weight, bias, mean, rstd, silu, gx, sums):
    (_, C, L), G, one = x.shape, mean.shape[1], x.dtype.type(1)
    M, n, group = C // G, group // G, group % G
    b, m, r, factors = n % len(weight), mean[n, group], rstd[n, group], np.empty(2, x.dtype)
    slope, shift = 0.0, 0.0
    for c in range(group * M, (group + 1) * M):
        if silu:
            scale = weight[b, c] * r
            for i in range(L):
                h = (x[n, c, i] - m) * scale + bias[b, c]
                s = one / (one + exp(-h))
                gx[n, c, i] = g[n, c, i] * (s * (one + h * (one - s)))
        gw, gb = sums_of(gx[n, c] if silu else g[n, c], x[n, c], m, r)
        sums[0, n, c], sums[1, n, c] = gw, gb
        slope += weight[b, c] * gw
        shift += weight[b, c] * gb
    factors[0], factors[1] = slope * r * r / (M * L), shift * r / (M * L)
    for c in range(group * M, (group + 1) * M):
        scale, gh = weight[b, c] * r, g[n, c]
        if silu:
            gh = gx[n, c]
        for i in range(L):
            gx[n, c, i] = scale * gh[i] - factors[1] - factors[0] * (x[n, c, i] - m)
