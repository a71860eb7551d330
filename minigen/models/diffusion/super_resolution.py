"""Super-resolution by repeated refinement (SR3; Saharia et al. 2021): a diffusion of large images x
conditioned on the small image y.

    L = E_{x, y} E_{ε ~ N(0, I)} E_t ‖ε_θ(x_t, t; y) − ε‖_p^p,  p = 1 or 2
    ε_θ(x_t, t; y) = unet(x_t ⊕ up(y), t)        (⊕: channel concatenation; up: to the size of x_t)

Many large images share the same small image. A network that outputs a single x̂ and is trained with
‖x − x̂‖² predicts their mean, which is blurred; each sample x ~ p_θ(x | y) is sharp. Otherwise this
is a DDPM: ``DDPM(super_resolution(shape), schedule)``, trained with
``loss(x, rng, y, norm=power(p))``.

Differs from the paper: up is bilinear, not bicubic, and the network is given t, not ᾱ_t.
"""

from minigen import abs, concatenate, interpolate
from minigen.models.diffusion.denoiser import Denoiser, unet_and_embed


def power(p):
    """|·|^p elementwise, whose mean stands for ‖·‖_p^p: the `norm` of DDPM's loss."""
    return lambda error: abs(error) ** p  # eq: sr3-loss


def concat_upsampled(x_t, y):
    """The U-Net's input for images x_t (N, C, H, W) and small ones y (N, C, h, w): (N, 2C, H, W).
    ValueError unless y has the same N and C, and sides smaller by whole factors."""
    N, C, H, W = x_t.shape
    if y.ndim != 4 or y.shape[:2] != (N, C) or not y.size or H % y.shape[2] or W % y.shape[3]:
        raise ValueError(f"super-resolution: the small images are {y.shape}, expected ({N}, {C}, "
                         f"h, w), h a divisor of {H} and w of {W}")
    up = interpolate(y, size=(H, W), mode="bilinear")
    return concatenate([x_t, up], axis=1)  # eq: sr3-concat


class SR3Denoiser(Denoiser):
    """A Denoiser conditioned on small images y."""

    def __call__(self, x_t, t, y):
        """Images (N, C, H, W), integers t (N,) and small images y (N, C, h, w): (N, C, H, W)."""
        return self.unet(concat_upsampled(x_t, y), self.embed(t))


def super_resolution(shape, widths=(32, 64, 64), D=128, rng=None):
    """An SR3Denoiser for large images of `shape` (C, H, W): see `unet_and_embed`."""
    return SR3Denoiser(*unet_and_embed(shape, widths, D, extra_channels=shape[0], rng=rng))
