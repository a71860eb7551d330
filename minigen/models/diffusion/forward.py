"""The forward process of diffusion: noise is added to images in T small steps (Ho et al. 2020).

It is fixed; β_t, α_t, ᾱ_t and β̃_t come from a noise schedule (schedule.py):

    q(x_t | x_{t−1}) = N(√(1 − β_t) x_{t−1}, β_t I)         x_t = √(1 − β_t) x_{t−1} + √β_t ε
    q(x_t | x_0)     = N(√ᾱ_t x_0, (1 − ᾱ_t) I)             x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε
    q(x_{t−1} | x_t, x_0) = N(μ̃_t, β̃_t I)
        μ̃_t = √ᾱ_{t−1} β_t / (1 − ᾱ_t) x_0 + √α_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t) x_t
        β̃_t = (1 − ᾱ_{t−1}) / (1 − ᾱ_t) β_t
"""

import numpy as np

from minigen import tensor
from minigen.dist import Normal
from minigen.models.diffusion.schedule import log0, safe_divide


class Forward:
    """The forward process of a Schedule. Images (N, ...) are in [−1, 1]. Methods take t (N,) or one
    t for all, and raise ValueError for a t that is not one of 1 … T."""

    def __init__(self, schedule):
        self.schedule = schedule

    def q_step(self, x_prev, t):
        """q(x_t | x_{t−1}), one step: a `Normal`."""
        beta, at = self.schedule.beta, self.schedule.at
        mu = at(np.sqrt(1 - beta), t, x_prev) * tensor(x_prev)
        return Normal(mu, at(log0(beta), t, x_prev))  # eq: ddpm-forward-step, ddpm-forward-sample

    def q(self, x_0, t):
        """q(x_t | x_0), t steps at once: a `Normal`."""
        alpha_bar, at = self.schedule.alpha_bar, self.schedule.at
        mu = at(np.sqrt(alpha_bar), t, x_0) * tensor(x_0)
        return Normal(mu, at(log0(1 - alpha_bar), t, x_0))  # eq: ddpm-q-kernel

    def q_sample(self, x_0, t, eps):
        """x_t, t steps after x_0, from noise ε ~ N(0, I) of the shape of x_0."""
        alpha_bar, at = self.schedule.alpha_bar, self.schedule.at
        a, b = at(np.sqrt(alpha_bar), t, x_0), at(np.sqrt(1 - alpha_bar), t, x_0)
        return a * tensor(x_0) + b * eps  # eq: ddpm-q-sample

    def predict_x0(self, x_t, t, eps):
        """The x_0 for which ε is the noise in x_t: `q_sample` solved for x_0."""
        alpha_bar, at = self.schedule.alpha_bar, self.schedule.at
        signal = tensor(x_t) - at(np.sqrt(1 - alpha_bar), t, x_t) * eps
        return signal / at(np.sqrt(alpha_bar), t, x_t)

    def predict_eps(self, x_t, t, x_0):
        """ε = (x_t − √ᾱ_t x_0) / √(1 − ᾱ_t), the noise in x_t if x_0 is the clean image."""
        alpha_bar, at = self.schedule.alpha_bar, self.schedule.at
        noise = tensor(x_t) - at(np.sqrt(alpha_bar), t, x_t) * x_0
        return noise / at(np.sqrt(1 - alpha_bar), t, x_t)

    def q_posterior(self, x_t, x_0, t):
        """q(x_{t−1} | x_t, x_0): a `Normal`; at t = 1 all its mass is at x_0 (log σ² = −∞)."""
        s, at = self.schedule, self.schedule.at
        coef_0 = safe_divide(np.sqrt(s.alpha_bar_prev) * s.beta, 1 - s.alpha_bar)
        coef_t = safe_divide(np.sqrt(s.alpha) * (1 - s.alpha_bar_prev), 1 - s.alpha_bar)
        mu = at(coef_0, t, x_t) * tensor(x_0) + at(coef_t, t, x_t) * tensor(x_t)
        return Normal(mu, at(log0(s.beta_tilde), t, x_t))  # eq: ddpm-posterior
