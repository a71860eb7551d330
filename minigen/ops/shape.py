"""Views, joins and selections: ops that move numbers without changing them."""

import math

import numpy as np

from minigen.autodiff import broadcast_to, op
from minigen.tensor import Tensor, xp

__all__ = [
    "astype", "broadcast_to", "concatenate", "expand_dims", "flatten", "flip", "getitem",
    "moveaxis", "pad", "repeat", "reshape", "roll", "split", "squeeze", "stack", "swapaxes", "take",
    "take_along_axis", "tile", "transpose", "tril", "triu",
]


@op
def _reshape(x, *, shape): return x.reshape(shape)
@_reshape.vjp
def _reshape(g, y, x, *, shape): return reshape(g, x.shape)

def reshape(x, *shape):
    """x with another shape and the same order; one length may be −1. As a method also
    ``x.reshape(2, 3)``."""
    return _reshape(x, shape=tuple(shape[0]) if len(shape) == 1 and np.ndim(shape[0]) else shape)

def flatten(x, start_dim=0):
    """The axes from `start_dim` on as one."""
    return reshape(x, (*x.shape[:start_dim], math.prod(x.shape[start_dim:])))

def expand_dims(x, axis):
    """A new axis of length 1 at each place in `axis`."""
    axes = np.atleast_1d(axis)
    axes = {int(a) % (x.ndim + len(axes)) for a in axes}
    old = iter(x.shape)
    return reshape(x, [1 if i in axes else next(old) for i in range(x.ndim + len(axes))])

def squeeze(x, axis=None):
    """x without the axes in `axis`, which must have length 1; without all such by default."""
    axes = {i for i, n in enumerate(x.shape) if n == 1} if axis is None else {
        int(a) % x.ndim for a in np.atleast_1d(axis)}
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"squeeze: axis {axis} of shape {x.shape} does not have length 1")
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in axes])

@op
def _transpose(x, *, axes=None): return x.transpose(axes)
@_transpose.vjp
def _transpose(g, y, x, *, axes=None):
    return transpose(g, axes and np.argsort(np.array(axes) % g.ndim).tolist())

def transpose(x, *axes):
    """x with its axes in the order `axes`; reversed by default."""
    axes = axes[0] if len(axes) == 1 and (axes[0] is None or np.ndim(axes[0])) else axes or None
    return _transpose(x, axes=axes if axes is None else tuple(axes))

def swapaxes(x, axis1, axis2):
    """x with two axes exchanged."""
    axes = list(range(x.ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return transpose(x, axes)

def moveaxis(x, source, destination):
    """x with the axis `source` moved to the place `destination`."""
    axes = [i for i in range(x.ndim) if i != source % x.ndim]
    axes.insert(destination % x.ndim, source % x.ndim)
    return transpose(x, axes)

@op
def flip(x, *, axis=None): return xp(x).flip(x, axis)
@flip.vjp
def flip(g, y, x, *, axis=None): return flip(g, axis)

@op
def roll(x, *, shift, axis=None): return xp(x).roll(x, shift, axis)
@roll.vjp
def roll(g, y, x, *, shift, axis=None):
    return roll(g, tuple(-s for s in shift) if np.ndim(shift) else -shift, axis)

@op
def tril(x, *, k=0): return xp(x).tril(x, k)
@tril.vjp
def tril(g, y, x, *, k=0): return tril(g, k)

@op
def triu(x, *, k=0): return xp(x).triu(x, k)
@triu.vjp
def triu(g, y, x, *, k=0): return triu(g, k)

@op
def _concatenate(*xs, axis=0): return xp(*xs).concatenate(xs, axis)
@_concatenate.vjp
def _concatenate(g, y, *xs, axis=0):
    ends = np.cumsum([x.shape[axis] for x in xs])
    return tuple(lambda a=end - x.shape[axis], b=end: getitem(g, _along(g, axis, slice(a, b)))
                 for x, end in zip(xs, ends.tolist(), strict=True))

def concatenate(arrays, axis=0):
    """The arrays joined along an existing axis."""
    return _concatenate(*arrays, axis=axis)

def stack(arrays, axis=0):
    """The arrays joined along a new axis."""
    return concatenate([expand_dims(x, axis) if isinstance(x, Tensor) else np.expand_dims(x, axis)
                        for x in arrays], axis)

def split(x, indices_or_sections, axis=0):
    """A list of parts along the axis: so many equal ones, or cut at the given indices."""
    n, cuts = x.shape[axis], indices_or_sections
    if not np.ndim(cuts):
        if n % cuts:
            raise ValueError(f"split: axis {axis} of length {n} does not divide into {cuts}")
        cuts = range(n // cuts, n, n // cuts)
    edges = [0, *cuts, n]
    return [getitem(x, _along(x, axis, slice(a, b)))
            for a, b in zip(edges[:-1], edges[1:], strict=True)]

def _along(x, axis, index):
    return tuple(index if i == axis % x.ndim else slice(None) for i in range(x.ndim))

@op
def _getitem(x, *, index): return x[index]
@_getitem.vjp
def _getitem(g, y, x, *, index): return _put(g, index=index, shape=x.shape)

@op
def _put(g, *, index, shape):
    """Zeros of `shape` with g added at the index: the transpose of taking it."""
    out = xp(g).zeros(shape, g.dtype)
    if any(hasattr(i, "dtype") and i.dtype != bool for i in index):
        xp(g).add.at(out, index, g)  # an integer index can name a place twice
    else:
        out[index] = g
    return out
@_put.vjp
def _put(gg, y, g, *, index, shape): return getitem(gg, index)

def getitem(x, index):
    """``x[index]`` with slices, integers, integer arrays, boolean masks, None and ``...``."""
    index = index if isinstance(index, tuple) else (index,)
    return _getitem(x, index=tuple(
        i.data if isinstance(i, Tensor) else np.asarray(i) if isinstance(i, (list, range)) else i
        for i in index))

def take(x, indices, axis=None):
    """The elements of x at integer `indices` along the axis (of the flat x by default)."""
    x, axis = (reshape(x, (-1,)), 0) if axis is None else (x, axis)
    indices = indices.data if isinstance(indices, Tensor) else np.asarray(indices)
    return getitem(x, (*[slice(None)] * (axis % x.ndim), indices))

@op
def take_along_axis(x, *, indices, axis=-1): return xp(x).take_along_axis(x, indices, axis)
@take_along_axis.vjp
def take_along_axis(g, y, x, *, indices, axis=-1):
    return _add_along_axis(g, indices=indices, axis=axis, shape=x.shape)

@op
def _add_along_axis(g, *, indices, axis, shape):
    """Zeros of `shape` with g added at the indices: the transpose of `take_along_axis`."""
    out = xp(g).zeros(shape, g.dtype)
    where = list(xp(g).indices(indices.shape, sparse=True))
    where[axis] = indices
    xp(g).add.at(out, tuple(where), g)
    return out
@_add_along_axis.vjp
def _add_along_axis(gg, y, g, *, indices, axis, shape):
    return take_along_axis(gg, indices=indices, axis=axis)

def pad(x, pad_width, mode="constant", constant_values=0.0):
    """x with borders, as NumPy's: `pad_width` is a number, one pair, or a pair for each axis; modes
    "constant", "edge", "reflect", "symmetric", "wrap"."""
    pairs = np.broadcast_to(np.asarray(pad_width, dtype=int), (x.ndim, 2)).tolist()
    if mode == "constant":
        return _pad(x, pairs=pairs, value=constant_values)
    for axis, (before, after) in enumerate(pairs):  # the other modes repeat elements of x
        if before or after:
            where = np.pad(np.arange(x.shape[axis]), (before, after), mode)
            x = take(x, where, axis)
    return x

@op
def _pad(x, *, pairs, value):
    out = xp(x).full([n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True)], value, x.dtype)
    out[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, pairs, strict=True))] = x
    return out
@_pad.vjp
def _pad(g, y, x, *, pairs, value):
    return getitem(g, tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, pairs, strict=True)))

def repeat(x, repeats, axis):
    """Each slice along the axis `repeats` times in a row."""
    return take(x, np.repeat(np.arange(x.shape[axis]), repeats), axis)

def tile(x, reps):
    """x set side by side `reps` times along each axis."""
    reps = [1] * (x.ndim - len(np.atleast_1d(reps))) + np.atleast_1d(reps).tolist()
    x = reshape(x, [1] * (len(reps) - x.ndim) + list(x.shape))
    y = broadcast_to(reshape(x, [m for n in x.shape for m in (1, n)]),
                     shape=[m for r, n in zip(reps, x.shape, strict=True) for m in (r, n)])
    return reshape(y, [r * n for r, n in zip(reps, x.shape, strict=True)])

@op
def _astype(x, *, dtype): return x.astype(dtype)
@_astype.vjp
def _astype(g, y, x, *, dtype): return _astype(g, dtype=x.dtype)

def astype(x, dtype):
    """x with another dtype."""
    return _astype(x, dtype=np.dtype(dtype))
