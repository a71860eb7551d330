"""Gaussian decoders, for real-valued images.

    p_θ(x | z) = N(μ(z), diag σ²(z))         the decoder outputs μ and σ²
    p_θ(x | z) = N(x′(z), ½ I)               it outputs x′ only: −ELBO is then, up to a constant,

    L = L_data + L_latent = ‖x − x′‖² + KL(N(μ_x, σ_x) ‖ N(0, I))
"""

import math

from minigen import mean, mse_loss, softplus, split, tensor
from minigen.dist import Normal, per_image
from minigen.models.vae.vae import kl_to_prior
from minigen.tensor import xp

LOGVAR_MIN = -8.0  # σ ≥ 0.018, about 5 of 255 grey levels: always-black pixels would have σ → 0


def diagonal_normal(y):
    """μ and log σ² of each pixel, side by side in the channels of y (N, 2 C, H, W)."""
    mu, logvar = split(y, 2, axis=1)
    return Normal(mu, LOGVAR_MIN + softplus(logvar - LOGVAR_MIN))  # eq: vae-gaussian-decoder


def fixed_variance_normal(y):
    """N(y, ½): the decoder whose log-likelihood is minus the squared error, up to log π / 2 per
    pixel."""
    return Normal(y, tensor(xp(y.data).full_like(y.data, math.log(0.5))))


def l2_loss(vae, x, rng):
    """L_data + L_latent, averaged over a batch, for a VAE with the likelihood
    `fixed_variance_normal`: the slides' loss, which is −ELBO without the constant."""
    q = vae.encode(x)
    x_hat = vae.decode(q.sample(rng)).mean
    L_data = per_image(mse_loss(x_hat, x, reduction="none"))
    L_latent = kl_to_prior(q)
    return mean(L_data + L_latent)  # eq: vae-loss-data-latent, vae-loss-l2-kl
