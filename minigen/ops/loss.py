"""Losses, embedding and dropout, with PyTorch's names and options."""

import math

import numpy as np

from minigen import kernels
from minigen.operands import accepts_arrays
from minigen.operation import op
from minigen.ops.activation import logsigmoid, sigmoid
from minigen.ops.compare import logical_and
from minigen.ops.indexing import getitem, take_along_axis
from minigen.ops.math import abs, check_floats, elementary, multiply, square, subtract, where
from minigen.ops.reduce import log_softmax, mean, sum
from minigen.ops.shape import astype, squeeze
from minigen.tensor import Tensor, as_array, readable, to_device_of, xp

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "dropout", "embedding", "l1_loss",
           "mse_loss", "one_hot"]


def _reduce(x, reduction):
    if reduction == "mean":
        return mean(x)
    if reduction == "sum":
        return sum(x)
    if reduction == "none":
        return x
    raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')


def _check(name, x, targets):
    check_floats(name, x, targets)
    if x.shape != targets.shape:
        raise ValueError(f"{name}: input has shape {x.shape}, target {targets.shape}: they must be "
                         "equal (nothing is broadcast in a loss)")


@accepts_arrays("x", "targets")
def mse_loss(x, targets, reduction="mean"):
    """(x − target)², its mean over all elements by default."""
    _check("mse_loss", x, targets)
    d = x - targets
    if reduction not in ("mean", "sum"):
        return _reduce(square(d), reduction)
    total = _square_sum(d)
    return total / d.size if reduction == "mean" else total

@op
def _square_sum(x):
    """Σ x², in one pass."""
    return xp(x).asarray(kernels.square_sum(x), x.dtype)
@_square_sum.vjp
def _square_sum(g, x): return (2 * g) * x


@accepts_arrays("x", "targets")
def l1_loss(x, targets, reduction="mean"):
    """|x − target|, its mean over all elements by default."""
    _check("l1_loss", x, targets)
    return _reduce(abs(x - targets), reduction)


@accepts_arrays("x", "targets", "weight", "pos_weight")
def binary_cross_entropy_with_logits(x, targets, weight=None, pos_weight=None, reduction="mean"):
    """−[w₊ t log σ(x) + (1 − t) log(1 − σ(x))] for logits x and targets t in [0, 1], without
    computing σ. `weight` multiplies each element, `pos_weight` (w₊) the positive term."""
    _check("binary_cross_entropy_with_logits", x, targets)
    if pos_weight is None:
        loss = _bce(x, targets)
    else:
        targets = targets if targets.dtype.kind == "f" else astype(targets, x.dtype)
        loss = -(pos_weight * targets * logsigmoid(x) + (1 - targets) * logsigmoid(-1.0 * x))
    return _reduce(loss if weight is None else loss * weight, reduction)


@op
def _bce(x, t):
    """softplus(x) − t x."""
    return subtract.forward(elementary(kernels.softplus, x), multiply.forward(t, x))
@_bce.vjp
def _bce(g, x, t):
    return lambda: g * (sigmoid(x) - t), lambda: -g * x


def one_hot(indices, num_classes, dtype=np.float32):
    """Integer classes (...) as vectors (..., num_classes) with a single 1: an untracked tensor."""
    indices = check_indices("one_hot", indices, num_classes)
    y = xp(indices).zeros((*indices.shape, num_classes), dtype)
    xp(y).put_along_axis(y, indices[..., None], 1, -1)
    return Tensor(y)


def _raw(a):
    return a.data if isinstance(a, Tensor) else np.asarray(
        a, None if np.size(a) else int) if isinstance(a, (list, tuple, int)) else as_array(a)


def check_indices(name, indices, n):
    """`indices` as an array of integers in 0…n−1, or an error that names `name`."""
    a = _raw(indices)
    if a.dtype.kind not in "iu":
        raise TypeError(f"{name}: indices must be integers, got {a.dtype}")
    if a.size and readable(a) and (a.min() < 0 or a.max() >= n):
        raise IndexError(f"{name}: indices must lie in 0…{n - 1}, got {a.min()}…{a.max()}")
    return a


@op
def _cross_entropy(x, *, t):
    """−log softmax(x)[t] along axis 1, x (N, C, ...), integers t (N, ...)."""
    y, *saved = kernels.cross_entropy(*_flat(x, t))
    return y.reshape(t.shape), saved  # the largest logit at each position, and Σ e^(x − it)
@_cross_entropy.vjp
def _cross_entropy(g, _y, x, *, t):
    x3, t2 = _flat(x.data, t)
    gx = kernels.cross_entropy_backward(g.data.reshape(t2.shape), x3, t2, *_y.saved)
    return gx.reshape(x.shape)
@_cross_entropy.composite
def _cross_entropy(x, *, t):
    return -squeeze(take_along_axis(log_softmax(x, 1), xp(t).expand_dims(t, 1), 1), 1)


def _flat(x, t):
    """Logits (N, C, ...) and targets (N, ...) with their last axes merged into one."""
    positions = math.prod(x.shape[2:])
    return x.reshape(*x.shape[:2], positions), t.reshape(len(t), positions)


@accepts_arrays("logits", "weight")
def cross_entropy(logits, targets, weight=None, ignore_index=-100, reduction="mean",
                  label_smoothing=0.0):
    """−log softmax(logits)[target], classes on axis 1: logits are (N, C, ...), targets integers
    (N, ...) or probabilities (N, C, ...).

    `weight` (C,) scales each class (the mean is then weighted too), targets equal to `ignore_index`
    do not count, `label_smoothing` ε mixes the target with the uniform distribution.
    """
    if not logits.ndim:
        raise ValueError("cross_entropy: expected logits (N, C, ...) or (C,), got ()")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must lie in [0, 1], got "
                         f"{label_smoothing}")
    axis = 1 if logits.ndim > 1 else 0
    C = logits.shape[axis]
    t = _raw(targets)
    if weight is not None and weight.requires_grad:
        raise TypeError("cross_entropy has no derivative with respect to weight: pass "
                        "weight.detach()")
    w = None if weight is None else to_device_of(weight.data.astype(logits.dtype), logits.data)
    if w is not None and w.shape != (C,):
        raise ValueError(f"cross_entropy: weight has shape {w.shape}, expected ({C},)")

    def weigh(logp):
        return logp if w is None else logp * w.reshape([-1] + [1] * (logits.ndim - axis - 1))

    expected = logits.shape[:axis] + logits.shape[axis + 1:]
    if t.dtype.kind == "f":
        if t.shape != logits.shape:
            raise ValueError(f"cross_entropy: logits {logits.shape} need integer targets of shape "
                             f"{expected} or probabilities of their own shape, got {t.dtype} "
                             f"{t.shape}")
        p = t.astype(logits.dtype) if isinstance(targets, (list, tuple)) else targets
        p = p * (1 - label_smoothing) + label_smoothing / C
        log_q = log_softmax(logits, axis)
        log_q = where(logical_and(p == 0, log_q == -math.inf), 0.0, log_q)  # 0 log 0 = 0
        nll = -sum(weigh(log_q) * p, axis)
        return sum(nll) / nll.size if reduction == "mean" else _reduce(nll, reduction)
    if t.shape != expected:
        raise ValueError(f"cross_entropy: logits {logits.shape} need integer targets of shape "
                         f"{expected}, got {t.shape}")
    valid = t != ignore_index
    all_valid = isinstance(t, np.ndarray) and bool(valid.all())  # on a device the host would wait
    t = check_indices("cross_entropy", t if all_valid else t * valid, C)
    t, valid = to_device_of(t, logits.data), to_device_of(valid, logits.data)
    if w is None and not label_smoothing:
        nll = _cross_entropy(logits, t=t) if axis else _cross_entropy(
            logits.reshape(1, C), t=t.reshape(1)).reshape(())
    else:
        weighted = weigh(log_softmax(logits, axis))
        nll = -squeeze(take_along_axis(weighted, xp(t).expand_dims(t, axis), axis), axis)
        if label_smoothing:
            nll = (1 - label_smoothing) * nll - (label_smoothing / C) * sum(weighted, axis)
    if not all_valid:
        nll = where(valid, nll, 0.0)
    if reduction != "mean" or w is None and all_valid:
        return _reduce(nll, reduction)
    return sum(nll) / (valid if w is None else w[t] * valid).sum()


@accepts_arrays("weight")
def embedding(indices, weight):
    """The rows of weight (V, D) at integer `indices` (...): (..., D)."""
    return getitem(weight, (check_indices("embedding", indices, weight.shape[0]),))


@accepts_arrays("x")
def dropout(x, p=0.5, training=True, rng=None):
    """Each element becomes 0 with probability p, else it is divided by 1 − p, so that the mean does
    not change. `rng` is a numpy.random.Generator."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p must lie in [0, 1), got {p}")
    if not training or p == 0:
        return x
    if not hasattr(rng, "random"):
        raise ValueError("dropout: pass rng=numpy.random.default_rng(seed): noise is an argument, "
                         f"got {rng!r}")
    check_floats("dropout", x)
    keep = rng.random(x.shape, dtype=np.float32) >= p
    return multiply(x, to_device_of(keep.astype(x.dtype) / x.dtype.type(1 - p), x.data))
