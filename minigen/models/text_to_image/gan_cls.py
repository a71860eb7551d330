"""GAN-CLS and GAN-INT (Reed et al. 2016): a GAN that draws what a sentence says.

    G(z, t), D(x, t)          t: a sentence's code

CLS: that an image is real is not enough, it must also fit. D is shown three kinds of pairs,

    (real x, its t): yes        (real x, another t̂): no        (G(z, t), t): no

    max_D E[log D(x, t)] + ½ E[log(1 − D(x, t̂))] + ½ E[log(1 − D(G(z, t), t))]

INT: between the codes of two sentences lie codes of sentences that nobody wrote. G is to draw them,

    min_G E[log(1 − D(G(z, t), t))] + E_{t₁, t₂}[log(1 − D(G(z, t_β), t_β))]
    t_β = β t₁ + (1 − β) t₂

although D was shown no image for them: what it has learnt of pairs is all there is to go by.

D gives logits. In G's loss −log D takes the place of log(1 − D), as in gan.py. The codes are those
of joint_embedding.py.

Differs from the paper: G and D are given a code as it is, without a layer that makes it shorter.
"""

from itertools import pairwise

from minigen import logsigmoid, mean, nn, relu, roll, tanh, tensor
from minigen.models.gan import dcgan
from minigen.models.gan.gan import Game, leaky


class GANCLS(Game):
    """The game of sentences' codes t (N, d): ``d_loss(x, rng, t)``, ``g_loss(n, rng, t)``. Another
    sentence is that of the batch's image before."""

    beta = 0.5

    def d_loss(self, x, rng, t):
        """What D goes down, on real samples x with their codes t."""
        real, fake = self.judge(x, rng, t)
        other = self.D(x, before(t))
        no = (mean(logsigmoid(-other)) + mean(logsigmoid(-fake))) / 2
        return -mean(logsigmoid(real)) - no  # eq: gan-cls-triples

    def g_loss(self, n, rng, t):
        """What G goes down: n samples of the codes t, and n of what lies between two of them."""
        t_beta = self.beta * tensor(t) + (1 - self.beta) * before(t)
        told, between = (mean(logsigmoid(self.judge_drawn(n, rng, c))) for c in (t, t_beta))
        return -told - between  # eq: gan-int


def before(t):
    """The code of the pair before, of each of a batch. ValueError for a single pair."""
    if len(t) < 2:
        raise ValueError("gan_cls: a single pair came, and no other sentence: give 2 or more")
    return roll(t, 1, 0)


class Discriminator:
    """D: images of `shape` (C, H, W), H and W divisible by 8, and codes t (N, d) to logits (N, 1).
    DCGAN's convolutions end in a small map, at each place of which D is told t."""

    def __init__(self, shape, d, width=dcgan.WIDTH, rng=None):
        K = 4 * width
        *see, last, flat = dcgan.discriminator(shape, width)
        self.see = dcgan.Net(*see, rng=rng)
        self.both = nn.Labelled(dcgan.Net(
            nn.Conv2d(K + d, K, 1, bias=False), nn.BatchNorm2d(K), leaky, last, flat, rng=rng), d)

    def __call__(self, x, t):
        if x.dtype.kind != "f":
            raise TypeError(f"gan_cls: images must be of floats, got {x.dtype}")
        return self.both(self.see(x), t)


def generator(n, shape, K, rng=None):
    """Codes (N, n) to images of `shape` (C, H, W), 4 times a power of two, in [−1, 1]: DCGAN's
    blocks up to the full size, where DCGAN has none, and K channels there. Where a transposed
    convolution paints the pixels, they stay speckled."""
    C, H, W = shape
    times = int(H // 4).bit_length() - 1
    if H != W or H != 4 << times:
        raise ValueError(f"gan_cls: images are {H}×{W}, expected squares of 8, 16, 32, … pixels")
    widths = [K * min(4, 2 ** k) for k in range(times, -1, -1)]
    blocks = [layer for a, b in pairwise(widths) for layer in double(a, b)]
    return dcgan.Net(lambda z: z.reshape(*z.shape, 1, 1),
                     nn.ConvTranspose2d(n, widths[0], 4, bias=False), nn.BatchNorm2d(widths[0]),
                     relu, *blocks, nn.Conv2d(K, C, 3, 1, 1), tanh, rng=rng)


def double(a, b):
    """From a channels to b, at twice the size."""
    return nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), relu


def gan_cls(shape, d_z, d, width=dcgan.WIDTH, rng=None):
    """A GANCLS for images of `shape` (C, H, W) in [−1, 1] and codes of d numbers: DCGAN's networks,
    of which G is wider than D by a half."""
    G = nn.Labelled(generator(d_z + d, shape, 3 * width // 2, rng), d)
    return GANCLS(G, Discriminator(shape, d, width, rng), d_z)
