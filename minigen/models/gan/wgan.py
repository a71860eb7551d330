"""The Wasserstein GAN (Arjovsky, Chintala & Bottou 2017): D measures a distance, not a probability.

    W₁(p_data, p_g) = max_{‖D‖_L ≤ 1} E_x[D(x)] − E_z[D(G(z))]

where D ranges over all functions whose slope is nowhere above 1 (Kantorovich & Rubinstein). D, now
called the critic, maximises the difference; G affects only the second term and maximises
E_z[D(G(z))]. The distance gives G a gradient even where generated samples and data do not overlap,
so the critic may be trained well: k = 5 steps for each step of the generator.

The slope is bounded, up to a factor, by clipping every weight after every step:

    w ← clip(w − RMSprop's step, −c, c)
"""

from minigen import mean
from minigen.models.gan.gan import Game
from minigen.optim import RMSprop


class WGAN(Game):
    """`D` may output any number. Batch norm would make its slope depend on the batch: use a critic
    without it (see wgan_gp.py)."""

    def distance(self, x, rng, *given):
        """E_x[D(x)] − E_z[D(G(z))] on the real samples x and as many generated ones: W₁ times D's
        largest slope, if D is the optimal critic."""
        real, fake = self.discriminate(x, rng, *given)
        return mean(real) - mean(fake)  # eq: wgan-critic

    def d_loss(self, x, rng, *given):
        """−(E_x[D(x)] − E_z[D(G(z))]): D maximises the distance."""
        return -self.distance(x, rng, *given)

    def g_loss(self, n, rng, *given):
        """−E_z[D(G(z))], the part of the distance that depends on G, on n samples."""
        return -mean(self.discriminate_fake(n, rng, *given))


class ClippedRMSprop(RMSprop):
    """RMSprop that clips every weight to [−c, c] after each step, with the paper's settings."""

    def __init__(self, params, lr=5e-5, c=0.01):
        super().__init__(params, lr)
        self.c = c

    def update(self, p, g, scalars, v, b):
        super().update(p, g, scalars, v, b)
        for w in p:
            w.clip(-self.c, self.c, out=w)
