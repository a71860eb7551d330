"""Section "Denoising diffusion", the learned model: each equation is checked by a second route."""

import math

import numpy as np
import pytest
from scipy import stats
from test_equations_diffusion import BETA, RNG, SHORT, unit_net

import minigen
from minigen import data, dist, grad, nn, optim, tensor
from minigen.models.diffusion import hierarchical, schedule
from minigen.models.diffusion.ddpm import DDPM


def numbers_net(x_t, t):
    """An arbitrary function of x_t and t."""
    return minigen.sin(x_t * 3) * 0.5 + (t / 7).astype(x_t.dtype).reshape(-1, 1, 1, 1)


# ---------------------------------------------------------------------------------- training

def test_the_loss_is_the_squared_error_of_the_noise():
    model, x_0 = DDPM(numbers_net, SHORT), RNG(0).normal(size=(64, 1, 3, 3))
    loss = model.loss(x_0, RNG(1))
    rng, total = RNG(1), 0.0
    t = rng.integers(1, 6, 64)
    eps = rng.standard_normal(x_0.shape)
    for x, k, e in zip(x_0, t, eps, strict=True):
        a = math.prod(1 - b for b in BETA[:k])
        x_t = math.sqrt(a) * x + math.sqrt(1 - a) * e
        total += ((e - np.sin(3 * x_t) * 0.5 - k / 7) ** 2).mean()
    assert loss.item() == pytest.approx(total / 64)  # eq: ddpm-loss-simple
    assert set(t) == {1, 2, 3, 4, 5}


def test_the_target_is_the_noise_that_was_drawn_not_any_unit_noise():
    x_0, rng = np.zeros((20_000, 1, 2, 2)), RNG(2)
    error = {name: DDPM(net, SHORT).loss(x_0, RNG(3)).item() for name, net in {
        "unit noise": lambda x_t, t: dist.noise(rng, x_t),
        "nothing": lambda x_t, t: 0 * x_t,
        "the noise": lambda x_t, t: x_t / SHORT.at(np.sqrt(1 - SHORT.alpha_bar), t, x_t)}.items()}
    assert np.allclose(list(error.values()), [2, 1, 0], atol=0.03)  # slide error: 18


def test_training_finds_the_expected_noise():
    """Data from N(0, ½²), and a network with one weight for each t: ε_θ(x_t, t) = w_t x_t. Its
    optimum is E[ε | x_t] = √(1 − ᾱ_t) / (ᾱ_t/4 + 1 − ᾱ_t) x_t."""
    w = tensor(np.zeros(6), requires_grad=True)
    model = DDPM(lambda x_t, t: w[t].reshape(-1, 1) * x_t, SHORT)
    opt, a = optim.SGD({"w": w}, lr=2.0), SHORT.alpha_bar
    for step in range(400):
        opt.lr = 2.0 * optim.cosine(step, 400)
        x_0, before = 0.5 * RNG((4, step)).normal(size=(500, 4)), w.numpy().copy()
        loss = model.loss(x_0, RNG((5, step)))
        opt.step(grad(loss, opt.params))
        if step < 3:  # the step itself: w_t ← w_t − lr ∂/∂w_t of the mean of (ε − w_t x_t)²
            rng = RNG((5, step))
            t, eps = rng.integers(1, 6, 500), rng.normal(size=(500, 4))
            x_t = np.sqrt(a[t])[:, None] * x_0 + np.sqrt(1 - a[t])[:, None] * eps
            slope = (-2 * (eps - before[t][:, None] * x_t) * x_t).sum(1) / 2000
            after = before - opt.lr * np.bincount(t, slope, 6)
            assert np.allclose(w.numpy(), after)  # eq: ddpm-algorithm-1
    best = np.sqrt(1 - a[1:]) / (a[1:] / 4 + 1 - a[1:])
    assert np.allclose(w.numpy()[1:], best, atol=0.03)


def test_with_its_weight_the_error_is_a_term_of_the_bound():
    """KL(q(x_{t−1}|x_t, x_0) ‖ p_θ) = w_t ‖ε − ε_θ‖² with w_t = β_t² / (2 σ_t² α_t (1 − ᾱ_t)),
    where σ_t² is the variance of both distributions."""
    s, x_0, t = SHORT, RNG(6).normal(size=(3000, 1, 2, 2)), 3
    net, w = lambda x_t, t: numbers_net(x_t, t), np.zeros(6)
    model = DDPM(net, s, sigma2=s.beta_tilde)
    w[t] = s.beta[t] ** 2 / (2 * s.beta_tilde[t] * s.alpha[t] * (1 - s.alpha_bar[t]))
    net.loss_weight = w
    loss = model.loss(x_0, RNG(7))
    rng = RNG(7)
    ts = rng.integers(1, 6, 3000)
    x_t = model.q_sample(x_0, ts, rng.standard_normal(x_0.shape))
    mine = ts == t
    kl = dist.kl(model.q_posterior(x_t[mine], x_0[mine], t), model.p(x_t[mine], t))
    assert loss.item() == pytest.approx(kl.numpy().sum() / 3000 / 4)  # eq: ddpm-loss-weighting


# ---------------------------------------------------------------------------------- sampling

def test_the_reverse_mean_is_the_posteriors_at_the_estimated_image():
    model, x_t = DDPM(numbers_net, SHORT), RNG(8).normal(size=(6, 1, 2, 2))
    for t in range(1, 6):
        p = model.p(x_t, t)
        eps = np.sin(3 * x_t) * 0.5 + t / 7
        a = math.prod(1 - b for b in BETA[:t])
        x_0 = (x_t - math.sqrt(1 - a) * eps) / math.sqrt(a)
        mean = model.q_posterior(x_t, x_0, t).mu.numpy()
        own = stats.norm.logpdf(0.3, mean, math.sqrt(BETA[t - 1]))
        assert np.allclose(p.log_prob(0.3).numpy(), own)  # eq: ddpm-reverse-model
        cut = model.p(x_t, t, threshold=lambda x: minigen.clip(x, -1, 1)).mu.numpy()
        assert np.allclose(cut, model.q_posterior(x_t, x_0.clip(-1, 1), t).mu.numpy())


def test_algorithm_2_step_by_step():
    model, shape, rng = DDPM(numbers_net, SHORT), (7, 1, 2, 2), RNG(9)
    x_T = rng.standard_normal(shape, np.float32)
    seen = {t: x.numpy() for t, x in model.chain(x_T, rng)}
    x_0 = model.sample(7, shape[1:], RNG(9))
    assert list(seen) == [5, 4, 3, 2, 1, 0] and np.array_equal(seen[0], x_0.numpy())
    rng = RNG(9)
    x = rng.standard_normal(shape, np.float32).astype(np.float64)
    assert np.allclose(seen[5], x)
    for t in (5, 4, 3, 2, 1):
        beta, a = BETA[t - 1], math.prod(1 - b for b in BETA[:t])
        eps = np.sin(3 * x) * 0.5 + t / 7
        mean = (x - beta / math.sqrt(1 - a) * eps) / math.sqrt(1 - beta)
        z = rng.standard_normal(shape, np.float32) if t > 1 else 0
        x = mean + math.sqrt(beta) * z
        assert np.allclose(seen[t - 1], x, atol=1e-5)  # eq: ddpm-algorithm-2
    printed = mean + math.sqrt(BETA[0]) * rng.standard_normal(shape, np.float32)
    assert np.allclose(x_0.numpy(), mean, atol=1e-5)  # slide error: 12
    assert not np.allclose(x_0.numpy(), printed, atol=0.1)


def test_fewer_steps_are_the_same_diffusion():
    s, times = schedule.linear(1000), []
    few = schedule.respaced(s, 50)
    assert few.T == 50 and few.times[0] == 0 and few.times[1] == 1 and few.times[-1] == 1000
    assert np.allclose(few.alpha_bar, s.alpha_bar[few.times])

    def net(x_t, t):
        times.append(t[0])
        return unit_net(s)(x_t, t)
    x = DDPM(net, few).sample(20_000, (1,), RNG(11)).numpy()
    assert times == few.times[:0:-1].tolist()
    assert x.mean() == pytest.approx(0, abs=0.03) and x.var() == pytest.approx(1, abs=0.03)
    assert np.allclose(schedule.respaced(s, 1000).beta, s.beta)
    times = schedule.respaced(s, 4, power=2).times
    assert list(times) == [0, 1, 1 + 999 / 9, 1 + 999 * 4 / 9, 1000]
    late = schedule.respaced(s, 4, first=100)
    assert list(late.times) == [0, 100, 400, 700, 1000]
    assert np.allclose(late.alpha_bar, s.alpha_bar[late.times])
    crowded = schedule.respaced(s, 1000, power=2)
    assert crowded.T < 1000 and (np.diff(crowded.times) > 0).all() and crowded.times[-1] == 1000


# ---------------------------------------------------------------------------------- the bound

LEVELS = data.signed(np.array([60, 128, 230], np.uint8))


def test_the_bound_is_tight_for_a_perfect_model():
    """For data from N(0, 1), ε* reverses the process exactly, so the bound is −log p(x_0), with the
    probability of x_0's level; none of its three parts is negligible here."""
    x_0 = np.repeat(LEVELS.astype(np.float64), 40_000)[:, None]
    bound, parts = DDPM(unit_net(SHORT), SHORT).bound(x_0, RNG(12))
    each = bound.numpy().reshape(3, -1)
    exact = -np.log(stats.norm.cdf(LEVELS + 1 / 255) - stats.norm.cdf(LEVELS - 1 / 255))
    assert np.allclose(each.mean(1), exact, atol=0.03)  # eq: ddpm-vlb
    assert all(part.numpy().mean() > 0.02 for part in parts.values())


def test_the_bound_is_that_of_a_hierarchical_vae():
    """For any network, log p(x_{0:T}) − log q(x_{1:T} | x_0), averaged over chains, is the bound in
    closed form. (The chain's p(x_0 | x_1) is a density, the bound's a probability.)"""
    model = DDPM(lambda x_t, t: minigen.sin(x_t), SHORT)
    x_0 = np.repeat(LEVELS.astype(np.float64), 40_000)[:, None]
    elbo = hierarchical.elbo(model, x_0, RNG(13)).numpy() + math.log(2 / 255)
    closed = model.bound(x_0, RNG(14))[0].numpy()
    each, other = -elbo.reshape(3, -1).mean(1), closed.reshape(3, -1).mean(1)
    assert np.allclose(each, other, atol=0.04)  # eq: ddpm-hvae, ddpm-reverse-model


def test_few_draws_estimate_the_whole_sum():
    s = schedule.linear(40)
    model = DDPM(lambda x_t, t: minigen.sin(x_t), s)
    x_0 = np.full((60_000, 1), 0.5)
    few, whole = (model.bound(x_0, RNG(15), draws=draws)[0].numpy() for draws in (4, 39))
    assert abs(few.mean() - whole.mean()) < 4 * few.std() / 60_000 ** 0.5 < 0.1


def test_the_discretised_normal_is_a_distribution_over_256_levels():
    levels = np.arange(256) / 127.5 - 1
    for mu, sigma in ((0.3, 0.01), (-0.99, 0.2), (1.2, 0.5), (0.0, 1e-3)):
        p = dist.DiscretisedNormal(np.full(256, mu), np.full(256, 2 * math.log(sigma)))
        log_p = p.log_prob(levels).numpy()
        edges = np.concatenate([[-np.inf], levels[:-1] + 1 / 255, [np.inf]])
        own = np.diff(stats.norm.cdf(edges, mu, sigma))
        assert np.exp(log_p).sum() == pytest.approx(1) and np.allclose(np.exp(log_p), own)
        assert np.isfinite(log_p).all()


def test_a_level_of_a_wide_normal_has_its_density_times_its_width():
    for logvar in (5.0, 12.0, 30.0):
        mu = tensor(np.full(256, 7, np.float32), requires_grad=True)
        log_sigma = tensor(np.full(256, logvar, np.float32), requires_grad=True)
        levels, sigma = np.arange(256, dtype=np.float32) / 127.5 - 1, math.exp(logvar / 2)
        log_p = dist.DiscretisedNormal(mu, log_sigma).log_prob(levels)
        u, inner = (levels.astype(float) - 7) / sigma, slice(1, 255)
        own = stats.norm.logpdf(u) + math.log(2 / 255 / sigma)
        assert np.allclose(log_p.numpy()[inner], own[inner], rtol=1e-5, atol=0)
        slopes = minigen.grad(minigen.sum(log_p), [mu, log_sigma])
        for slope, exact in zip(slopes, (u / sigma, (u * u - 1) / 2), strict=True):
            assert np.allclose(slope.numpy()[inner], exact[inner], rtol=1e-3, atol=1e-5)


# ---------------------------------------------------------------------------------- the network

def test_features_of_time_are_waves():
    t = np.array([1, 7, 500, 1000])
    e = nn.Sinusoidal(8)(t).numpy()
    wave = np.exp(1j * t[:, None] * 10 ** np.array([0.0, -1, -2, -3]))  # 10000^(−i/4)
    assert np.allclose(e, np.hstack([wave.imag, wave.real]))  # eq: ddpm-time-embedding
    fourier = nn.RandomFourier(2000, scale=4.0, rng=RNG(16))
    e = fourier(t).numpy()
    wave = np.exp(2j * math.pi * t[:, None] / 1000 * fourier.omega.numpy())
    assert np.allclose(e, np.hstack([wave.imag, wave.real]))  # eq: ddpm-time-embedding
    # the mean of cos 2πω(t − s)/T over ω ~ N(0, scale²) is bell-shaped around t = s
    near = fourier(np.array([100, 110])).numpy()
    assert near[0] @ near[1] / 1000 == pytest.approx(math.exp(-(2 * math.pi * 4 * 0.01) ** 2 / 2),
                                                     abs=0.02)


@pytest.mark.parametrize("kind", [nn.AddTime, nn.AdaGN])
def test_time_enters_a_block(kind):
    h, e = RNG(17).normal(size=(3, 16, 4, 4)), RNG(18).normal(size=(3, 5))
    inject = kind(16, 5, rng=RNG(19))
    nn.astype(inject, np.float64)
    y = e @ inject.linear.weight.numpy().T + inject.linear.bias.numpy()
    y = y[:, :, None, None]

    def group_norm(h):
        g = h.reshape(3, 8, -1)
        g = (g - g.mean(2, keepdims=True)) / np.sqrt(g.var(2, keepdims=True) + 1e-5)
        return g.reshape(h.shape)
    own = (group_norm(h + y) if kind is nn.AddTime else
           group_norm(h) * (1 + y[:, :16]) + y[:, 16:])
    own /= 1 + np.exp(-own)
    assert np.allclose(inject(tensor(h), tensor(e)).numpy(), own)  # eq: ddpm-time-injection
