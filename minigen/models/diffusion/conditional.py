"""Class-conditional diffusion: the network is given the label, or told that there is none.

    e = TimeEmbedding(t) + Embedding(y),    y = 0 … K − 1, and y = K for no label, ∅

The label enters wherever the time does, so the U-Net is unchanged.
"""

from minigen import nn
from minigen.models.diffusion.denoiser import Denoiser, unet_and_embed


class ConditionalDenoiser(Denoiser):
    """A Denoiser conditioned on one of `classes` labels; `embed` returns (N, D)."""

    def __init__(self, unet, embed, classes, D, rng=None):
        super().__init__(unet, embed)
        self.label = nn.Embedding(classes + 1, D, rng=rng)

    def __call__(self, x_t, t, y):
        """Images (N, C, H, W), integers t (N,) and labels y (N,), from 0 to K."""
        return self.unet(x_t, self.embed(t) + self.label(y))


def conditional(shape, classes, widths=(32, 64, 64), D=128, rng=None):
    """A ConditionalDenoiser for images of `shape` (C, H, W): see `unet_and_embed`."""
    return ConditionalDenoiser(*unet_and_embed(shape, widths, D, rng=rng), classes, D, rng)
