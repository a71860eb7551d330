"""NVAE (Vahdat & Kautz 2020): a VAE with L groups of latent variables z_1 … z_L, which are maps at
several resolutions, from the smallest to the largest.

    p(z) = Π_l p(z_l | z_{<l}),   q(z | x) = Π_l q(z_l | z_{<l}, x)
    log p(x) ≥ E_q[log p(x | z) − Σ_l KL(q(z_l | z_{<l}, x) ‖ p(z_l | z_{<l}))] = ELBO

A bottom-up network turns x into features s_L … s_1, without noise. A top-down network, the same for
p and q, goes from z_1 to x: its state h_l is a function of z_{<l}.

    p(z_l | z_{<l}) = N(μ, σ²)                  (μ, log σ²) from h_l
    q(z_l | z_{<l}, x) = N(μ + Δμ, (σ Δσ)²)     (Δμ, log Δσ²) from h_l and s_l
    KL = ½ Σ (Δμ² / σ² + Δσ² − log Δσ² − 1)     0 if s_l tells nothing new

The ladder VAE (Sønderby et al. 2016), which has such networks too, takes another q: the product of
p and a normal N(μ̂, σ̂²), so that the more certain of the two counts more.

    1/σ_q² = 1/σ² + 1/σ̂²,   μ_q = σ_q² (μ / σ² + μ̂ / σ̂²)

    loss = −E_q[log p(x | z)] + β Σ_l γ_l KL_l + λ Σ_i σ_max(W_i)
    γ_l ∝ E_x[KL_l] / s_l                       with mean 1; s_l: how many positions z_l has

While β rises from 0 to 1, γ keeps groups from being given up: the less a group tells, the cheaper
it is. At β = 1 all γ_l are 1, and the loss is −ELBO and the last term, the largest singular values
of all convolutions (spectral.py), which keeps the KL from changing too fast with x.

Differs from the paper: s_l divides (printed as a factor, but not one in the authors' program); 3×3
convolutions in place of depthwise 5×5 ones of more channels, which are slower here; few and narrow
cells; Bernoulli pixels only; p(z_1) is learnt, too; no normalising flows in q, and no weights of
batch norms in the last term. In the ladder VAE μ̂ and σ̂ are functions of x alone; here h_l, too.
"""

import math

import numpy as np

from minigen import (
    broadcast_to,
    concatenate,
    exp,
    log,
    mean,
    nn,
    no_grad,
    pad,
    split,
    square,
    stack,
    sum,
)
from minigen.dist import Bernoulli, Normal, kl, per_image
from minigen.models.vae.cells import Cell, Group, decoder, enlarge
from minigen.models.vae.vae import importance_weighted


def residual(p, delta):
    """q for p, a `Normal` over (N, d_z, H, W), and (Δμ, log Δσ²) (N, 2 d_z, H, W); and KL(q ‖ p)
    for each element."""
    d_mu, d_logvar = split(delta, 2, axis=1)
    q = Normal(p.mu + d_mu, p.logvar + d_logvar)  # eq: nvae-residual-normal
    KL = 0.5 * (square(d_mu) / exp(p.logvar) + exp(d_logvar) - d_logvar - 1)  # eq: nvae-residual-kl
    return q, KL


def ladder(p, delta):
    """The same with (μ̂, log σ̂²) in place of (Δμ, log Δσ²)."""
    mu, logvar = split(delta, 2, axis=1)
    a, b = exp(-p.logvar), exp(-logvar)
    q = Normal((a * p.mu + b * mu) / (a + b), -log(a + b))  # eq: ladder-posterior
    return q, kl(q, p)


def balance(kls, sizes):
    """γ (L,), a constant, from the mean KL of each group (L,) and its number of positions."""
    share = kls.detach() / np.array(sizes, kls.dtype)
    return share / mean(share)  # eq: nvae-balance


class NVAE:
    """A model of images of `shape` (C, H, W) with values in [0, 1].

    groups: how many groups there are at each resolution, the smallest first; the largest is half
        that of the images, and each has half the height and width of the next, for which images
        get a border of zeros
    widths: the channels of the networks at each resolution; d_z: those of each z_l
    posterior: `residual` or `ladder`
    """

    def __init__(self, shape, groups=(3, 2, 1), widths=(64, 32, 16), d_z=4, posterior=residual,
                 rng=None):
        (C, H, W), S = shape, len(groups)
        if H % 2 or W % 2 or len(widths) != S:
            raise ValueError(f"NVAE: {S} resolutions need {S} widths, and an even height and width "
                             f"of the images, got {len(widths)} widths and {H}×{W}")
        self.shape, self.posterior = shape, posterior
        self.border = [-n % 2**S // 2 for n in (H, W)]
        H, W = (n + 2 * m for n, m in zip((H, W), self.border, strict=True))
        self.stem = nn.Conv2d(C, widths[-1], 4, stride=2, padding=1, rng=rng)
        self.bottom_up, self.top_down, self.sizes = [], [], []
        self.h_1 = nn.Parameter(widths[0], H >> S, W >> S, value=1.0)
        for s, (n, K) in enumerate(zip(groups, widths, strict=True)):
            for i in range(n):
                shrink, grow = [], []
                if i == n - 1 and s < S - 1:  # the next group is larger
                    shrink = [nn.Conv2d(widths[s + 1], K, 3, stride=2, padding=1, rng=rng)]
                    grow = [enlarge(K, widths[s + 1], rng)]
                self.bottom_up.append(nn.Sequential(*shrink, Cell(K, rng)))
                self.top_down.append(Group(K, d_z, grow, rng))
                self.sizes.append((H >> S - s) * (W >> S - s))
        self.tail = decoder(K, C, rng)
        self.weights = [nn.SpectralNorm(layer, rng) for _, layer in nn.walk(self)
                        if isinstance(layer, nn.Conv2d)]

    def features(self, x):
        """s_1 … s_L of images x (N, C, H, W), a list of tensors (N, K, H_l, W_l)."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"NVAE: images are {x.shape}, expected (N, "
                             f"{', '.join(map(str, self.shape))})")
        i, j = self.border
        s, features = self.stem(pad(x, ((0, 0), (0, 0), (i, i), (j, j)))), []
        for layer in reversed(self.bottom_up):
            s = layer(s)  # eq: nvae-bidirectional
            features.append(s)
        return features[::-1]

    def generator(self, n, choose):
        """p(x | z) for n images, with z_l = choose(l, h_l, p(z_l | z_{<l})), l = 0 … L − 1."""
        h = broadcast_to(self.h_1.weight, shape=(n, *self.h_1.weight.shape))
        for l, group in enumerate(self.top_down):
            h = group(h, choose(l, h, group.prior(h)))
        (i, j), (_, H, W) = self.border, self.shape
        return Bernoulli(self.tail(h)[:, :, i:i + H, j:j + W])

    def infer(self, features, rng):
        """p(x | z) for z ~ q(z | x), and for each l: q, p, z_l and the KL, (N,)."""
        steps = []

        def choose(l, h, p):
            delta = self.top_down[l].delta(h, features[l])  # eq: nvae-bidirectional
            q, kl = self.posterior(p, delta)
            z = q.sample(rng)
            steps.append((q, p, z, per_image(kl)))
            return z
        return self.generator(len(features[0]), choose), steps

    def terms(self, x, rng):
        """log p(x | z) for a z ~ q(z | x), (N,), and the KL of each group, (N, L)."""
        p_x, steps = self.infer(self.features(x), rng)
        return per_image(p_x.log_prob(x)), stack([kl for *_, kl in steps], axis=1)

    def elbo(self, x, rng):
        """The bound for each image, and its two parts, as for `VAE`: (N,) each."""
        reconstruction, kls = self.terms(x, rng)
        kl = sum(kls, 1)
        return reconstruction - kl, reconstruction, kl  # eq: nvae-bound

    def loss(self, x, rng, beta=1.0, lam=0.0):
        """The loss, averaged over a batch, and parts of it, all scalars."""
        reconstruction, kls = self.terms(x, rng)
        kls = mean(kls, 0)
        gamma = balance(kls, self.sizes) if beta < 1 else 1.0
        penalty = sum(concatenate([w.sigma() for w in self.weights]))  # eq: nvae-spectral
        loss = beta * sum(gamma * kls) - mean(reconstruction) + lam * penalty  # eq: nvae-objective
        return loss, {"reconstruction": -mean(reconstruction), "kl": sum(kls)}

    def log_prob(self, x, rng, K=50):
        """log p(x), approached from below as in vae.py: (N,), untracked. ValueError if K < 1."""
        with no_grad():
            features = self.features(x)

            def log_weight():
                p_x, steps = self.infer(features, rng)
                log_w = per_image(p_x.log_prob(x))
                for q, p, z, _ in steps:
                    log_w = log_w + per_image(p.log_prob(z) - q.log_prob(z))  # eq: nvae-hierarchy
                return log_w
            return importance_weighted(log_weight, K)

    def generate(self, n, rng, t=1.0, z=()):
        """p(x | z) for n samples z ~ p(z), untracked: see `draw`."""
        return self.draw(n, rng, t, z)[0]

    def draw(self, n, rng, t=1.0, z=()):
        """p(x | z), untracked, and the list z_1 … z_L ~ p(z), the first of which may be given in z.
        t: the temperature, a factor of every σ. ValueError unless it is positive."""
        if not t > 0:
            raise ValueError(f"NVAE: the temperature must be positive, got {t}")
        z = list(z)

        def choose(l, h, p):
            if l == len(z):
                q = Normal(p.mu, p.logvar + 2 * math.log(t))  # eq: nvae-temperature
                z.append(q.sample(rng))
            return z[l]
        with no_grad():
            return self.generator(n, choose), z

    def sample(self, n, rng):
        """n images: z ~ p(z), then x ~ p(x | z)."""
        return self.generate(n, rng).sample(rng)
