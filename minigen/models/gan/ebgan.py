"""EBGAN (Zhao, Mathieu & LeCun 2017): the discriminator is an autoencoder. It gives an image an
energy, which is low for images that it can reconstruct.

    D(x) = ‖Dec(Enc(x)) − x‖
    L_D(x, z) = D(x) + [m − D(G(z))]⁺        [·]⁺ = max(0, ·)
    L_G(z) = D(G(z))

D reconstructs images of the data, and pushes the energy of generated ones up to the margin m, no
further. Where the game is in equilibrium, p_G = p_data and E[L_D] = m.

EBGAN-PT adds to L_G the pulling-away term on the codes S = Enc(G(z)) of a batch of N images, the
mean squared cosine between the codes of two images, so that they do not all become alike:

    f_PT(S) = 1/(N (N − 1)) Σ_i Σ_{j≠i} (S_iᵀ S_j / (‖S_i‖ ‖S_j‖))²

Differs from the paper: small networks, those of DCGAN and WGAN-GP; z ~ N(0, I) in place of a
uniform distribution.
"""

import numpy as np

from minigen import flatten, mean, nn, no_grad, norm, relu, square, sum, swapaxes
from minigen.data import unsigned
from minigen.models.autoencoder.autoencoder import Autoencoder
from minigen.models.gan import dcgan
from minigen.models.gan.gan import Game
from minigen.models.gan.wgan_gp import critic


class ReconstructionEnergy(Autoencoder):
    """D: images (N, C, H, W) in [−1, 1] to energies (N,)."""

    def __call__(self, x):
        return self.energy(x, self.encode(x))

    def energy(self, x, S):
        """How far images x (N, C, H, W) are from what their codes S (N, d_s) are decoded to."""
        return norm(flatten(self.decode(S) - x, 1), axis=1)  # eq: ebgan-energy


class EBGAN(Game):
    """`D` is a `ReconstructionEnergy`, m the margin and `lam_pt` the weight of the pulling-away
    term, 0 for EBGAN without it. ValueError if m is not positive."""

    def __init__(self, G, D, d_z, m, lam_pt=0.1):
        if not m > 0:
            raise ValueError(f"EBGAN: the margin m is {m}, expected a positive number: energies "
                             "are not negative")
        super().__init__(G, D, d_z)
        self.m, self.lam_pt = m, lam_pt

    def d_loss(self, x, rng):
        """L_D on the real images x and as many generated ones."""
        real, fake = self.discriminate(x, rng)
        return mean(real) + mean(relu(self.m - fake))  # eq: ebgan-d-loss, ebgan-equilibrium

    def g_loss(self, n, rng):
        """L_G and the weighted pulling-away term on n generated images."""
        x = self.generate(n, rng)
        S = self.D.encode(x)
        loss = mean(self.D.energy(x, S))  # eq: ebgan-g-loss
        return loss + self.lam_pt * pulling_away(S) if self.lam_pt else loss


def pulling_away(S):
    """f_PT of codes S (N, d_s): a scalar, 1 if all are parallel and 0 if all are orthogonal.
    ValueError for fewer than two codes."""
    N = len(S)
    if N < 2:
        raise ValueError(f"pulling_away: {N} code came, pairs need at least 2: use larger batches")
    S = S / norm(S, axis=1, keepdims=True)
    cosines = S @ swapaxes(S, 0, 1)  # (N, N), N of them an image's with itself
    return (sum(square(cosines)) - N) / (N * (N - 1))  # eq: ebgan-pulling-away


def autoencoder(shape, d_s, width=dcgan.WIDTH, rng=None, kind=ReconstructionEnergy):
    """D for images of `shape` (C, H, W): WGAN-GP's convolutions down to codes (N, d_s), and
    DCGAN's generator back up."""
    return kind(critic(shape, width, rng, d_s), dcgan.generator(d_s, shape, width, rng))


def reconstructions(D, *images):
    """A row of each of the `images`, arrays (n, C, H, W) in [0, 1], and below it one of what the
    autoencoder D makes of them: an array (2 n · len(images), C, H, W)."""
    with nn.evaluation(D), no_grad():
        return np.concatenate([row for x in images for row in
                               (x, unsigned(D.reconstruct(2 * x - 1)))])


def ebgan(shape, d_z, d_s=32, m=10.0, lam_pt=0.1, width=dcgan.WIDTH, rng=None):
    """An EBGAN for images of `shape` (C, H, W) in [−1, 1]."""
    return EBGAN(dcgan.generator(d_z, shape, 2 * width, rng), autoencoder(shape, d_s, width, rng),
                 d_z, m, lam_pt)
