"""The variational autoencoder (Kingma & Welling 2014).

    p(z) = N(0, I)                      the prior
    p_θ(x | z)                          the decoder: a distribution over images
    q_φ(z | x) = N(μ(x), diag σ²(x))    the encoder: an approximate posterior, q_φ ≈ p_θ(z | x)

    log p_θ(x) ≥ E_{z~q_φ(z|x)}[log p_θ(x | z)] − KL(q_φ(z | x) ‖ p(z)) = ELBO

    z = μ + σ ⊙ ε, ε ~ N(0, I)          so that gradients reach μ and σ (`Normal.sample`)
    KL = −½ Σ_j (1 + log σ_j² − μ_j² − σ_j²)
"""

import math

from minigen import exp, logsumexp, mean, nn, no_grad, relu, split, square, stack, sum, tensor
from minigen.dist import Bernoulli, Normal, per_image
from minigen.tensor import xp


class VAE:
    """`encoder` maps x (N, ...) to μ and log σ² side by side (N, 2 d_z); `decoder` maps z (N, d_z)
    to the parameters of p(x | z), which `likelihood` turns into a distribution (`Bernoulli`: from
    logits).

    Any further inputs to both networks (a label: see cvae.py) follow x and z as `*given`.
    """

    def __init__(self, encoder, decoder, d_z, likelihood=Bernoulli):
        self.encoder, self.decoder = encoder, decoder
        self.d_z, self.likelihood = d_z, likelihood

    def prior(self, n):
        """p(z) for n codes: a `Normal` over (n, d_z)."""
        weight = nn.like(self.decoder)
        zeros = tensor(xp(weight).zeros((n, self.d_z), weight.dtype))
        return Normal(mu=zeros, logvar=zeros)  # eq: vae-gaussian-prior

    def encode(self, x, *given):
        """q_φ(z | x): a `Normal` over (N, d_z)."""
        mu, logvar = split(self.encoder(x, *given), 2, axis=1)
        return Normal(mu, logvar)  # eq: vae-gaussian-encoder, vae-approx-posterior

    def decode(self, z, *given):
        """p_θ(x | z): a distribution over images (N, ...)."""
        return self.likelihood(self.decoder(z, *given))

    def log_p(self, x, z, *given):
        """log p_θ(x | z) of images x (N, ...) for codes z (N, d_z): (N,). ValueError if x would be
        broadcast because its shape is not that of the decoder's images."""
        values = self.decode(z, *given).log_prob(x)
        if values.shape != x.shape:
            raise ValueError(f"VAE: images are {x.shape}, those of the decoder broadcast to "
                             f"{values.shape}: give images of its shape")
        return per_image(values)

    def elbo(self, x, rng, *given):
        """The bound for each image (N,), and its two parts: the reconstruction term
        E_q[log p(x | z)], estimated with one sample z, and KL(q ‖ p(z)), exact."""
        q = self.encode(x, *given)
        z = q.sample(rng)
        reconstruction = self.log_p(x, z, *given)
        kl = kl_to_prior(q)
        return reconstruction - kl, reconstruction, kl  # eq: vae-elbo

    def loss(self, x, rng, *given):
        """−ELBO, averaged over a batch, and its parts, all scalars. A training step is this loss
        (encode, sample, decode, compare), back-propagation, and a step of the optimiser."""
        elbo, reconstruction, kl = self.elbo(x, rng, *given)
        loss = -mean(elbo)  # eq: vae-elbo-objective, vae-training-step
        return loss, {"reconstruction": -mean(reconstruction), "kl": mean(kl)}

    def log_prob(self, x, rng, *given, K=50):
        """log p_θ(x), approached from below with K importance-weighted samples (Burda et al. 2016):
        (N,), untracked. K = 1 gives the ELBO, K → ∞ is exact. ValueError if K < 1.

            log 1/K Σ_k p(x | z_k) p(z_k) / q(z_k | x),   z_k ~ q(z | x)
        """
        with no_grad():
            q, p_z = self.encode(x, *given), self.prior(len(x))

            def log_weight():
                z = q.sample(rng)
                log_p = self.log_p(x, z, *given) + sum(p_z.log_prob(z), 1)
                return log_p - sum(q.log_prob(z), 1)  # eq: vae-approx-evidence
            return importance_weighted(log_weight, K)

    def generate(self, n, rng, *given):
        """p(x | z) for n samples z ~ p(z): a distribution over images. The encoder is not used."""
        with no_grad():
            z = self.prior(n).sample(rng)  # eq: vae-generate
            return self.decode(z, *given)

    def sample(self, n, rng, *given):
        """n images: z ~ p(z), then x ~ p(x | z)."""
        return self.generate(n, rng, *given).sample(rng)  # eq: vae-generative-process


def importance_weighted(log_weight, K):
    """log 1/K Σ_k w_k, from K calls of log_weight, each of which draws log w_k (N,): (N,).
    ValueError if K < 1."""
    if K < 1:
        raise ValueError(f"importance_weighted: it takes at least one sample, got K = {K}")
    weights = [log_weight() for _ in range(K)]
    return logsumexp(stack(weights), axis=0) - math.log(K)  # eq: iwae-bound


def kl_to_prior(q):
    """KL(N(μ, σ²) ‖ N(0, I)), summed over axis 1: (N,) for codes (N, d)."""
    return -0.5 * sum(1 + q.logvar - square(q.mu) - exp(q.logvar), 1)  # eq: vae-kl-closed-form


def fully_connected(shape, d_z, likelihood=Bernoulli, outputs=1, d_h=400, rng=None):
    """Networks with one hidden layer each, as in the original paper (which has 500 units and tanh),
    for images of `shape` (C, H, W). `outputs` is the number of parameters that `likelihood` needs
    for each value of the image."""
    C, H, W = shape
    d_x = C * H * W
    encoder = nn.Sequential(lambda x: x.reshape(len(x), d_x), nn.Linear(d_x, d_h, rng=rng), relu,
                            nn.Linear(d_h, 2 * d_z, rng=rng))
    decoder = nn.Sequential(nn.Linear(d_z, d_h, rng=rng), relu,
                            nn.Linear(d_h, outputs * d_x, rng=rng),
                            lambda y: y.reshape(len(y), outputs * C, H, W))
    return VAE(encoder, decoder, d_z, likelihood)
