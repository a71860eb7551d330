"""DCGAN (Radford, Metz & Chintala 2016): convolutional networks that train stably as a GAN.

- no pooling: strided convolutions in D, fractionally-strided (transposed) ones in G;
- batch norm in both, except in G's last layer and D's first;
- no fully connected hidden layers;
- ReLU in G with tanh at the output, leaky ReLU throughout D;
- weights from N(0, 0.02²); Adam with learning rate 2·10⁻⁴ and β₁ = 0.5.

The slide gives Adam's settings as "α = 0.9, β = 0.5": the paper lowers β₁ from 0.9 to 0.5 and
leaves β₂ at 0.999.

Differs from the paper: three doublings of the resolution instead of four, for images of 28×28
(from 3, 7, 14) or 32×32 (from 4, 8, 16).
"""


from minigen import nn, optim, relu, tanh
from minigen.models.gan.gan import NonSaturatingGAN, leaky
from minigen.nn import initializers

WIDTH = 32


def generator(d_z, shape, width=WIDTH, rng=None):
    """Codes (N, d_z) to images of `shape` (C, H, W) in [−1, 1], H and W divisible by 4."""
    C, H, W = shape
    K1, K2, K3 = width, 2 * width, 4 * width
    small, output_padding = sizes(H, W)
    return Net(
        lambda z: z.reshape(*z.shape, 1, 1),
        nn.ConvTranspose2d(d_z, K3, small, bias=False), nn.BatchNorm2d(K3), relu,
        nn.ConvTranspose2d(K3, K2, 4, 2, 1, output_padding, bias=False), nn.BatchNorm2d(K2), relu,
        nn.ConvTranspose2d(K2, K1, 4, 2, 1, bias=False), nn.BatchNorm2d(K1), relu,
        nn.ConvTranspose2d(K1, C, 4, 2, 1), tanh, rng=rng)  # eq: dcgan-guidelines


def discriminator(shape, width=WIDTH, rng=None):
    """Images of `shape` (C, H, W), H and W divisible by 4, to logits (N, 1)."""
    C, H, W = shape
    K1, K2, K3 = width, 2 * width, 4 * width
    small, _ = sizes(H, W)
    return Net(
        nn.Conv2d(C, K1, 4, 2, 1), leaky,
        nn.Conv2d(K1, K2, 4, 2, 1, bias=False), nn.BatchNorm2d(K2), leaky,
        nn.Conv2d(K2, K3, 4, 2, 1, bias=False), nn.BatchNorm2d(K3), leaky,
        nn.Conv2d(K3, 1, small), lambda a: a.flatten(1),
        rng=rng)  # eq: dcgan-guidelines


class Net(nn.Sequential):
    """A Sequential whose convolution filters are initialised from N(0, 0.02²)."""

    def __init__(self, *layers, rng=None):
        super().__init__(*layers)
        self.init(initializers.generator(rng))

    def init(self, rng):
        for layer in self:
            nn.init(layer, rng)
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                initializers.normal(layer.weight, 0.02, rng)


def sizes(H, W):
    """The size of the smallest feature map, H and W halved three times and rounded down, and the
    remainders of the last halving. ValueError if H or W cannot be halved exactly twice."""
    if H % 4 or W % 4 or min(H, W) < 8:
        raise ValueError("dcgan: height and width must be divisible by 4 and at least 8, got "
                         f"{H}×{W}")
    return (H // 8, W // 8), (H // 4 % 2, W // 4 % 2)


def dcgan(shape, d_z, width=WIDTH, rng=None):
    """A GAN for images of `shape` (C, H, W) in [−1, 1]. G is twice as wide as D: at equal widths it
    falls further and further behind D."""
    return NonSaturatingGAN(generator(d_z, shape, 2 * width, rng),
                            discriminator(shape, width, rng), d_z)


def adam(params, lr=2e-4):
    """Adam with the paper's settings: β₁ = 0.9 made the training oscillate."""
    return optim.Adam(params, lr, betas=(0.5, 0.999))  # eq: dcgan-adam
