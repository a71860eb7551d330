"""SRResNet and SRGAN (Ledig et al. 2017): a network G enlarges small images y, and is judged by
pixels, or by features and a discriminator.

    SRResNet:  L = ‖x − G(y)‖²                               y: the image x, reduced in size
    SRGAN:     L = L_X + 10⁻³ L_Gen                          the perceptual loss
               L_X = 0.1 ‖φ(x) − φ(G(y))‖² / ‖φ(x)‖²         φ: a hidden layer of a classifier
               L_Gen = −log D(G(y))
               max_D E_x[log D(x)] + E_y[log(1 − D(G(y)))]

Many images have the same y. The squared error is least for their mean, which is blurred; an image
that looks real is further from x, on average (perception.py). So SRResNet has the highest PSNR, and
SRGAN, which starts from SRResNet's weights, the sharpest images and a lower PSNR.

G computes at the size of y: residual blocks, then a convolution and a pixel shuffle for each
doubling. ‖x − G(y)‖² is a mean over pixels, log D a mean over D's patches; L_X is the ratio of the
means over a batch.

Differs from the paper: φ is of a small classifier, trained on the same images, in place of VGG's;
its error is relative, and 0.1 takes the place of 0.006, because the scale of features is arbitrary;
small networks, with 3×3 filters also where the paper has 9×9, and tanh at the end; D is the one of
vqgan.py, which judges patches and has no batch norm.
"""

import math

from minigen import logsigmoid, max_pool2d, mean, nn, pixel_shuffle, relu, square, tanh
from minigen.models.gan.gan import check_shape
from minigen.models.vae.vqgan import texture_discriminator

PHI = 9  # how many layers of `classifier` φ has: VGG's φ_{2,2}, (N, 2 width, H/2, W/2)


class SRGAN:
    """`G` maps small images y (N, C, h, w) to large ones (N, C, H, W), `D` large ones to logits of
    any shape, `phi` large ones to features of any shape.

    The losses also take G_y = G(y), which both players' steps can share. They raise ValueError if
    its shape is not that of x.
    """

    def __init__(self, G, D, phi):
        self.G, self.D, self.phi = G, D, phi

    def d_loss(self, x, G_y):
        """What D minimises, with no gradient into G: a scalar in nats."""
        real, fake = self.D(x), self.D(check_shape("SRGAN", G_y, x).detach())
        return -mean(logsigmoid(real)) - mean(logsigmoid(-fake))  # eq: srgan-game

    def content_loss(self, x, G_y):
        """L_X: a scalar. φ(x) is a constant in it."""
        phi_x = self.phi(x).detach()
        error = mean(square(phi_x - self.phi(check_shape("SRGAN", G_y, x))))
        return 0.1 * error / mean(square(phi_x))  # eq: srgan-content-loss

    def g_loss(self, x, G_y):
        """The perceptual loss, which G minimises, and its parts, L_X and L_Gen."""
        L_X = self.content_loss(x, G_y)
        L_Gen = -mean(logsigmoid(self.D(G_y)))  # eq: srgan-perceptual-loss
        return L_X + 1e-3 * L_Gen, {"L_X": L_X, "L_Gen": L_Gen}  # eq: srgan-perceptual-loss


class PReLU:
    """max(0, h) + a min(0, h), with a learnt a for each channel of h (N, C, H, W), at first 0.25
    (He et al. 2015)."""

    def __init__(self, channels):
        self.a = nn.Parameter(channels, 1, 1, value=0.25)

    def __call__(self, h):
        return relu(h) - self.a.weight * relu(-h)


class Residual(nn.Sequential):
    """h + f(h), f the layers one after the other: (N, C, H, W) → (N, C, H, W)."""

    def __call__(self, h):
        return h + super().__call__(h)


def conv(C, K, rng):
    """A convolution that keeps the size: (N, C, H, W) → (N, K, H, W)."""
    return nn.Conv2d(C, K, 3, padding=1, rng=rng)


def double(h):
    """(N, 4K, H, W) → (N, K, 2H, 2W)."""
    return pixel_shuffle(h, 2)


def srresnet(C, factor, width=32, blocks=4, rng=None):
    """The generator: small images (N, C, h, w) to images `factor` times as large, in [−1, 1].
    ValueError unless `factor` is a power of two from 2 on."""
    doublings = int(math.log2(max(factor, 1)))
    if factor != 2**doublings or not doublings:
        raise ValueError(f"srresnet: images are enlarged by 2, 4, 8, …, got {factor}")
    K = width
    normed = lambda: (conv(K, K, rng), nn.BatchNorm2d(K))
    block = lambda: Residual(*normed(), PReLU(K), *normed())
    return nn.Sequential(
        conv(C, K, rng), PReLU(K),
        Residual(*(block() for _ in range(blocks)), *normed()),
        *(layer for _ in range(doublings) for layer in (conv(K, 4 * K, rng), double, PReLU(K))),
        conv(K, C, rng), tanh)


def classifier(shape, classes, width=16, rng=None):
    """The first two blocks of VGG (Simonyan & Zisserman 2015), narrower, and a linear layer: images
    of `shape` (C, H, W), H and W divisible by 4, to logits (N, classes). Its slice [:PHI] is φ."""
    C, H, W = shape
    block = lambda C, K: (conv(C, K, rng), relu, conv(K, K, rng), relu, lambda h: max_pool2d(h, 2))
    return nn.Sequential(
        *block(C, width), *block(width, 2 * width), lambda h: h.flatten(1),
        nn.Linear(2 * width * (H // 4) * (W // 4), classes, rng=rng))


def srgan(C, factor, phi, width=32, blocks=4, rng=None):
    """An SRGAN for images of C channels, whose size is divisible by 4, and features `phi`."""
    return SRGAN(srresnet(C, factor, width, blocks, rng), texture_discriminator(C, rng=rng), phi)
