"""A network that predicts the velocity v in place of the noise (Salimans & Ho 2022).

    v = √ᾱ_t ε − √(1 − ᾱ_t) x_0            ε = √ᾱ_t v + √(1 − ᾱ_t) x_t
                                          x_0 = √ᾱ_t x_t − √(1 − ᾱ_t) v

At small t, v is the noise, at large t the image (negated), each where it is hard to predict.
The noise itself is not hard to predict at large t: at t = T, ε is x_t but for a trace of the image,
and an error of 1% in ε is an error in x̂_0 larger than x_0. The training loss is
‖v − v̂‖² = ‖ε − ε̂‖² / ᾱ_t: L_simple with the weights w_t = 1 / ᾱ_t.
"""

import numpy as np

from minigen.models.diffusion.ddpm import check_eps


class Velocity:
    """ε_θ(x_t, t) from a `net` that predicts v and the `schedule` of its training: used like any
    other network, in `DDPM(Velocity(net, schedule), schedule)`. Its `loss_weight` w_t makes DDPM's
    loss the mean of ‖v − v̂‖_p^p, if ‖·‖_p^p is the loss's norm."""

    def __init__(self, net, schedule, p=2):
        self.net, self.schedule = net, schedule
        self.loss_weight = (1 / schedule.alpha_bar) ** (p / 2)

    def __call__(self, x_t, t, *given):
        """Images (N, C, H, W) and integers t (N,): of the shape of x_t."""
        at, alpha_bar = self.schedule.at, self.schedule.alpha_bar
        a, b = at(np.sqrt(alpha_bar), t, x_t), at(np.sqrt(1 - alpha_bar), t, x_t)
        return a * check_eps(self.net(x_t, t, *given), x_t) + b * x_t
