"""The conditional GAN (Mirza & Osindero 2014): a label y is given to both networks.

    min_G max_D E_{x,y}[log D(x, y)] + E_{z,y}[log(1 − D(G(z, y), y))]

Only the networks differ from the GAN's: D, too, is told what the image is said to show, or G could
draw what it likes. The game and everything else are gan.py's.

Differs from the paper: convolutional networks, DCGAN's.
"""

from minigen.models.gan import dcgan
from minigen.models.gan.gan import NonSaturatingGAN
from minigen.nn import Labelled


def conditional(shape, d_z, classes, width=dcgan.WIDTH, rng=None):
    """A conditional GAN for images of `shape` (C, H, W): a `NonSaturatingGAN` whose methods take
    the labels last: ``d_loss(x, rng, y)``, ``g_loss(n, rng, y)``, ``sample(n, rng, y)``."""
    C, H, W = shape
    G = Labelled(dcgan.generator(d_z + classes, shape, 2 * width, rng), classes)
    D = Labelled(dcgan.discriminator((C + classes, H, W), width, rng), classes)
    return NonSaturatingGAN(G, D, d_z)
