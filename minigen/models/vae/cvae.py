"""The conditional VAE (Sohn et al. 2015): a label y is given to both networks.

    q_φ(z | x, y)        p_θ(x | z, y)        p(z) = N(0, I), the same for every y

Only the networks differ from the VAE's; the bound, sampling and everything else are vae.py's.
"""

from minigen import broadcast_to, concatenate, one_hot
from minigen.models.vae import conv_vae
from minigen.models.vae.vae import VAE


class Labelled:
    """A network whose input, an image or a code, gets one more channel for each class: 1 in the
    channel of the label, 0 in the others."""

    def __init__(self, net, classes):
        self.net, self.classes = net, classes

    def __call__(self, x, y):
        """x (N, C, ...) and integers y (N,), 0 ≤ y < classes."""
        code = one_hot(y, self.classes, x.dtype).reshape(len(x), self.classes, *[1] * (x.ndim - 2))
        code = broadcast_to(code, shape=(len(x), self.classes, *x.shape[2:]))
        return self.net(concatenate([x, code], axis=1))  # eq: cvae-conditioning


def conditional(shape, d_z, classes, rng=None):
    """A conditional VAE for images of `shape` (C, H, W): a `VAE` whose methods take the labels
    after x and rng, z, or n and rng: ``loss(x, rng, y)``, ``sample(n, rng, y)``."""
    C, H, W = shape
    return VAE(encoder=Labelled(conv_vae.encoder((C + classes, H, W), 2 * d_z, rng), classes),
               decoder=Labelled(conv_vae.decoder(d_z + classes, shape, rng), classes), d_z=d_z)
