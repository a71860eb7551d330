"""Diffusion of a mixture of normal distributions, where nothing has to be learnt.

    p(x_0) = Σ_c π_c N(x_0; μ_c, s_c² I)

Noise turns each component into another normal, so the density at every t is known,

    p(x_t | c) = N(√ᾱ_t μ_c, v_c I),  v_c = ᾱ_t s_c² + 1 − ᾱ_t        p(x_t) = Σ_c π_c p(x_t | c)

and with it the prediction of a perfect network:

    ε*(x_t, t) = E[ε | x_t] = −√(1 − ᾱ_t) ∇ log p(x_t)
               = √(1 − ᾱ_t) Σ_c p(c | x_t) (x_t − √ᾱ_t μ_c) / v_c
"""

import math

import numpy as np

from minigen import expand_dims, log, logsumexp, softmax, square, sum, where
from minigen.models.diffusion.guidance import labels


class Mixture:
    """Components with weights `pi` (K,), means `mu` (K, d) and variances `var` (K,), under a noise
    `schedule`. Called like a network, it gives ε*: ``DDPM(mixture, schedule)`` is a perfect model.

    Its labels are the components; the label K stands for all of them. Methods raise ValueError for
    a t that is not one of 1 … T, and for any other label.
    """

    def __init__(self, pi, mu, var, schedule):
        self.pi, self.mu, self.var = (np.asarray(a, np.float64) for a in (pi, mu, var))
        self.schedule, self.classes = schedule, len(self.pi)

    def log_joint(self, x_t, t, y=None):
        """log p(x_t, c): (N, K); with labels y (N,), −∞ for the other components. These are logits
        of p(c | x_t), those of a perfect classifier."""
        diff, v, _ = self._parts(x_t, t)
        log_p = -0.5 * (sum(square(diff), 2) / v + diff.shape[2] * log(2 * math.pi * v))
        return where(self._allowed(y), log_p + np.log(self.pi).astype(v.dtype), -np.inf)

    def log_prob(self, x_t, t, y=None):
        """log p(x_t): (N,); with labels, log p(x_t, y)."""
        return logsumexp(self.log_joint(x_t, t, y), axis=1)

    def __call__(self, x_t, t, y=None):
        """ε*(x_t, t), or with labels ε*(x_t, t, y): (N, d)."""
        diff, v, b = self._parts(x_t, t)
        r = softmax(self.log_joint(x_t, t, y), 1)  # p(c | x_t)
        return b * sum(expand_dims(r / v, 2) * diff, 1)

    def _parts(self, x_t, t):
        """x_t − √ᾱ_t μ (N, K, d), v (N, K) and √(1 − ᾱ_t) (N, 1), of x_t's dtype."""
        a = self.schedule.alpha_bar[np.broadcast_to(self.schedule.check(t), len(x_t))][:, None]
        mu, v, b = (value.astype(x_t.dtype) for value in (
            np.sqrt(a)[:, :, None] * self.mu, a * self.var + 1 - a, np.sqrt(1 - a)))
        return expand_dims(x_t, 1) - mu, v, b

    def _allowed(self, y):
        if y is None:
            return np.ones((1, self.classes), bool)
        y = labels(y, self.classes + 1)[:, None]
        return (y == self.classes) | (y == np.arange(self.classes))

    def sample(self, n, rng):
        """n points x_0 (n, d) and their components (n,)."""
        c = rng.choice(self.classes, n, p=self.pi)
        eps = rng.standard_normal((n, self.mu.shape[1]))
        return self.mu[c] + np.sqrt(self.var[c])[:, None] * eps, c
