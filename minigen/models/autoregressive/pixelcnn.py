"""PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu 2016): masked convolutions see the image above
and to the left of a pixel (its context) and predict the distribution of the pixel's value.

    p_θ(x) = Π_t p_θ(x_t | context(t))            θ* = argmax_θ Σ_i log p_θ(x⁽ⁱ⁾)

A stack of masked 3×3 convolutions does not see all preceding pixels: a wedge above and to the right
of the pixel is its blind spot. gated_pixelcnn.py has none.

Differs from the paper: each block is a single 3×3 convolution, without the 1×1 convolutions that
halve the channels before it and double them after it (they take longer than the 3×3 convolution);
and a bias learnt for every position tells the network where it is, which the paper's fifteen layers
see for themselves.
"""

from minigen import relu
from minigen.models.autoregressive.pixels import PixelModel, outputs
from minigen.nn.masked import MaskedConv2d, PositionBias


class PixelCNN:
    """The network: images of `shape`, (N, C, H, W) → (N, C · outputs(levels), H, W).

    h: channels, divisible by C; depth: 3×3 convolutions after the first, which is 7×7
    """

    def __init__(self, shape, levels=2, h=48, depth=6, rng=None):
        C, H, W = shape
        self.first = MaskedConv2d(C, h, 7, "A", C, rng=rng)
        self.position_bias = PositionBias(h, H, W)
        self.blocks = [MaskedConv2d(h, h, 3, "B", C, rng=rng) for _ in range(depth)]
        self.head = MaskedConv2d(h, h, 1, "B", C, rng=rng)
        self.last = MaskedConv2d(h, C * outputs(levels), 1, "B", C, rng=rng)

    def __call__(self, x, at=None):
        x = self.position_bias(self.first(x, at), at)
        for block in self.blocks:
            x = x + block(relu(x), at)
        return self.last(relu(self.head(relu(x), at)), at)


def pixelcnn(shape, levels=2, h=48, depth=6, rng=None):
    """A PixelCNN for images of `shape` (C, H, W) with values 0 … levels − 1: a `PixelModel`."""
    return PixelModel(PixelCNN(shape, levels, h, depth, rng), shape, levels)
