"""Diffusion of a known, finite set of images, which can be reversed exactly, without learning.

    q(x_0): one of K points, all equally probable

    q(x_t) = ∫ q(x_0) q(x_t | x_0) dx_0 = 1/K Σ_k q(x_t | x_0 = x^k)
    q(x_{t−1} | x_t) = q(x_{t−1}) q(x_t | x_{t−1}) / q(x_t)
                     = Σ_k p(k | x_t) q(x_{t−1} | x_t, x_0 = x^k)

The sum needs all the data at every step. p_θ takes its place, and a model that matched it exactly
would generate nothing but its training set.
"""

import math

import numpy as np

from minigen.models.diffusion.forward import Forward


class Empirical:
    """`points` (K, d) and a Schedule. Arguments and results are NumPy arrays, float64."""

    def __init__(self, points, schedule):
        self.points = np.asarray(points, np.float64)
        self.forward = Forward(schedule)

    def _log_each(self, x_t, t):
        """log q(x_t | x_0 = x^k) for every k: (N, K)."""
        q = self.forward.q(self.points, np.full(len(self.points), t))
        return q.log_prob(x_t[:, None]).numpy().sum(2)

    def log_q(self, x_t, t):
        """log q(x_t) for x_t (N, d): (N,)."""
        each = self._log_each(x_t, t)
        return np.logaddexp.reduce(each, 1) - math.log(len(self.points))  # eq: ddpm-q-marginal

    def sample_q(self, n, t, rng):
        """n samples from q(x_t), by sampling x_0 first: (n, d)."""
        x_0 = self.points[rng.integers(len(self.points), size=n)]
        return self.forward.q(x_0, t).sample(rng).numpy()  # eq: ddpm-ancestral-forward

    def log_reverse(self, x_prev, x_t, t):
        """log q(x_{t−1} | x_t), t > 1, by Bayes' rule: (N,)."""
        step = self.forward.q_step(x_prev, t).log_prob(x_t).numpy().sum(1)
        return self.log_q(x_prev, t - 1) + step - self.log_q(x_t, t)  # eq: ddpm-reverse-bayes

    def reverse(self, x_t, t, rng):
        """A sample x_{t−1} ~ q(x_{t−1} | x_t) for each x_t (N, d), by sampling k first."""
        log_p = self._log_each(x_t, t)
        k = np.argmax(log_p + rng.gumbel(size=log_p.shape), 1)  # k ~ p(k | x_t)
        return self.forward.q_posterior(x_t, self.points[k], t).sample(rng).numpy()

    def sample(self, n, rng):
        """n samples from q(x_0), starting from noise: (n, d)."""
        x = rng.standard_normal((n, self.points.shape[1]))
        for t in range(self.forward.schedule.T, 0, -1):
            x = self.reverse(x, t, rng)  # eq: ddpm-reverse-iterate
        return x
