"""CLIP guidance: sample images that fit a text (Nichol et al. 2021, GLIDE).

    ∇ [log p(x_t | c) + ω log p(c | x_t)]  becomes  ∇ [log p(x_t | c) + ω f(x_t)·g(c)]

    as noise:  ε̃ = ε_θ(x_t, c) − ω √(1 − ᾱ_t) ∇ f(x_t)·g(c)

In training f·g / τ tends to log p(c | x_t) − log p(c) + a constant (optimal_critic.py), of which
only the first term depends on x_t: CLIP stands in for the classifier of guidance.py, with a weight
of ω τ.

f must have been trained on noisy images x_t, or its gradient there is meaningless. The image
encoder of such a noisy CLIP is a `NoisyClassifier` with codes in place of logits; it is given the
time: f(x_t, t).
"""

import numpy as np

from minigen import grad, sum, tensor
from minigen.models.diffusion.ddpm import check_eps
from minigen.models.diffusion.guidance import check_batch, check_weight
from minigen.models.diffusion.noisy_classifier import noised
from minigen.tensor import track


class CLIPGuided:
    """ε̃ with weight ω ≥ 0 from a network `net`, called with x_t, t and texts c (which it may
    ignore), and a noisy `clip`, which must not mix the images of a batch. `schedule` is the one
    used in training."""

    def __init__(self, net, clip, schedule, omega):
        self.net, self.clip, self.schedule, self.omega = net, clip, schedule, check_weight(omega)

    def __call__(self, x_t, t, c):
        b = self.schedule.at(np.sqrt(1 - self.schedule.alpha_bar), t, x_t)
        eps = check_eps(self.net(x_t, t, c), x_t)
        return eps - self.omega * b * similarity_grad(self.clip, x_t, t, c)  # eq: clip-guidance


def similarity_grad(clip, x_t, t, c):
    """∇ f(x_t)·g(c), of the shape of x_t (N, ...), for one text c per image, or one for all."""
    check_batch(x_t, c)
    with track(True):
        x = tensor(x_t, requires_grad=True)
        return grad(sum(clip.f(x, t) * clip.g(c)), x)


def noisy_loss(clip, ddpm, x_0, c, rng):
    """CLIP's loss and its parts on images x_0, noised as in training `ddpm`, with texts c."""
    x_t, t = noised(ddpm, x_0, rng)
    return clip.loss(x_t, c, t)
