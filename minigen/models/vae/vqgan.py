"""VQGAN (Esser, Rombach & Ommer 2021): a VQ-VAE whose reconstructions must also look real, patch by
patch, to a discriminator D.

    L_GAN({E, G, Z}, D) = log D(x) + log(1 − D(x̂)),    x̂ = G(z_q)
    Q* = argmin_{E,G,Z} max_D E_x[L_VQ(E, G, Z) + λ L_GAN({E, G, Z}, D)]
    λ = ‖∇ L_rec‖ / (‖∇ L_GAN‖ + δ)                    ∇: w.r.t. the weight of G's last layer

L_VQ is vq_vae.py's L: the encoder E, the decoder G and the codebook Z together are one player. The
adaptive λ makes the reconstruction and the adversarial gradient equally large at the layer that
outputs the pixels; it is a number, not differentiated.

In this player's loss −log D takes the place of log(1 − D), in λ too, as in gan.py.

The prior over the words is trained afterwards and has no part in this game.

Differs from the paper: the reconstruction term stays ‖x − x̂‖², where the paper compares VGG
features; no initial steps with λ = 0; smaller networks, none with attention, and only D works on
patches; no batch norm in D; the prior is the PixelCNN of vq_vae.py, not a transformer.
"""

from minigen import grad, logsigmoid, mean, nn, norm
from minigen.models.gan.gan import leaky
from minigen.models.vae.gaussian_vae import fixed_variance_normal
from minigen.models.vae.vq_vae import vq_vae


class VQGAN:
    """A VQ-VAE `vq_vae`, whose decoder ends in a layer with a `weight`, and a discriminator `D`,
    which maps images to logits of any shape. `delta` is δ."""

    def __init__(self, vq_vae, D, delta=1e-6):
        self.vq_vae, self.D, self.delta = vq_vae, D, delta

    def losses(self, x):
        """The losses of the VQ-VAE (without its prior) and of D on images x (N, C, H, W), two
        scalars, and a dict of parts of L_VQ and λ. Update the VQ-VAE first: the gradient of its
        loss needs D unchanged."""
        _, x_hat, L_VQ, parts = self.vq_vae.autoencode(x)
        real, fake = self.D(x), self.D(x_hat)
        L_GAN = mean(logsigmoid(real)) + mean(logsigmoid(-fake))  # eq: vqgan-adv-term
        g_loss = -mean(logsigmoid(fake))
        lam = self.adaptive_weight(parts["reconstruction"], g_loss)
        Q = L_VQ + lam * g_loss  # eq: vqgan-objective
        return Q, -L_GAN, parts | {"lam": lam}

    def adaptive_weight(self, L_rec, L_GAN):
        """λ for two scalars that depend on the decoder: a scalar, untracked."""
        last = self.vq_vae.decoder[-1].weight
        rec_norm, gan_norm = (norm(grad(loss, last)) for loss in (L_rec, L_GAN))
        return rec_norm / (gan_norm + self.delta)  # eq: vqgan-objective


def texture_discriminator(C, width=32, rng=None):
    """A discriminator of images (N, C, H, W), H and W divisible by 4: logits (N, 1, H/4, W/4), each
    for a patch of 20×20 pixels. Its first layer compares neighbouring pixels, and it has no batch
    norm: what gives fakes away is how much neighbouring pixels vary, and with batch norm D still
    could not tell real from fake after 500 steps."""
    return nn.Sequential(
        nn.Conv2d(C, width, 3, padding=1, rng=rng), leaky,
        nn.Conv2d(width, width, 4, 2, 1, rng=rng), leaky,                  # (N, width, H/2, W/2)
        nn.Conv2d(width, 2 * width, 4, 2, 1, rng=rng), leaky,              # (N, 2 width, H/4, W/4)
        nn.Conv2d(2 * width, 1, 3, padding=1, rng=rng))


def vqgan(shape, K=32, D=16, width=32, rng=None):
    """A VQGAN for images of `shape` (C, H, W), H and W divisible by 4; K words of D numbers, and
    `width` channels in the first layer of the discriminator."""
    return VQGAN(vq_vae(shape, K, D, fixed_variance_normal, rng),
                 texture_discriminator(shape[0], width, rng))
