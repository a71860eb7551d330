"""The least-squares GAN (Mao et al. 2017): distances in place of logarithms.

    min_D ½ E_x[(D(x) − b)²] + ½ E_z[(D(G(z)) − a)²]
    min_G ½ E_z[(D(G(z)) − c)²]

a and b are what D calls samples and data, c what G wants D to say. A sample that D takes for real
but that lies far on the other side still has a slope. With b − a = 2, b − c = 1 the generator
minimises Pearson's χ² between p_data + p_g and 2 p_g.
"""

from minigen import mean, square
from minigen.models.gan.gan import Game


class LSGAN(Game):
    """D's output is taken as it is, without σ."""

    def __init__(self, G, D, d_z, a=0.0, b=1.0, c=1.0):
        super().__init__(G, D, d_z)
        self.a, self.b, self.c = a, b, c

    def d_loss(self, x, rng, *given):
        """How far D is from b on the real samples x and from a on as many drawn ones."""
        real, fake = self.judge(x, rng, *given)
        return (mean(square(real - self.b)) + mean(square(fake - self.a))) / 2  # eq: lsgan-loss

    def g_loss(self, n, rng, *given):
        """How far D is from c on n samples."""
        fake = self.judge_drawn(n, rng, *given)
        return mean(square(fake - self.c)) / 2  # eq: lsgan-loss
