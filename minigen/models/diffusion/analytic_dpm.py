"""Analytic-DPM: optimal reverse variances for a trained DDPM (Bao, Li, Zhu & Zhang 2022).

Among Gaussian reverse steps N(μ_θ(x_t, t), σ_t² I), the bound on −log p_θ is tightest with

    σ_t² = E ‖x_{t−1} − μ_θ(x_t, t)‖² / d        x_t, x_{t−1} from the forward process, d values

           = β̃_t + β_t² / (α_t (1 − ᾱ_t)) · E ‖ε − ε_θ(x_t, t)‖² / d

The last expectation is the share of the noise that the network fails to predict. The optimal
network, ε_θ = E[ε | x_t], misses

    1 − Γ_t,    Γ_t = E ‖ε_θ(x_t, t)‖² / d

so one number is measured for each t, and nothing is learnt. If the data are a single image, the
share is 0 and σ_t² is β̃_t; if they are white noise, it is ᾱ_t and σ_t² is β_t: the two choices of
ddpm.py. Other data lie between them; the longer the steps, the further the two are apart.

Γ_t is what the paper measures. The share that a suboptimal network misses differs from 1 − Γ_t, but
can be measured as well (Bao, Li, Sun, Zhu & Zhang 2022, "imperfect mean").

Differs from the paper: it writes ε_θ as −√(1 − ᾱ_t) times the score, clips the variances used in
sampling to bounds from the range of the data, and has a formula for DDIM steps too.
"""

import numpy as np

from minigen import mean, no_grad, square, tensor
from minigen.dist import noise
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.schedule import safe_divide


def variances(schedule, eps_mse):
    """σ_t² (T + 1,) from E ‖ε − ε_θ‖² / d, the share of the noise that the network fails to
    predict, (T + 1,)."""
    s = schedule
    return s.beta_tilde + safe_divide(
        s.beta**2, s.alpha * (1 - s.alpha_bar)) * eps_mse  # eq: analytic-dpm


def eps_moments(model, x_0, rng, *given):
    """Γ_t and E ‖ε − ε_θ‖² / d of a DDPM, each (T + 1,), averaged over images x_0 (N, C, H, W),
    each with its own noise for every t. ValueError for no images."""
    x_0, T = tensor(x_0), model.schedule.T
    if not len(x_0):
        raise ValueError("analytic_dpm: expected at least one image to average over, got none")
    gamma, eps_mse = np.ones(T + 1), np.zeros(T + 1)
    with no_grad():
        for t in range(1, T + 1):
            eps = noise(rng, x_0)
            eps_hat = model.eps(model.q_sample(x_0, t, eps), t, *given)
            gamma[t] = mean(square(eps_hat)).item()  # eq: analytic-dpm
            eps_mse[t] = mean(square(eps - eps_hat)).item()
    return gamma, eps_mse


def analytic(model, x_0, rng, *given):
    """The DDPM `model` with the paper's variances, measured on images x_0 (N, C, H, W); where the
    measured Γ_t exceeds 1, σ_t² is β̃_t."""
    gamma, _ = eps_moments(model, x_0, rng, *given)
    eps_mse = np.maximum(1 - gamma, 0)
    return DDPM(model.net, model.schedule, variances(model.schedule, eps_mse))


def fitted(model, x_0, rng, *given):
    """The DDPM `model` with the best variances for its network, optimal or not, measured on x_0."""
    _, eps_mse = eps_moments(model, x_0, rng, *given)
    return DDPM(model.net, model.schedule, variances(model.schedule, eps_mse))
