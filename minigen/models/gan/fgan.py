"""f-GAN (Nowozin, Cseke & Tomioka 2016): a GAN for any f-divergence (divergences.py).

    T(x) = g(V(x))                                        V is the network D, its output any real
    F(G, V) = E_{x~p_data}[T(x)] − E_{z~p}[f*(T(G(z)))] ≤ D_f(p_data ‖ p_G)

    min_G max_V F:         V raises F towards the divergence, G lowers it
    instead, in practice:  max_G E_z[T(G(z))]             non-saturating, for any f

With the divergence called `gan`, F is the original GAN's value V(G, D), with D = σ(V).
"""

from minigen import mean
from minigen.models.gan.divergences import DIVERGENCES
from minigen.models.gan.gan import Game


class FGAN(Game):
    """The zero-sum game. `divergence` is a `Divergence` or the name of one of DIVERGENCES.
    ValueError for any other name."""

    def __init__(self, G, D, d_z, divergence="kl"):
        super().__init__(G, D, d_z)
        if isinstance(divergence, str) and divergence not in DIVERGENCES:
            raise ValueError(f"FGAN: there is no divergence {divergence!r} "
                             f"(there are: {', '.join(DIVERGENCES)})")
        self.divergence = DIVERGENCES.get(divergence, divergence)

    def value(self, x, rng, *given):
        """F(G, V) on the real samples x and as many generated ones: a scalar, at most D_f (up to
        sampling noise)."""
        real, fake = self.discriminate(x, rng, *given)
        return self.divergence.bound(real, fake)

    def d_loss(self, x, rng, *given):
        """−F."""
        return -self.value(x, rng, *given)

    def g_loss(self, n, rng, *given):
        """−E_z[f*(T(G(z)))], the part of F that depends on G, on n samples."""
        fake = self.discriminate_fake(n, rng, *given)
        return -mean(self.divergence.f_star_g(fake))


class NonSaturatingFGAN(FGAN):
    """V as in `FGAN`, but G maximises E_z[T(G(z))]: generated samples should pass for real ones."""

    def g_loss(self, n, rng, *given):
        """−E_z[T(G(z))], on n samples."""
        fake = self.discriminate_fake(n, rng, *given)
        return -mean(self.divergence.g(fake))
