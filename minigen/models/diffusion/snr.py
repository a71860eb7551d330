"""Diffusion and its signal-to-noise ratio (Kingma et al. 2021, "Variational diffusion models").

    SNR(t) = ᾱ_t / (1 − ᾱ_t)            falls from ∞ at t = 0 to almost 0 at t = T

A term of the variational bound, for t ≥ 2 and with the reverse variance σ_t² = β̃_t, is

    KL(q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t)) = ½ (SNR(t − 1) − SNR(t)) ‖x_0 − x̂_0‖²

so the schedule matters through SNR alone. As T → ∞ the sum becomes ½ ∫ ‖x_0 − x̂_0‖² dSNR. What
the schedule does between its ends is then a change of variable: it leaves the bound unchanged, and
affects only the variance of its estimate from one random t. The part of this variance that comes
from the choice of t is zero if the expected term is the same for every t; this is how a schedule
can be learnt.
"""

import numpy as np


def vlb_weight(schedule):
    """½ (SNR(t − 1) − SNR(t)), the bound's weight on ‖x_0 − x̂_0‖²: (T + 1,), valid from t = 2 on.
    It is ∞ at t = 1, where the bound has −log p(x_0 | x_1) instead, and 0 at t = 0."""
    before = np.concatenate([schedule.snr[:1], schedule.snr[:-1]])
    with np.errstate(invalid="ignore"):
        weight = (before - schedule.snr) / 2  # eq: ddpm-snr
    return np.where(np.arange(schedule.T + 1) > 0, weight, 0)


def eps_weight(schedule):
    """The bound's weight on ‖ε − ε̂‖², as x_0 − x̂_0 = (ε̂ − ε) / √SNR(t): (T + 1,). L_simple uses
    1 instead at every t, which gives large t, and so coarse content, more weight than the bound
    does."""
    with np.errstate(invalid="ignore"):
        weight = vlb_weight(schedule) / schedule.snr
    return np.where(np.arange(schedule.T + 1) > 1, weight, 0)


def least_variance(snr, error, T):
    """SNR(1) … SNR(T), from the last of the rising values `snr` (n,) down to the first, placed so
    that every t has the same share of ½ ∫ `error` dSNR. `error` (n,) is E‖x_0 − x̂_0‖², measured or
    known, at each of these values. ValueError if `snr` falls anywhere."""
    if (np.diff(snr) < 0).any():
        raise ValueError("least_variance: values of SNR fall, expected rising ones: turn both "
                         "arrays around")
    cumulative = np.cumsum((error[1:] + error[:-1]) / 4 * np.diff(snr))
    cumulative = np.concatenate([[0], cumulative])  # the integral up to each value
    return np.interp(np.linspace(cumulative[-1], 0, T), cumulative, snr)  # eq: ddpm-snr
