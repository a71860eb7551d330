"""Score SDEs of a mixture of normal distributions, whose densities p_t and scores are known."""

import math

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from minigen import grad, nn, sum, tanh, tensor
from minigen.models.diffusion import schedule
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.score_sde import LAST, SCALE, START, VP, ScoreSDE, column

RNG = np.random.default_rng
SDE = VP()


class Mixture:
    """Two normals of standard deviation s, at −μ with probability 0.3 and at μ: log p_t, and what a
    perfect network would predict, by Bayes' rule for the two."""

    def __init__(self, mu, s=0.3):
        self.mu, self.s = np.array(mu), s

    def log_prob(self, x, t):
        a = SDE.alpha_bar(t)
        v = a * self.s**2 + 1 - a
        log_p = [math.log(pi) - ((x - sign * a**0.5 * self.mu) ** 2).sum(1) / (2 * v)
                 for pi, sign in ((0.3, -1), (0.7, 1))]
        return np.logaddexp(*log_p) - len(self.mu) / 2 * math.log(2 * math.pi * v)

    def __call__(self, x, times):
        t = np.asarray(times) / SCALE
        a, mu = SDE.alpha_bar(t)[:, None].astype(x.dtype), self.mu.astype(x.dtype)
        v = a * x.dtype.type(self.s**2) + 1 - a
        half_log_odds = sum(x * (a**0.5 * mu / v), 1, keepdims=True) + math.log(0.7 / 0.3) / 2
        mean = a**0.5 * mu * tanh(half_log_odds)  # E[±√ᾱ μ | x]
        eps = (1 - a) ** 0.5 * (x - mean) / v
        return (eps - (1 - a) ** 0.5 * x) / a**0.5  # the velocity that gives this noise

    def sample(self, n, t, rng):
        a = SDE.alpha_bar(t)
        sign = rng.choice([-1, 1], (n, 1), p=[0.3, 0.7])
        noise = rng.standard_normal((n, len(self.mu)))
        return a**0.5 * sign * self.mu + (a * self.s**2 + 1 - a) ** 0.5 * noise


def model(mu=(0.8,), s=0.3):
    world = Mixture(mu, s)
    return ScoreSDE(world, SDE), world


def test_mean_and_variance_follow_the_sde():
    # dx = f dt + g dw makes dm/dt = −β m / 2 and dv/dt = −β v + β
    rates = lambda t, y: [-SDE.beta(t) / 2 * y[0], -SDE.beta(t) * y[1] + SDE.beta(t)]
    for t in (0.1, 0.5, 1.0):
        m, v = solve_ivp(rates, (0, t), [1, 0.2], rtol=1e-9, atol=1e-12).y[:, -1]
        a = SDE.alpha_bar(t)
        np.testing.assert_allclose([a**0.5, a * 0.2 + 1 - a], [m, v], rtol=1e-6)  # eq: sde-forward
    x_0, eps = RNG(0).standard_normal((2, 2, 1, 3, 3))
    a = np.exp([-quad(SDE.beta, 0, t)[0] for t in (0.2, 0.9)]).reshape(2, 1, 1, 1)
    x_t = model()[0].q_sample(tensor(x_0), np.array([0.2, 0.9]), tensor(eps))
    np.testing.assert_allclose(x_t.numpy(), a**0.5 * x_0 + (1 - a) ** 0.5 * eps)  # eq: sde-forward


def test_ddpm_has_the_same_noise():
    s = schedule.linear(1000)
    t = np.arange(1, 1001) / 1000
    np.testing.assert_allclose(SDE.alpha_bar(t), s.alpha_bar[1:], rtol=0.12, atol=1e-4)
    np.testing.assert_allclose(SDE.beta(t) / 1000, s.beta[1:], atol=2.1e-5)  # eq: sde-forward


def test_the_score_is_the_slope_of_log_p():
    m, world = model((0.8, -0.4))
    for t in (0.01, 0.3, 0.8):
        x = world.sample(5, t, RNG(1))
        slope = [(world.log_prob(x + h, t) - world.log_prob(x - h, t)) / 2e-5
                 for h in 1e-5 * np.eye(2)]
        score = m.score(tensor(x), t).numpy()
        np.testing.assert_allclose(score, np.stack(slope, 1), rtol=1e-5, atol=1e-6)  # eq: sde-score


def test_the_loss_is_the_error_of_the_velocity():
    # of the image m, v = √ᾱ ε − √(1 − ᾱ) m; a network that always says 0 misses all of it
    m, n = 0.6, 200_000
    loss = ScoreSDE(lambda x, times: 0 * x, SDE).loss(np.full((n, 1), m), RNG(3))
    a = SDE.alpha_bar
    missed = quad(lambda t: a(t) + (1 - a(t)) * m**2, START, 1)[0]
    squared = quad(lambda t: 3 * a(t) ** 2 + 6 * a(t) * (1 - a(t)) * m**2
                   + (1 - a(t)) ** 2 * m**4, START, 1)[0]
    bound = 4 * ((squared - missed**2) / n) ** 0.5
    assert abs(loss.item() - missed) < bound  # eq: sde-loss
    m, world = model((0.8, -0.4))  # no other network misses less
    x_0 = world.sample(20_000, 0, RNG(2))
    best = m.loss(x_0, RNG(4)).item()
    for factor in (0.9, 1.1):
        other = ScoreSDE(lambda x, t, factor=factor: factor * world(x, t), SDE)
        assert other.loss(x_0, RNG(4)).item() > best  # eq: sde-loss


def moments(x):
    """E x, E x² and E x⁴ of each coordinate."""
    return np.stack([x.mean(0), (x**2).mean(0), (x**4).mean(0)])


def deviations(x):
    """The standard deviations of what `moments` averages, divided by √n."""
    return np.stack([x.std(0), (x**2).std(0), (x**4).std(0)]) / len(x) ** 0.5


@pytest.mark.parametrize("r", [None, 0.1])
def test_samples_are_distributed_as_the_data(r):
    m, world = model((0.8, -0.4))
    n = 20_000
    x, truth = m.sample(n, (2,), RNG(4), steps=300, r=r).numpy(), world.sample(n, 0, RNG(5))
    # two estimates of n samples each; steps and Langevin dynamics of finite length add 3%
    bound = 6 * deviations(truth) + 0.03 * np.abs(moments(truth))
    assert (np.abs(moments(x) - moments(truth)) < bound).all()  # eq: sde-reverse, sde-corrector


def test_the_corrector_leaves_p_t_as_it_is_and_leads_to_it():
    m, world = model((0.8, -0.4))
    rng, t, n = RNG(6), 0.3, 20_000
    at_home, away = tensor(world.sample(n, t, rng)), tensor(1.5 * world.sample(n, t, rng))
    truth = world.sample(n, t, rng)
    for _ in range(150):
        at_home, away = (m.correct(x, t, 0.1, rng) for x in (at_home, away))
    for x in (at_home, away):
        off = np.abs(moments(x.numpy()) - moments(truth))
        bound = 6 * deviations(truth) + 0.02 * np.abs(moments(truth))
        assert (off < bound).all()  # eq: sde-corrector


def test_a_step_back_has_the_mean_and_variance_of_the_reverse_sde():
    m, world = model((0.8, -0.4))
    x, t, h = tensor(np.tile([[0.5, -0.2]], (200_000, 1))), 0.4, 0.01
    after = m.predict(x, t, h, RNG(7)).numpy()
    score = m.score(x[:1], t).numpy()[0]
    drift = -SDE.beta(t) / 2 * np.array([0.5, -0.2]) - SDE.beta(t) * score
    variance = h * SDE.beta(t)
    mean = np.array([0.5, -0.2]) - h * drift
    assert (np.abs(after.mean(0) - mean) < 4 * (variance / 2e5) ** 0.5).all()  # eq: sde-reverse
    np.testing.assert_allclose(after.var(0), variance, rtol=4 * (2 / 2e5) ** 0.5)  # eq: sde-reverse


def test_the_flow_keeps_the_order_of_points_and_their_shares():
    # on a line no two paths of a flow cross, so that it maps quantiles to quantiles
    m, world = model((0.8,))
    x_0 = np.linspace(-1.5, 1.5, 9)[:, None]
    x_1 = m.encode(x_0, tol=1e-8).numpy()

    def share(x, t):
        grid = np.linspace(-12, float(x), 40_001)[:, None]
        return np.trapezoid(np.exp(world.log_prob(grid, t)), grid[:, 0])

    below = [(share(a, START), share(b, 1)) for a, b in zip(x_0[:, 0], x_1[:, 0], strict=True)]
    np.testing.assert_allclose(*zip(*below, strict=True), atol=1e-5)  # eq: sde-probability-flow
    np.testing.assert_allclose(m.decode(x_1, tol=1e-8).numpy(), x_0, atol=1e-5)


def test_log_prob_is_that_of_the_density():
    m, world = model((0.8,))  # in one dimension every v gives the divergence exactly
    x = world.sample(7, START, RNG(8))
    x_1 = m.encode(x, tol=1e-9).numpy()
    # the prior is N(0, 1), p_1 almost
    wrong = -0.5 * x_1[:, 0] ** 2 - 0.5 * math.log(2 * math.pi) - world.log_prob(x_1, 1)
    want = world.log_prob(x, START) + wrong
    assert np.abs(wrong).max() < 0.02
    log_p = m.log_prob(x, RNG(9), 1e-9).numpy()
    np.testing.assert_allclose(log_p, want, atol=1e-5)  # eq: sde-likelihood


def test_log_prob_in_the_plane_is_right_on_average_over_v():
    m, world = model((0.8, -0.4))
    x = np.repeat(world.sample(1, START, RNG(10)), 2000, 0)
    some = m.log_prob(x, RNG(11), 1e-7).numpy()
    x_1 = m.encode(x[:1], tol=1e-9).numpy()
    wrong = -0.5 * (x_1**2).sum() - math.log(2 * math.pi) - world.log_prob(x_1, 1)[0]
    want = world.log_prob(x[:1], START)[0] + wrong
    assert some.std() > 0.01
    assert abs(some.mean() - want) < 4 * some.std() / 2000**0.5  # eq: sde-likelihood


def test_all_parameters_learn():
    net = denoiser((1, 8, 8), widths=(8, 8), D=16, rng=RNG(0))
    params = nn.parameters(net)
    loss = ScoreSDE(net, SDE).loss(RNG(1).random((3, 1, 8, 8), np.float32), RNG(2))
    assert all(np.isfinite(g.numpy()).all() for g in grad(loss, params).values())
    nn.initializers.normal(net.unet.last.weight, 0.1, RNG(4))  # at first 0, and so are scores
    images = ScoreSDE(net, SDE).sample(2, (1, 8, 8), RNG(3), steps=3, r=0.16)
    assert images.shape == (2, 1, 8, 8) and images.dtype == np.float32
    assert LAST > START and column(np.arange(2), images).shape == (2, 1, 1, 1)
