"""Improved DDPM (Nichol & Dhariwal 2021): the variances of the reverse process are learnt too.

For every pixel the network predicts ε_θ and a number v: where the variance lies, on a log scale,
between the two that are optimal for extreme data (β̃_t: a single image; β_t: white noise).

    σ_t² = exp(v log β_t + (1 − v) log β̃_t)

    L_hybrid = L_simple + λ L_vlb,  λ = 0.001      L_vlb = T · (the bound's term of t), bits a value

L_simple does not depend on σ_t, and L_vlb alone is noisy. So L_vlb treats the mean as a constant
(ε_θ is detached): the bound trains the variances, L_simple the mean. β̃_1 = 0 is replaced by β̃_2.
"""

import math

import numpy as np

from minigen import mean, split, square, tensor, where
from minigen.dist import DiscretisedNormal, Normal, kl, noise
from minigen.models.diffusion.ddpm import DDPM, check_eps


class ImprovedDDPM(DDPM):
    """A DDPM whose `net` outputs 2C channels for images of C: ε, then 2v − 1 (so that an output of
    0 is halfway)."""

    def __init__(self, net, schedule, lam=0.001):
        super().__init__(net, schedule)
        beta, beta_tilde = schedule.beta[1:], schedule.beta_tilde[1:].copy()
        beta_tilde[0] = beta_tilde[min(1, schedule.T - 1)] or beta[0]
        self.log_beta, self.log_beta_tilde = (np.log(np.concatenate([[1], b]))
                                              for b in (beta, beta_tilde))
        self.lam = lam

    def outputs(self, x_t, t, *given):
        """ε_θ and log σ_t², both of the shape of x_t."""
        x_t, at = tensor(x_t), self.schedule.at
        eps, v = split(super().output(x_t, t, *given), 2, axis=1)
        v, high, low = (v + 1) / 2, at(self.log_beta, t, v), at(self.log_beta_tilde, t, v)
        logvar = v * high + (1 - v) * low  # eq: ddpm-learned-sigma
        return check_eps(eps, x_t), logvar

    def output(self, x_t, t, *given):
        """The network's output for x_t without the variances: ε_θ, a tensor."""
        return self.outputs(x_t, t, *given)[0]

    def p(self, x_t, t, *given, threshold=None):
        """p_θ(x_{t−1} | x_t): a `Normal` with a variance for every pixel."""
        eps, logvar = self.outputs(x_t, t, *given)
        return Normal(self.mu(x_t, t, self.corrected(x_t, t, eps, threshold)), logvar)

    def loss(self, x_0, rng, *given):
        """L_hybrid of images x_0 (N, C, H, W), and its two parts."""
        x_0, s = tensor(x_0), self.schedule
        t = rng.integers(1, s.T + 1, len(x_0))
        eps = noise(rng, x_0)
        x_t = self.q_sample(x_0, t, eps)
        eps_hat, logvar = self.outputs(x_t, t, *given)
        simple = mean(square(eps - eps_hat))
        p = Normal(self.mu(x_t, t, eps_hat.detach()), logvar)
        L_0 = -DiscretisedNormal(p.mu, p.logvar).log_prob(x_0)
        is_first = (t == 1).reshape(-1, *[1] * (x_0.ndim - 1))
        term = where(is_first, L_0, kl(self.q_posterior(x_t, x_0, t), p))
        vlb = s.T * mean(term) / math.log(2)
        hybrid = simple + self.lam * vlb  # eq: ddpm-learned-sigma
        return hybrid, {"simple": simple, "vlb_bits": vlb}
