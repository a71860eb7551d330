"""Normalisation: (x − mean) / √(variance + ε), then a scale and a shift.

Batch, group and layer norm differ only in what the mean and variance are taken over. Each has a
fused kernel for its value and its first gradient, and a composite in ordinary ops for higher ones.
"""

import math
from numbers import Integral

from minigen import kernels
from minigen.operands import accepts_arrays
from minigen.operation import op
from minigen.ops.activation import sigmoid
from minigen.ops.math import sqrt
from minigen.ops.reduce import mean, var
from minigen.ops.shape import reshape
from minigen.tensor import xp

__all__ = ["batch_norm", "group_norm", "group_norm_silu", "layer_norm"]


def _standardise(x, axes, eps):
    return (x - mean(x, axes, keepdims=True)) / sqrt(var(x, axes, keepdims=True) + eps)

def _affine(y, weight, bias, shape):
    """y · weight + bias, both reshaped to `shape` so that they broadcast along the channels."""
    y = y if weight is None else y * reshape(weight, shape)
    return y if bias is None else y + reshape(bias, shape)

def _flat(x):
    """(N, C, ...) as (N, C, L)."""
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))

def _channels(x):
    return (1, x.shape[1]) + (1,) * (x.ndim - 2)


@op
def _batch_norm(x, weight, bias, *, eps):
    y, mean, var, rstd = kernels.batch_norm(_flat(x), weight, bias, eps)  # rstd = 1/√(var + ε)
    return y.reshape(x.shape), (mean, rstd, var)  # (C,) each; nn.BatchNorm2d reads them, too
@_batch_norm.vjp
def _batch_norm(g, _y, x, weight, *, eps):
    gx, gw, gb = kernels.batch_norm_backward(_flat(g.data), _flat(x.data), _data(weight),
                                             *_y.saved[:2])
    return gx.reshape(x.shape), gw, gb
@_batch_norm.composite
def _batch_norm(x, weight, bias, *, eps):
    return _affine(_standardise(x, (0, *range(2, x.ndim)), eps), weight, bias, _channels(x))

@op
def _group_norm(x, weight, bias, *, num_groups, eps, silu):
    y, *saved = kernels.group_norm(_flat(x), num_groups, *_rows(weight, bias), eps, silu)
    return y.reshape(x.shape), saved  # mean and rstd, (N, groups) each
@_group_norm.vjp
def _group_norm(g, _y, x, weight, bias, *, num_groups, eps, silu):
    weights = _rows(_data(weight), _data(bias))
    gx, *grads = kernels.group_norm_backward(_flat(g.data), _flat(x.data), num_groups, *weights,
                                             *_y.saved, silu)
    return (gx.reshape(x.shape), *(
        v if v is None or p is None or v.shape == p.shape else v.sum(0).reshape(p.shape)
        for v, p in zip(grads, (weight, bias), strict=True)))
@_group_norm.composite
def _group_norm(x, weight, bias, *, num_groups, eps, silu):
    grouped = reshape(x, (x.shape[0], num_groups, math.prod(x.shape[1:]) // num_groups))
    shape = (-1, *_channels(x)[1:])
    h = _affine(reshape(_standardise(grouped, 2, eps), x.shape), weight, bias, shape)
    return h * sigmoid(h) if silu else h

@op
def _layer_norm(x, weight, bias, *, axes, eps):
    shape = (-1, math.prod(x.shape[-axes:]))
    y, *saved = kernels.layer_norm(x.reshape(shape), *_raveled(weight, bias), eps)
    return y.reshape(x.shape), saved
@_layer_norm.vjp
def _layer_norm(g, _y, x, weight, *, axes, eps):
    shape = (-1, math.prod(x.shape[-axes:]))
    gx, gw, gb = kernels.layer_norm_backward(g.data.reshape(shape), x.data.reshape(shape),
                                             *_raveled(_data(weight)), *_y.saved)
    return (gx.reshape(x.shape), *(v if v is None else v.reshape(x.shape[-axes:])
                                   for v in (gw, gb)))
@_layer_norm.composite
def _layer_norm(x, weight, bias, *, axes, eps):
    return _affine(_standardise(x, tuple(range(-axes, 0)), eps), weight, bias, x.shape[-axes:])

def _weight(weight, bias):
    """The weight, or ones if there is a bias but no weight: the kernels compute the gradient of a
    bias only together with that of a weight."""
    return weight if bias is None or weight is not None else xp(bias.data).ones_like(bias.data)

def _check_shapes(op, shape, **given):
    for name, t in given.items():
        if t is not None and t.shape != shape:
            raise ValueError(f"{op}: {name} is {t.shape}, expected {shape}")

def _data(t): return None if t is None else t.data
def _rows(*arrays): return [None if a is None else a.reshape(-1, a.shape[-1]) for a in arrays]
def _raveled(*arrays): return [None if a is None else a.reshape(-1) for a in arrays]


@accepts_arrays("x", "running_mean", "running_var", "weight", "bias")
def batch_norm(x, running_mean=None, running_var=None, weight=None, bias=None, training=False,
               eps=1e-5):
    """Each channel standardised over batch and positions: x is (N, C, ...), the others (C,).

    Uses the batch's own mean and variance in training, else the running ones. Nothing is written
    here: the layer `minigen.nn.BatchNorm2d` updates its running statistics.
    """
    if x.ndim < 2:
        raise ValueError(f"batch_norm: expected x (N, C, ...), got {x.shape}")
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: expected both running_mean and running_var, or neither")
    _check_shapes("batch_norm", x.shape[1:2], running_mean=running_mean, running_var=running_var,
                  weight=weight, bias=bias)
    if training or running_mean is None:
        if x.shape[0] * math.prod(x.shape[2:]) < 2:
            raise ValueError(f"batch_norm: more than one value per channel is needed in training, "
                             f"x is {x.shape}")
        return _batch_norm(x, _weight(weight, bias), bias, eps=eps)
    shape = _channels(x)
    scale = 1 / sqrt(running_var + eps) if weight is None else weight / sqrt(running_var + eps)
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    return x * reshape(scale, shape) + reshape(shift, shape)  # two passes over x instead of four


@accepts_arrays("x", "weight", "bias")
def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    """Each sample's channels, in `num_groups` groups, standardised over group and positions: x is
    (N, C, ...), weight and bias (C,), or (N, C) where each sample has its own (Wu & He 2018)."""
    return _checked_group_norm(x, num_groups, weight, bias, eps, False)


@accepts_arrays("x", "weight", "bias")
def group_norm_silu(x, num_groups, weight=None, bias=None, eps=1e-5):
    """silu(group_norm(x, ...)), with one pass over memory forward and one backward."""
    return _checked_group_norm(x, num_groups, weight, bias, eps, True)


def _checked_group_norm(x, num_groups, weight, bias, eps, silu):
    if x.ndim < 2:
        raise ValueError(f"group_norm: expected x (N, C, ...), got {x.shape}")
    if num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(f"group_norm: {num_groups} groups do not divide {x.shape[1]} channels")
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and t.ndim not in (1, 2):
            raise ValueError(f"group_norm: {name} is {t.shape}, expected {x.shape[1:2]} or "
                             f"{x.shape[:2]}")
    return _group_norm(x, _weight(weight, bias), bias, num_groups=num_groups, eps=eps, silu=silu)


@accepts_arrays("x", "weight", "bias")
def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """x standardised over its last axes, which must be `normalized_shape`; weight and bias have
    that shape (Ba, Kiros & Hinton 2016)."""
    one = isinstance(normalized_shape, Integral)
    shape = (int(normalized_shape),) if one else tuple(normalized_shape)
    if not shape or tuple(x.shape[-len(shape):]) != shape:
        raise ValueError(f"layer_norm: normalized_shape must be the last axes of x, one or more, "
                         f"got {shape}, x is {x.shape}")
    _check_shapes("layer_norm", shape, weight=weight, bias=bias)
    return _layer_norm(x, _weight(weight, bias), bias, axes=len(shape), eps=eps)
