"""Views, joins and parts: ops that move numbers without changing them."""

import math
import operator

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from minigen import kernels
from minigen.autodiff import broadcast_to
from minigen.operands import accepts_arrays
from minigen.operation import op
from minigen.ops.indexing import along, getitem, integer_array
from minigen.sums import LARGE
from minigen.tensor import FLOATS, xp

__all__ = [
    "astype", "broadcast_to", "concatenate", "expand_dims", "flatten", "flip", "moveaxis", "pad",
    "pixel_shuffle", "pixel_unshuffle", "repeat", "reshape", "roll", "split", "squeeze", "stack",
    "swapaxes", "take", "tile", "transpose", "tril", "triu",
]

MAX_JOIN = 8  # arrays at a time: for more, CuPy uploads a table, which no recorded step can do


@op
def _reshape(x, *, shape): return x.reshape(shape)
@_reshape.vjp
def _reshape(g, _x, *, shape): return reshape(g, _x.shape)

def reshape(x, *shape):
    """x with another shape, its elements in the same order; one length may be −1. As a method also
    ``x.reshape(2, 3)``."""
    return _reshape(x, shape=tuple(shape[0]) if len(shape) == 1 and np.ndim(shape[0]) else shape)

@accepts_arrays("x")
def flatten(x, start_dim=0):
    """x with the axes from `start_dim` on merged into one."""
    if not -x.ndim <= start_dim <= max(x.ndim - 1, 0):
        raise ValueError(f"flatten: x is {x.shape}, it has no axis {start_dim}")
    return reshape(x, (*x.shape[:start_dim], math.prod(x.shape[start_dim:])))

@accepts_arrays("x")
def expand_dims(x, axis):
    """x with a new axis of length 1 at each position in `axis`."""
    ndim = x.ndim + np.size(axis)
    axes, old = normalize_axis_tuple(axis, ndim), iter(x.shape)
    return reshape(x, [1 if i in axes else next(old) for i in range(ndim)])

@accepts_arrays("x")
def squeeze(x, axis=None):
    """x without the axes in `axis`, which must have length 1; by default without all such axes."""
    axes = ([i for i, n in enumerate(x.shape) if n == 1] if axis is None else
            normalize_axis_tuple(axis, x.ndim))
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"squeeze: axis {axis} of shape {x.shape} does not have length 1")
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in axes])

@op
def _transpose(x, *, axes=None): return x.transpose(axes)
@_transpose.vjp
def _transpose(g, *, axes):
    return transpose(g, axes and np.argsort(np.array(axes) % g.ndim).tolist())

def transpose(x, *axes):
    """x with its axes in the order `axes`; reversed by default."""
    axes = axes[0] if len(axes) == 1 and (axes[0] is None or np.ndim(axes[0])) else axes or None
    return _transpose(x, axes=axes if axes is None else tuple(axes))

@accepts_arrays("x")
def swapaxes(x, axis1, axis2):
    """x with two axes exchanged."""
    axes = list(range(x.ndim))
    i, j = normalize_axis_tuple((axis1, axis2), x.ndim, allow_duplicate=True)
    axes[i], axes[j] = j, i
    return transpose(x, axes)

@accepts_arrays("x")
def moveaxis(x, source, destination):
    """x with the axis (or axes) `source` moved to the position (or positions) `destination`."""
    source = normalize_axis_tuple(source, x.ndim, "moveaxis: source")
    destination = normalize_axis_tuple(destination, x.ndim, "moveaxis: destination")
    axes = [i for i in range(x.ndim) if i not in source]
    for place, axis in sorted(zip(destination, source, strict=True)):
        axes.insert(place, axis)
    return transpose(x, axes)

@accepts_arrays("x")
def pixel_shuffle(x, upscale_factor):
    """Channels as pixels: x (N, C r², H, W) to y (N, C, rH, rW), r = `upscale_factor`,

        y[n, c, r h + i, r w + j] = x[n, c r² + r i + j, h, w]          0 ≤ i, j < r

    so that a convolution before it computes each of the r×r parts of a pixel with filters of its
    own (Shi et al. 2016). ValueError unless r² divides the channels."""
    N, K, H, W = _images("pixel_shuffle", x)
    r = upscale_factor
    if r < 1 or K % r**2:
        raise ValueError(f"pixel_shuffle: x is {x.shape}, expected a multiple of {r}² channels")
    y = transpose(reshape(x, (N, K // r**2, r, r, H, W)), (0, 1, 4, 2, 5, 3))  # eq: pixel-shuffle
    return reshape(y, (N, K // r**2, r * H, r * W))

@accepts_arrays("x")
def pixel_unshuffle(x, downscale_factor):
    """The inverse of `pixel_shuffle`: (N, C, rH, rW) to (N, C r², H, W), r = `downscale_factor`.
    ValueError unless r divides both sides."""
    N, C, H, W = _images("pixel_unshuffle", x)
    r = downscale_factor
    if r < 1 or H % r or W % r:
        raise ValueError(f"pixel_unshuffle: x is {x.shape}, expected sides divisible by {r}")
    y = transpose(reshape(x, (N, C, H // r, r, W // r, r)), (0, 1, 3, 5, 2, 4))
    return reshape(y, (N, C * r**2, H // r, W // r))

def _images(name, x):
    """The shape (N, C, H, W) of images x."""
    if x.ndim != 4:
        raise ValueError(f"{name}: x is {x.shape}, expected images (N, C, H, W)")
    return x.shape

@op
def flip(x, *, axis=None): return xp(x).flip(x, axis)
@flip.vjp
def flip(g, *, axis): return flip(g, axis)

@op
def _roll(x, *, shift, axis): return xp(x).roll(x, shift, axis)
@_roll.vjp
def _roll(g, *, shift, axis): return _roll(g, shift=tuple(-s for s in shift), axis=axis)

@accepts_arrays("x")
def roll(x, shift, axis=None):
    """x shifted cyclically by `shift` positions along one axis or several (by default, along the
    flattened x)."""
    shift = tuple(map(operator.index, integer_array(shift).ravel().tolist()))
    return _roll(x, shift=shift, axis=axis)

@op
def tril(x, *, k=0): return xp(x).tril(x, k)
@tril.vjp
def tril(g, *, k): return tril(g, k)

@op
def triu(x, *, k=0): return xp(x).triu(x, k)
@triu.vjp
def triu(g, *, k): return triu(g, k)

@op
def _concatenate(*xs, axis=0):
    join = xp(*xs).concatenate
    if join is np.concatenate:
        two = len(xs) == 2 and type(xs[0]) is type(xs[1]) is np.ndarray
        return _concatenate_two(*xs, axis) if two else join(xs, axis)
    while len(xs) > MAX_JOIN:
        xs = [join(xs[i:i + MAX_JOIN], axis) for i in range(0, len(xs), MAX_JOIN)]
    return join(xs, axis)
@_concatenate.vjp
def _concatenate(g, *_xs, axis):
    ends = np.cumsum([x.shape[axis] for x in _xs])
    return tuple(lambda part=slice(end - x.shape[axis], end): _part(g, axis, part)
                 for x, end in zip(_xs, ends.tolist(), strict=True))

def _part(g, axis, index):
    """A copy of g[index] along the axis: of a view, each kernel that reads it makes its own."""
    return astype(getitem(g, along(g, axis, index)), g.dtype)

def _concatenate_two(a, b, axis):
    """np.concatenate of two arrays, with threads if they are large."""
    at = normalize_axis_index(axis, a.ndim)
    lead, rest = a.shape[:at], a.shape[at + 1:]
    if a.size + b.size <= LARGE or a.dtype not in FLOATS or a.dtype != b.dtype or (
            b.ndim != a.ndim or b.shape[:at] != lead or b.shape[at + 1:] != rest):
        return np.concatenate([a, b], axis)
    rows = math.prod(lead)
    return kernels.join(a.reshape(rows, -1), b.reshape(rows, -1)).reshape(*lead, -1, *rest)

def concatenate(arrays, axis=0):
    """The arrays joined along an existing axis."""
    if axis is None:
        arrays, axis = [reshape(x, -1) for x in arrays], 0
    return _concatenate(*arrays, axis=axis)

@op
def _stack(*xs, axis):
    expand_dims = xp(*xs).expand_dims
    return _concatenate.forward(*[expand_dims(x, axis) for x in xs], axis=axis)
@_stack.vjp
def _stack(g, *_xs, axis):
    return tuple(lambda i=i: _part(g, axis, i) for i in range(len(_xs)))

def stack(arrays, axis=0):
    """The arrays joined along a new axis."""
    return _stack(*arrays, axis=axis)

@accepts_arrays("x")
def split(x, indices_or_sections, axis=0):
    """A list of parts along the axis: a given number of equal ones, or cut at given indices."""
    n, cuts = x.shape[normalize_axis_index(axis, x.ndim)], indices_or_sections
    if not np.ndim(cuts):
        if cuts < 1 or n % cuts:
            raise ValueError(f"split: axis {axis} of length {n} does not divide into {cuts}")
        cuts = [n // cuts * i for i in range(1, cuts)]
    edges = [0, *cuts, n]
    return [getitem(x, along(x, axis, slice(a, b)))
            for a, b in zip(edges[:-1], edges[1:], strict=True)]

@accepts_arrays("x")
def take(x, indices, axis=None):
    """The elements of x at integer `indices` along the axis (of the flattened x by default)."""
    x, axis, indices = *((reshape(x, -1), 0) if axis is None else (x, axis)), integer_array(indices)
    if indices.dtype == bool:
        raise TypeError("take: indices are a mask, expected integers: write x[mask]")
    return getitem(x, along(x, axis, indices))

@accepts_arrays("x")
def pad(x, pad_width, mode="constant", constant_values=0.0):
    """x with borders, as in NumPy: `pad_width` is a number, one pair, or a pair for each axis; the
    modes are "constant" (`constant_values`, one number), "edge", "reflect", "symmetric", "wrap"."""
    if np.ndim(constant_values):
        raise ValueError(f"pad: constant_values must be one number, got {constant_values}")
    width = np.asarray(pad_width)
    if width.dtype.kind not in "iu" or (width < 0).any():
        raise ValueError(f"pad: pad_width must be integers, none negative, got {pad_width}")
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise ValueError('pad: mode must be "constant", "edge", "reflect", "symmetric" or "wrap", '
                         f"got {mode!r}")
    try:
        pairs = np.broadcast_to(width, (x.ndim, 2)).tolist()
    except ValueError:
        raise ValueError(f"pad: pad_width must be a number, a pair, or a pair for each axis of "
                         f"{x.shape}, got {pad_width}") from None
    if mode == "constant":
        return _pad(x, pairs=pairs, value=constant_values)
    for axis, (before, after) in enumerate(pairs):  # the other modes repeat elements of x
        if before or after:
            n = x.shape[axis]
            where = np.pad(np.arange(n), (before, after), mode)
            first, last = (take(x, i, axis) for i in (where[:before], where[before + n:]))
            x = concatenate([first, x, last], axis)  # gradients of borders alone have to be added
    return x

@op
def _pad(x, *, pairs, value):
    out = xp(x).full([n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True)], value, x.dtype)
    out[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, pairs, strict=True))] = x
    return out
@_pad.vjp
def _pad(g, _x, *, pairs, value):
    return getitem(g, tuple(slice(a, a + n) for n, (a, _) in zip(_x.shape, pairs, strict=True)))

@accepts_arrays("x")
def repeat(x, repeats, axis=None):
    """Each slice along the axis (by default each element of the flattened x) `repeats` times in a
    row."""
    x, axis = (reshape(x, -1), 0) if axis is None else (x, axis)
    return take(x, np.repeat(np.arange(x.shape[normalize_axis_index(axis, x.ndim)]), repeats), axis)

@accepts_arrays("x")
def tile(x, reps):
    """Copies of x side by side, `reps` of them along each axis."""
    reps = [1] * (x.ndim - len(np.atleast_1d(reps))) + np.atleast_1d(reps).tolist()
    x = reshape(x, [1] * (len(reps) - x.ndim) + list(x.shape))
    y = broadcast_to(reshape(x, [m for n in x.shape for m in (1, n)]),
                     shape=[m for r, n in zip(reps, x.shape, strict=True) for m in (r, n)])
    return reshape(y, [r * n for r, n in zip(reps, x.shape, strict=True)])

@op
def _astype(x, *, dtype): return x.astype(dtype)
@_astype.vjp
def _astype(g, _x, *, dtype): return _astype(g, dtype=_x.dtype)

@accepts_arrays("x")
def astype(x, dtype):
    """A copy of x with another dtype: of floats, integers or booleans."""
    if (dtype := np.dtype(dtype)).kind not in "fiub":
        raise TypeError(f"astype: expected a dtype of real numbers or booleans, got {dtype}")
    return _astype(x, dtype=dtype)
