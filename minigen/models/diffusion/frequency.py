"""Diffusion in the Fourier domain: fine detail drowns first, coarse content last.

The transform is linear and keeps white noise white, so for each frequency f separately

    F(x_t) = √ᾱ_t F(x_0) + √(1 − ᾱ_t) F(ε)

    E|F(x_t)|² = ᾱ_t P(f) + (1 − ᾱ_t),       P(f) = E|F(x_0)|²       (F unitary: E|F(ε)|² = 1)

A frequency has drowned when its noise is stronger than its signal: SNR(t) P(f) < 1. Images have
little power at high frequencies, so these drown at small t. The network therefore has to recover
coarse content at large t and fine detail at small t. The share of a frequency that the best linear
denoiser recovers is the Wiener gain, ᾱ_t P / (ᾱ_t P + 1 − ᾱ_t): from 1, nothing to do, to 0,
nothing to see.

This file works on arrays; nothing in it is learnt.
"""

import numpy as np


def fourier(x):
    """F(x): the unitary two-dimensional Fourier transform of each channel, complex (..., H, W)."""
    return np.fft.fft2(x, norm="ortho")


def fourier_q_sample(F_0, alpha_bar, F_eps):
    """F(x_t) from F(x_0) and F(ε), without computing x_t."""
    return alpha_bar ** 0.5 * F_0 + (1 - alpha_bar) ** 0.5 * F_eps  # eq: ddpm-fourier


def radius(H, W):
    """|f| of each entry of F, in cycles per image, rounded: integers (H, W)."""
    fy, fx = np.fft.fftfreq(H) * H, np.fft.fftfreq(W) * W
    return np.rint(np.hypot(fy[:, None], fx)).astype(int)


def radial_mean(values):
    """The mean of `values` (..., H, W) over all directions, for |f| = 0, 1, … up to half the
    shorter side: (..., R)."""
    H, W = values.shape[-2:]
    r, R = radius(H, W).ravel(), min(H, W) // 2 + 1
    rings = np.eye(r.max() + 1, dtype=values.dtype)[r][:, :R]  # (HW, R)
    return values.reshape(*values.shape[:-2], H * W) @ (rings / rings.sum(0))


def radial_spectrum(x):
    """The mean of |F(x)|² over images (N, C, H, W), channels and directions: (R,). White noise of
    variance 1 gives 1 everywhere."""
    return radial_mean(np.abs(fourier(x)) ** 2).mean((0, 1))


def band_pass(x, low, high):
    """The part of images x (..., H, W) with low ≤ |f| < high, floats. Adjacent bands that cover all
    |f| add up to x."""
    r = radius(*x.shape[-2:])
    part = np.fft.ifft2(np.fft.fft2(x) * ((low <= r) & (r < high))).real
    return part.astype(np.result_type(x, np.float32))


def signal_to_noise(P, alpha_bar):
    """ᾱ P / (1 − ᾱ): signal power over noise power in x_t, at frequencies where x_0 has power P."""
    return alpha_bar * P / (1 - alpha_bar)


def wiener(P, alpha_bar):
    """The share of a frequency's content that the best linear denoiser recovers from x_t."""
    return alpha_bar * P / (alpha_bar * P + 1 - alpha_bar)


def crossover_step(P, schedule):
    """For each power in P (R,), the first t = 1 … T at which the noise is stronger than the signal:
    integers (R,), T + 1 where it never is."""
    snr = signal_to_noise(np.asarray(P)[:, None], schedule.alpha_bar[1:])  # (R, T), falls with t
    return 1 + (snr >= 1).sum(1)  # eq: ddpm-frequency-regimes
