"""Denoising diffusion implicit models (Song, Meng & Ermon 2021): another reverse process.

The network of a DDPM is trained on q(x_t | x_0) only, and many processes have these marginals, one
for each η:

    q_η(x_{t−1} | x_t, x_0) = N(√ᾱ_{t−1} x_0 + √(1 − ᾱ_{t−1} − σ_t²) ε, σ_t² I)
    ε = (x_t − √ᾱ_t x_0) / √(1 − ᾱ_t)        σ_t² = η² β̃_t

with x̂_0 in place of x_0. η = 1 is the DDPM's posterior. η = 0 adds no noise: the path from x_T to
x_0 then follows a differential equation, solved in Euler steps, of which few are needed, and it can
be followed in both directions. As for a DDPM, a `respaced` schedule takes fewer steps.
"""

import numpy as np

from minigen import no_grad, tensor
from minigen.dist import Normal
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.schedule import log0


class DDIM(DDPM):
    """A trained DDPM whose reverse process is q_η with the network's x̂_0.

    Raises ValueError for an η outside [0, 1].
    """

    def __init__(self, net, schedule, eta=0.0):
        super().__init__(net, schedule)
        if not 0 <= eta <= 1:
            raise ValueError(f"ddim: η goes from 0 (no noise) to 1 (the noise of DDPM), got {eta}")
        self.sigma2 = eta ** 2 * schedule.beta_tilde

    def q_eta(self, x_t, x_0, t):
        """q_η(x_{t−1} | x_t, x_0): a `Normal`; all its mass is at its mean if η = 0 or t = 1."""
        s, at = self.schedule, self.schedule.at
        eps = self.predict_eps(x_t, t, x_0)
        a = at(np.sqrt(s.alpha_bar_prev), t, x_t)
        b = at(np.sqrt(np.maximum(1 - s.alpha_bar_prev - self.sigma2, 0)), t, x_t)
        mu = a * x_0 + b * eps  # eq: ddim-step
        return Normal(mu, at(log0(self.sigma2), t, x_t))

    def p(self, x_t, t, *given, threshold=None):
        """p_θ(x_{t−1} | x_t): a `Normal`."""
        x_t = tensor(x_t)
        eps = self.eps(x_t, t, *given, threshold=threshold)
        return self.q_eta(x_t, self.predict_x0(x_t, t, eps), t)

    def decode(self, x_T, *given, threshold=None):
        """The images x_0 (N, ...) to which x_T leads. ValueError unless η = 0."""
        self._check_deterministic()
        x = tensor(x_T)
        with no_grad():
            for t in range(self.schedule.T, 0, -1):
                x = self.p(x, t, *given, threshold=threshold).mean
        return x

    def encode(self, x_0, *given, iterations=3):
        """The noise x_T that `decode` maps to the images x_0 (N, ...). ValueError unless η = 0.

        A reverse step is x_{t−1} = a x_t + b ε_θ(x_t, t). It is solved for x_t by fixed-point
        iteration: `iterations` times the network is evaluated at the latest guess, the first being
        x_{t−1}. This converges if |b/a| ‖∂ε_θ/∂x_t‖ < 1: with few, large steps some images are not
        recovered. ValueError unless `iterations` ≥ 1.
        """
        self._check_deterministic()
        if iterations < 1:
            raise ValueError(f"ddim: encode takes at least one iteration, got {iterations}")
        s, x = self.schedule, tensor(x_0)
        a = np.sqrt(s.alpha_bar_prev / s.alpha_bar)
        b = np.sqrt(1 - s.alpha_bar_prev) - a * np.sqrt(1 - s.alpha_bar)
        with no_grad():
            for t in range(1, s.T + 1):
                x_t = x
                for _ in range(iterations):
                    x_t = (x - s.at(b, t, x) * self.eps(x_t, t, *given)) / s.at(a, t, x)
                x = x_t
        return x

    def _check_deterministic(self):
        if self.sigma2.any():
            raise ValueError("ddim: encode and decode are inverse to each other only if no noise "
                             "is added: make a DDIM(net, schedule) with eta=0")
