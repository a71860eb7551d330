"""The Wasserstein GAN (Arjovsky, Chintala & Bottou 2017): D is no judge but a measure of distance.

    W₁(p_data, p_g) = max_{‖D‖_L ≤ 1} E_x[D(x)] − E_z[D(G(z))]

over all functions D whose slope is nowhere above 1 (Kantorovich & Rubinstein). D, now called the
critic, climbs that difference; G, at whose mercy only the second term is, climbs E_z[D(G(z))].
The distance has a slope for G even where samples and data have nothing in common, so the critic
may be trained well: k = 5 steps to one of the generator.

The slope is held, up to a factor, by clipping every weight after every step:

    w ← clip(w − RMSprop's step, −c, c)
"""

from minigen import mean
from minigen.models.gan.gan import Game
from minigen.optim import RMSprop


class WGAN(Game):
    """`D` gives any number. Its batch norm, if it had one, would make the slope depend on the
    batch: use critics without (see wgan_gp.py)."""

    def distance(self, x, rng, *given):
        """E_x[D(x)] − E_z[D(G(z))] on the real samples x and as many drawn ones: W₁, up to D's
        largest slope, if D is the best critic."""
        real, fake = self.judge(x, rng, *given)
        return mean(real) - mean(fake)  # eq: wgan-critic

    def d_loss(self, x, rng, *given):
        """−(E_x[D(x)] − E_z[D(G(z))]): D climbs the distance."""
        return -self.distance(x, rng, *given)

    def g_loss(self, n, rng, *given):
        """−E_z[D(G(z))], the part of the distance that depends on G, on n samples."""
        return -mean(self.judge_drawn(n, rng, *given))


class ClippedRMSprop(RMSprop):
    """RMSprop, after whose steps every weight is clipped to [−c, c]; the paper's settings."""

    def __init__(self, params, lr=5e-5, c=0.01):
        super().__init__(params, lr)
        self.c = c

    def update(self, p, g, now, v, b):
        super().update(p, g, now, v, b)
        for w in p:
            w.clip(-self.c, self.c, out=w)
