"""VAE/GAN (Larsen et al. 2016): a VAE whose decoder is a GAN's generator, and whose reconstruction
error is measured in the discriminator's features, not pixel by pixel.

    x̃ = G(z), z ~ q_φ(z | x),    x_p = G(z_p), z_p ~ N(0, I)
    p_θ(D_ℓ(x) | z) = N(D_ℓ(x̃), I)                D_ℓ: a hidden layer of the discriminator
    L_ℓ = E_q[½ ‖D_ℓ(x) − D_ℓ(x̃)‖²]               −log p_θ up to a constant
    L_GAN = log D(x) + log(1 − D(x̃)) + log(1 − D(x_p))

    the encoder minimises  KL(q_φ(z | x) ‖ p(z)) + L_ℓ
    G minimises            γ L_ℓ − log D(x̃) − log D(x_p)
    D maximises            L_GAN

A stroke shifted left by one pixel is far away in pixels but near in D_ℓ. D itself does not minimise
L_ℓ, or its features would stop seeing anything.

Differs from the paper: networks for images of 28×28; −log D in place of log(1 − D), as in gan.py.
"""

from minigen import concatenate, logsigmoid, mean, split, square
from minigen.dist import per_image
from minigen.models.gan import dcgan
from minigen.models.vae import conv_vae
from minigen.models.vae.gaussian_vae import fixed_variance_normal
from minigen.models.vae.vae import VAE, kl_to_prior

LAYER = 7  # D_ℓ: after D's second batch norm, or the scale of L_ℓ would be arbitrary


class VAEGAN(VAE):
    """A VAE with a discriminator `D`, a Sequential. `gamma` is γ. Train it with `losses`; the
    methods inherited from VAE (`loss`, `elbo`, …) measure errors pixel by pixel."""

    def __init__(self, encoder, G, D, d_z, gamma=0.1):
        super().__init__(encoder, G, d_z, fixed_variance_normal)
        self.D, self.gamma = D, gamma

    def losses(self, x, rng):
        """The losses of the encoder, the generator and D on images x (N, C, H, W) in [−1, 1]: three
        scalars. Update the networks in this order: the gradient of each loss needs the networks
        after its own unchanged."""
        q = self.encode(x)
        z, z_p = q.sample(rng), self.prior(len(x)).sample(rng)
        # one batch through G and one through D, so that their batch norms see all samples together
        x_fake = self.decode(concatenate([z, z_p], axis=0)).mean
        h = self.D[:LAYER](concatenate([x, x_fake], axis=0))
        h_x, h_tilde, _ = split(h, 3)
        a_x, a_tilde, a_p = split(self.D[LAYER:](h), 3)
        L_l = mean(per_image(square(h_x - h_tilde))) / 2  # eq: vaegan-feature-likelihood
        kl = mean(kl_to_prior(q))
        log_D_fake = mean(logsigmoid(a_tilde)) + mean(logsigmoid(a_p))
        L_GAN = mean(logsigmoid(a_x)) + mean(logsigmoid(-a_tilde)) + mean(logsigmoid(-a_p))
        return kl + L_l, self.gamma * L_l - log_D_fake, -L_GAN


def vae_gan(shape, d_z, width=dcgan.WIDTH, gamma=0.1, rng=None):
    """A VAEGAN for images of `shape` (C, H, W) in [−1, 1], with DCGAN's two networks."""
    G = dcgan.generator(d_z, shape, 2 * width, rng)
    D = dcgan.discriminator(shape, width, rng)
    return VAEGAN(conv_vae.encoder(shape, 2 * d_z, rng), G, D, d_z, gamma)
