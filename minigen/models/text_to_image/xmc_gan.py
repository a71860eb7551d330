"""XMC-GAN: a generated image must be closer to its own sentence than to others (Zhang et al. 2021).

    L_s = mean_i −log e^{cos(x_i, s_i)/τ} / Σ_j e^{cos(x_i, s_j)/τ}

    D and E minimise  L_D + λ L_s of real images,    G minimises  L_G + λ L_s of its own

Here x_i is E's embedding of an image, s_i that of a sentence, such as CLIP's. E learns what a
sentence looks like from real images only, so G cannot collude with it.

Differs from the paper: of its three contrastive losses, only the one between image and sentence,
not those between generated and real image and between regions and words; the GAN's loss in place of
a hinge loss; the networks are those of gan_cls.py.
"""

from minigen import cross_entropy, logsigmoid, mean, nn
from minigen.models.clip.clip import targets, unit
from minigen.models.gan import dcgan
from minigen.models.gan.gan import GAN
from minigen.models.text_to_image.gan_cls import Discriminator, generator


class XMCGAN(GAN):
    """A game conditioned on sentences: G(z, s), D(x, s), and `E` maps images to embeddings like s
    (N, d). `lam` is λ. D's optimiser must be given E's parameters, too."""

    def __init__(self, G, D, d_z, E, lam=1.0, tau=0.1):
        super().__init__(G, D, d_z)
        self.E, self.lam, self.tau = E, lam, tau

    def d_loss(self, x, rng, s):
        """−V + λ L_s on real samples x with sentences s."""
        return -self.value(x, rng, s) + self.lam * sentence_loss(self.E(x), s, self.tau)

    def g_loss(self, n, rng, s):
        """−E_z[log D(G(z, s), s)] + λ L_s on n samples, one for each sentence."""
        x = self.generate(n, rng, s)
        return -mean(logsigmoid(self.D(x, s))) + self.lam * sentence_loss(self.E(x), s, self.tau)


def sentence_loss(x, s, tau):
    """L_s of the embeddings x of images and s of sentences, both (N, d), in the same order."""
    scores = unit(x) @ unit(s).T / tau
    return cross_entropy(scores, targets(scores))  # eq: xmc-contrastive


def xmc_gan(shape, d_z, d, width=dcgan.WIDTH, rng=None):
    """An XMCGAN for images of `shape` (C, H, W), sides divisible by 8, in [−1, 1] and sentence
    embeddings of d numbers. E is a linear map of the output of D's convolutions."""
    G = nn.Conditioned(generator(d_z + d, shape, 3 * width // 2, rng), d)
    D = Discriminator(shape, d, width, rng)
    K, (_, H, W) = 4 * width, shape
    E = nn.Sequential(D.convs, lambda h: h.flatten(1), nn.Linear(K * H * W // 64, d, rng=rng))
    return XMCGAN(G, D, d_z, E)
