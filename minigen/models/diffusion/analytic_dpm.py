"""Analytic-DPM: the best variances of a diffusion that has learnt (Bao, Li, Zhu & Zhang 2022).

Of the reverse steps N(μ_θ(x_t, t), σ_t² I) those bound −log p_θ most closely that have

    σ_t² = E ‖x_{t−1} − μ_θ(x_t, t)‖² / d        x_t, x_{t−1} of images and their noise, d values

With the best network, ε_θ = E[ε | x_t], that is

    σ_t² = β̃_t + β_t² / (α_t (1 − ᾱ_t)) · (1 − Γ_t)        Γ_t = E ‖ε_θ(x_t, t)‖² / d

so a number Γ_t is measured for each t, and nothing learnt. It lies in [0, 1]: all of the noise is
known where there is one image only, which gives β̃_t; none of white noise, which gives β_t / α_t.
The longer the steps, the further these are apart, and the more it matters.

Differs from the paper: it writes √(1 − ᾱ_t) times the score for −ε_θ, and has a formula for the
steps of DDIM too.
"""

import numpy as np

from minigen import mean, no_grad, square, tensor
from minigen.dist import noise
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.schedule import over


def variances(schedule, gamma):
    """σ_t² (T + 1,) of the Γ_t (T + 1,). Beyond 0 and 1, where a network that is not the best may
    be, Γ counts as these."""
    s = schedule
    unknown = 1 - np.clip(gamma, 0, 1)  # the share of the noise that x_t does not tell
    return s.beta_tilde + over(s.beta**2, s.alpha * (1 - s.alpha_bar)) * unknown  # eq: analytic-dpm


def known_noise(model, x_0, rng, *given):
    """Γ_t (T + 1,) by images x_0 (N, C, H, W), each with one noise for each t of a DDPM's."""
    x_0, gamma = tensor(x_0), np.ones(model.schedule.T + 1)
    with no_grad():
        for t in range(1, model.schedule.T + 1):
            x_t = model.q_sample(x_0, t, noise(rng, x_0))
            gamma[t] = mean(square(model.eps(x_t, t, *given))).item()  # eq: analytic-dpm
    return gamma


def analytic(model, x_0, rng, *given):
    """The DDPM `model` with the best variances for images like x_0 (N, C, H, W)."""
    gamma = known_noise(model, x_0, rng, *given)
    return DDPM(model.net, model.schedule, variances(model.schedule, gamma))
