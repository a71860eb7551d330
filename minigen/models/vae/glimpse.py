"""Reading and writing patches of an image by Gaussian filters (Gregor et al. 2015, DRAW).

A patch is N×N values, each a mean of the image weighted by a normal distribution around a point of
a grid. The decoder's state h sets the grid's centre g, its spacing δ, the width σ and a factor γ:

    (g̃_X, g̃_Y, log σ², log δ̃, log γ) = W h
    g_X = ½ (A + 1) (g̃_X + 1),  g_Y = ½ (B + 1) (g̃_Y + 1),  δ = (max(A, B) − 1) δ̃ / (N − 1)
    μ_X^i = g_X + (i − N/2 − ½) δ
    F_X[i, a] = exp(−(a − μ_X^i)² / 2σ²) / Z_X           each row sums to 1; F_Y: the same

    read(x, x̂, h) = γ [F_Y x F_Xᵀ, F_Y x̂ F_Xᵀ]
    write(h) = 1/γ F_Yᵀ w F_X,  w = W h                  with filters of its own

for images of A columns and B rows. All of it is differentiable, also in the place and the size of
a patch.

Differs from the paper: the initial W gives filters that overlap, and a γ for which a written patch
is as strong as w: with W h ≈ 0, filters would be thin and far apart, and would write a tenth or a
hundredth of it.
"""

import math

import numpy as np

from minigen import concatenate, exp, nn, softmax, split, square, swapaxes
from minigen.nn import initializers
from minigen.tensor import to_device_of


class Grid:
    """N×N filters for images of `shape` (C, B, A), from states h (n, d_h). γ is about `gamma` at
    first."""

    def __init__(self, shape, N, d_h, gamma=1.0, rng=None):
        if N < 2:
            raise ValueError(f"draw: a grid has {N}×{N} filters, expected 2×2 or more")
        (_, self.B, self.A), self.N, self.gamma = shape, N, gamma
        self.W = nn.Linear(d_h, 5, rng=rng)
        self.spread()

    def init(self, rng):
        self.W.init(rng)
        self.spread()

    def spread(self):
        """At first the grid spans the image, and filters overlap: σ is half of its spacing."""
        sigma = (max(self.A, self.B) - 1) / (self.N - 1) / 2
        initializers.values(self.W.bias, np.array(
            [0, 0, 2 * math.log(sigma), 0, math.log(self.gamma)]))

    def filters(self, h):
        """F_Y (n, 1, N, B), F_X (n, 1, N, A) and γ (n, 1, 1, 1)."""
        A, B, N = self.A, self.B, self.N
        g_X, g_Y, log_sigma2, log_delta, log_gamma = split(self.W(h)[..., None, None], 5, axis=1)
        g_X, g_Y = (A + 1) / 2 * (g_X + 1), (B + 1) / 2 * (g_Y + 1)  # eq: draw-grid
        delta = (max(A, B) - 1) / (N - 1) * exp(log_delta)  # eq: draw-grid
        F, precision = [], exp(-log_sigma2)
        for g, size in ((g_Y, B), (g_X, A)):
            i, a = (to_device_of(np.arange(1, n + 1, dtype=g.dtype), g.data) for n in (N, size))
            mu = g + (i[:, None] - N / 2 - 0.5) * delta  # eq: draw-grid
            F.append(softmax(-0.5 * precision * square(a - mu), axis=-1))  # eq: draw-filters
        return *F, exp(log_gamma)


class Read:
    """read(x, x̂, h): the patches of images x and x̂ (n, C, B, A), side by side, (n, 2 C N²)."""

    def __init__(self, shape, N, d_h, rng=None):
        self.grid = Grid(shape, N, d_h, rng=rng)

    def __call__(self, x, x_hat, h):
        F_Y, F_X, gamma = self.grid.filters(h)
        both = concatenate([x, x_hat], axis=1)
        return (gamma * (F_Y @ both @ swapaxes(F_X, -1, -2))).flatten(1)  # eq: draw-read


class Write:
    """write(h): what is added to the canvas, (n, C, B, A)."""

    def __init__(self, shape, N, d_h, rng=None):
        C, B, A = shape
        self.grid = Grid(shape, N, d_h, (N * N) / (A * B), rng)  # a patch is spread over the image
        self.patch = nn.Linear(d_h, C * N * N, rng=rng)

    def __call__(self, h):
        F_Y, F_X, gamma = self.grid.filters(h)
        w = self.patch(h).reshape(len(h), -1, self.grid.N, self.grid.N)
        return swapaxes(F_Y, -1, -2) @ (w / gamma) @ F_X  # eq: draw-write
