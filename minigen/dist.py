"""Distributions: `sample` draws, `log_prob` scores, `kl` compares.

Log-probabilities and divergences are given element by element: to get those of a whole sample, sum
over its axes (`per_image`).
"""

import math

import numpy as np

from minigen.ops import (
    abs,
    binary_cross_entropy_with_logits,
    broadcast_to,
    clip,
    exp,
    expand_dims,
    expm1,
    log,
    log_ndtr,
    log_softmax,
    logsigmoid,
    round,
    sigmoid,
    softmax,
    square,
    squeeze,
    sum,
    take_along_axis,
    where,
)
from minigen.ops.loss import check_indices
from minigen.tensor import FLOATS, Tensor, readable, tensor, to_device_of, xp

__all__ = ["Bernoulli", "Categorical", "DiscretisedNormal", "Normal", "kl", "noise",
           "per_image"]


def noise(rng, like, shape=None):
    """ε ~ N(0, I), with the dtype and device of `like`, a tensor or an array of floats, and with
    its shape unless `shape` is given."""
    like = tensor(like)
    if like.dtype not in FLOATS:
        raise TypeError(f"noise: expected float32 or float64, got {like.dtype}: convert it first "
                        "(images with data.signed)")
    shape = like.shape if shape is None else shape
    return Tensor(to_device_of(rng.standard_normal(shape, like.dtype), like.data))


def per_image(values):
    """The values of each of N images summed: (N, ...) to (N,)."""
    return sum(values, tuple(range(1, values.ndim)))


class Normal:
    """N(μ, σ²) with diagonal covariance, given by μ and log σ², which broadcasts to the shape of μ.
    """

    def __init__(self, mu, logvar):
        self.mu, self.logvar = tensor(mu), tensor(logvar)
        sizes = zip(self.logvar.shape[::-1], self.mu.shape[::-1], strict=False)
        if self.logvar.ndim > self.mu.ndim or any(n not in (1, m) for n, m in sizes):
            raise ValueError(f"Normal: logvar {self.logvar.shape} must broadcast to mu "
                             f"{self.mu.shape}")

    @property
    def mean(self):
        return self.mu

    @property
    def sigma(self):
        return exp(0.5 * self.logvar)

    def sample(self, rng):
        """μ + σ ⊙ ε, ε ~ N(0, I): differentiable in μ and σ."""
        eps = noise(rng, self.mu)
        return self.mu + self.sigma * eps  # eq: vae-reparam

    def log_prob(self, x):
        """−½ [(x − μ)² / σ² + log σ² + log 2π]."""
        u = (x - self.mu) * exp(-0.5 * self.logvar)  # halved in the exponent: σ² may overflow
        return -0.5 * (square(u) + self.logvar + math.log(2 * math.pi))


class DiscretisedNormal:
    """N(μ, σ²) on the 256 levels −1, −1 + 2/255 … 1 of a byte in [−1, 1]: each level has the
    probability of the interval 1/255 to either side of it, and the outermost ones also that of the
    tail beyond (Ho et al. 2020).
    """

    def __init__(self, mu, logvar):
        self.normal = Normal(mu, logvar)

    def sample(self, rng):
        """The level nearest to a sample of N(μ, σ²); not differentiable."""
        return clip(round((self.normal.sample(rng) + 1) * 127.5), 0, 255) / 127.5 - 1

    def log_prob(self, x):
        """log ∫ N(u; μ, σ²) du over x's interval, the log of a probability; x must be a level."""
        x, rsigma = tensor(x), exp(-0.5 * self.normal.logvar)
        distance, half = (x - self.normal.mu) * rsigma, rsigma * (1 / 255)
        # log(Φ(high) − Φ(low)), mirrored to the lower tail, where both are small, so that neither
        # rounds to 1
        high, low = half - abs(distance), -half - abs(distance)
        narrow = half * (1 + abs(distance)) < 0.01  # high ≈ low: use density times width
        h = where(narrow, half, 0.0)
        curvature = (square(h * distance) - square(h)) / 6  # for the density's curvature, to 1e-10
        gap = where(narrow, -1.0, log_ndtr(low) - log_ndtr(high))
        inside = where(narrow, self.normal.log_prob(x) + math.log(2 / 255) + curvature,
                       log_ndtr(high) + log(-expm1(gap)))
        below, above = log_ndtr(distance + half), log_ndtr(half - distance)
        edge = 1 - 1 / 255
        return where(x.data < -edge, below, where(x.data > edge, above, inside))


class Bernoulli:
    """1 with probability σ(logits), else 0."""

    def __init__(self, logits):
        self.logits = tensor(logits)

    @property
    def mean(self):
        return sigmoid(self.logits)

    def sample(self, rng):
        """Zeros and ones, of the logits' shape and dtype; not differentiable."""
        p = self.mean.data
        u = to_device_of(rng.random(p.shape, p.dtype), p)
        return Tensor(xp(p).asarray(u < p, p.dtype))

    def log_prob(self, x):
        """x log p + (1 − x) log(1 − p), also for x between 0 and 1."""
        logits, x = self.logits, tensor(x)
        if logits.shape != x.shape:
            shape = np.broadcast_shapes(logits.shape, x.shape)
            logits, x = broadcast_to(logits, shape=shape), broadcast_to(x, shape=shape)
        return -binary_cross_entropy_with_logits(logits, x, reduction="none")


class Categorical:
    """Class k with probability softmax(logits)ₖ, classes on the last axis."""

    def __init__(self, logits):
        self.logits = tensor(logits)

    @property
    def probs(self):
        return softmax(self.logits, -1)

    def sample(self, rng):
        """Integers, of the logits' shape without the last axis; not differentiable."""
        return Tensor(choice(self.probs.data, rng))

    def log_prob(self, k):
        """log softmax(logits)ₖ for integers k."""
        k, logits = check_indices("Categorical.log_prob", k, self.logits.shape[-1]), self.logits
        if logits.shape[:-1] != k.shape:
            shape = np.broadcast_shapes(logits.shape[:-1], k.shape)
            logits = broadcast_to(logits, shape=(*shape, logits.shape[-1]))
            k = broadcast_to(k, shape=shape)
        at = expand_dims(k, -1).data
        return squeeze(take_along_axis(log_softmax(logits, -1), indices=at, axis=-1), -1)


def choice(weights, rng):
    """An index along the last axis, sampled in proportion to the weights (..., K) ≥ 0: an array of
    integers (...). ValueError if weights are NaN, infinite, negative or all 0."""
    c = weights.astype(np.float64).cumsum(-1)
    total = c[..., -1:]
    if readable(c) and not ((total > 0) & (total < math.inf) & (weights >= 0)).all():
        raise ValueError("choice: weights are NaN, infinite, negative, or 0 for all values: "
                         "nothing can be drawn")
    u = to_device_of(rng.random(total.shape), c) * total
    return xp(c).asarray((c <= u).sum(-1))


def kl(q, p):
    """D_KL(q ‖ p) = E_q[log q − log p] in closed form, element by element (summed over the classes
    of a categorical), for two distributions of the same type."""
    if type(q) is not type(p) or not isinstance(q, (Normal, Bernoulli, Categorical)):
        raise TypeError("kl: expected two Normal, two Bernoulli or two Categorical, got "
                        f"{type(q).__name__} and {type(p).__name__}")
    if isinstance(q, Normal):
        u = (q.mu - p.mu) * exp(-0.5 * p.logvar)
        return 0.5 * (p.logvar - q.logvar + exp(q.logvar - p.logvar) + square(u) - 1)
    if isinstance(q, Bernoulli):
        return _bernoulli_term(q.logits, p.logits) + _bernoulli_term(-q.logits, -p.logits)
    if q.logits.shape[-1:] != p.logits.shape[-1:]:
        raise ValueError(f"kl: expected the same classes, got {q.logits.shape[-1]} and "
                         f"{p.logits.shape[-1]}")
    log_q, log_p = log_softmax(q.logits, -1), log_softmax(p.logits, -1)
    impossible = log_q == -math.inf  # 0 log 0 = 0
    log_q, log_p = where(impossible, 0.0, log_q), where(impossible, 0.0, log_p)
    return sum(exp(log_q) * (log_q - log_p), -1)


def _bernoulli_term(a, b):
    """σ(a) log (σ(a) / σ(b)), and 0 where σ(a) is 0."""
    impossible = a == -math.inf
    a, b = where(impossible, 0.0, a), where(impossible, 0.0, b)
    return where(impossible, 0.0, sigmoid(a) * (logsigmoid(a) - logsigmoid(b)))
