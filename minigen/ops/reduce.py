"""Sums, means, extremes, and functions built from them."""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from minigen import kernels
from minigen.operands import accepts_arrays
from minigen.operation import op
from minigen.ops.indexing import along, take_along_axis
from minigen.ops.math import as_float, check_floats, elementary, exp, square, subtract, where
from minigen.ops.shape import broadcast_to, flip, pad, reshape, squeeze
from minigen.sums import array_cumsum, array_sum
from minigen.tensor import xp

__all__ = ["all", "any", "argmax", "argmin", "argsort", "cumsum", "log_softmax", "logsumexp", "max",
           "mean", "min", "norm", "prod", "softmax", "sort", "std", "sum", "var"]


def _expand(g, x, axis, keepdims):
    """The cotangent g of a reduction, with the reduced axes of x restored with length 1."""
    if keepdims:
        return g
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % x.ndim
    return reshape(g, [1 if i in axes else n for i, n in enumerate(x.shape)])

def _count(x, axis, ddof=0):
    """How many numbers of x one result of a reduction is computed from, minus `ddof`."""
    n = math.prod(x.shape if axis is None else (x.shape[i] for i in np.atleast_1d(axis)))
    if ddof > n:
        raise ValueError(f"ddof {ddof} is more than the {n} numbers along axis {axis} of {x.shape}")
    return n - ddof

@op
def sum(x, *, axis=None, keepdims=False): return array_sum(x, axis, keepdims)
@sum.vjp
def sum(g, _x, *, axis, keepdims):
    return broadcast_to(_expand(g, _x, axis, keepdims), shape=_x.shape)

@op
def mean(x, *, axis=None, keepdims=False):
    return array_sum(x, axis, keepdims) / _count(x, axis)
@mean.vjp
def mean(g, _x, *, axis, keepdims):
    return broadcast_to(_expand(g, _x, axis, keepdims) / _count(_x, axis), shape=_x.shape)

@accepts_arrays("x")
def var(x, axis=None, ddof=0, keepdims=False):
    """Σ(x − x̄)² / (n − ddof), NumPy's variance."""
    d = x - mean(x, axis, keepdims=True)
    return sum(d * d, axis, keepdims) / _count(x, axis, ddof)

@accepts_arrays("x")
def std(x, axis=None, ddof=0, keepdims=False):
    """The square root of `var`; its gradient is taken as 0 where all x are equal."""
    d = x - mean(x, axis, keepdims=True)
    return norm(d, axis=axis, keepdims=keepdims) / math.sqrt(_count(x, axis, ddof))

@op
def norm(x, *, axis=None, keepdims=False):
    """‖x‖₂ = √Σx²; its gradient x / ‖x‖ is taken as 0 where x = 0, as in PyTorch."""
    check_floats("norm", x)
    return xp(x).sqrt(array_sum(square.forward(x), axis, keepdims))
@norm.vjp
def norm(g, y, x, *, axis, keepdims):
    return x * _expand(where(y == 0, 0.0, g / where(y == 0, 1.0, y)), x, axis, keepdims)

@accepts_arrays("x")
def prod(x, axis=None, keepdims=False):
    """The product, along one axis after another."""
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    for i in axes:
        x = _prod(x, axis=i)
    return x if keepdims else squeeze(x, axes)

@op
def _prod(x, *, axis): return x.prod(axis, keepdims=True)
@_prod.vjp
def _prod(g, x, *, axis):  # no division, so zeros in x do no harm
    return g * _exclusive_cumprod(x, axis) * flip(_exclusive_cumprod(flip(x, axis), axis), axis)

def _exclusive_cumprod(x, axis):
    """For each element, the product of those before it: first of 1, then of 2, 4, … of them."""
    def shift(x, k):
        width = [(0, 0)] * axis + [(k, 0)] + [(0, 0)] * (x.ndim - axis - 1)
        return pad(x, width, constant_values=1.0)[along(x, axis, slice(n))]

    n, k = x.shape[axis], 1
    x = shift(x, 1)
    while k < n:
        x, k = x * shift(x, k), 2 * k
    return x

@op
def max(x, *, axis=None, keepdims=False):
    """The largest element; several equal ones share the gradient."""
    return x.max(axis, keepdims=keepdims)
@max.vjp
def max(g, y, x, *, axis, keepdims): return _extremum_vjp(g, y, x, axis, keepdims)

@op
def min(x, *, axis=None, keepdims=False):
    """The smallest element; several equal ones share the gradient."""
    return x.min(axis, keepdims=keepdims)
@min.vjp
def min(g, y, x, *, axis, keepdims): return _extremum_vjp(g, y, x, axis, keepdims)

def _extremum_vjp(g, y, x, axis, keepdims):
    mask = (x == _expand(y, x, axis, keepdims)).data
    count = mask.sum(axis, keepdims=True).astype(x.dtype)
    return _expand(g, x, axis, keepdims) / count * mask.astype(x.dtype)

@op
def all(x, *, axis=None, keepdims=False):
    """Whether no element is zero (or False)."""
    return x.all(axis, keepdims=keepdims)

@op
def any(x, *, axis=None, keepdims=False):
    """Whether any element is not zero (or True)."""
    return x.any(axis, keepdims=keepdims)

@op
def argmax(x, *, axis=None): return x.argmax(axis)

@op
def argmin(x, *, axis=None): return x.argmin(axis)

@op
def argsort(x, *, axis=-1): return xp(x).argsort(x, axis=axis, **_stable(x))

def _stable(x): return {"kind": "stable"} if xp(x) is np else {}

@accepts_arrays("x")
def sort(x, axis=-1):
    """x sorted along the axis, smallest first."""
    x, axis = (reshape(x, -1), 0) if axis is None else (x, axis)
    return take_along_axis(x, argsort(x, axis), axis)

@op
def cumsum(x, *, axis=None): return array_cumsum(x, axis)
@cumsum.vjp
def cumsum(g, _x, *, axis):
    if axis is None:
        return reshape(flip(cumsum(flip(g))), _x.shape)
    return flip(cumsum(flip(g, axis), axis), axis)

@op
def logsumexp(x, *, axis=None, keepdims=False):
    """log Σ e^x, with the largest x factored out so that nothing overflows."""
    x = as_float(x)
    top = x.max(axis, keepdims=True)
    top = xp(x).where(xp(x).isfinite(top), top, 0)
    with np.errstate(divide="ignore"):  # log 0 = −∞ is right where every x is −∞
        e = elementary(kernels.exp, subtract.forward(x, top))
        y = elementary(kernels.log, array_sum(e, axis, keepdims=True)) + top
    return y if keepdims else y.squeeze() if axis is None else y.squeeze(axis)
@logsumexp.vjp
def logsumexp(g, y, x, *, axis, keepdims):
    # where every x is −∞, y is too: there e^(x − y) would be e^(−∞ + ∞)
    lse = _expand(where(y == -math.inf, 0.0, y), x, axis, keepdims)
    return _expand(g, x, axis, keepdims) * exp(x - lse)

def _middle(x, axis):
    """x as (A, C, B), where C is the length of the axis."""
    axis = normalize_axis_index(axis, x.ndim)
    return x.reshape(math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1:]))

@op
def softmax(x, *, axis=-1):
    """e^x / Σ e^x along the axis."""
    return kernels.softmax(_middle(x, axis)).reshape(x.shape)
@softmax.vjp
def softmax(g, y, *, axis): return _softmax_backward(g, y, axis=axis)

@op
def _softmax_backward(g, p, *, axis):  # p (g − Σ g p): g times a symmetric matrix
    return kernels.softmax_backward(_middle(g, axis), _middle(p, axis)).reshape(p.shape)
@_softmax_backward.vjp
def _softmax_backward(h, g, p, *, axis):
    total = lambda x: sum(x, axis, keepdims=True)
    return (lambda: _softmax_backward(h, p, axis=axis),
            lambda: h * (g - total(g * p)) - g * total(h * p))

@op
def log_softmax(x, *, axis=-1):
    """x − log Σ e^x along the axis."""
    return kernels.log_softmax(_middle(x, axis)).reshape(x.shape)
@log_softmax.vjp
def log_softmax(g, y, *, axis): return _log_softmax_backward(g, y, axis=axis)

@op
def _log_softmax_backward(g, log_p, *, axis):
    return kernels.log_softmax_backward(_middle(g, axis), _middle(log_p, axis)).reshape(g.shape)
@_log_softmax_backward.vjp
def _log_softmax_backward(h, g, log_p, *, axis):
    total = lambda x: sum(x, axis, keepdims=True)
    return (lambda: h - total(h * exp(log_p)), lambda: -h * exp(log_p) * total(g))
