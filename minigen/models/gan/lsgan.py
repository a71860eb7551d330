"""The least-squares GAN (Mao et al. 2017): squared errors in place of logarithms.

    min_D ½ E_x[(D(x) − b)²] + ½ E_z[(D(G(z)) − a)²]
    min_G ½ E_z[(D(G(z)) − c)²]

a and b are D's targets for generated and for real samples, c is the output that G wants from D. A
generated sample that lies far on the real side of D's decision boundary still gives G a gradient.
With b − a = 2, b − c = 1 the generator minimises Pearson's χ² between p_data + p_g and 2 p_g.
"""

from minigen import mean, square
from minigen.models.gan.gan import Game


class LSGAN(Game):
    """D's output is used directly, without σ."""

    def __init__(self, G, D, d_z, a=0.0, b=1.0, c=1.0):
        super().__init__(G, D, d_z)
        self.a, self.b, self.c = a, b, c

    def d_loss(self, x, rng, *given):
        """Half of D's squared errors: from b on the real samples x, from a on as many generated."""
        real, fake = self.discriminate(x, rng, *given)
        return (mean(square(real - self.b)) + mean(square(fake - self.a))) / 2  # eq: lsgan-loss

    def g_loss(self, n, rng, *given):
        """Half of D's squared error from c on n generated samples."""
        fake = self.discriminate_fake(n, rng, *given)
        return mean(square(fake - self.c)) / 2  # eq: lsgan-loss
