"""Sums of arrays over axes and along them, by a kernel where there is one."""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from minigen import kernels
from minigen.tensor import FLOATS

LARGE = 1 << 15  # array size from which a pass over it is worth two threads


def array_sum(x, axis=None, keepdims=False):
    """x.sum(axis). A kernel computes it over all axes but the second, as in the gradient of a bias,
    and, for a large array on the CPU, over the first or the last axes, or all."""
    large = type(x) is np.ndarray and x.size > LARGE and x.flags.c_contiguous
    if x.dtype not in FLOATS or not large and x.ndim < 3 or type(axis) is list:  # an error
        return x.sum(axis, keepdims=keepdims)
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    size = math.prod(x.shape[i] for i in kept)
    if kept == [1] and x.ndim > 2:
        ncl = *x.shape[:2], math.prod(x.shape[2:])
    elif large and not kept:
        ncl = x.shape[0], 1, -1
    elif large and axes and kept == [*range(len(kept))]:
        ncl = 1, size, -1
    elif large and axes and kept == [*range(len(axes), x.ndim)]:
        ncl = -1, size, 1
    else:
        return x.sum(axis, keepdims=keepdims)
    shape = [n if i in kept else 1 for i, n in enumerate(x.shape) if keepdims or i in kept]
    return kernels.channel_sum(x.reshape(ncl)).reshape(shape)


def array_cumsum(x, axis=None):
    """x.cumsum(axis). A kernel computes it for a large array on the CPU."""
    if x.dtype not in FLOATS or type(x) is not np.ndarray or x.size <= LARGE:
        return x.cumsum(axis)
    if axis is None:
        x, axis = x.reshape(-1), 0
    at = normalize_axis_index(axis, x.ndim)
    return kernels.cumsum(x.reshape(math.prod(x.shape[:at]), x.shape[at], -1)).reshape(x.shape)
