"""Diffusion by its signal-to-noise ratio (Kingma et al. 2021, "Variational diffusion models").

    SNR(t) = ᾱ_t / (1 − ᾱ_t)            falls from ∞ at t = 0 to almost 0 at t = T

A term of the variational bound, for t ≥ 2 and with the reverse variance σ_t² = β̃_t, is

    KL(q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t)) = ½ (SNR(t − 1) − SNR(t)) ‖x_0 − x̂_0‖²

so the schedule matters through SNR alone. As T → ∞ the sum becomes ½ ∫ ‖x_0 − x̂_0‖² dSNR. What
the schedule does between its ends is then a change of variable: it leaves the bound as it is, and
moves only the variance of its estimate from one random t. The part of that which comes from the
choice of t is zero where the expected term is the same for every t, and this is how a schedule can
be learnt.
"""

import numpy as np


def vlb_weight(schedule):
    """½ (SNR(t − 1) − SNR(t)), the bound's weight of ‖x_0 − x̂_0‖²: (T + 1,), from t = 2 on. At
    t = 1 stands ∞ (there the bound has −log p(x_0 | x_1) instead), at t = 0 nothing, 0."""
    before = np.concatenate([schedule.snr[:1], schedule.snr[:-1]])
    with np.errstate(invalid="ignore"):
        weight = (before - schedule.snr) / 2  # eq: ddpm-snr
    return np.where(np.arange(schedule.T + 1) > 0, weight, 0)


def eps_weight(schedule):
    """The bound's weight of ‖ε − ε̂‖², as x_0 − x̂_0 = (ε̂ − ε) / √SNR(t): (T + 1,). L_simple has 1
    in its place at every t, which gives large t, coarse content, more than the bound does."""
    with np.errstate(invalid="ignore"):
        weight = vlb_weight(schedule) / schedule.snr
    return np.where(np.arange(schedule.T + 1) > 1, weight, 0)


def least_variance(snr, error, T):
    """SNR(1) … SNR(T), from the last of the rising values `snr` (n,) down to the first, so placed
    that every t has the same share of ½ ∫ `error` dSNR. `error` (n,) is E‖x_0 − x̂_0‖², measured or
    known, at each of these values. ValueError for values that fall."""
    if (np.diff(snr) < 0).any():
        raise ValueError("least_variance: values of SNR fall, expected rising ones: turn both "
                         "arrays around")
    share = np.cumsum((error[1:] + error[:-1]) / 4 * np.diff(snr))
    share = np.concatenate([[0], share])  # of the integral up to each value
    return np.interp(np.linspace(share[-1], 0, T), share, snr)  # eq: ddpm-snr
