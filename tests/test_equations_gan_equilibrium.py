"""Section "GAN": what the game is about, on distributions that can be summed or integrated."""

import numpy as np
import pytest
from scipy import optimize, stats

from minigen.models.gan import equilibrium

RNG = np.random.default_rng
P_DATA, P_G = np.array([0.5, 0.2, 0.2, 0.1]), np.array([0.1, 0.4, 0.1, 0.4])


def sigma(a):
    return 1 / (1 + np.exp(-a))


def test_the_best_discriminator_is_a_ratio_of_probabilities():
    """By a numerical search for the maximum of V over all D."""
    found = optimize.minimize(lambda a: -equilibrium.value(P_DATA, P_G, sigma(a)), np.zeros(4),
                              tol=1e-12)
    D = equilibrium.optimal_discriminator(P_DATA, P_G)
    assert np.allclose(D, sigma(found.x), atol=1e-5)  # eq: gan-optimal-discriminator


def test_the_game_ends_where_the_samples_are_as_the_data():
    """x has two values, p_data = (0.3, 0.7). G chooses p_g on a grid, D its two probabilities."""
    grid = np.linspace(0.01, 0.99, 99)
    D = np.array(np.meshgrid(grid, grid)).reshape(2, -1).T
    p_data = np.array([0.3, 0.7])
    V = np.array([[equilibrium.value(p_data, np.array([p, 1 - p]), d) for d in D[::7]]
                  for p in grid])
    # D = ½ gives V = −log 4 for every G, so max_D V is at least that; only p_g = p_data attains it.
    V = np.concatenate([V, np.full((99, 1), -np.log(4))], axis=1)
    assert equilibrium.minimax(V) == pytest.approx(-np.log(4))  # eq: gan-minimax
    assert grid[V.max(axis=1).argmin()] == pytest.approx(0.3, abs=0.015)
    assert equilibrium.minimax(np.array([[0, 2], [3, 1]])) == 2  # eq: gan-minimax
    # V is linear in p_g and concave in D, so over all of both, min max equals max min
    assert V.min(axis=0).max() == pytest.approx(equilibrium.minimax(V))


def test_the_value_at_the_best_discriminator_is_jensen_and_shannons_divergence_not_kl():
    """The slide says that WGAN replaces "KL" by the Wasserstein distance."""
    gaps = []
    for p_g in (P_G, P_DATA, np.array([0, 0.3, 0.3, 0.4])):
        V = equilibrium.value(P_DATA, p_g, equilibrium.optimal_discriminator(P_DATA, p_g))
        gaps.append(V + np.log(4))
        m = (P_DATA + p_g) / 2
        jsd = (stats.entropy(P_DATA, m) + stats.entropy(p_g, m)) / 2
        assert V == pytest.approx(2 * jsd - np.log(4))  # eq: gan-optimal-discriminator
        assert equilibrium.jsd(P_DATA, p_g) == pytest.approx(jsd)
        assert equilibrium.kl(P_DATA, p_g) == pytest.approx(stats.entropy(P_DATA, p_g))
    one_way, other = stats.entropy(P_DATA, P_G), stats.entropy(P_G, P_DATA)
    assert min(abs(gaps[0] - c * kl) for c in (1, 2) for kl in (one_way, other)) > 0.1
    assert gaps[2] < np.log(4) and equilibrium.kl(P_DATA, np.array([0, 0.3, 0.3, 0.4])) == np.inf


def test_two_gaussians_have_the_same_value_by_integration():
    x = np.linspace(-12, 12, 4001)
    p, q = (stats.norm(mu, s).pdf(x) * (x[1] - x[0]) for mu, s in ((-1, 1), (1.5, 0.7)))
    V = 2 * equilibrium.jsd(p, q) - np.log(4)
    mix = (stats.norm(-1, 1).rvs(200_000, RNG(6)), stats.norm(1.5, 0.7).rvs(200_000, RNG(7)))
    log_d = [np.log1p(np.exp(-d * (stats.norm(-1, 1).logpdf(s) - stats.norm(1.5, 0.7).logpdf(s))))
             for d, s in zip((1, -1), mix, strict=True)]
    assert V == pytest.approx(-log_d[0].mean() - log_d[1].mean(), abs=0.01)


def test_only_the_wasserstein_distance_tells_how_far_apart_disjoint_distributions_are():
    x = np.arange(12.0)
    p = np.zeros(12)
    p[:2] = 0.25, 0.75
    for shift in (2, 5, 9):
        q = np.roll(p, shift)
        assert equilibrium.jsd(p, q) == pytest.approx(np.log(2))  # slide error: 16
        assert equilibrium.kl(p, q) == np.inf
        assert equilibrium.wasserstein(p, q, x) == pytest.approx(shift)
    # by definition: the cheapest plan that moves p to q, a linear programme; uneven spacing
    p, q, x = RNG(8).dirichlet(np.ones(6)), RNG(9).dirichlet(np.ones(6)), np.arange(6.0) ** 2
    move = np.concatenate([np.kron(np.eye(6), np.ones(6)), np.kron(np.ones(6), np.eye(6))])
    plan = optimize.linprog(abs(x[:, None] - x).ravel(), A_eq=move, b_eq=np.concatenate([p, q]))
    assert equilibrium.wasserstein(p, q, x) == pytest.approx(plan.fun)  # eq: wgan-swap
