"""Gated PixelCNN (van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders").

    y = tanh(W_f ∗ x) ⊙ σ(W_g ∗ x)

Two stacks of such layers read the image: the vertical stack reads the rows above the pixel, however
far to the right; the horizontal stack reads the pixel's own row. In each layer the vertical stack's
output feeds into the horizontal stack, never the other way round. Together their receptive field
covers all preceding pixels: there is no blind spot.

Differs from the paper: the vertical stack reads the image shifted down by one row, so that all its
layers have the same mask, and it is residual like the horizontal one; a bias learnt for every
position tells the network where it is.
"""

from minigen import nn, pad, relu, sigmoid, split, tanh, tensor
from minigen.models.autoregressive.pixels import PixelModel, outputs
from minigen.nn.masked import MaskedConv2d, PositionBias
from minigen.tensor import xp


def gate(y, colours=1):
    """The gated activation of W_f ∗ x and W_g ∗ x, which lie side by side within each colour's
    channels: (N, 2h, H, W) → (N, h, H, W)."""
    N, K, H, W = y.shape
    f, g = split(y.reshape(N * colours, K // colours, H, W), 2, axis=1)
    y = tanh(f) * sigmoid(g)  # eq: gated-conv-layer
    return y.reshape(N, K // 2, H, W)


class Layer:
    """One layer of both stacks, from C channels to h. The first reads the image; later layers have
    C = h and are residual."""

    def __init__(self, C, h, size, colours, first, rng=None):
        self.first, self.colours = first, colours
        self.vertical = MaskedConv2d(C, 2 * h, size, "rows", rng=rng)
        self.v_to_h = nn.Conv2d(2 * h, 2 * h, 1, rng=rng)
        self.horizontal = MaskedConv2d(C, 2 * h, (1, size), "A" if first else "B", colours, rng=rng)
        self.out = MaskedConv2d(h, h, 1, "B", colours, rng=rng)

    def horizontal_layer(self, x, link, at, *given):
        """In the horizontal stack: x (N, C, H, W), and link (N, 2h, H, W) from the vertical stack.
        """
        y = self.out(gate(self.horizontal(x, at, *given) + link, self.colours), at)
        return y if self.first else x + y


class GatedPixelCNN:
    """The network: images of `shape`, (N, C, H, W) → (N, C · outputs(levels), H, W).

    h: channels of each stack, divisible by C; depth: layers after the first
    """

    def __init__(self, shape, levels=2, h=24, depth=5, rng=None):
        C, H, W = shape
        self.position_bias = PositionBias(2 * h, H, W)
        self.layers = [Layer(C, h, 7, C, True, rng),
                       *(Layer(h, h, 3, C, False, rng) for _ in range(depth))]
        self.head = MaskedConv2d(h, 2 * h, 1, "B", C, rng=rng)
        self.last = MaskedConv2d(2 * h, C * outputs(levels), 1, "B", C, rng=rng)

    def vertical_stack(self, x, at, *given):
        """The vertical stack on x, the image shifted down by one row: what each layer passes to the
        horizontal stack, a list of (N, 2h, H, W)."""
        links = []
        for layer in self.layers:
            y = layer.vertical(x, at, *given)
            y = self.position_bias(y, at) if layer.first else y
            links.append(layer.v_to_h(y))
            x = gate(y) if layer.first else x + gate(y)
        return links

    def __call__(self, x, *given, at=None):
        if at is None:
            shifted = pad(x[:, :, :-1], [(0, 0), (0, 0), (1, 0), (0, 0)])
            links = self.vertical_stack(shifted, at, *given)
        else:
            if at.j == 0:  # a new row: run the vertical stack for all its positions at once
                above = at.x[:, :, at.i - 1:at.i] if at.i else xp(at.x).zeros_like(at.x[:, :, :1])
                at.cache[self] = self.vertical_stack(tensor(above), at, *given)
            links = [link[..., at.j:at.j + 1] for link in at.cache[self]]
        for layer, link in zip(self.layers, links, strict=True):
            x = layer.horizontal_layer(x, link, at, *given)
        return self.last(relu(self.head(relu(x), at)), at)


def gated_pixelcnn(shape, levels=2, h=24, depth=5, rng=None):
    """A Gated PixelCNN for images of `shape` (C, H, W) with values 0 … levels − 1: a `PixelModel`.
    """
    return PixelModel(GatedPixelCNN(shape, levels, h, depth, rng), shape, levels)
