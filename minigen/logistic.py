"""The discretised logistic mixture (Salimans et al. 2017): a distribution over colour levels.

    σ(t) = 1 / (1 + e^(−t))        the logistic's CDF, for mean 0 and scale 1
    P(x | μ, s) = σ((x + ½ − μ) / s) − σ((x − ½ − μ) / s)        for the levels x = 0 … L − 1
    the lowest level also takes the tail below it, the highest the tail above it

Levels are rescaled to v = 2x / (L − 1) − 1 in [−1, 1], so ½ becomes h = 1 / (L − 1). The channels
of a pixel share one mixture component k; each channel's mean is linear in the channels before it:

    p(x) = Σ_k π_k Π_c P(x_c | μ_kc + Σ_{c'<c} coef_kcc' v_c', s_kc)
"""

import numpy as np

from minigen.dist import choice
from minigen.ops import (
    clip,
    concatenate,
    exp,
    expm1,
    log,
    log_softmax,
    logsumexp,
    softmax,
    softplus,
    split,
    sum,
)
from minigen.tensor import Tensor, as_array, readable, tensor

__all__ = ["LogisticMixture", "check_levels", "log_bin", "rescale"]

LOG_S_MIN = -7.0  # on the scale of [−1, 1]: at L = 256 a level is then 8.6 s wide
LOG_S_MAX = 30.0  # far above it, e^(−log s) underflows in float32


class LogisticMixture:
    """A mixture of K discretised logistics for each pixel of images (N, C, H, W).

    logits (N, K, H, W) of π; mu and log_s (N, K, C, H, W), in the scale of [−1, 1];
    coef (N, K, C (C − 1) / 2, H, W), in the order 10, 20, 21; tensors or arrays.
    centre: a number or (N, C, H, W); the formula then holds for v − centre in place of v.
    """

    def __init__(self, logits, mu, log_s, coef, centre=0, levels=256):
        self.logits, self.mu, self.coef = tensor(logits), tensor(mu), tensor(coef)
        self.log_s = clip(log_s, LOG_S_MIN, LOG_S_MAX)
        self.centre, self.levels = centre, levels

    @staticmethod
    def parameters(K, C):
        """How many numbers describe the mixture of a pixel with C channels."""
        return K * (1 + 2 * C + C * (C - 1) // 2)

    @classmethod
    def from_channels(cls, raw, centre=0, scale=(1,)):
        """The mixture whose parameters are the channels of raw (N, parameters(K, C), H, W), in the
        order logits, mu, log_s, coef. They describe (v − centre) / scale; scale is (C,)."""
        scale = np.asarray(scale, raw.dtype)[:, None, None]
        (N, M, H, W), C = raw.shape, len(scale)
        K = M // cls.parameters(1, C)
        logits, *rest = split(raw, np.cumsum([K, K * C, K * C]).tolist(), axis=1)
        mu, log_s, coef = (t.reshape(N, K, t.shape[1] // K, H, W) for t in rest)
        c, before = np.tril_indices(C, -1)
        return cls(logits, mu * scale, log_s + np.log(scale), coef * (scale[c] / scale[before]),
                   centre)

    def mean(self, v):
        """The means (N, K, C, H, W), given all channels v (N, C, H, W) in [−1, 1]."""
        C, first = v.shape[1], 0
        v, means = (v - self.centre)[:, None], [self.mu[:, :, :1]]
        for c in range(1, C):
            shift = sum(self.coef[:, :, first:first + c] * v[:, :, :c], 2, keepdims=True)
            means.append(self.mu[:, :, c:c + 1] + shift)
            first += c
        means = concatenate(means, 2) if C > 1 else means[0]
        return means + (np.expand_dims(self.centre, 1) if np.ndim(self.centre) else self.centre)

    def log_prob(self, x):
        """log p(x) of each pixel in nats: (N, H, W). x is (N, C, H, W), integers 0 … levels − 1."""
        x = check_levels("LogisticMixture", x, self.levels)
        mean = self.mean(rescale(x, self.levels, self.mu.dtype))
        log_p = sum(log_bin(x[:, None], mean, self.log_s, self.levels), 2)  # (N, K, H, W)
        return logsumexp(log_softmax(self.logits, 1) + log_p, 1)  # eq: discretized-logistic

    def sample(self, rng):
        """Levels (N, C, H, W), integers: a component drawn from π, then the channels in order."""
        pi, mu, log_s, coef = (t.detach().numpy() for t in (
            softmax(self.logits, 1), self.mu, self.log_s, self.coef))
        N, _, C, H, W = mu.shape
        k = choice(np.moveaxis(pi, 1, -1), rng)[:, None, None]  # (N, 1, 1, H, W)
        mu, log_s, coef = (np.take_along_axis(a, k, 1)[:, 0] for a in (mu, log_s, coef))
        u = np.clip(rng.random((N, C, H, W)), 1e-12, 1 - 1e-12)
        mu = mu + np.exp(log_s) * (np.log(u) - np.log1p(-u)) + self.centre
        x, v, first = np.empty((N, C, H, W), np.int64), np.zeros((N, C, H, W)), 0
        for c in range(C):
            value = mu[:, c] + (coef[:, first:first + c] * (v - self.centre)[:, :c]).sum(1)
            level = np.rint((value + 1) * (self.levels - 1) / 2)  # the tails go to the edge levels
            x[:, c] = np.clip(level, 0, self.levels - 1)
            v[:, c] = rescale(x[:, c], self.levels)
            first += c
        return x


def log_bin(x, mu, log_s, levels=256):
    """log P(x | μ, s), element by element, for an array of integers x = 0 … levels − 1 and tensors
    mu and log_s, which broadcast.

    With a = (x + ½ − μ) / s and b = (x − ½ − μ) / s, σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b−a)): its
    logarithm is accurate in float32 however far x is from μ and however large s is. At an edge
    level only one of the three factors remains.
    """
    low, high = (x > 0).astype(mu.dtype), (x < levels - 1).astype(mu.dtype)
    h, inv_s = 1 / (levels - 1), exp(-log_s)
    width = 2 * h * inv_s  # a − b
    b = (rescale(x, levels, mu.dtype) - h - mu) * inv_s
    tails = high * softplus(-b - width) + low * softplus(b)  # −log σ(a) − log σ(−b)
    return low * high * log(-expm1(-width)) - tails  # eq: discretized-logistic


def rescale(x, levels=256, dtype=np.float64):
    """Levels 0 … levels − 1 rescaled to [−1, 1]."""
    return x.astype(dtype) * np.dtype(dtype).type(2 / (levels - 1)) - np.dtype(dtype).type(1)


def check_levels(name, x, levels=256):
    """x as an array of integers that are all valid levels; else TypeError or ValueError."""
    x = x.data if isinstance(x, Tensor) else as_array(x)
    if x.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers 0 … {levels - 1}, got {x.dtype}: pass levels, "
                        "not images rescaled")
    if x.size and readable(x) and (x.min() < 0 or x.max() >= levels):
        raise ValueError(f"{name}: expected integers 0 … {levels - 1}, got values from {x.min()} "
                         f"to {x.max()}")
    return x
