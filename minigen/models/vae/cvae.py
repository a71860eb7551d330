"""The conditional VAE (Sohn et al. 2015): both networks are conditioned on a label y.

    q_φ(z | x, y)        p_θ(x | z, y)        p(z) = N(0, I), the same for every y

Only the networks differ from the VAE's; the bound, sampling and everything else are as in vae.py.
Differs from the paper: there the prior of z is learnt too, conditioned on the input given.
"""

from minigen.models.vae import conv_vae
from minigen.models.vae.vae import VAE
from minigen.nn import Conditioned


def conditional(shape, d_z, classes, rng=None):
    """A conditional VAE for images of `shape` (C, H, W): a `VAE` whose methods take labels y after
    their other positional arguments: ``loss(x, rng, y)``, ``decode(z, y)``, ``sample(n, rng, y)``.
    """
    C, H, W = shape
    return VAE(encoder=Conditioned(conv_vae.encoder((C + classes, H, W), 2 * d_z, rng), classes),
               decoder=Conditioned(conv_vae.decoder(d_z + classes, shape, rng), classes), d_z=d_z)
