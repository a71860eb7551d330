"""StyleGAN (Karras, Laine & Aila 2019): a generator that is controlled by styles, layer by layer.

    w = f(z)                                    the mapping network, an MLP: a style w for a code z
    AdaIN(h_i, y) = y_s,i (h_i − μ(h_i)) / σ(h_i) + y_b,i          (y_s, y_b) = A w + b

The image starts from a learnt constant. Every layer convolves it, adds noise (one value per pixel,
scaled by a learnt factor per channel) and applies AdaIN, which normalises each channel i of each
image over its pixels and gives it the mean and scale that the layer's own affine map A reads from
w. AdaIN discards whatever statistics came before, so a style governs one layer only: w in the
coarse layers decides on pose and shape, in the fine layers on strokes and colours. The noise
decides on the details that no style holds.

Style mixing trains the layers to be independent: up to a random layer, an image takes the style of
one code, and that of another one from there on. Truncation trades variety for quality,

    w' = w̄ + ψ (w − w̄)                         w̄ = E_z[f(z)],  0 ≤ ψ ≤ 1

The game is the non-saturating one, with the penalty of r1.py, and D has the channel of
minibatch_std.py before its last layer.

Differs from the paper: two doublings of the resolution, trained at once, as in StyleGAN2, instead
of grown; a mapping network of four layers instead of eight; strided convolutions in D.
"""

import math
from itertools import pairwise

import numpy as np

from minigen import (
    broadcast_to,
    group_norm,
    interpolate,
    mean,
    nn,
    no_grad,
    split,
    stack,
    tanh,
    where,
)
from minigen.dist import noise
from minigen.models.gan import dcgan
from minigen.models.gan.gan import NonSaturatingGAN, leaky
from minigen.models.gan.minibatch_std import minibatch_std
from minigen.models.gan.progressive import WIDTHS, pixel_norm
from minigen.models.gan.r1 import r1
from minigen.nn import initializers

MEAN_OF = 4096  # codes that w̄ is the mean of


def adain(h, y_s, y_b):
    """Each channel of each image h (N, C, H, W) with the scale and mean y_s, y_b (N, C)."""
    return group_norm(h, h.shape[1], y_s, y_b)  # eq: adain


class PixelNoise:
    """h (N, C, H, W) + one noise value per pixel, times a learnt factor per channel, at first 0."""

    def __init__(self, channels):
        self.scale = nn.Parameter(channels, 1, 1)

    def __call__(self, h, rng):
        return h + self.scale.weight * noise(rng, h[:, :1])  # eq: stylegan-noise


class Normalised(nn.Linear):
    """A linear layer whose weights start from N(0, gain² / inputs), so that what it passes on keeps
    its variance: with smaller weights, codes would hardly change the image at first."""

    def __init__(self, inputs, outputs, gain=1.0, rng=None):
        self.gain = gain
        super().__init__(inputs, outputs, rng=rng)

    def init(self, rng):
        initializers.normal(self.weight, self.gain / self.weight.shape[1] ** 0.5, rng)
        initializers.constant(self.bias, 0)


class StyledConv:
    """Convolution, noise and AdaIN: h (N, C, H, W) and styles w (N, d_w) → (N, K, H, W)."""

    def __init__(self, C, K, d_w, rng=None):
        self.conv = nn.Conv2d(C, K, 3, padding=1, rng=rng)
        self.noise = PixelNoise(K)
        self.affine = Normalised(d_w, 2 * K, rng=rng)

    def __call__(self, h, w, rng):
        h = leaky(self.noise(self.conv(h), rng))
        y_s, y_b = split(self.affine(w), 2, axis=1)
        return adain(h, 1 + y_s, y_b)


class Mapping(nn.Sequential):
    """f: codes z (N, d_z), scaled to a mean square of 1, to styles w (N, d_w)."""

    def __init__(self, d_z, d_w, layers=4, rng=None):
        sizes = [d_z, *[d_w] * layers]
        super().__init__(pixel_norm, *(
            layer for a, b in pairwise(sizes)
            for layer in (Normalised(a, b, gain=2**0.5, rng=rng), leaky)))


class Synthesis:
    """g: styles (N, L, d_w), one for each of L layers, to images of `shape` (C, H, W) in [−1, 1]:
    two layers at each of len(widths) resolutions. The noise is drawn from rng."""

    def __init__(self, d_w, shape, widths=WIDTHS, rng=None):
        C, H, W = shape
        halves = len(widths) - 1
        self.size = (widths[0], H >> halves, W >> halves)
        self.constant = nn.Embedding(1, math.prod(self.size), rng=rng)
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.layers = [StyledConv(*pair, d_w, rng=rng)
                       for a, b in pairs for pair in ((a, b), (b, b))]
        self.image = nn.Conv2d(widths[-1], C, 1, rng=rng)

    def __call__(self, styles, rng):
        h = broadcast_to(self.constant.weight.reshape(self.size), (len(styles), *self.size))
        for i, layer in enumerate(self.layers):
            if i and i % 2 == 0:
                h = interpolate(h, scale_factor=2)
            h = layer(h, styles[:, i], rng)
        return tanh(self.image(h))


class Generator:
    """The mapping f and the synthesis g, for images of `shape` (C, H, W)."""

    def __init__(self, d_z, shape, d_w=64, widths=WIDTHS, rng=None):
        self.d_z = d_z
        self.f, self.g = Mapping(d_z, d_w, rng=rng), Synthesis(d_w, shape, widths, rng)

    def styles(self, z):
        """w = f(z), the same for every layer: (N, d_z) → (N, L, d_w)."""
        return stack([self.f(z)] * len(self.g.layers), axis=1)

    def __call__(self, z, rng):
        return self.g(self.styles(z), rng)


def mix(first, second, layer):
    """Style mixing: the styles `first` (N, L, d_w) before each image's `layer`, (N,) or one for
    all, then those of `second`."""
    early = np.arange(first.shape[1]) < np.reshape(layer, (-1, 1))
    return where(early[..., None], first, second)  # eq: style-mixing


def truncate(styles, centre, psi):
    """w̄ + ψ (w − w̄): styles (N, L, d_w) drawn towards their mean w̄ (d_w,)."""
    return centre + psi * (styles - centre)  # eq: stylegan-truncation


def discriminator(shape, width=dcgan.WIDTH, rng=None):
    """Images of `shape` (C, H, W), H and W divisible by 4, to logits (N, 1)."""
    C, small = shape[0], dcgan.sizes(*shape[1:])[0]
    widths = (C, width, 2 * width, 4 * width)
    halve = [nn.Sequential(nn.Conv2d(a, b, 4, 2, 1, rng=rng), leaky) for a, b in pairwise(widths)]
    last = nn.Conv2d(widths[-1] + 1, 1, small, rng=rng)
    return nn.Sequential(*halve, minibatch_std, last, lambda a: a.flatten(1))


class StyleGAN(NonSaturatingGAN):
    """The game of a `Generator` G and of D, which gives logits (N, 1). In training a share `mixing`
    of the images have mixed styles; ``G(z, rng)`` draws images of one style each."""

    def __init__(self, G, D, gamma=1.0, mixing=0.9):
        super().__init__(G, D, G.d_z)
        self.gamma, self.mixing = gamma, mixing

    def generate(self, n, rng):
        """n images, a share of them with mixed styles, to be differentiated: (n, C, H, W)."""
        first, second = (self.G.styles(self.codes(n, rng)) for _ in range(2))
        L = first.shape[1]
        layer = np.where(rng.random(n) < self.mixing, rng.integers(1, L, n), L)
        return self.G.g(mix(first, second, layer), rng)

    def d_loss(self, x, rng):
        """−V + γ/2 R₁, on the real images x (N, C, H, W) and as many generated ones."""
        return -self.value(x, rng) + self.gamma / 2 * r1(self.D, x)  # eq: r1-penalty


def mean_style(game, rng):
    """w̄, the mean of the styles of many codes: (d_w,)."""
    with no_grad():
        return mean(game.G.f(game.codes(MEAN_OF, rng)), axis=0)


def stylegan(shape, d_z, d_w=64, widths=WIDTHS, rng=None):
    """A StyleGAN for images of `shape` (C, H, W) in [−1, 1]."""
    return StyleGAN(Generator(d_z, shape, d_w, widths, rng), discriminator(shape, rng=rng))
