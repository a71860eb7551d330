"""A network that predicts the clean image x̂_0 in place of the noise.

    ε = (x_t − √ᾱ_t x̂_0) / √(1 − ᾱ_t)           ‖ε − ε̂‖² = SNR(t) ‖x_0 − x̂_0‖²

The noise, and with it the velocity, has an independent value at every pixel, which the network must
pass through to within a hundredth before anything else matters. An image of a few flat objects is
easier to predict: after half a minute of training on scenes, ‖x_0 − x̂_0‖² per value at t = 350 is
0.040, against 0.061 for a network that predicts the velocity.

The training loss is min(1 / (1 − ᾱ_t), γ) ‖x_0 − x̂_0‖². The first argument is 1 + SNR(t), the
weight implied by ‖v − v̂‖² (velocity.py); the cap γ keeps images with next to no noise from
dominating the loss (as in Hang et al. 2023). As weights of ‖ε − ε̂‖² these are

    w_t = min(1 / (1 − ᾱ_t), γ) / SNR(t)
"""

import numpy as np

from minigen.models.diffusion.ddpm import check_eps
from minigen.models.diffusion.forward import Forward


class Clean:
    """ε_θ(x_t, t) from a `net` that predicts x̂_0 and the `schedule` of its training: used like any
    other network, in `DDPM(Clean(net, schedule), schedule)`. Works for codes as well as images.
    With γ = 1 the loss is the mean of ‖x_0 − x̂_0‖² itself."""

    def __init__(self, net, schedule, gamma=3):
        self.net, self.forward = net, Forward(schedule)
        alpha_bar = schedule.alpha_bar
        self.loss_weight = np.minimum(1, gamma * (1 - alpha_bar)) / alpha_bar

    def __call__(self, x_t, t, *given):
        """Images (N, ...) and integers t (N,): of the shape of x_t."""
        return self.forward.predict_eps(x_t, t, check_eps(self.net(x_t, t, *given), x_t))
