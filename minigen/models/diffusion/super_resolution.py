"""Super-resolution by repeated refinement (SR3; Saharia et al. 2021): a diffusion of large images x
that is shown the small one, y.

    L = E_{x, y} E_{ε ~ N(0, I)} E_t ‖ε_θ(x_t, t; y) − ε‖_p^p,  p = 1 or 2
    ε_θ(x_t, t; y) = unet(x_t ⊕ up(y), t)        (⊕: channels side by side; up: to the size of x_t)

Many large images look the same from afar. A network that gives one of them, and is taught by
‖x − x̂‖², gives their mean, which is blurred; each of the samples x ~ p_θ(x | y) is sharp. For the
rest this is a DDPM: ``DDPM(super_resolution(shape), schedule)``, taught by
``loss(x, rng, y, norm=power(p))``.

Differs from the paper: up is bilinear, not bicubic, and the network is told t, not ᾱ_t.
"""

from minigen import abs, concatenate, interpolate
from minigen.models.diffusion.denoiser import Denoiser, denoiser


def power(p):
    """|·|^p for each number, of which the mean is ‖·‖_p^p: for DDPM's loss."""
    return lambda error: abs(error) ** p  # eq: sr3-loss


def beside(x_t, y):
    """What the U-Net sees of images x_t (N, C, H, W) and small ones y (N, C, h, w): (N, 2C, H, W).
    ValueError unless y are as many, of as many channels, and smaller by whole factors."""
    N, C, H, W = x_t.shape
    if y.ndim != 4 or y.shape[:2] != (N, C) or not y.size or H % y.shape[2] or W % y.shape[3]:
        raise ValueError(f"super-resolution: the small images are {y.shape}, expected ({N}, {C}, "
                         f"h, w), h a divisor of {H} and w of {W}")
    up = interpolate(y, size=(H, W), mode="bilinear")
    return concatenate([x_t, up], axis=1)  # eq: sr3-concat


class Enlarger(Denoiser):
    """A Denoiser that is shown small images y."""

    def __call__(self, x_t, t, y):
        """Images (N, C, H, W), integers t (N,) and small images y (N, C, h, w): (N, C, H, W)."""
        return self.unet(beside(x_t, y), self.embed(t))


def super_resolution(shape, widths=(32, 64, 64), D=128, rng=None):
    """An Enlarger to images of `shape` (C, H, W): see `denoiser`."""
    net = denoiser(shape, widths, D, beside=shape[0], rng=rng)
    return Enlarger(net.unet, net.embed)
