"""Noise schedules: how much noise each step of the forward process adds.

    β_t in (0, 1)      the variance that step t adds, t = 1 … T
    α_t = 1 − β_t      ᾱ_t = Π_{s≤t} α_s      ᾱ_0 = 1
    SNR(t) = ᾱ_t / (1 − ᾱ_t)

Arrays are float64 and of length T + 1, so that the index is t: no formula is shifted by one.
"""

import math

import numpy as np

from minigen.tensor import Tensor, readable, to_device_of


class Schedule:
    """β_1 … β_T (a sequence), and the quantities that follow from them.

    Attributes: `T`; the arrays `beta`, `alpha`, `alpha_bar`, of length T + 1 (β_0 = 0); `times`,
    the t that the network is given at each step: 1 … T, unless steps were left out (`respaced`).

    Raises ValueError for a β that is not in (0, 1).
    """

    def __init__(self, beta, times=None):
        beta = np.asarray(beta, np.float64)
        if beta.ndim != 1 or not len(beta):
            raise ValueError(f"Schedule: expected β_1 … β_T, got an array of shape {beta.shape}")
        invalid = np.flatnonzero(~((beta > 0) & (beta < 1)))
        if len(invalid):
            raise ValueError(f"Schedule: β must lie in (0, 1), but β_{invalid[0] + 1} is "
                             f"{beta[invalid[0]]:g} (T = {len(beta)})")
        self.T = len(beta)
        self.beta = np.concatenate([[0.0], beta])
        self.alpha = 1 - self.beta
        self.alpha_bar = np.cumprod(self.alpha)  # eq: ddpm-alpha-bar
        self.times = np.arange(self.T + 1) if times is None else np.asarray(times)

    @property
    def alpha_bar_prev(self):
        """ᾱ_{t−1}: (T + 1,), with 1 at t = 0 as well."""
        return np.concatenate([[1.0], self.alpha_bar[:-1]])

    @property
    def beta_tilde(self):
        """β̃_t = (1 − ᾱ_{t−1}) / (1 − ᾱ_t) β_t, the variance of q(x_{t−1} | x_t, x_0): 0 at t = 1.
        """
        return safe_divide(1 - self.alpha_bar_prev, 1 - self.alpha_bar) * self.beta

    @property
    def snr(self):
        """ᾱ_t / (1 − ᾱ_t), infinite at t = 0."""
        with np.errstate(divide="ignore"):
            return self.alpha_bar / (1 - self.alpha_bar)  # eq: ddpm-snr

    def at(self, values, t, like):
        """The entries of `values` (T + 1,) at integers t (N,), 1 ≤ t ≤ T, or one t for all, as
        (N, 1, …, 1), to be multiplied by `like` (N, ...): of its dtype, on its device.

        Raises ValueError for a t that is not one of 1 … T, TypeError if `like` is not of floats.
        """
        data = like.data if isinstance(like, Tensor) else like
        if data.dtype.kind != "f":
            raise TypeError(f"diffusion: images are {data.dtype}, expected floats in [−1, 1]: see "
                            "data.signed")
        picked = self.pick(values, self.check(t)).astype(data.dtype)
        return to_device_of(picked.reshape(-1, *[1] * (data.ndim - 1)), data)

    def pick(self, values, t):
        """The entries of `values` (T + 1,) at integers t (N,) returned by `check`, on t's device.
        ValueError for values of another schedule."""
        if len(values) != self.T + 1:
            raise ValueError(f"diffusion: {len(values)} numbers came for a schedule of {self.T} "
                             f"steps, expected {self.T + 1}: they may be another schedule's")
        return to_device_of(np.asarray(values), t)[t]

    def check(self, t):
        """t as an array of integers. Raises ValueError unless all are among 1 … T. A t on the
        device cannot be read while the step is being recorded, and is returned unchecked."""
        t = t.data if isinstance(t, Tensor) else t
        if type(t) is int and 1 <= t <= self.T:  # in a chain: NumPy's checks would take 5 µs more
            return np.asarray(t)
        if not readable(t):
            return t
        t = t.get() if hasattr(t, "get") else np.asarray(t, None if np.size(t) else int)
        if t.dtype.kind not in "iu" or t.size and not 1 <= t.min() <= t.max() <= self.T:
            invalid = t.ravel()
            if t.dtype.kind in "iu":
                invalid = invalid[(invalid < 1) | (invalid > self.T)]
            raise ValueError(f"diffusion: t must be integers from 1 to T = {self.T}, got "
                             f"{invalid[0]}{f' ({t.dtype})' if t.dtype.kind == 'f' else ''}")
        return t


def safe_divide(a, b):
    """a / b, and 0 where b is 0: at t = 0, which is not a step."""
    return np.divide(a, b, out=np.zeros_like(b), where=b > 0)


def log0(a):
    """log a, and −∞ at 0."""
    with np.errstate(divide="ignore"):
        return np.log(a)


def linear(T=1000, first=1e-4, last=0.02):
    """β rises linearly (Ho et al. 2020). `first` and `last` are for 1,000 steps; fewer steps each
    add more, β · 1000 / T, so that ᾱ_T stays small. ValueError for 20 or fewer: β would reach 1."""
    _check_steps("linear", T)
    if 1000 * last >= T:
        raise ValueError(f"linear: expected more than {1000 * last:g} steps, got {T}: β_T would be "
                         f"{last * 1000 / T:g}")
    return Schedule(np.linspace(first, last, T) * (1000 / T))  # eq: ddpm-linear-schedule


def cosine(T=1000, s=0.008, max_beta=0.999):
    """ᾱ falls like a squared cosine (Nichol & Dhariwal 2021), more slowly at both ends:

        ᾱ_t = f(t) / f(0),   f(t) = cos²((t/T + s) / (1 + s) · π/2),   β_t ≤ `max_beta`
    """
    _check_steps("cosine", T)
    f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * math.pi / 2) ** 2
    beta = np.minimum(1 - f[1:] / f[:-1], max_beta)  # eq: ddpm-cosine-schedule
    return Schedule(beta)


def respaced(schedule, steps, power=1, first=1):
    """The same diffusion in fewer, larger steps: a Schedule of `steps` times from 1 to T, with the
    same ᾱ at these times and the β that leads from one to the next (Nichol & Dhariwal 2021). A
    network trained on `schedule` is still given its own times.

    power: step i is at t ≈ 1 + (T − 1) (i / (steps − 1))^power: a power above 1 places more of the
    steps near the image; if two of them round to the same t, it is used once
    first: the t of the first step, if not 1; a single step leads from there to the image

    Raises ValueError unless 1 ≤ steps ≤ T, 1 ≤ first ≤ T and power > 0.
    """
    if not isinstance(steps, (int, np.integer)) or not 1 <= steps <= schedule.T:
        raise ValueError(f"respaced: expected 1 to {schedule.T} steps, the T of the schedule, got "
                         f"{steps}")
    if not 1 <= first <= schedule.T:
        raise ValueError(f"respaced: the first step is at a t from 1 to {schedule.T}, got {first}")
    if not power > 0:
        raise ValueError(f"respaced: the power must be positive, got {power}")
    fractions = np.linspace(0, 1, steps) ** power if steps > 1 else [1]
    timesteps = first + (schedule.T - first) * np.asarray(fractions)
    timesteps = np.concatenate([[0], np.unique(np.rint(timesteps).astype(int))])
    alpha_bar = schedule.alpha_bar[timesteps]
    return Schedule(1 - alpha_bar[1:] / alpha_bar[:-1], schedule.times[timesteps])


def _check_steps(name, T):
    if not isinstance(T, (int, np.integer)) or T < 1:
        raise ValueError(f"{name}: T must be a whole number of steps, at least 1, got {T}")
