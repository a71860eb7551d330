"""Analytic-DPM in a world of normal images, where the best network and all variances are known."""

import numpy as np
import pytest
from normal_world import World

from minigen.models.diffusion import schedule
from minigen.models.diffusion.analytic_dpm import analytic, known_noise, variances
from minigen.models.diffusion.ddpm import DDPM

RNG = np.random.default_rng
SCHEDULES = {"long steps": schedule.Schedule([1e-3, 0.1, 0.2, 0.4, 0.6, 0.8]),
             "short steps": schedule.linear(40)}


def exact(s, world):
    """Γ_t, and E ‖x_{t−1} − E[x_{t−1} | x_t]‖² / d from the covariance of x_{t−1} and x_t."""
    gamma, best = np.ones(s.T + 1), np.zeros(s.T + 1)
    for t in range(1, s.T + 1):
        _, of_noise = world.noise(t, np.zeros((0, 4)), np.zeros(0))
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
    np.testing.assert_allclose(variances(s, gamma)[1:], best[1:], rtol=1e-9)  # eq: analytic-dpm
    assert (best[2:] > s.beta_tilde[2:]).all() and (best[1:] < s.beta[1:] / s.alpha[1:]).all()


def test_their_bounds_are_one_image_and_white_noise():
    s = SCHEDULES["long steps"]
    for beyond in (0, 0.5):
        np.testing.assert_allclose(variances(s, np.full(s.T + 1, 1 + beyond)), s.beta_tilde)
        np.testing.assert_allclose(variances(s, np.full(s.T + 1, -beyond)), s.beta / s.alpha)


def test_what_is_known_of_the_noise_is_measured():
    s = SCHEDULES["long steps"]
    world, n = World(s), 20_000
    measured = known_noise(DDPM(world.plain, s), world.draw(n, RNG(0)), RNG(1))
    gamma, _ = exact(s, world)
    # ‖E[ε | x_t]‖² is a sum of squares of normals: its deviation is at most √2 times its mean
    assert (np.abs(measured - gamma) < 4 * gamma * (2 / n) ** 0.5).all()  # eq: analytic-dpm


def test_no_other_variances_bound_as_closely():
    s = SCHEDULES["long steps"]
    world = World(s)
    x = np.round(127.5 * (world.draw(4000, RNG(0)) + 1)).clip(0, 255) / 127.5 - 1
    model = analytic(DDPM(world.plain, s), world.draw(4000, RNG(1)), RNG(2))
    bound = lambda sigma2: DDPM(world.plain, s, sigma2).bound(x, RNG(3))[0].numpy().mean()
    least = bound(model.sigma2)
    for factor in (0.8, 0.95, 1.05, 1.25):
        assert bound(factor * model.sigma2) > least
    assert bound(s.beta) > least + 0.1 and bound(s.beta_tilde) > least + 0.1
