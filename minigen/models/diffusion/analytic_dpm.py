"""Analytic-DPM: the best variances of a diffusion that has learnt (Bao, Li, Zhu & Zhang 2022).

Of the reverse steps N(μ_θ(x_t, t), σ_t² I) those bound −log p_θ most closely that have

    σ_t² = E ‖x_{t−1} − μ_θ(x_t, t)‖² / d        x_t, x_{t−1} of images and their noise, d values

           = β̃_t + β_t² / (α_t (1 − ᾱ_t)) · E ‖ε − ε_θ(x_t, t)‖² / d

The last mean is the share of the noise that the network misses. The best, ε_θ = E[ε | x_t], misses

    1 − Γ_t,    Γ_t = E ‖ε_θ(x_t, t)‖² / d

so one number is measured for each t, and nothing learnt. Nothing is missed where there is one image
only, and σ_t² is β̃_t; of white noise ᾱ_t, and σ_t² is β_t: the two choices of ddpm.py. Between
them, the longer the steps, the further they are apart.

Γ_t is the paper's; of a network that is not the best, what it misses is more than 1 − Γ_t, and can
be measured as well (Bao, Li, Sun, Zhu & Zhang 2022, "imperfect mean").

Differs from the paper: it writes −√(1 − ᾱ_t) times the score for ε_θ, clips what samples take by
the range of the data, and has a formula for the steps of DDIM too.
"""

import numpy as np

from minigen import mean, no_grad, square, tensor
from minigen.dist import noise
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.schedule import over


def variances(schedule, missed):
    """σ_t² (T + 1,) of the shares of the noise that are missed, (T + 1,)."""
    s = schedule
    return s.beta_tilde + over(s.beta**2, s.alpha * (1 - s.alpha_bar)) * missed  # eq: analytic-dpm


def shares(model, x_0, rng, *given):
    """Γ_t and E ‖ε − ε_θ‖² / d of a DDPM, each (T + 1,), averaged over images x_0 (N, C, H, W) with
    a noise of each for every t. ValueError for no images."""
    x_0, T = tensor(x_0), model.schedule.T
    if not len(x_0):
        raise ValueError("analytic_dpm: means are of at least one image, got none")
    gamma, missed = np.ones(T + 1), np.zeros(T + 1)
    with no_grad():
        for t in range(1, T + 1):
            eps = noise(rng, x_0)
            said = model.eps(model.q_sample(x_0, t, eps), t, *given)
            gamma[t] = mean(square(said)).item()  # eq: analytic-dpm
            missed[t] = mean(square(eps - said)).item()
    return gamma, missed


def analytic(model, x_0, rng, *given):
    """The DDPM `model` with the paper's variances, by images like x_0 (N, C, H, W); where Γ_t is
    more than 1 with β̃_t."""
    gamma, _ = shares(model, x_0, rng, *given)
    missed = np.maximum(1 - gamma, 0)
    return DDPM(model.net, model.schedule, variances(model.schedule, missed))


def fitted(model, x_0, rng, *given):
    """The DDPM `model` with the best variances whatever its network says, likewise."""
    _, missed = shares(model, x_0, rng, *given)
    return DDPM(model.net, model.schedule, variances(model.schedule, missed))
