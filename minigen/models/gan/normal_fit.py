"""The experiment in the f-GAN paper that can be checked: a normal is fitted to a mixture of two.

    p(x) = ½ N(x; −1, 0.4²) + ½ N(x; 0.8, 1)            the data
    q(x) = N(x; μ, σ²) = density of G(z) = μ + σz        a normal cannot equal p
    (μ*, σ*) = argmin D_f(p ‖ q)                          so each divergence has its own optimum

KL penalises a q that misses data, so its q is wide; the reverse KL penalises samples where there is
little data, and Neyman's χ² does so even more, so their q moves to p's wide component.
"""

import math

import numpy as np

from minigen import exp, mean, nn, square, tanh
from minigen.models.gan.fgan import FGAN

WEIGHTS, MU, SIGMA = (0.5, 0.5), (-1.0, 0.8), (0.4, 1.0)
GRID = np.linspace(-9, 9, 1801)


def normal(x, mu, sigma):
    """The density N(x; μ, σ²), elementwise: a tensor."""
    return exp(-square((x - mu) / sigma) / 2) / (sigma * math.sqrt(2 * math.pi))


def mixture(x):
    """The data's density p(x): a tensor like x."""
    first, second = (w * normal(x, mu, sigma) for w, mu, sigma in
                     zip(WEIGHTS, MU, SIGMA, strict=True))
    return first + second


def sample(n, rng):
    """n samples of p: (n, 1), float32."""
    k = rng.choice(len(WEIGHTS), n, p=WEIGHTS)
    x = np.take(MU, k) + np.take(SIGMA, k) * rng.standard_normal(n)
    return x[:, None].astype(np.float32)


def divergence(d, mu, sigma):
    """D_f(p ‖ N(μ, σ²)) for a `Divergence` d, by quadrature: a number."""
    return d.between(mixture(GRID), normal(GRID, mu, sigma), GRID[1] - GRID[0]).item()


def fit(d):
    """The normal that minimises a `Divergence` d, found directly, without samples or networks: μ*,
    σ* and the minimum."""
    from scipy.optimize import minimize  # imported here: it loads slowly

    def objective(parameters):
        return divergence(d, parameters[0], math.exp(parameters[1]))

    with np.errstate(all="ignore"):  # far from the optimum some divergences are infinite
        best = minimize(objective, (0.0, 0.0), method="Nelder-Mead")
    return best.x[0], math.exp(best.x[1]), best.fun


def build_fgan(name, d_h=64):
    """The f-GAN that fits the normal from samples: G(z) = μ + σz, which `init_standard_normal` sets
    to N(0, 1), and V with two hidden tanh layers, as in the paper."""
    V = nn.Sequential(nn.Linear(1, d_h), tanh, nn.Linear(d_h, d_h), tanh, nn.Linear(d_h, 1))
    return FGAN(nn.Linear(1, 1), V, 1, name)


def init_standard_normal(game):
    """Set G to the standard normal, the starting point for all divergences."""
    nn.load_state_dict(game.G, {"weight": np.ones((1, 1), np.float32),
                                "bias": np.zeros(1, np.float32)})


def d_loss(game, x, rng):
    """−F on the real samples x. If T is bounded on both sides, as for the total variation,
    0.01 (E_P[v²] + E_Q[v²]) is added: otherwise V soon becomes so sure of its first threshold that
    g, whose slope is 1 / (2 cosh² v), saturates and V can learn no other threshold; G then runs
    away from it (to D_f = 0.35, not 0.22)."""
    v_p, v_q = game.discriminate(x, rng)
    loss = -game.divergence.bound(v_p, v_q)
    if all(map(math.isfinite, game.divergence.domain)):
        loss = loss + 0.01 * (mean(square(v_p)) + mean(square(v_q)))
    return loss


def fitted_parameters(game):
    """μ and σ of G."""
    return game.G.bias.item(), abs(game.G.weight.item())
