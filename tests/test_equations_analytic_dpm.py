"""Analytic-DPM on normal images, where the best network and all variances are known."""

import numpy as np
import pytest
from normal_world import World

from minigen import tensor
from minigen.models.diffusion import schedule
from minigen.models.diffusion.analytic_dpm import analytic, eps_moments, fitted, variances
from minigen.models.diffusion.ddpm import DDPM

RNG = np.random.default_rng
SCHEDULES = {"long steps": schedule.Schedule([1e-3, 0.1, 0.2, 0.4, 0.6, 0.8]),
             "short steps": schedule.linear(40)}


def exact(s, world):
    """Γ_t, and E ‖x_{t−1} − E[x_{t−1} | x_t]‖² / d from the covariance of x_{t−1} and x_t."""
    gamma, best = np.ones(s.T + 1), np.zeros(s.T + 1)
    for t in range(1, s.T + 1):
        _, of_noise = world.eps_posterior(t, np.zeros((0, 4)), np.zeros(0))
        gamma[t] = 1 - np.trace(of_noise) / 4
        before = world.alpha_bar[t - 1] * world.sigma + (1 - world.alpha_bar[t - 1]) * np.eye(4)
        both = s.alpha[t] ** 0.5 * before
        now = s.alpha[t] * before + s.beta[t] * np.eye(4)
        best[t] = np.trace(before - both @ np.linalg.solve(now, both)) / 4
    return gamma, best


@pytest.mark.parametrize("name", SCHEDULES)
def test_variances_are_what_is_left_of_the_image_before(name):
    s = SCHEDULES[name]
    gamma, best = exact(s, World(s))
    np.testing.assert_allclose(variances(s, 1 - gamma)[1:], best[1:], rtol=1e-9)  # eq: analytic-dpm
    assert (best[2:] > s.beta_tilde[2:]).all() and (best[1:] < s.beta[1:]).all()


def test_one_image_and_white_noise_give_the_choices_of_ddpm():
    s = SCHEDULES["long steps"]
    one, rng = np.full((50, 1, 2, 2), 0.3), RNG(0)
    perfect = DDPM(lambda x_t, t: tensor((x_t.numpy() - s.alpha_bar[t[0]] ** 0.5 * 0.3)
                                       / (1 - s.alpha_bar[t[0]]) ** 0.5), s)
    np.testing.assert_allclose(fitted(perfect, one, rng).sigma2, s.beta_tilde, atol=1e-12)
    white = DDPM(lambda x_t, t: (1 - s.alpha_bar[t[0]]) ** 0.5 * x_t, s)  # E[ε | x_t]
    x_0 = rng.standard_normal((20_000, 1, 2, 2))
    of_a_share = (s.beta**2 / (s.alpha * (1 - s.alpha_bar + 1e-30)))[1:]
    for best in (analytic(white, x_0, rng), fitted(white, x_0, rng)):
        off = np.abs(best.sigma2 - s.beta)[1:]  # means of n squares, deviation ≤ √(2/n)
        assert (off < 4 * of_a_share * (2 / x_0.size) ** 0.5).all()


def test_what_is_known_of_the_noise_is_measured():
    s = SCHEDULES["long steps"]
    world, n = World(s), 20_000
    gamma_hat, eps_mse = eps_moments(DDPM(world.unconditional, s), world.sample(n, RNG(0)), RNG(1))
    gamma, _ = exact(s, world)
    # both average n sums of squared normals, each with deviation at most √2 times its mean
    assert (np.abs(gamma_hat - gamma) < 4 * gamma * (2 / n) ** 0.5).all()  # eq: analytic-dpm
    assert (np.abs(eps_mse - (1 - gamma))[1:] < 4 * (1 - gamma)[1:] * (2 / n) ** 0.5).all()


def test_no_other_variances_bound_as_closely():
    s = SCHEDULES["long steps"]
    world = World(s)
    x = np.round(127.5 * (world.sample(4000, RNG(0)) + 1)).clip(0, 255) / 127.5 - 1
    others = world.sample(4000, RNG(1))
    for factor in (0.7, 1, 1.3):  # scales the best network's prediction
        net = lambda *args, factor=factor: factor * world.unconditional(*args)
        model = fitted(DDPM(net, s), others, RNG(2))
        bound = lambda sigma2, net=net: DDPM(net, s, sigma2).bound(x, RNG(3))[0].numpy().mean()
        least, papers = bound(model.sigma2), analytic(DDPM(net, s), others, RNG(2)).sigma2
        for other in (0.8, 0.95, 1.05, 1.25):
            assert bound(other * model.sigma2) > least
        assert bound(s.beta) > least + 0.1 and bound(s.beta_tilde) > least + 0.1
        assert abs(bound(papers) - least) < 0.05 if factor == 1 else bound(papers) > least + 0.1
    with pytest.raises(ValueError, match="at least one image"):
        fitted(DDPM(world.unconditional, s), x[:0], RNG(0))
