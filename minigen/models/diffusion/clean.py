"""A network that gives the image, without its noise, in the place of the noise.

    ε = (x_t − √ᾱ_t x̂_0) / √(1 − ᾱ_t)           ‖ε − ε̂‖² = SNR(t) ‖x_0 − x̂_0‖²

Noise, and with it the velocity, has a value of its own at every pixel, which the network must hand
through to a hundredth before anything else counts. An image of a few flat objects is easier to
say: after half a minute of training on scenes ‖x_0 − x̂_0‖² is 0.040 for each value at t = 350, by
the velocity 0.061.

Training is by min(1 / (1 − ᾱ_t), γ) ‖x_0 − x̂_0‖². The first is 1 + SNR(t), the weight that
‖v − v̂‖² gives (velocity.py); the limit keeps images with next to no noise from being all that
counts (as in Hang et al. 2023).
"""

import numpy as np

from minigen.models.diffusion.ddpm import as_noise
from minigen.models.diffusion.forward import Forward


class Clean:
    """ε_θ(x_t, t) from a `net` that gives x̂_0 and a `schedule`, that of training: to be used as
    any other network is, in `DDPM(Clean(net, schedule), schedule)`. Codes do as well as images."""

    def __init__(self, net, schedule):
        self.net, self.forward, self.classes = net, Forward(schedule), getattr(net, "classes", None)

    def __call__(self, x_t, t, *given):
        """Images (N, ...) and integers t (N,): of the shape of x_t."""
        return self.forward.noise_in(x_t, t, as_noise(self.net(x_t, t, *given), x_t))


def weight(schedule, gamma=3):
    """w_t = min(1 / (1 − ᾱ_t), γ) / SNR(t), with which DDPM's loss is the mean of the first times
    ‖x_0 − x̂_0‖²: (T + 1,), 0 at t = 0. With γ = 1 it is that of ‖x_0 − x̂_0‖²."""
    return np.minimum(1, gamma * (1 - schedule.alpha_bar)) / schedule.alpha_bar
