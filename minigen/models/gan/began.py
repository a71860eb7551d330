"""BEGAN (Berthelot, Schumm & Metz 2017): EBGAN's autoencoder in a game that is kept in balance.

    𝓛(v) = |v − D(v)|^η                         D(v): v reconstructed; η = 1 or 2
    L_D = 𝓛(x) − k_t 𝓛(G(z_D))
    L_G = 𝓛(G(z_G))
    k_{t+1} = k_t + λ_k (γ 𝓛(x) − 𝓛(G(z_G)))    clipped to [0, 1], from k_0 = 0

D and G are in balance when E[𝓛(G(z))] = γ E[𝓛(x)]. While generated images are reconstructed better
than that, k rises and D attends more to telling them from real ones; while they are reconstructed
worse, it falls and D attends more to reconstructing real ones. A small γ, the diversity ratio,
gives images that are more alike. How far training has come is told by

    𝓜 = 𝓛(x) + |γ 𝓛(x) − 𝓛(G(z_G))|

With k = 1, −L_D = m₂ − m₁, where m₁ and m₂ are the means of the distributions μ₁ and μ₂ of 𝓛 on
real and on generated images. By Jensen's inequality |m₁ − m₂| ≤ W₁(μ₁, μ₂): D maximises a lower
bound of the Wasserstein distance between losses, not between images.

Differs from the paper: EBGAN's networks here, which have batch norm; λ_k = 0.2 in place of 0.001;
z ~ N(0, I) in place of a uniform distribution.
"""

import numpy as np

from minigen import mean, tensor
from minigen.models.autoencoder.autoencoder import Autoencoder
from minigen.models.gan import dcgan
from minigen.models.gan.ebgan import autoencoder
from minigen.models.gan.gan import Game
from minigen.tensor import write
from minigen.train import descend


class PixelLoss(Autoencoder):
    """𝓛: images (N, C, H, W) in [−1, 1] to losses (N,), the mean over their pixels."""

    eta = 1

    def __call__(self, v):
        error = abs(v - self.reconstruct(v))
        return mean(error ** self.eta, axis=(1, 2, 3))  # eq: began-loss


class BEGAN(Game):
    """`D` is a `PixelLoss`, gamma the diversity ratio γ and lam_k the rate λ_k at which k learns.
    k is a buffer, saved with the networks. ValueError if γ is not in [0, 1]."""

    def __init__(self, G, D, d_z, gamma=0.5, lam_k=0.2):
        if not 0 <= gamma <= 1:
            raise ValueError(f"BEGAN: gamma is {gamma}, expected a number from 0 to 1: D has to "
                             "reconstruct generated images at least as well as real ones")
        super().__init__(G, D, d_z)
        self.gamma, self.lam_k = gamma, lam_k
        self.k = tensor(np.zeros((), np.float32))

    def d_loss(self, x, rng):
        """L_D on the real images x and as many generated ones, and 𝓛(x)."""
        real, fake = (mean(losses) for losses in self.discriminate(x, rng))
        L_D = real - self.k * fake  # eq: began-objective, began-lower-bound
        return L_D, {"real": real}

    def g_loss(self, n, rng):
        """L_G on n generated images."""
        fake = self.discriminate_fake(n, rng)
        return mean(fake)  # eq: began-objective

    def balance(self, real, fake):
        """From k_t to k_{t+1}, given 𝓛(x) and 𝓛(G(z_G)). Returns k_{t+1} and 𝓜."""
        error = self.gamma * real - fake
        k = min(max(self.k.item() + self.lam_k * error, 0), 1)  # eq: began-balance
        write(self.k, lambda a: a.fill(k))
        return {"k": k, "M": real + abs(error)}  # eq: began-convergence


def training_step(game, opt_d, opt_g, minibatch):
    """The function ``step(t, rng)`` that trains D, then G, and then balances them, on the images
    minibatch(t). It returns the numbers to log."""
    def step(t, rng):
        x = minibatch(t)
        numbers = descend(opt_d, *game.d_loss(x, rng), name="d_loss")
        numbers |= descend(opt_g, game.g_loss(len(x), rng), name="g_loss")
        return numbers | game.balance(numbers["real"], numbers["g_loss"])

    return step


def began(shape, d_z, gamma=0.5, lam_k=0.2, d_s=32, width=dcgan.WIDTH, rng=None):
    """A BEGAN for images of `shape` (C, H, W) in [−1, 1]; D's codes have d_s entries."""
    return BEGAN(dcgan.generator(d_z, shape, 2 * width, rng),
                 autoencoder(shape, d_s, width, rng, PixelLoss), d_z, gamma, lam_k)
