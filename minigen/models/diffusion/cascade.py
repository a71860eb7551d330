"""Cascaded diffusion (Ho et al. 2021): a small image is drawn first, and each further model
enlarges what the one before drew.

    64 → 256 (GLIDE)        64 → 256 → 1024 (DALL·E 2, Imagen)

The first is a DDPM, the others are SR3's (super_resolution.py). These learnt from true small images
y, and are given drawn ones, which have faults. Noise conditioning augmentation: y is spoilt a
little, in training as in sampling, so that the next model does not trust it to the last detail, and
draws anew what has drowned. It is told how much, s, drawn anew each time in training:

    ε_θ(x_t, t; ỹ, s),    ỹ = √ᾱ_s y + √(1 − ᾱ_s) ε        e = TimeEmbedding(t) + TimeEmbedding(s)
"""

import numpy as np

from minigen import nn
from minigen.dist import noise
from minigen.models.diffusion.forward import Forward
from minigen.models.diffusion.super_resolution import Enlarger, beside, super_resolution


def spoilt(y, s, schedule, rng):
    """What an AugmentedEnlarger is given: ỹ, small images y (N, C, h, w) after s steps of noise,
    and s (N,). ValueError for an s, (N,) or one for all, that is not one of 1 … T."""
    s = np.broadcast_to(s, len(y))
    return Forward(schedule).q_sample(y, s, noise(rng, y)), s  # eq: noise-cond-augmentation


class AugmentedEnlarger(Enlarger):
    """An Enlarger that is told by how much its small images are spoilt."""

    def __init__(self, unet, embed, D, rng=None):
        super().__init__(unet, embed)
        self.told = nn.TimeEmbedding(D, rng=rng)

    def __call__(self, x_t, t, y, s):
        """Images (N, C, H, W), integers t (N,), small images y (N, C, h, w) and integers s (N,)."""
        e = self.embed(t) + self.told(s)  # eq: noise-cond-augmentation
        return self.unet(beside(x_t, y), e)


def augmented(shape, widths=(32, 64, 64), D=128, rng=None):
    """An AugmentedEnlarger to images of `shape` (C, H, W): see `super_resolution`."""
    net = super_resolution(shape, widths, D, rng)
    return AugmentedEnlarger(net.unet, net.embed, D, rng)


class Cascade:
    """`base` draws images of `shape` (C, H, W), and each of the `enlargers`, DDPMs of
    AugmentedEnlargers, images whose sides are `factor` times as long as before. `schedule` is that
    by which images were spoilt in training.
    """

    def __init__(self, shape, base, enlargers, schedule, factor=4):
        self.shape, self.base, self.enlargers = shape, base, enlargers
        self.schedule, self.factor = schedule, factor

    def sample(self, n, rng, s=1, threshold=None):
        """n images, as all models drew them: a list, from the smallest to the largest. Each is
        spoilt by s steps of noise before it is enlarged."""
        C, H, W = self.shape
        images = [self.base.sample(n, self.shape, rng, threshold=threshold)]
        for k, enlarger in enumerate(self.enlargers, 1):
            size = C, H * self.factor ** k, W * self.factor ** k  # eq: cascade-resolutions
            given = spoilt(images[-1], s, self.schedule, rng)
            images.append(enlarger.sample(n, size, rng, *given, threshold=threshold))
        return images
