"""What batch, group and layer normalisation share

    y = x̂ · weight + bias,   x̂ = (x − mean) · rstd,   rstd = 1 / √(var + eps)

with var the mean of (x − mean)². The adjoint, with h = g·weight and ⟨·⟩ the mean over what mean and
var are taken over:

    gx = rstd · (h − ⟨h⟩ − x̂·⟨h·x̂⟩),   gw = Σ g·x̂,   gb = Σ g     over all that share a weight
"""

import numpy as np

from .common import compiled
from .cuda import FILL, blocks, launch, real, xp


def scale_and_shift(weight, bias, size, dtype):
    """Weight and bias, ones and zeros if there are none."""
    return (np.ones(size, dtype) if weight is None else weight,
            np.zeros(size, dtype) if bias is None else bias)


def normalise(x, axes, eps):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    rstd = 1 / np.sqrt(var + eps)
    return (x - mean) * rstd, mean, var, rstd


def normalise_backward(h, xhat, axes, rstd):
    mean = lambda a: a.mean(axes, keepdims=True)
    return rstd * (h - mean(h) - xhat * mean(h * xhat))


@compiled
def moments(x):
    """The mean of a few numbers in a row, and the sum of their squared deviations from it."""
    sum, squares = 0.0, 0.0
    for i in range(len(x)):
        sum += x[i]
    mean = sum / len(x)
    for i in range(len(x)):
        squares += (x[i] - mean) ** 2
    return mean, squares


@compiled
def sums_of(g, x, mean, rstd):
    """Σ g·x̂ and Σ g over numbers in a row."""
    gw, gb = 0.0, 0.0
    for i in range(len(g)):
        gw += g[i] * (x[i] - mean)
        gb += g[i]
    return gw * rstd, gb


def _layout(x, num_groups, weight):
    """How the groups lie in x (N, C, L), for norm.cu: their number, then runs, step from run to
    run, length of a run, step from group to group, groups of an image, channels of a group, numbers
    of a channel, step from one sample's weights to the next. num_groups is None where all images
    share the mean of a channel."""
    N, C, L = x.shape
    sample = C if weight is not None and weight.ndim == 2 and len(weight) > 1 else 0
    M = C // num_groups if num_groups else 1
    if (M if num_groups else N) * L >= 2**31:
        raise ValueError(f"normalisation of {x.shape}: 2³¹ numbers or more share a mean")
    if num_groups is None:
        return C, N, C * L, L, L, C, 1, L, sample
    return N * num_groups, 1, 0, M * L, M * L, num_groups, M, L, sample


KEPT = 96 << 10  # bytes of shared memory for a group's numbers: what every device has


def _launch(name, x, layout, arrays, numbers, *options):
    """Launch a kernel of norm.cu that keeps so many `numbers` of each element of x."""
    count, *layout = layout
    size = x.size // max(1, count)
    kept = min(size, KEPT // (numbers * x.itemsize))
    launch("norm.cu", name, count, 512 if size > 4096 and count < FILL else 256,
           (*arrays, *layout, kept, *options), kept * numbers * x.itemsize, **real(x.dtype))


def launch_norm(x, num_groups, weight, bias, eps, silu=False):
    """y, mean, var, rstd of x (N, C, L), the last three one number for each group."""
    layout = _layout(x, num_groups, weight)
    y, (mean, var, rstd) = xp(x).empty_like(x), xp(x).empty((3, layout[0]), x.dtype)
    _launch("norm_forward", x, layout, (x, weight, bias, y, mean, var, rstd), 1,
            x.dtype.type(eps), bool(silu))
    return y, mean, var, rstd


def launch_norm_backward(g, x, num_groups, weight, bias, mean, rstd, silu=False, alike=False):
    """gx, gw, gb; the last two None without a weight. In group norm gw and gb are of each image; in
    batch norm, and where all images are `alike`, of them all."""
    (N, C, L), layout = x.shape, _layout(x, num_groups, weight)
    gx = xp(x).empty_like(x)
    _launch("norm_backward", x, layout, (g, x, weight, bias, mean, rstd, gx), 2, bool(silu))
    if weight is None:
        return gx, None, None
    if num_groups and not alike:
        sums = xp(x).empty((2, N, C), x.dtype)
        launch("norm.cu", "norm_channels", blocks(N * C, 8), 256, (
            g, x, weight, bias, mean, rstd, sums, np.int64(N * C), C, *layout[6:], bool(silu)),
            **real(x.dtype))
        return gx, *sums
    wide = blocks(C * L, 32)
    parts = max(1, min(FILL // wide, blocks(N, 8)))
    sums = xp(x).zeros((parts, 2, C, L), x.dtype)
    launch("norm.cu", "norm_positions", (wide, parts), (32, 8), (
        g, x, mean, rstd, sums, np.int64(N), np.int64(C * L), layout[6], L, num_groups or 0),
        **real(x.dtype))
    return gx, *sums.sum((0, 3))
