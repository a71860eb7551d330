"""DF-GAN (Tao et al. 2022): one generator, one discriminator, and the sentence in every block.

    c = [z, e]                                                noise and the code of a sentence
    Affine:   γ(c) ⊙ h + θ(c)                                 γ, θ: MLPs, one number per channel
    DFBlock:  two such maps, each with a ReLU after it        a function of h that depends on c
    UPBlock:  h is enlarged, then h + conv(DFBlock(conv(DFBlock(h, c)), c))

    L_D = E[max(0, 1 − D(x, e))] + ½ E[max(0, 1 + D(G(z, e), e))] + ½ E[max(0, 1 + D(x, ê))]
          + k E[(‖∇ₓ D(x, e)‖ + ‖∇ₑ D(x, e)‖)ᵖ]                ê: another sentence; k = 2, p = 6
    L_G = −E[D(G(z, e), e)]

There are no stages as in stackgan.py, no attention to words, and no networks that only compare
image and text. The penalty (MA-GP, matching-aware gradient penalty) makes D flat around real images
with their own sentences, and nowhere else: a real image with another sentence remains on a slope,
which leads G to what matches. D judges a pair once; of an image alone it would say yes without a
match.

Differs from the paper: small networks, for 32×32 pixels; CLIP's text encoder in place of AttnGAN's;
leaky ReLU, as in the authors' program; He's initial weights in D. In G, what acts on pixels one by
one comes before the enlargement, in D the 1×1 convolution after the averaging: the same functions.
"""

import math
from itertools import pairwise

from minigen import (
    avg_pool2d,
    concatenate,
    grad,
    interpolate,
    mean,
    nn,
    norm,
    relu,
    sum,
    tanh,
    tensor,
)
from minigen.models.gan.gan import Game, leaky
from minigen.models.text_to_image.gan_cls import mismatched
from minigen.nn import initializers
from minigen.nn.conditioned import as_vectors


class DFGAN(Game):
    """The game of G(z, e) and D(x, e), on sentence codes e (N, d). An image's mismatched sentence
    is that of the image before it in the batch."""

    def __init__(self, G, D, d_z, k=2, p=6):
        super().__init__(G, D, d_z)
        self.k, self.p = k, p

    def d_loss(self, x, rng, e):
        """L_D on real images x with their sentences, and as many generated ones."""
        fake = self.D(self.fake_batch(x, rng, e), e)
        x, e = tensor(x, requires_grad=True), tensor(e, requires_grad=True)
        h = self.D.convs(x)
        real, mismatch = self.D.joint(h, e), self.D.joint(h, mismatched(e))
        yes = mean(relu(1 - real))  # eq: df-gan-hinge
        no = (mean(relu(1 + fake)) + mean(relu(1 + mismatch))) / 2  # eq: df-gan-hinge
        return yes + no + self.k * ma_gp(real, x, e, self.p)  # eq: df-gan-hinge

    def g_loss(self, n, rng, e):
        """L_G on n images, one for each sentence."""
        return -mean(self.discriminate_fake(n, rng, e))  # eq: df-gan-hinge


def ma_gp(scores, x, e, p):
    """E[(‖∇ₓ D‖ + ‖∇ₑ D‖)ᵖ], differentiable in D's parameters. `scores` (N, 1) are D(x, e),
    computed from tracked x (N, ...) and e (N, d)."""
    grad_x, grad_e = grad(sum(scores), [x, e], create_graph=True)
    slope = norm(grad_x.flatten(1), axis=1) + norm(grad_e, axis=1)  # eq: ma-gp
    return mean(slope ** p)  # eq: ma-gp


class ZeroLinear(nn.Linear):
    """A linear layer whose outputs are 0 at first."""

    def init(self, rng):
        initializers.constant(self.weight, 0)
        initializers.constant(self.bias, 0)


class Affine:
    """γ(c) ⊙ h + θ(c) of maps h (N, C, H, W) and conditions c (N, d_c): at first h itself."""

    def __init__(self, C, d_c, hidden, rng=None):
        self.gamma, self.theta = (
            nn.Sequential(nn.Linear(d_c, hidden, rng=rng), relu, ZeroLinear(hidden, C, rng=rng))
            for _ in range(2))

    def __call__(self, h, c):
        gamma, theta = (f(c).reshape(*h.shape[:2], 1, 1) for f in (self.gamma, self.theta))
        return (1 + gamma) * h + theta  # eq: df-gan-affine


class DFBlock:
    """Two affine maps, each with a ReLU after it: maps h (N, C, H, W), conditions c (N, d_c)."""

    def __init__(self, C, d_c, hidden, rng=None):
        self.affines = [Affine(C, d_c, hidden, rng) for _ in range(2)]

    def __call__(self, h, c):
        for affine in self.affines:
            h = leaky(affine(h, c))
        return h


class UPBlock:
    """A residual block, which doubles the size: (N, C, H, W) → (N, K, 2H, 2W)."""

    def __init__(self, C, K, d_c, hidden, rng=None):
        self.fuse_1, self.fuse_2 = (DFBlock(n, d_c, hidden, rng) for n in (C, K))
        self.conv_1, self.conv_2 = (nn.Conv2d(n, K, 3, 1, 1, rng=rng) for n in (C, K))
        self.skip = nn.Conv2d(C, K, 1, rng=rng)

    def __call__(self, x, c):
        h = self.conv_1(interpolate(self.fuse_1(x, c), scale_factor=2))
        h = self.conv_2(self.fuse_2(h, c))
        return interpolate(self.skip(x), scale_factor=2) + h


class Generator:
    """From noise z (N, d_z) and sentence codes e (N, d) to images of `shape` (C, H, W) in [−1, 1]:
    maps of widths[0] channels are doubled in size by one block for each further width."""

    def __init__(self, shape, d_z, d, widths, hidden, rng=None):
        C, H, W = shape
        halvings, self.d = len(widths) - 1, d
        self.small = (widths[0], H >> halvings, W >> halvings)
        self.first = nn.Linear(d_z, math.prod(self.small), rng=rng)
        self.blocks = [UPBlock(a, b, d_z + d, hidden, rng) for a, b in pairwise(widths)]
        self.last = nn.Conv2d(widths[-1], C, 3, 1, 1, rng=rng)

    def __call__(self, z, e):
        c = concatenate([z, as_vectors(e, len(z), self.d, z.dtype)], axis=1)
        h = self.first(z).reshape(len(z), *self.small)
        for block in self.blocks:
            h = block(h, c)
        return tanh(self.last(leaky(h)))


class Conv2d(nn.Conv2d):
    """A convolution whose outputs are at first as large as its inputs (He et al. 2015). From
    PyTorch's smaller weights D was so flat that G kept up with it and learnt hardly anything."""

    def init(self, rng):
        initializers.kaiming_uniform(self.weight, rng, a=0.2)
        initializers.constant(self.bias, 0)


class DownBlock:
    """A residual block of D, which halves the size: (N, C, H, W) → (N, K, H/2, W/2). The residual
    is scaled by a learnt number, at first 0."""

    def __init__(self, C, K, rng=None):
        self.residual = nn.Sequential(Conv2d(C, K, 4, 2, 1, rng=rng), leaky,
                                      Conv2d(K, K, 3, 1, 1, rng=rng), leaky)
        self.skip, self.scale = Conv2d(C, K, 1, rng=rng), nn.Parameter()

    def __call__(self, x):
        return self.skip(avg_pool2d(x, 2)) + self.scale.weight * self.residual(x)


class Discriminator:
    """D: from images of `shape` (C, H, W) and sentence codes e (N, d) to numbers (N, 1), large for
    images that look real and match. e is appended to the last map at each position. There is no
    batch norm, because the penalty is for each image."""

    def __init__(self, shape, d, widths, rng=None):
        C, H, W = shape
        K, halvings = widths[-1], len(widths) - 1
        self.convs = nn.Sequential(Conv2d(C, widths[0], 3, 1, 1, rng=rng),
                                   *(DownBlock(a, b, rng) for a, b in pairwise(widths)))
        self.joint = nn.Conditioned(nn.Sequential(
            Conv2d(K + d, K // 2, 3, 1, 1, rng=rng), leaky,
            Conv2d(K // 2, 1, (H >> halvings, W >> halvings), rng=rng),
            lambda a: a.flatten(1)), d)

    def __call__(self, x, e):
        return self.joint(self.convs(x), e)


def df_gan(shape, d_z, d, hidden=64, rng=None):
    """A DFGAN for images of `shape` (C, H, W), sides divisible by 8, in [−1, 1] and codes of d
    numbers. ValueError for other sides."""
    C, H, W = shape
    if H % 8 or W % 8:
        raise ValueError(f"df_gan: images are {H}×{W}, expected sides divisible by 8")
    G = Generator(shape, d_z, d, (128, 128, 64, 32), hidden, rng)
    return DFGAN(G, Discriminator(shape, d, (16, 32, 64, 128), rng), d_z)
