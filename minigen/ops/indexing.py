"""Selections: ops that pick elements by slices, integers and masks.

On a device, an integer index that is out of range wraps around modulo the length of its axis: to
detect it, the index array would have to be read back. An index array on the host is checked before
it is copied to the device.
"""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from minigen.operands import accepts_arrays
from minigen.operation import op
from minigen.tensor import Tensor, recording, xp

__all__ = ["getitem", "take_along_axis"]

SEQUENCES = Tensor, list, tuple, range  # what is an array of indices, apart from arrays


@op
def _getitem(x, *, index):
    if recording() and xp(x) is not np and any(map(_is_mask, index)):
        raise TypeError("a step that is recorded cannot pick by a mask: only the device knows how "
                        "many elements it picks; use where")
    if len(index) == 1 and isinstance(i := index[0], np.ndarray) and i.dtype.kind in "iu":
        return xp(x).take(x, i, 0)  # takes NumPy half as long as x[i]
    return x[index]
@_getitem.vjp
def _getitem(g, _x, *, index): return _scatter_add(g, index=index, shape=_x.shape)

def _accumulate_into(out, g, *, index):
    if _may_repeat(index):
        out += _scatter_add_repeated(g, index, out.shape)
    else:
        out[index] += g
_getitem.accumulate_into = _accumulate_into

def _may_repeat(index):
    """Whether the index can name the same position twice. A single array of integers, none negative
    or on a device, can be searched for them, which takes less time than to add at each position."""
    arrays = _integer_arrays(index)
    if len(arrays) != 1 or not isinstance(i := arrays[0], np.ndarray) or i.min(initial=0) < 0:
        return bool(arrays)
    return np.bincount(i.ravel().astype(np.intp)).max(initial=0) > 1

def _integer_arrays(index):
    return [i for i in index if hasattr(i, "dtype") and i.dtype != bool]

@op
def _scatter_add(g, *, index, shape):
    """Zeros of `shape` with g added at the index: the transpose of `getitem`."""
    if _may_repeat(index):
        return _scatter_add_repeated(g, index, shape)
    out = xp(g).zeros(shape, g.dtype)
    out[index] = g
    return out
@_scatter_add.vjp
def _scatter_add(gg, *, index, shape): return getitem(gg, index)

def _scatter_add_repeated(g, index, shape):
    """`_scatter_add` for an index that may name a position twice."""
    if len(index) == 1 and xp(g) is np:
        return _scatter_add_rows(g, index[0], shape)
    out = xp(g).zeros(shape, g.dtype)
    positions = xp(g).arange(out.size).reshape(shape)[index]
    xp(g).add.at(out.reshape(-1), positions.ravel(), g.ravel())
    return out

def _scatter_add_rows(g, rows, shape):
    """`_scatter_add` along the first axis, as the product of a sparse matrix, with a single 1 per
    column, and g: a tenth of the time of ``np.add.at``."""
    from scipy.sparse import csr_array
    rows = rows.ravel().astype(np.intp) % shape[0]
    at = csr_array((np.ones(rows.size, g.dtype), rows, np.arange(rows.size + 1)),
                   shape=(rows.size, shape[0]))
    return (at.T @ g.reshape(rows.size, math.prod(shape[1:]))).reshape(shape)

def getitem(x, index):
    """``x[index]`` with slices, integers, integer arrays, boolean masks, None and ``...``."""
    index = index if isinstance(index, tuple) else (index,)
    index = tuple([integer_array(i) if isinstance(i, SEQUENCES) else i for i in index])
    if isinstance(x, Tensor) and type(x.data) is not np.ndarray and _integer_arrays(index):
        _check_index(index, x.shape)
    return _getitem(x, index=index)

def _check_index(index, shape):
    """IndexError for an integer array on the host that has an index out of range."""
    axes = lambda i: i.ndim if _is_mask(i) else i is not None and not isinstance(i, bool)
    axis = 0
    for k, i in enumerate(index):
        if i is Ellipsis:
            axis = len(shape) - sum(map(axes, index[k + 1:]))
            continue
        if axis < len(shape) and isinstance(i, np.ndarray) and not _is_mask(i):
            _check_integers("getitem", i, shape, axis)
        axis += axes(i)

def _check_integers(name, i, shape, axis):
    if i.size and not (-shape[axis] <= i.min() and i.max() < shape[axis]):
        raise IndexError(f"{name}: indices are {i.min()} … {i.max()}, but axis {axis} of {shape} "
                         f"has length {shape[axis]}")

def _is_mask(i):
    return hasattr(i, "dtype") and i.dtype == bool

def integer_array(i):
    """Indices as an array."""
    return i.data if isinstance(i, Tensor) else i if hasattr(i, "dtype") else np.asarray(
        i, None if np.size(i) else int)

def along(x, axis, index):
    """The index that applies `index` along an axis of x and takes all of the other axes."""
    return (*[slice(None)] * normalize_axis_index(axis, x.ndim), index)

@op
def _take_along_axis(x, *, indices, axis): return xp(x).take_along_axis(x, indices, axis)
@_take_along_axis.vjp
def _take_along_axis(g, _x, *, indices, axis):
    return _add_along_axis(g, indices=indices, axis=axis, shape=_x.shape)

@accepts_arrays("x")
def take_along_axis(x, indices, axis=-1):
    """The elements of x at integer `indices`, which have the shape of x except along `axis`."""
    indices = integer_array(indices)
    if axis is None:
        raise TypeError("take_along_axis: axis is None: flatten x, then take axis 0")
    if xp(x.data) is not np and isinstance(indices, np.ndarray) and indices.ndim == x.ndim:
        _check_integers("take_along_axis", indices, x.shape, normalize_axis_index(axis, x.ndim))
    return _take_along_axis(x, indices=indices, axis=axis)

@op
def _add_along_axis(g, *, indices, axis, shape):
    """Zeros of `shape` with g added at the indices: the transpose of `take_along_axis`."""
    out = xp(g).zeros(shape, g.dtype)
    where = [xp(g).arange(n).reshape([-1 if i == j else 1 for j in range(g.ndim)])
             for i, n in enumerate(g.shape)]
    where[axis] = indices
    where = tuple(xp(g).broadcast_arrays(*where))
    positions = xp(g).ravel_multi_index(where, shape, mode="wrap")
    xp(g).add.at(out.reshape(-1), positions.ravel(), g.ravel())
    return out
@_add_along_axis.vjp
def _add_along_axis(gg, *, indices, axis, shape):
    return _take_along_axis(gg, indices=indices, axis=axis)
