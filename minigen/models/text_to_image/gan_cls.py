"""GAN-CLS and GAN-INT (Reed et al. 2016): a GAN conditioned on a sentence.

    G(z, t), D(x, t)          t: a sentence's embedding

CLS: an image must not only look real, it must also match. D is trained on three kinds of pairs,

    (real x, its t): yes        (real x, another t̂): no        (G(z, t), t): no

    max_D E[log D(x, t)] + ½ E[log(1 − D(x, t̂))] + ½ E[log(1 − D(G(z, t), t))]

INT: between the embeddings of two sentences lie embeddings of sentences that nobody wrote. G learns
to generate images for these, too,

    min_G E[log(1 − D(G(z, t), t))] + E_{t₁, t₂}[log(1 − D(G(z, t_β), t_β))]
    t_β = β t₁ + (1 − β) t₂

although D has seen no real image for them: it relies on what it has learnt from pairs.

D outputs logits. In G's loss −log D takes the place of log(1 − D), as in gan.py. The embeddings are
those of joint_embedding.py.

Differs from the paper: G and D are given the embedding itself, not a compressed one.
"""

from itertools import pairwise

from minigen import logsigmoid, mean, nn, relu, roll, tanh, tensor
from minigen.models.gan import dcgan
from minigen.models.gan.gan import Game, leaky


class GANCLS(Game):
    """The game conditioned on sentence embeddings t (N, d): ``d_loss(x, rng, t)``, ``g_loss(n, rng,
    t)``. An image's mismatched sentence is that of the image before it in the batch."""

    beta = 0.5

    def d_loss(self, x, rng, t):
        """What D minimises, on real samples x with their embeddings t."""
        real, fake = self.discriminate(x, rng, t)
        mismatch = self.D(x, mismatched(t))
        negatives = (mean(logsigmoid(-mismatch)) + mean(logsigmoid(-fake))) / 2
        return -mean(logsigmoid(real)) - negatives  # eq: gan-cls-triples

    def g_loss(self, n, rng, t):
        """What G minimises, on n samples for embeddings t and n for points between two of them."""
        t_beta = self.beta * tensor(t) + (1 - self.beta) * mismatched(t)
        matching, interpolated = (mean(logsigmoid(self.discriminate_fake(n, rng, c)))
                                  for c in (t, t_beta))
        return -matching - interpolated  # eq: gan-int


def mismatched(t):
    """For each pair of a batch, the embedding of the pair before it. ValueError for one pair."""
    if len(t) < 2:
        raise ValueError("gan_cls: a single pair came, and no other sentence: give 2 or more")
    return roll(t, 1, 0)


class Discriminator:
    """D: from images of `shape` (C, H, W), H and W divisible by 8, and embeddings t (N, d) to
    logits (N, 1). DCGAN's convolutions end in a small map, to which t is appended at each
    position."""

    def __init__(self, shape, d, width=dcgan.WIDTH, rng=None):
        K = 4 * width
        *convs, last, flat = dcgan.discriminator(shape, width)
        self.convs = dcgan.Net(*convs, rng=rng)
        self.joint = nn.Conditioned(dcgan.Net(
            nn.Conv2d(K + d, K, 1, bias=False), nn.BatchNorm2d(K), leaky, last, flat, rng=rng), d)

    def __call__(self, x, t):
        if x.dtype.kind != "f":
            raise TypeError(f"gan_cls: images must be of floats, got {x.dtype}")
        return self.joint(self.convs(x), t)


def generator(n, shape, K, rng=None):
    """From codes (N, n) to square images of `shape` (C, H, W), H 4 times a power of two, in
    [−1, 1]: DCGAN's blocks, continued up to the full size with K channels there. DCGAN has no block
    at that size; a transposed convolution computes its pixels, which leaves them speckled."""
    C, H, W = shape
    times = int(H // 4).bit_length() - 1
    if H != W or H != 4 << times:
        raise ValueError(f"gan_cls: images are {H}×{W}, expected squares of 8, 16, 32, … pixels")
    widths = [K * min(4, 2 ** k) for k in range(times, -1, -1)]
    blocks = [layer for a, b in pairwise(widths) for layer in upsample(a, b)]
    return dcgan.Net(lambda z: z.reshape(*z.shape, 1, 1),
                     nn.ConvTranspose2d(n, widths[0], 4, bias=False), nn.BatchNorm2d(widths[0]),
                     relu, *blocks, nn.Conv2d(K, C, 3, 1, 1), tanh, rng=rng)


def upsample(a, b):
    """Layers from a channels to b, which double the size."""
    return nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), relu


def gan_cls(shape, d_z, d, width=dcgan.WIDTH, rng=None):
    """A GANCLS for images of `shape` (C, H, W) in [−1, 1] and embeddings of d numbers: DCGAN's
    networks, G 1.5 times as wide as D."""
    G = nn.Conditioned(generator(d_z + d, shape, 3 * width // 2, rng), d)
    return GANCLS(G, Discriminator(shape, d, width, rng), d_z)
