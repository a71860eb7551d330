"""Cascaded diffusion (Ho et al. 2021): a small image is sampled first, and each further model
upsamples the output of the model before it.

    64 → 256 (GLIDE)        64 → 256 → 1024 (DALL·E 2, Imagen)

The first model is a DDPM, the others are SR3 models (super_resolution.py). They were trained on
true small images y, but when sampling they are given generated ones, which have flaws. Noise
conditioning augmentation: y is corrupted with a little noise, in training as in sampling, so that
the next model does not trust its finest details and generates anew those that the noise has
drowned. The model is given the number s of noise steps, in training a new random one for each
image:

    ε_θ(x_t, t; ỹ, s),    ỹ = √ᾱ_s y + √(1 − ᾱ_s) ε        e = TimeEmbedding(t) + TimeEmbedding(s)
"""

import numpy as np

from minigen import nn
from minigen.dist import noise
from minigen.models.diffusion.denoiser import unet_and_embed
from minigen.models.diffusion.forward import Forward
from minigen.models.diffusion.super_resolution import SR3Denoiser, concat_upsampled


def noise_augment(y, s, schedule, rng):
    """The conditioning of an AugmentedSR3Denoiser: ỹ, the small images y (N, C, h, w) after s steps
    of noise, and s (N,). ValueError for an s, (N,) or one for all, that is not one of 1 … T."""
    s = np.broadcast_to(s, len(y))
    return Forward(schedule).q_sample(y, s, noise(rng, y)), s  # eq: noise-cond-augmentation


class AugmentedSR3Denoiser(SR3Denoiser):
    """An SR3Denoiser that is also given the number of noise steps s of its small images."""

    def __init__(self, unet, embed, D, rng=None):
        super().__init__(unet, embed)
        self.aug_embed = nn.TimeEmbedding(D, rng=rng)

    def __call__(self, x_t, t, y, s):
        """Images (N, C, H, W), integers t (N,), small images y (N, C, h, w) and integers s (N,)."""
        e = self.embed(t) + self.aug_embed(s)  # eq: noise-cond-augmentation
        return self.unet(concat_upsampled(x_t, y), e)


def augmented(shape, widths=(32, 64, 64), D=128, rng=None):
    """An AugmentedSR3Denoiser for large images of `shape` (C, H, W): see `unet_and_embed`."""
    unet, embed = unet_and_embed(shape, widths, D, extra_channels=shape[0], rng=rng)
    return AugmentedSR3Denoiser(unet, embed, D, rng)


class Cascade:
    """`base` samples images of `shape` (C, H, W), and each of the `upsamplers`, DDPMs of
    AugmentedSR3Denoisers, images whose sides are `factor` times as long as before. `schedule` is
    the one that added noise to the small images in training.
    """

    def __init__(self, shape, base, upsamplers, schedule, factor=4):
        self.shape, self.base, self.upsamplers = shape, base, upsamplers
        self.schedule, self.factor = schedule, factor

    def sample(self, n, rng, s=1, threshold=None):
        """n images at every resolution: a list with each model's samples, from the smallest to the
        largest. Each sample is noised by s steps before it is enlarged."""
        C, H, W = self.shape
        images = [self.base.sample(n, self.shape, rng, threshold=threshold)]
        for k, upsampler in enumerate(self.upsamplers, 1):
            size = C, H * self.factor ** k, W * self.factor ** k  # eq: cascade-resolutions
            given = noise_augment(images[-1], s, self.schedule, rng)
            images.append(upsampler.sample(n, size, rng, *given, threshold=threshold))
        return images
