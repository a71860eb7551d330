"""pix2pix (Isola, Zhu, Zhou & Efros 2017): a GAN whose generator is given an image, in place of
noise, and translates it to another. It learns from pairs of an input x and an output y.

    L_GAN(G, D) = E_{x,y}[log D(x, y)] + E_x[log(1 − D(x, G(x)))]
    G* = argmin_G max_D L_GAN(G, D) + λ E_{x,y} ‖y − G(x)‖₁

The second term alone is minimised by the median of all outputs that x may have, and a median of
colours is grey. The discriminator D, which sees the input together with the output, rejects that;
it judges each patch of the pair separately. Without noise G(x) is one mode of P(y | x), always the
same, and not a sample from it.

D outputs logits, one for each patch, and L_GAN is a mean over these, too, as ‖·‖₁ is over pixels.
In G's loss −log D takes the place of log(1 − D), as in gan.py.

Differs from the paper: smaller networks, for images of 28×28 or 32×32. The U-Net downsamples twice
and has no batch norm and no dropout, the paper's only noise; a patch is 22×22 pixels, not 70×70.
"""

from minigen import concatenate, l1_loss, logsigmoid, mean, nn, no_grad, tanh
from minigen.models.gan.dcgan import Net
from minigen.models.gan.gan import check_shape, leaky


class Pix2Pix:
    """`G(x)` maps inputs (N, C, H, W) to outputs (N, K, H, W); `D(x, y)` maps pairs to logits, of
    any shape. `lam` is λ.

    The losses also take G_x = G(x), which both players' steps can share. They raise ValueError if
    its shape is not that of y.
    """

    def __init__(self, G, D, lam=100.0):
        self.G, self.D, self.lam = G, D, lam

    def translate(self, x):
        """The outputs for x, untracked."""
        with no_grad():
            return self.G(x)  # eq: pix2pix-single-mode

    def value(self, x, y, G_x):
        """L_GAN(G, D), with no gradient into G: a scalar in nats."""
        G_x = check_shape("Pix2Pix", G_x, y).detach()
        real, fake = self.D(x, y), self.D(x, G_x)
        return mean(logsigmoid(real)) + mean(logsigmoid(-fake))  # eq: pix2pix-pair-d

    def d_loss(self, x, y, G_x):
        """−L_GAN(G, D)."""
        return -self.value(x, y, G_x)

    def g_loss(self, x, y, G_x):
        """−E log D(x, G(x)) + λ E‖y − G(x)‖₁."""
        fake = self.D(x, G_x)
        return -mean(logsigmoid(fake)) + self.lam * l1_loss(G_x, y)  # eq: pix2pix-l1


class PairDiscriminator:
    """A discriminator of pairs: `net` sees both images, concatenated along the channels."""

    def __init__(self, net):
        self.net = net

    def __call__(self, x, y):
        return self.net(concatenate([x, y], axis=1))


def generator(C, K, widths=(32, 64, 128), rng=None):
    """A U-Net from images (N, C, H, W) to (N, K, H, W) in [−1, 1]."""
    return nn.Sequential(nn.UNet(C, K, widths, rng), tanh)


def patch_discriminator(C, width=32, rng=None):
    """A discriminator of images (N, C, H, W), at least 8×8: logits (N, 1, H/4 − 1, W/4 − 1), one
    for each patch."""
    return Net(
        nn.Conv2d(C, width, 4, 2, 1), leaky,
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), leaky,
        nn.Conv2d(2 * width, 1, 4, 1, 1), rng=rng)


def pix2pix(C, K, widths=(32, 64, 128), width=32, lam=100.0, rng=None):
    """A Pix2Pix from images of C channels to images of K."""
    D = PairDiscriminator(patch_discriminator(C + K, width, rng))
    return Pix2Pix(generator(C, K, widths, rng), D, lam)
