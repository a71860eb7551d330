"""Embeddings of a time t, so that one network serves all times."""

import math

import numpy as np

from minigen.nn import initializers
from minigen.nn.layers import Linear
from minigen.ops import concatenate, cos, silu, sin
from minigen.tensor import as_array, tensor, to_device_of


class Sinusoidal:
    """sin(ω_i t) and cos(ω_i t), ω_i = 10000^(−i/(D/2)) (Vaswani et al. 2017): (N,) → (N, D)
    in float64, for even D. The wavelengths run from 2π to almost 10000 · 2π steps."""

    def __init__(self, D):
        if D < 2 or D % 2:
            raise ValueError(f"Sinusoidal: D must be even and at least 2, got {D}")
        self.D = D

    def __call__(self, t):
        omega = 10000.0 ** (-np.arange(self.D // 2) / (self.D // 2))
        t = as_array(t)
        angle = tensor(t.astype(np.float64)[:, None] * to_device_of(omega, t))
        return concatenate([sin(angle), cos(angle)], axis=1)  # eq: ddpm-time-embedding


class RandomFourier:
    """sin(2π ω_i t/T) and cos(2π ω_i t/T) with frequencies ω_i ~ N(0, scale²), sampled once
    (Tancik et al. 2020): (N,) → (N, D) in float64, for even D."""

    def __init__(self, D, T=1000, scale=16.0, rng=None):
        if D < 2 or D % 2:
            raise ValueError(f"RandomFourier: D must be even and at least 2, got {D}")
        self.D, self.T, self.scale = D, T, scale
        self.omega = tensor(np.empty(D // 2, np.float32))
        self.init(initializers.generator(rng))

    def init(self, rng):
        initializers.normal(self.omega, self.scale, rng)

    def __call__(self, t):
        omega = self.omega.data.astype(np.float64)
        angle = tensor(to_device_of(as_array(t), omega)[:, None] * (2 * math.pi / self.T * omega))
        return concatenate([sin(angle), cos(angle)], axis=1)  # eq: ddpm-time-embedding


class TimeEmbedding:
    """Features of t, by default `Sinusoidal` with D/2 numbers, then two linear layers with SiLU
    between them: integers t (N,) → (N, D)."""

    def __init__(self, D, features=None, rng=None):
        if features is None and D % 4:
            raise ValueError(f"TimeEmbedding: D must be a multiple of 4, got {D}")
        self.features = Sinusoidal(D // 2) if features is None else features
        self.first, self.second = Linear(self.features.D, D, rng=rng), Linear(D, D, rng=rng)

    def __call__(self, t):
        features = self.features(t).astype(self.first.weight.dtype)
        return self.second(silu(self.first(features)))
