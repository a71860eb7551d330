"""Sums of arrays over axes and along them, by a kernel where there is one."""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from minigen import kernels
from minigen.tensor import FLOATS

LARGE = 1 << 15  # array size from which a pass over it is worth two threads


def array_sum(x, axis=None, keepdims=False):
    """x.sum(axis). A kernel computes it for a large array in which the summed axes are neighbours,
    or those that are kept."""
    small = type(x) is np.ndarray and x.size <= LARGE
    if small or x.dtype not in FLOATS or not x.flags.c_contiguous or type(axis) is list:  # an error
        return x.sum(axis, keepdims=keepdims)
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    summed, sizes = [], []  # neighbours that are all summed or all kept are one axis
    for i, n in enumerate(x.shape):
        if n == 1:
            continue
        if summed and summed[-1] == (i in axes):
            sizes[-1] *= n
        else:
            summed.append(i in axes)
            sizes.append(n)
    if summed == [True, False, True]:
        y = kernels.channel_sum(x.reshape(sizes))
    elif sum(summed) == 1:
        y = kernels.axis_sum(x.reshape([1] * summed[0] + sizes + [1] * summed[-1]))
    else:
        return x.sum(axis, keepdims=keepdims)
    return y.reshape([1 if i in axes else n for i, n in enumerate(x.shape)
                      if keepdims or i not in axes])


def array_cumsum(x, axis=None):
    """x.cumsum(axis). A kernel computes it for a large array on the CPU."""
    if x.dtype not in FLOATS or type(x) is not np.ndarray or x.size <= LARGE:
        return x.cumsum(axis)
    if axis is None:
        x, axis = x.reshape(-1), 0
    at = normalize_axis_index(axis, x.ndim)
    return kernels.cumsum(x.reshape(math.prod(x.shape[:at]), x.shape[at], -1)).reshape(x.shape)
