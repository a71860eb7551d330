"""Denoising diffusion probabilistic models (Ho, Jain & Abbeel 2020).

The forward process q adds noise to an image in T small steps; it is fixed (forward.py). The reverse
process is learnt, through a network ε_θ that predicts the noise in x_t:

    p(x_T) = N(0, I)        p_θ(x_{t−1} | x_t) = N(μ_θ(x_t, t), σ_t² I),  σ_t² = β_t
    μ_θ(x_t, t) = 1/√α_t (x_t − (1 − α_t) / √(1 − ᾱ_t) ε_θ(x_t, t))

    L_simple = E_{x_0, ε, t} ‖ε − ε_θ(√ᾱ_t x_0 + √(1 − ᾱ_t) ε, t)‖²,  t uniform on {1 … T}
    −log p_θ(x_0) ≤ L_T + Σ_{t=2..T} L_{t−1} + L_0
        L_{t−1} = KL(q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t))
        L_T = KL(q(x_T | x_0) ‖ p(x_T))        L_0 = −E log p_θ(x_0 | x_1)
"""

from itertools import pairwise

import numpy as np

from minigen import mean, nn, no_grad, square, tensor
from minigen.dist import DiscretisedNormal, Normal, kl, noise, per_image
from minigen.models.diffusion.forward import Forward
from minigen.models.diffusion.schedule import log0, safe_divide
from minigen.tensor import xp


class DDPM(Forward):
    """`net(x_t, t, *given)` predicts the noise in images x_t (N, C, H, W) at integers t (N,);
    `schedule` is a Schedule; `sigma2` (T + 1,), the variances σ_t² of the reverse steps, is β
    unless given: with few steps `schedule.beta_tilde`, the other bound on the best variances, is
    better. In training, errors are multiplied by the network's `loss_weight`, w_t (T + 1,), if it
    has one (velocity.py, clean.py).

    Images and t are as in `Forward`. A `threshold` is a function that corrects an estimate of x_0.
    """

    def __init__(self, net, schedule, sigma2=None):
        super().__init__(schedule)
        self.net = net
        self.sigma2 = schedule.beta if sigma2 is None else sigma2  # eq: ddpm-sigma-choice

    # ------------------------------------------------------------------ training

    def loss(self, x_0, rng, *given, norm=square):
        """L_simple of images x_0 (N, C, H, W), averaged over pixels too: a scalar. A training step
        (Algorithm 1) is this loss, then a step of the optimiser down its gradient.

        norm: the function of the error that is averaged
        """
        x_0, s = tensor(x_0), self.schedule
        t = rng.integers(1, s.T + 1, len(x_0))
        eps = noise(rng, x_0)
        error = norm(eps - self.eps(self.q_sample(x_0, t, eps), t, *given))
        if (weight := getattr(self.net, "loss_weight", None)) is not None:
            error = s.at(weight, t, x_0) * error  # eq: ddpm-loss-weighting
        return mean(error)  # eq: ddpm-loss-simple, ddpm-algorithm-1

    def eps(self, x_t, t, *given, threshold=None):
        """ε_θ(x_t, t), the predicted noise in x_t. With a `threshold`, the noise that corresponds
        to the corrected estimate of x_0."""
        x_t = tensor(x_t)
        return self.corrected(x_t, t, check_eps(self.output(x_t, t, *given), x_t), threshold)

    def corrected(self, x_t, t, eps, threshold):
        """The noise in x_t that corresponds to the estimate of x_0 after a `threshold`; ε without
        one."""
        if threshold is None:
            return eps
        return self.predict_eps(x_t, t, threshold(self.predict_x0(x_t, t, eps)))

    def output(self, x_t, t, *given):
        """The network's output for x_t, a tensor."""
        s, t = self.schedule, self.schedule.check(t)
        return self.net(x_t, s.pick(s.times, xp(t).broadcast_to(t, len(x_t))), *given)

    # ------------------------------------------------------------------ the reverse process

    def mu(self, x_t, t, eps):
        """μ_θ(x_t, t) for a predicted noise ε."""
        s, at = self.schedule, self.schedule.at
        a, b = 1 / np.sqrt(s.alpha), safe_divide(1 - s.alpha, np.sqrt(1 - s.alpha_bar))
        return at(a, t, x_t) * (tensor(x_t) - at(b, t, x_t) * eps)

    def p(self, x_t, t, *given, threshold=None):
        """p_θ(x_{t−1} | x_t): a `Normal`."""
        mu = self.mu(x_t, t, self.eps(x_t, t, *given, threshold=threshold))
        return Normal(mu, self.schedule.at(log0(self.sigma2), t, x_t))  # eq: ddpm-reverse-model

    def step(self, x_t, t, rng, *given, threshold=None):
        """x_{t−1}: a sample of p_θ(x_{t−1} | x_t), or at t = 1 its mean."""
        p = self.p(x_t, t, *given, threshold=threshold)
        return p.sample(rng) if t > 1 else p.mean  # eq: ddpm-algorithm-2

    def chain(self, x_t, rng, *given, threshold=None, start=None):
        """Algorithm 2: yields (t, x_t) for t = T … 0, beginning with the given x_T; with `start`,
        from that t on."""
        x, start = tensor(x_t), self.schedule.T if start is None else start
        yield start, x
        for t in range(start, 0, -1):
            with no_grad():
                x = self.step(x, t, rng, *given, threshold=threshold)
            yield t - 1, x

    def sample(self, n, shape, rng, *given, threshold=None):
        """n images of `shape` (C, H, W), by Algorithm 2."""
        x_T = noise(rng, nn.like(self.net), (n, *shape))
        chain = self.chain(x_T, rng, *given, threshold=threshold)
        return next(x for t, x in chain if t == 0)

    # ------------------------------------------------------------------ the likelihood

    def bound(self, x_0, rng, *given, draws=8):
        """An upper bound on −log p_θ(x_0), nats per image (N,), untracked, and its parts (N,). x_0
        are bytes scaled to [−1, 1]; p_θ(x_0 | x_1) is the probability of their levels under the
        normal.

        L_T is exact, L_0 uses one sample of x_1, and the sum over t = 2 … T between them is
        estimated from `draws` values of t per image, one from each of `draws` equal parts of the
        range. If σ_1² = 0 (as β̃_1 is), σ_2² takes its place. ValueError if another σ_t² is 0, and
        unless `draws` ≥ 1.
        """
        s, x_0 = self.schedule, tensor(x_0)
        if not self.sigma2[min(2, s.T):].all():
            raise ValueError("bound: this chain adds no noise, so that images have no density: "
                             "give sigma2 > 0 (DDIM: eta > 0)")
        if draws < 1:
            raise ValueError(f"bound: the sum takes at least one draw, got {draws}")
        L_between = tensor(xp(x_0.data).zeros(len(x_0), x_0.dtype))
        draws = min(draws, s.T - 1)
        with no_grad():
            for low, high in pairwise(np.linspace(2, s.T + 1, draws + 1)):
                t = np.minimum(np.floor(rng.uniform(low, high, len(x_0))).astype(int), s.T)
                x_t = self.q_sample(x_0, t, noise(rng, x_0))
                q, p = self.q_posterior(x_t, x_0, t), self.p(x_t, t, *given)
                L_between = L_between + (s.T - 1) / draws * per_image(kl(q, p))
            x_1 = self.q_sample(x_0, 1, noise(rng, x_0))
            p = self.p(x_1, 1, *given)
            logvar = p.logvar if self.sigma2[1] else s.at(log0(self.sigma2), 2, x_0)
            L_0 = -per_image(DiscretisedNormal(p.mu, logvar).log_prob(x_0))
            L_T = per_image(kl(self.q(x_0, s.T), Normal(0.0, 0.0)))  # eq: ddpm-terminal
            parts = {"L_T": L_T, "L_between": L_between, "L_0": L_0}
            return L_T + L_between + L_0, parts  # eq: ddpm-vlb


def check_eps(eps, x_t):
    """A network's output for x_t, which must be noise of the shape of x_t. ValueError otherwise."""
    if eps.shape != x_t.shape:
        raise ValueError(f"ddpm: the network gives {eps.shape} for images x_t {x_t.shape}, "
                         "expected noise of their shape (a network that gives variances too is "
                         "for ImprovedDDPM)")
    return eps
