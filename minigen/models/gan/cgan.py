"""The conditional GAN (Mirza & Osindero 2014): both networks are conditioned on a label y.

    min_G max_D E_{x,y}[log D(x, y)] + E_{z,y}[log(1 − D(G(z, y), y))]

Only the networks differ from the GAN's. D is given the label too; otherwise G could ignore it. The
game and everything else are as in gan.py.

Interpolating between classes at a fixed z (BigGAN: Brock, Donahue & Simonyan 2019): what z encodes
stays the same while the class changes.

    G(z, (1 − λ) c₁ + λ c₂)             c: a class as a one-hot vector, λ from 0 to 1

Differs from the papers: the networks are DCGAN's convolutional ones.
"""

import numpy as np

from minigen.models.gan import dcgan
from minigen.models.gan.gan import NonSaturatingGAN
from minigen.models.vae.latent import interpolation
from minigen.nn import Conditioned
from minigen.ops.loss import check_indices


def conditional(shape, d_z, classes, width=dcgan.WIDTH, rng=None):
    """A conditional GAN for images of `shape` (C, H, W): a `NonSaturatingGAN` whose methods take
    labels as their last argument: ``d_loss(x, rng, y)``, ``g_loss(n, rng, y)``,
    ``sample(n, rng, y)``."""
    C, H, W = shape
    G = Conditioned(dcgan.generator(d_z + classes, shape, 2 * width, rng), classes)
    D = Conditioned(dcgan.discriminator((C + classes, H, W), width, rng), classes)
    return NonSaturatingGAN(G, D, d_z)


def interpolate_classes(z, y_1, y_2, classes, n):
    """G's inputs for interpolating from class y_1 to class y_2 at a fixed code z (d_z,): n copies
    of z (n, d_z), and n mixtures of the two one-hot vectors (n, classes), ends included."""
    y = check_indices("interpolate_classes", np.array([y_1, y_2]), classes)
    c_1, c_2 = np.eye(classes, dtype=z.dtype)[y]
    return np.tile(z, (n, 1)), interpolation(c_1, c_2, n)  # eq: biggan-interpolation
