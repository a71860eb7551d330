"""SAGAN (Zhang et al. 2019): what BigGAN starts from. Any two parts of an image can depend on each
other, the discriminator compares features with the class, and the loss is a hinge.

    L_D = E_{x,y}[max(0, 1 − D(x, y))] + E_{z,y}[max(0, 1 + D(G(z, y), y))]
    L_G = −E_{z,y}[D(G(z, y), y)]

    D(x, y) = w·φ(x) + b + e_y·φ(x)                            projection (Miyato & Koyama 2018)
    SA(h)_i = h_i + γ o(Σ_j softmax_j(f(h)_i · g(h)_j) v(h)_j)

f, g, v, o are 1×1 convolutions, i and j positions; γ starts at 0, so G and D first learn from
neighbouring pixels. All weights of D are divided by their largest singular value (nn/spectral.py).

Differs from the papers: small networks; g(h) and v(h) are halved by max pooling, as in the authors'
program, but not in their equations; D's last residual block, which keeps the size, is one
convolution; shortcuts are pooled before their 1×1 convolution, which gives the same function.
"""

from minigen import (
    avg_pool2d,
    max_pool2d,
    mean,
    nn,
    relu,
    scaled_dot_product_attention,
    sum,
)
from minigen.models.gan.gan import Game


class SAGAN(Game):
    """The game of G(z, y) and D(x, y), on labels y (N,), with hinge losses."""

    def d_loss(self, x, rng, y):
        """L_D on real images x with labels y, and as many generated ones with the same labels."""
        real, fake = self.discriminate(x, rng, y)
        return mean(relu(1 - real)) + mean(relu(1 + fake))  # eq: hinge-gan

    def g_loss(self, n, rng, y):
        """L_G on n images with the labels y."""
        return -mean(self.discriminate_fake(n, rng, y))  # eq: hinge-gan


def conv(C, K, size, rng):
    """A normalised convolution that keeps the size: (N, C, H, W) → (N, K, H, W)."""
    return nn.SpectralNorm(nn.Conv2d(C, K, size, padding=size // 2, rng=rng), rng)


def linear(inputs, outputs, rng, bias=False):
    """A normalised linear layer: (N, inputs) → (N, outputs)."""
    return nn.SpectralNorm(nn.Linear(inputs, outputs, bias, rng), rng)


class SelfAttention:
    """SA: (N, C, H, W) → the same shape, for C of at least 8 and even sides. j are positions of
    maps g(h) and v(h) halved by max pooling."""

    def __init__(self, C, rng):
        self.f, self.g = conv(C, C // 8, 1, rng), conv(C, C // 8, 1, rng)
        self.v, self.o = conv(C, C // 2, 1, rng), conv(C // 2, C, 1, rng)
        self.gamma = nn.Parameter()

    def __call__(self, h):
        N, C, H, W = h.shape
        f, g, v = self.f(h), max_pool2d(self.g(h), 2), max_pool2d(self.v(h), 2)
        f, g, v = map(nn.positions, (f, g, v))  # (N, positions, channels)
        found = scaled_dot_product_attention(f, g, v, scale=1)  # eq: self-attention-gan
        found = nn.as_maps(found, (N, C // 2, H, W))
        return h + self.gamma.weight * self.o(found)  # eq: self-attention-gan


class Down:
    """A residual block of D, which halves the size: (N, C, H, W) → (N, K, H/2, W/2). `act` comes
    first: relu, except before images."""

    def __init__(self, C, K, rng, act=relu):
        self.conv_1, self.conv_2 = conv(C, K, 3, rng), conv(K, K, 3, rng)
        self.skip, self.act = conv(C, K, 1, rng), act

    def __call__(self, x):
        h = self.conv_2(relu(self.conv_1(self.act(x))))
        return self.skip(avg_pool2d(x, 2)) + avg_pool2d(h, 2)


class Discriminator:
    """Images (N, C, H, W) and labels y (N,) to numbers (N,), large for images that look real and of
    class y. Self-attention follows the first of the blocks."""

    def __init__(self, classes, shape, width, rng):
        C, H, W = shape
        last = halvings(H, W) - 1
        downs = [Down(width << i, 2 * width << i, rng) for i in range(last)]
        d_phi = 2 * width << last
        self.phi = nn.Sequential(
            Down(C, width, rng, act=lambda x: x), SelfAttention(width, rng), *downs, relu,
            conv(width << last, d_phi, 3, rng), relu, lambda h: sum(h, axis=(2, 3)))
        self.w = linear(d_phi, 1, rng, bias=True)
        self.embed = nn.SpectralNorm(nn.Embedding(classes, d_phi, rng), rng)

    def __call__(self, x, y):
        if len(y) != len(x):
            raise ValueError(f"SAGAN: D was given {len(x)} images and {len(y)} labels: one label "
                             "for each image is needed")
        phi = self.phi(x)
        return self.w(phi)[:, 0] + sum(self.embed(y) * phi, axis=1)  # eq: projection-discriminator


def halvings(H, W):
    """How often H and W are halved, while both are even and more than 4. ValueError for a size that
    cannot be halved twice."""
    if H % 4 or W % 4 or min(H, W) < 8:
        raise ValueError("sagan: height and width must be divisible by 4 and at least 8, got "
                         f"{H}×{W}")
    n = 1
    while (H >> n) % 2 == 0 == (W >> n) % 2 and min(H, W) >> n > 4:
        n += 1
    return n
