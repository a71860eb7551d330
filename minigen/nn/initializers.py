"""Initial weights: the distributions that PyTorch uses by default."""

import math

import numpy as np

from minigen.tensor import tensor, to_device_of, write


def generator(rng):
    """rng or, if it is None, a new generator. TypeError if it is something else."""
    if rng is not None and not hasattr(rng, "standard_normal"):
        raise TypeError(f"rng must be a generator, np.random.default_rng(seed), got {rng!r}")
    return np.random.default_rng() if rng is None else rng


def parameter(*shape):
    """A float32 parameter whose values a layer's `init` will draw. ValueError if a size is below 1.
    """
    if any(n < 1 for n in shape):
        raise ValueError(f"a layer has a parameter of shape {shape}: every size must be at least 1")
    return tensor(np.zeros(shape, np.float32), requires_grad=True)


def values(t, numbers):
    """Fill t with the numbers of an array, on whatever device t is."""
    write(t, lambda a: a.__setitem__(..., to_device_of(numbers, a)))


def uniform(t, bound, rng):
    """Fill t from U(−bound, bound)."""
    values(t, rng.uniform(-bound, bound, t.shape))


def normal(t, std, rng):
    """Fill t from N(0, std²)."""
    values(t, std * rng.standard_normal(t.shape))


def constant(t, value):
    """Fill t with a number."""
    write(t, lambda a: a.fill(value))


def fan_in(weight):
    """The number of inputs that one output of a weight (out, in, ...) sums over."""
    return math.prod(weight.shape[1:])


def kaiming_uniform(weight, rng, a=5 ** 0.5):
    """U(−b, b), b = √(6 / ((1 + a²) fan_in)) (He et al. 2015). With PyTorch's default a = √5 this
    is b = 1/√fan_in."""
    uniform(weight, math.sqrt(6 / ((1 + a * a) * fan_in(weight))), rng)


def xavier_uniform(weight, rng):
    """U(−b, b), b = √(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    fan_out = math.prod((weight.shape[0], *weight.shape[2:]))
    uniform(weight, math.sqrt(6 / (fan_in(weight) + fan_out)), rng)


def linear(weight, bias, rng):
    """The initial values of PyTorch's linear and convolution layers."""
    kaiming_uniform(weight, rng)
    if bias is not None:
        uniform(bias, 1 / math.sqrt(fan_in(weight)), rng)


def affine(weight, bias):
    """The initial scale and shift of a norm, if it has them: 1 and 0."""
    if weight is not None:
        constant(weight, 1)
        constant(bias, 0)
