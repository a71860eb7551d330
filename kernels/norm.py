"""What batch, group and layer normalisation share

    y = x̂ · weight + bias,   x̂ = (x − mean) · rstd,   rstd = 1 / √(var + eps)

with var the mean of (x − mean)². The adjoint, with h = g·weight and ⟨·⟩ the mean over the same
elements as in mean and var:

    gx = rstd · (h − ⟨h⟩ − x̂·⟨h·x̂⟩),   gw = Σ g·x̂,   gb = Σ g     over all that share a weight
"""

import numpy as np

from .common import compiled
from .cuda import MAX_INT_ELEMENTS, MIN_BLOCKS, blocks, launch, real_macro, xp


def scale_and_shift(weight, bias, size, dtype):
    """Weight and bias in one shape, with ones and zeros in place of None."""
    weight = np.ones(size if bias is None else bias.shape, dtype) if weight is None else weight
    return weight, np.zeros(weight.shape, dtype) if bias is None else bias


def normalise(x, axes, eps):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    rstd = 1 / np.sqrt(var + eps)
    return (x - mean) * rstd, mean, var, rstd


def normalise_backward(h, xhat, axes, rstd):
    mean = lambda a: a.mean(axes, keepdims=True)
    return rstd * (h - mean(h) - xhat * mean(h * xhat))


@compiled
def moments(x):
    """The mean of a short flat array, and the sum of the squared deviations from it."""
    sum, squares = 0.0, 0.0
    for i in range(len(x)):
        sum += x[i]
    mean = sum / len(x)
    for i in range(len(x)):
        squares += (x[i] - mean) ** 2
    return mean, squares


@compiled
def sums_of(g, x, mean, rstd):
    """Σ g·x̂ and Σ g over flat arrays g and x."""
    gw, gb = 0.0, 0.0
    for i in range(len(g)):
        gw += g[i] * (x[i] - mean)
        gb += g[i]
    return gw * rstd, gb


def _layout(x, num_groups, weight, per_element):
    """The layout of the groups in x (N, C, L), for norm.cu: their number, runs per group, length of
    a run, strides from group to group and from run to run, groups per image, channels per group,
    and the strides of the weights from run to run, element to element, image to image. num_groups
    is None if all images share a channel's mean; `per_element`: each has its own weight."""
    N, C, L = x.shape
    M = C // num_groups if num_groups else 1
    if (M if num_groups else N) * L >= MAX_INT_ELEMENTS:
        raise ValueError(f"normalisation of {x.shape}: on CUDA at most {MAX_INT_ELEMENTS - 1} "
                         "numbers may share a mean")
    if num_groups is None:
        return C, N, L, np.int64(L), np.int64(C * L), C, 1, 0, 0, 0
    length = L  # of a run: a channel or, if per_element, a part of a group long enough for a warp
    if per_element:
        length = next(M // n for n in (8, 4, 2, 1) if n == 1 or M % n == 0 and M // n >= 64)
    sample = C if weight is not None and weight.ndim == 2 and len(weight) > 1 else 0
    return (N * num_groups, M * L // max(1, length), length, np.int64(M * L), np.int64(length),
            num_groups, M, length if per_element else 1, int(per_element), sample)


KEPT = 96 << 10  # bytes of shared memory for a group's elements: available from sm_80 on


def _launch(name, x, layout, arrays, numbers, *options):
    """Launch a kernel of norm.cu that keeps `numbers` values per element of x in shared memory."""
    groups, runs, length, *_ = layout
    kept = min(runs * length, KEPT // (numbers * x.itemsize))
    warps = max(1, min(runs, 16 if groups < MIN_BLOCKS else 8))
    launch("norm.cu", name, groups, 32 * warps, (*arrays, *layout[1:], kept, *options),
           kept * numbers * x.itemsize, **real_macro(x.dtype))


def launch_norm(x, num_groups, weight, bias, eps, silu=False):
    """y, mean, var, rstd of x (N, C, L), the last three with one value per group."""
    layout = _layout(x, num_groups, weight, num_groups and x.shape[2] == 1)
    y, (mean, var, rstd) = xp(x).empty_like(x), xp(x).empty((3, layout[0]), x.dtype)
    _launch("norm_forward", x, layout, (x, weight, bias, y, mean, var, rstd), 1,
            x.dtype.type(eps), bool(silu))
    return y, mean, var, rstd


def launch_norm_backward(g, x, num_groups, weight, bias, mean, rstd, silu=False, per_element=False):
    """gx, gw, gb; the last two None without a weight. In group norm gw and gb are per image; in
    batch norm, and in layer norm (L = 1 and `per_element`), they are sums over all images."""
    N, C, m, like = *x.shape[:2], xp(x), {"dtype": x.dtype}
    layout = _layout(x, num_groups, weight, per_element)
    gx, (gw, gb) = m.empty_like(x), (None, None)
    if weight is not None and not per_element:
        gw, gb = m.empty((2, C, N) if num_groups is None else (2, N, C), **like)
    _launch("norm_backward", x, layout, (g, x, weight, bias, mean, rstd, gx, gw, gb), 2, bool(silu))
    if gw is not None and num_groups is None:
        gw, gb = gw.sum(1), gb.sum(1)
    if weight is not None and per_element:
        wide = blocks(C, 32)
        sums = m.zeros((max(1, min(MIN_BLOCKS // max(1, wide), blocks(N, 8))), 2, C), **like)
        launch("norm.cu", "norm_numbers", (wide, len(sums)), (32, 8),
               (g, x, mean, rstd, sums, np.int64(N), C), **real_macro(x.dtype))
        gw, gb = sums.sum(0)
    return gx, gw, gb
