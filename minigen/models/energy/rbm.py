"""The restricted Boltzmann machine (Smolensky 1986): binary images v and binary latents h whose
probability is given by an energy.

    E(v, h) = −bᵀv − cᵀh − hᵀWv        p(v, h) = e^{−E(v, h)} / Z,  Z = Σ_v Σ_h e^{−E(v, h)}

Restricted means that no term connects two pixels or two latents. So each layer is independent given
the other one, and the sum over h is a product over its units:

    p(h_j = 1 | v) = σ(c_j + (Wv)_j)        p(v_i = 1 | h) = σ(b_i + (Wᵀh)_i)
    p(v) = e^{−F(v)} / Z                    F(v) = −bᵀv − Σ_j log(1 + e^{c_j + (Wv)_j})

F is the free energy. Z, a sum over all images, is intractable, but the gradient of log p does not
need it, only samples v' of the model:

    −∂ log p(v)/∂θ = ∂F(v)/∂θ − E_{v' ~ p}[∂F(v')/∂θ]

A step lowers the energy of the data and raises that of the samples. Block Gibbs sampling draws h
given v, then v given h, and so on; after enough steps, v ~ p. Training takes only k steps,

    CD-k (Hinton 2002)         from the images of the batch
    PCD-k (Tieleman 2008)      from where the chains were after the last training step

CD's samples stay near the data and never see what else the model finds probable; PCD's chains
follow the model, as long as it changes slowly.

Z is estimated by annealed importance sampling (Neal 2001; Salakhutdinov & Murray 2008). Chains pass
through distributions p_β(v) = e^{−F_β(v)} / Z_β, 0 = β_0 < … < β_T = 1: each is an RBM with weights
βW and biases βb + (1 − β) b_0 and βc. For β = 0 pixels are independent and Z_0 is known.

    log w = Σ_t F_{β_{t−1}}(v_t) − F_{β_t}(v_t)         E[w] = Z / Z_0

v_1 is a sample of p_0, and v_{t+1} a Gibbs step from v_t that leaves p_{β_t} invariant. Since
E[log w] ≤ log E[w], too few chains or temperatures underestimate Z, so that log p(v) looks better
than it is. A chain in the opposite direction, from v ~ p, has E[w] = Z_0 / Z and errs to the other
side (Grosse, Ghahramani & Adams 2015): where both agree, the estimate is good, as far as the images
that the second one starts from are samples of p.
"""

import math
from itertools import pairwise

import numpy as np

from minigen import linear, logsumexp, mean, no_grad, softplus, sum, tensor, where
from minigen.dist import Bernoulli
from minigen.nn import initializers
from minigen.tensor import Tensor, to_device_of

MOST = 16  # units of the smaller layer, for whose states exact_log_z sums


class RBM:
    """An RBM of D pixels and K latents: W (K, D), b (D,), c (K,)."""

    def __init__(self, D, K, rng=None):
        self.W, self.b, self.c = (initializers.parameter(*shape) for shape in ((K, D), (D,), (K,)))
        self.init(initializers.generator(rng))

    def init(self, rng):
        initializers.normal(self.W, 0.01, rng)
        initializers.constant(self.b, 0)
        initializers.constant(self.c, 0)

    def _checked(self, v):
        """Images v. ValueError unless they are (N, D)."""
        if np.shape(v)[1:] != self.b.shape:
            raise ValueError(f"RBM: images are {np.shape(v)}, expected (N, {len(self.b)}): flatten "
                             "each image")
        return v

    def energy(self, v, h):
        """E(v, h) of images v (N, D) with latents h (N, K): (N,)."""
        v = self._checked(v)
        return -(v @ self.b) - h @ self.c - sum(linear(v, self.W) * h, axis=1)  # eq: rbm-energy

    def free_energy(self, v):
        """F(v) = −log Σ_h e^{−E(v, h)} of images v (N, D): (N,)."""
        v = self._checked(v)
        return -(v @ self.b) - sum(softplus(linear(v, self.W, self.c)), 1)  # eq: rbm-free-energy

    def log_prob(self, v, log_z):
        """log p(v) of images v (N, D), given log Z: (N,)."""
        return -self.free_energy(v) - log_z  # eq: rbm-free-energy

    def hidden(self, v):
        """p(h | v) for images v (N, D): a `Bernoulli` over (N, K)."""
        return Bernoulli(linear(self._checked(v), self.W, self.c))  # eq: rbm-conditionals

    def visible(self, h):
        """p(v | h) for latents h (N, K): a `Bernoulli` over (N, D)."""
        return Bernoulli(h @ self.W + self.b)  # eq: rbm-conditionals

    def loss(self, v, v_model):
        """E[F(v)] − E[F(v')] for images v (N, D) and samples v' (M, D) of the model. Its gradient
        estimates that of −log p(v); its value says little, since Z is missing."""
        return mean(self.free_energy(v)) - mean(self.free_energy(v_model))  # eq: rbm-gradient

    @no_grad()
    def gibbs(self, v, rng, k=1):
        """v after k steps of block Gibbs sampling from images v (N, D)."""
        for _ in range(k):
            h = self.hidden(v).sample(rng)
            v = self.visible(h).sample(rng)  # eq: rbm-cd
        return v

    def complete(self, v, known, rng, k):
        """Images v (N, D) after k Gibbs steps that change only pixels that are not `known` (D,),
        booleans: for large k samples given the known pixels, whatever the others were."""
        x = v
        for _ in range(k):
            x = where(known, v, self.gibbs(x, rng))
        return x


class Chains:
    """Gibbs chains that go on from one training step to the next, at first at images v (M, D)."""

    def __init__(self, v):
        self.v = Tensor(tensor(v).data.copy())  # which `advance` overwrites

    def advance(self, rbm, rng, k=1):
        """The chains' images after k more steps."""
        v = rbm.gibbs(self.v, rng, k)
        initializers.values(self.v, v.data)  # eq: rbm-cd
        return v


# ---------------------------------------------------------------------------------- the constant Z

@no_grad()
def exact_log_z(rbm):
    """log Z, summed over the states of the smaller layer. ValueError if it has over 16 units."""
    K, D = rbm.W.shape
    n = min(K, D)
    if n > MOST:
        raise ValueError(f"exact_log_z: the RBM has {D} pixels and {K} latents; the states of the "
                         f"smaller layer can be summed over up to {MOST} units: use ais")
    s = to_device_of((np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(rbm.W.dtype), rbm.W.data)
    minus_F = -rbm.free_energy(s) if D <= K else s @ rbm.c + sum(softplus(s @ rbm.W + rbm.b), 1)
    return logsumexp(minus_F).item()


def log_odds(mean, n):
    """The biases b_0 (D,) for which independent pixels have the given means (D,) over n images; one
    image with all pixels on and one with all pixels off are added, so that b_0 is finite."""
    p = (n * mean + 1) / (n + 2)
    return np.log(p / (1 - p))


def inverse_temperatures(T):
    """β_0 … β_T, spaced as in Salakhutdinov & Murray: 1 of 29 steps lies below 0.5, 8 between that
    and 0.9, the others above. ValueError if T is below 1."""
    if T < 1:
        raise ValueError(f"inverse_temperatures: T = {T} steps came, expected at least 1")
    return np.interp(np.linspace(0, 29, T + 1), [0, 1, 9, 29], [0, 0.5, 0.9, 1]).tolist()


@no_grad()
def anneal(rbm, b_0, v, betas, rng):
    """Chains from images v (N, D), samples of p_β for the first of `betas`, through the others:
    log w (N,), in float64 on the CPU. E[w] is the last distribution's Z over the first one's."""
    log_w = np.zeros(len(v))
    for last, beta in pairwise(betas):
        a, u = linear(v, rbm.W, rbm.c), v @ (rbm.b - b_0)
        drop = (beta - last) * u + sum(softplus(beta * a) - softplus(last * a), 1)  # eq: ais-weight
        log_w += drop.numpy()  # eq: ais-weight
        h = Bernoulli(beta * a).sample(rng)  # eq: ais-weight
        v = Bernoulli(beta * (h @ rbm.W + rbm.b) + (1 - beta) * b_0).sample(rng)  # eq: ais-weight
    return log_w


def ais(rbm, b_0, n, T, rng):
    """log Z, estimated by n chains of T steps from p_0, and its standard error."""
    v = Bernoulli(to_device_of(np.tile(b_0, (n, 1)), rbm.b.data)).sample(rng)
    ratio, error = log_mean(anneal(rbm, b_0, v, inverse_temperatures(T), rng))
    return log_z_0(rbm, b_0) + ratio, error  # eq: ais-weight


def reverse_ais(rbm, b_0, v, T, rng):
    """log Z, estimated by chains of T steps to p_0 from images v (N, D), which should be samples of
    the RBM, and its standard error."""
    ratio, error = log_mean(anneal(rbm, b_0, v, inverse_temperatures(T)[::-1], rng))
    return log_z_0(rbm, b_0) - ratio, error  # eq: ais-weight


def log_z_0(rbm, b_0):
    """log Z of p_0: K latents that are on or off, whatever v is, and D independent pixels."""
    return len(rbm.c) * math.log(2) + np.logaddexp(0, b_0).sum(dtype=np.float64)  # eq: ais-weight


def log_mean(log_w):
    """The log of the mean of n weights, given log w (n,), and its standard error. ValueError for
    fewer than two weights."""
    if len(log_w) < 2:
        raise ValueError(f"log_mean: {len(log_w)} weights came, a standard error needs at least 2")
    w = np.exp(log_w - log_w.max())
    return log_w.max() + math.log(w.mean()), w.std(ddof=1) / (w.mean() * len(w) ** 0.5)
