"""What batch, group and layer normalisation share

    y = x̂ · weight + bias,   x̂ = (x − mean) · rstd,   rstd = 1 / √(var + eps)

with var the mean of (x − mean)². The adjoint, with h = g·weight and ⟨·⟩ the mean over what mean and
var are taken over:

    gx = rstd · (h − ⟨h⟩ − x̂·⟨h·x̂⟩),   gw = Σ g·x̂,   gb = Σ g     over all that share a weight
"""

import numpy as np

from .common import compiled


def scale_and_shift(weight, bias, size, dtype):
    """Weight and bias, ones and zeros if there are none."""
    return (np.ones(size, dtype) if weight is None else weight,
            np.zeros(size, dtype) if bias is None else bias)


def normalise(x, axes, eps):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    rstd = 1 / np.sqrt(var + eps)
    return (x - mean) * rstd, mean, var, rstd


def normalise_backward(h, xhat, axes, rstd):
    mean = lambda a: a.mean(axes, keepdims=True)
    return rstd * (h - mean(h) - xhat * mean(h * xhat))


@compiled
def moments(x):
    """The mean of a few numbers in a row, and the sum of their squared deviations from it."""
    sum, squares = 0.0, 0.0
    for i in range(len(x)):
        sum += x[i]
    mean = sum / len(x)
    for i in range(len(x)):
        squares += (x[i] - mean) ** 2
    return mean, squares


@compiled
def sums_of(g, x, mean, rstd):
    """Σ g·x̂ and Σ g over numbers in a row."""
    gw, gb = 0.0, 0.0
    for i in range(len(g)):
        gw += g[i] * (x[i] - mean)
        gb += g[i]
    return gw * rstd, gb
