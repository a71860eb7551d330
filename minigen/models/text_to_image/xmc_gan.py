"""XMC-GAN: a drawn image must lie nearer to its own sentence than to others (Zhang et al. 2021).

    L_s = mean_i −log e^{cos(x_i, s_i)/τ} / Σ_j e^{cos(x_i, s_j)/τ}

    D, and E with it, go down  L_D + λ L_s of real images,    G goes down  L_G + λ L_s of its own

x_i stands for E's code of an image, s_i for that of a sentence, such as CLIP's. E learns on real
images only what a sentence looks like, so that G cannot agree with it on something else.

Differs from the paper: of its three contrastive losses the one of image and sentence, not those of
drawn and real image, and of regions and words; the GAN's loss in place of a hinge; fully connected
networks; E shares no layers with D.
"""

import math

from minigen import concatenate, cross_entropy, flatten, logsigmoid, mean, nn
from minigen.models.clip.clip import answers, unit
from minigen.models.gan.gan import GAN, Game, fully_connected, leaky


class XMCGAN(Game):
    """A game of sentences: G(z, s), D(x, s), and `E` maps images to codes like s (N, d). `lam` is
    λ. What trains D is given E's parameters, too."""

    value = GAN.value

    def __init__(self, G, D, d_z, E, lam=1.0, tau=0.1):
        super().__init__(G, D, d_z)
        self.E, self.lam, self.tau = E, lam, tau

    def d_loss(self, x, rng, s):
        """−V + λ L_s of the real samples x with sentences s."""
        return -self.value(x, rng, s) + self.lam * contrast(self.E(x), s, self.tau)

    def g_loss(self, n, rng, s):
        """−E_z[log D(G(z, s), s)] + λ L_s of n samples, one for each sentence."""
        x = self.generate(n, rng, s)
        return -mean(logsigmoid(self.D(x, s))) + self.lam * contrast(self.E(x), s, self.tau)


def contrast(x, s, tau):
    """L_s of the codes x of images and s of sentences, both (N, d), in the same order."""
    scores = unit(x) @ unit(s).T / tau
    return cross_entropy(scores, answers(scores))  # eq: xmc-contrastive


class Told:
    """A network of vectors that gets a sentence's code behind its input: x (N, ...), s (N, d)."""

    def __init__(self, net):
        self.net = net

    def __call__(self, x, s):
        return self.net(concatenate([flatten(x, 1), s], axis=1))


def xmc_gan(shape, d_z, d, d_h=256, rng=None):
    """An XMCGAN of samples of `shape` in [−1, 1] and sentences' codes of d numbers."""
    d_x = math.prod(shape)
    G = Told(fully_connected(shape, d_z + d, d_h, rng=rng).G)
    D = Told(fully_connected((d_x + d,), d_z, d_h, rng=rng).D)
    E = nn.Sequential(lambda x: flatten(x, 1), nn.Linear(d_x, d_h, rng=rng), leaky,
                      nn.Linear(d_h, d, rng=rng))
    return XMCGAN(G, D, d_z, E)
