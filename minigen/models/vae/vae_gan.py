"""VAE/GAN (Larsen et al. 2016): a VAE whose decoder is a GAN's generator, and whose error is
measured in what the discriminator sees, not pixel by pixel.

    x̃ = G(z), z ~ q_φ(z | x),    x_p = G(z_p), z_p ~ N(0, I)
    p_θ(D_ℓ(x) | z) = N(D_ℓ(x̃), I)                D_ℓ: a hidden layer of the discriminator
    L_ℓ = E_q[½ ‖D_ℓ(x) − D_ℓ(x̃)‖²]               −log p_θ up to a constant
    L_GAN = log D(x) + log(1 − D(x̃)) + log(1 − D(x_p))

    the encoder goes down  KL(q_φ(z | x) ‖ p(z)) + L_ℓ
    G goes down            γ L_ℓ − log D(x̃) − log D(x_p)
    D goes up              L_GAN

A stroke that lies a pixel further left is far away in pixels, and near in D_ℓ. D itself does not go
down L_ℓ, or it would see nothing.

Differs from the paper: networks for images of 28×28; −log D in place of log(1 − D), as in gan.py.
"""

from minigen import concatenate, logsigmoid, mean, split, square
from minigen.dist import per_image
from minigen.models.gan import dcgan
from minigen.models.vae import conv_vae
from minigen.models.vae.gaussian_vae import half_normal
from minigen.models.vae.vae import VAE, kl_to_prior

LAYER = 7  # D_ℓ: after D's second batch norm, or its scale would be anybody's


class VAEGAN(VAE):
    """A VAE with a discriminator `D`, a Sequential. `gamma` is γ. It learns by `losses`; what it
    has as a VAE (`loss`, `elbo`, …) measures errors pixel by pixel."""

    def __init__(self, encoder, G, D, d_z, gamma=0.1):
        super().__init__(encoder, G, d_z, half_normal)
        self.D, self.gamma = D, gamma

    def losses(self, x, rng):
        """What the encoder, the generator and D go down, on images x (N, C, H, W) in [−1, 1]: three
        scalars. Take their steps in this order: each needs the networks after its own unchanged."""
        q = self.encode(x)
        z, z_p = q.sample(rng), self.prior(len(x)).sample(rng)
        # all in one batch, through G and through D: their batch norms see all that there is
        drawn = self.decode(concatenate([z, z_p], axis=0)).mean
        h = self.D[:LAYER](concatenate([x, drawn], axis=0))
        h_x, h_tilde, _ = split(h, 3)
        real, fake, free = split(self.D[LAYER:](h), 3)
        L_l = mean(per_image(square(h_x - h_tilde))) / 2  # eq: vaegan-feature-likelihood
        kl = mean(kl_to_prior(q))
        fooled = mean(logsigmoid(fake)) + mean(logsigmoid(free))
        L_GAN = mean(logsigmoid(real)) + mean(logsigmoid(-fake)) + mean(logsigmoid(-free))
        return kl + L_l, self.gamma * L_l - fooled, -L_GAN


def vae_gan(shape, d_z, width=dcgan.WIDTH, gamma=0.1, rng=None):
    """A VAEGAN for images of `shape` (C, H, W) in [−1, 1] of DCGAN's networks."""
    G = dcgan.generator(d_z, shape, 2 * width, rng)
    D = dcgan.discriminator(shape, width, rng)
    return VAEGAN(conv_vae.encoder(shape, 2 * d_z, rng), G, D, d_z, gamma)
