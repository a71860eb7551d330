"""PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu 2016): masked convolutions see the image above
and to the left of a pixel, its context, and give the distribution of its value.

    p_θ(x) = Π_t p_θ(x_t | context(t)),   θ* = argmax_θ Σ_i log p_θ(x⁽ⁱ⁾)

A stack of 3×3 windows leaves out a part of what was read, a wedge to the right above the pixel (its
blind spot); gated_pixelcnn.py is without one.
"""

from minigen import nn, relu
from minigen.models.autoregressive.pixels import PixelModel, outputs
from minigen.nn.masked import MaskedConv2d


class Residual:
    """x + f(x): 2h channels to h, a 3×3 window, and back to 2h."""

    def __init__(self, h, colours, rng=None):
        self.into = MaskedConv2d(2 * h, h, 1, "B", colours, rng=rng)
        self.window = MaskedConv2d(h, h, 3, "B", colours, rng=rng)
        self.out = MaskedConv2d(h, 2 * h, 1, "B", colours, rng=rng)

    def __call__(self, x, at=None):
        y = self.window(relu(self.into(relu(x), at)), at)
        return x + self.out(relu(y), at)


class PixelCNN:
    """The network: (N, C, H, W) → (N, C · outputs(levels), H, W).

    h: half the channels, divisible by C; blocks: the number of residual blocks
    """

    def __init__(self, C, levels=2, h=32, blocks=6, rng=None):
        self.first = MaskedConv2d(C, 2 * h, 7, "A", C, rng=rng)
        self.blocks = [Residual(h, C, rng) for _ in range(blocks)]
        self.head = MaskedConv2d(2 * h, 2 * h, 1, "B", C, rng=rng)
        self.last = MaskedConv2d(2 * h, C * outputs(levels), 1, "B", C, rng=rng)

    def __call__(self, x, at=None):
        x = self.first(x, at)
        for block in self.blocks:
            x = block(x, at)
        return self.last(relu(self.head(relu(x), at)), at)


def pixelcnn(shape, levels=2, h=32, blocks=6, rng=None):
    """A PixelCNN for images of `shape` (C, H, W) with values 0 … levels − 1: a `PixelModel`."""
    return PixelModel(PixelCNN(shape[0], levels, h, blocks, rng), shape, levels)
