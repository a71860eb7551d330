"""Spectral normalisation (Miyato et al. 2018): a weight that, as a matrix, makes no vector longer.

    W̄ = W / σ(W)                           σ(W) = max_{‖v‖=1} ‖W v‖, the largest singular value
    v ← Wᵀ u / ‖Wᵀ u‖,  u ← W v / ‖W v‖     σ(W) ≈ uᵀ W v

W is the layer's weight as a matrix, a row for each of its first axis. It changes little from step
to step, so one power iteration for each pass in training keeps up with it, starting from the last
u, a buffer. u and v are constants in the gradient, which is exact where they have converged.

A linear layer then makes no difference between two inputs longer. A convolution, which multiplies
overlapping patches by W̄, can: with R×S filters, up to √(R S) times as long.
"""

import copy

import numpy as np

from minigen.nn import initializers
from minigen.tensor import tensor, write


class SpectralNorm:
    """`layer`, any with a `weight`, with W̄ in place of it."""

    def __init__(self, layer, rng=None):
        self.layer, self.training = layer, True
        u = initializers.generator(rng).standard_normal(len(layer.weight), np.float32)
        self.u = tensor(unit(u))

    def init(self, rng):
        self.layer.init(rng)
        initializers.values(self.u, unit(rng.standard_normal(self.u.shape)))

    def sigma(self):
        """σ(W), a tensor (1,). In training, u is improved by one iteration."""
        W, u = self.layer.weight.reshape(len(self.u), -1), self.u.data
        v = unit(u @ W.data)  # eq: power-iteration
        if self.training:
            u = unit(W.data @ v)  # eq: power-iteration
            write(self.u, lambda a: a.__setitem__(..., u))
        return u[None] @ W @ v  # eq: power-iteration

    def normalised(self):
        """W̄, of the shape of the layer's weight, from `sigma`."""
        return self.layer.weight / self.sigma()  # eq: spectral-norm

    def __call__(self, x):
        layer = copy.copy(self.layer)
        layer.weight = self.normalised()
        return layer(x)


def unit(a):
    """The vector a with norm 1, or 0 if it is 0."""
    return a / ((a @ a) ** 0.5 + 1e-12)
