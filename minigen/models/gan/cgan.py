"""The conditional GAN (Mirza & Osindero 2014): a label y is given to both networks.

    min_G max_D E_{x,y}[log D(x, y)] + E_{z,y}[log(1 − D(G(z, y), y))]

Only the networks differ from the GAN's: D, too, is told what the image is said to show, or G could
draw what it likes. The game and everything else are gan.py's.

From one class to another at one z (BigGAN: Brock, Donahue & Simonyan 2019): what z stands for
stays, and the kind changes.

    G(z, (1 − λ) c₁ + λ c₂)             c: a class as a one-hot vector, λ from 0 to 1

Differs from the papers: convolutional networks, DCGAN's.
"""

import numpy as np

from minigen.models.gan import dcgan
from minigen.models.gan.gan import NonSaturatingGAN
from minigen.models.vae.latent import interpolation
from minigen.nn import Labelled
from minigen.ops.loss import integers


def conditional(shape, d_z, classes, width=dcgan.WIDTH, rng=None):
    """A conditional GAN for images of `shape` (C, H, W): a `NonSaturatingGAN` whose methods take
    the labels last: ``d_loss(x, rng, y)``, ``g_loss(n, rng, y)``, ``sample(n, rng, y)``."""
    C, H, W = shape
    G = Labelled(dcgan.generator(d_z + classes, shape, 2 * width, rng), classes)
    D = Labelled(dcgan.discriminator((C + classes, H, W), width, rng), classes)
    return NonSaturatingGAN(G, D, d_z)


def between(z, y_1, y_2, classes, n):
    """What G is given on the way from class y_1 to class y_2 with one code z (d_z,): n codes
    (n, d_z), all the same, and n mixtures of the two (n, classes), ends included."""
    c_1, c_2 = np.eye(classes, dtype=z.dtype)[integers("between", np.array([y_1, y_2]), classes)]
    return np.tile(z, (n, 1)), interpolation(c_1, c_2, n)  # eq: biggan-interpolation
