"""Section "Denoising diffusion", forward and reverse processes. Each equation is checked by
a second route."""

import math

import numpy as np
import pytest
from scipy import stats

from minigen.models.diffusion import hierarchical, schedule
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.empirical import Empirical
from minigen.models.diffusion.forward import Forward

RNG = np.random.default_rng
BETA = [0.05, 0.2, 0.1, 0.4, 0.3]
SHORT = schedule.Schedule(BETA)


def unit_net(noise_schedule):
    """ε* for data from N(0, I): every x_t is N(0, I) too, and E[ε | x_t] = √(1 − ᾱ_t) x_t."""
    def net(x_t, t):
        b = np.sqrt(1 - np.cumprod(1 - noise_schedule.beta))[t].astype(x_t.dtype)
        return b.reshape(-1, *[1] * (x_t.ndim - 1)) * x_t
    return net


# ---------------------------------------------------------------------------------- schedules

def test_alpha_bar_is_the_share_of_variance_that_all_steps_keep():
    share, kept = 1.0, [1.0]
    for beta in BETA:
        share -= share * beta
        kept.append(share)
    assert np.allclose(SHORT.alpha_bar, kept)  # eq: ddpm-alpha-bar
    assert np.allclose(SHORT.alpha_bar_prev, [1, *kept[:-1]])
    assert np.allclose(SHORT.snr[1:], [k / (1 - k) for k in kept[1:]]) and SHORT.snr[0] == np.inf


def test_the_linear_schedule():
    s = schedule.linear(1000)
    by_hand = [1e-4 + (t - 1) / 999 * (0.02 - 1e-4) for t in range(1, 1001)]
    assert np.allclose(s.beta[1:], by_hand)  # eq: ddpm-linear-schedule
    few = schedule.linear(100)  # as much noise in total: Σ β is nearly equal
    assert few.beta.sum() == pytest.approx(s.beta.sum(), rel=1e-3)


def test_the_cosine_schedule():
    s, T, offset = schedule.cosine(200), 200, 0.008
    f = (1 + np.cos(np.pi * (np.arange(T + 1) / T + offset) / (1 + offset))) / 2  # cos² φ by cos 2φ
    assert np.allclose(s.alpha_bar[:-1], (f / f[0])[:-1])  # eq: ddpm-cosine-schedule
    assert s.beta[-1] == 0.999


@pytest.mark.parametrize("s", [schedule.linear(1000), schedule.linear(100), schedule.cosine(1000)],
                         ids=["linear", "linear of 100 steps", "cosine"])
def test_at_the_end_nothing_is_left_of_the_image(s):
    x_0 = RNG(0).uniform(-1, 1, (5, 1, 4, 4))
    q = DDPM(unit_net(s), s).q(x_0, s.T)
    mu, var = q.mu.numpy(), np.exp(q.logvar.numpy())
    kl = 0.5 * (var + mu ** 2 - 1 - np.log(var)).sum((1, 2, 3))
    _, parts = DDPM(unit_net(s), s).bound(x_0, RNG(1), draws=1)
    assert kl.max() < 16 * 1e-4
    assert np.allclose(parts["L_T"].numpy(), kl, rtol=1e-6, atol=1e-12)  # eq: ddpm-terminal


# ---------------------------------------------------------------------------------- forward

def test_a_forward_step_is_a_normal():
    x, model = np.full((300_000, 1), 1.5), Forward(SHORT)
    for t, beta in enumerate(BETA, 1):
        x_t = model.q_step(x, t).sample(RNG(t)).numpy()
        error = 5 * math.sqrt(beta / len(x))
        assert abs(x_t.mean() - math.sqrt(1 - beta) * 1.5) < error  # eq: ddpm-forward-sample
        assert x_t.var() == pytest.approx(beta, rel=0.02)
        density = stats.norm.pdf(x_t, math.sqrt(1 - beta) * 1.5, math.sqrt(beta))
        step = model.q_step(x, t)
        assert np.allclose(np.exp(step.log_prob(x_t).numpy()), density)  # eq: ddpm-forward-step


def test_the_chain_is_a_product_of_steps():
    model, x_0 = Forward(SHORT), RNG(3).normal(size=(4, 2))
    chain = [x.numpy() for x in hierarchical.encode(model, x_0, RNG(4))]
    # Given x_0, all of x_1 … x_T are jointly normal: x_t = √ᾱ_t x_0 + …, and for s ≤ t
    # Cov(x_s, x_t) = (1 − ᾱ_s) √(ᾱ_t / ᾱ_s)
    a = np.cumprod(1 - np.array(BETA))
    cov = np.array([[(1 - max(p, q)) * math.sqrt(min(p, q) / max(p, q)) for q in a] for p in a])
    for i in range(2):
        path = np.stack([x[:, i] for x in chain[1:]], 1)
        own = [stats.multivariate_normal(np.sqrt(a) * start, cov).logpdf(row)
               for start, row in zip(x_0[:, i], path, strict=True)]
        single = [x[:, i:i + 1] for x in chain]
        assert np.allclose(hierarchical.log_q(model, single), own)  # eq: ddpm-forward-joint


def test_a_chain_that_adds_no_noise_at_its_end_has_no_bound():
    with pytest.raises(ValueError, match="no density: give sigma2 > 0 for every t"):
        hierarchical.elbo(DDPM(unit_net(SHORT), SHORT, SHORT.beta_tilde), np.zeros((2, 3)), RNG(0))


def test_the_kernel_is_the_one_step_kernels_iterated():
    model, x_0 = Forward(SHORT), RNG(5).normal(size=(6, 1, 2, 2))
    m, v = x_0, 0.0
    for t, beta in enumerate(BETA, 1):
        m, v = math.sqrt(1 - beta) * m, (1 - beta) * v + beta
        q = model.q(x_0, t)
        assert np.allclose(q.mu.numpy(), m)
        assert np.allclose(np.exp(q.logvar.numpy()), v) and np.allclose(  # eq: ddpm-q-kernel
            q.log_prob(m + 1).numpy(), stats.norm.logpdf(1, 0, math.sqrt(v)))
        eps = RNG(t).normal(size=x_0.shape)
        whole = m + math.sqrt(v) * eps
        assert np.allclose(model.q_sample(x_0, t, eps).numpy(), whole)  # eq: ddpm-q-sample
        assert np.allclose(model.predict_x0(whole, t, eps).numpy(), x_0)
        one = model.q_step(x_0, t)  # what the slide prints as the kernel
        agree = np.allclose(one.mu.numpy(), m) and np.allclose(np.exp(one.logvar.numpy()), v)
        assert agree == (t == 1)  # slide error: 13


def test_different_images_of_a_batch_have_their_own_t():
    model, x_0 = Forward(SHORT), RNG(6).normal(size=(5, 1, 2, 2)).astype(np.float32)
    t, eps = np.array([3, 1, 5, 2, 3]), RNG(7).normal(size=x_0.shape).astype(np.float32)
    together = model.q_sample(x_0, t, eps).numpy()
    assert together.dtype == np.float32
    for i, k in enumerate(t):
        assert np.allclose(together[i], model.q_sample(x_0[i:i + 1], k, eps[i:i + 1]).numpy())


def test_the_posterior_is_the_condition_of_a_joint_normal():
    model, rng = Forward(SHORT), RNG(8)
    x_0, x_t = rng.normal(size=(2, 4, 3))
    for t in range(2, 6):
        before, beta = math.prod(1 - np.array(BETA[:t - 1])), BETA[t - 1]
        m, v, a = math.sqrt(before) * x_0, 1 - before, math.sqrt(1 - beta)  # m, v of x_{t−1}
        gain = v * a / (a * a * v + beta)  # x_t = a x_{t−1} + √β ε
        q = model.q_posterior(x_t, x_0, t)
        assert np.allclose(q.mu.numpy(), m + gain * (x_t - a * m))
        assert np.allclose(q.log_prob(x_t).numpy(), stats.norm.logpdf(  # eq: ddpm-posterior
            x_t, m + gain * (x_t - a * m), math.sqrt(v - gain * a * v)))
    first = model.q_posterior(x_t, x_0, 1)
    assert np.allclose(first.mu.numpy(), x_0) and np.isneginf(first.logvar.numpy()).all()


# ---------------------------------------------------------------------------------- known data

POINTS = np.array([[-1.0], [0.2], [0.9]])


def test_the_density_of_noisy_data():
    data, grid = Empirical(POINTS, SHORT), np.linspace(-5, 5, 2001)
    for t in (1, 3, 5):
        p = np.exp(data.log_q(grid[:, None], t))
        a = math.prod(1 - np.array(BETA[:t]))
        own = stats.norm.pdf(grid[:, None], math.sqrt(a) * POINTS.T, math.sqrt(1 - a)).mean(1)
        assert np.allclose(p, own)  # eq: ddpm-q-marginal
        x = data.sample_q(200_000, t, RNG(t))[:, 0]
        cdf = np.cumsum(p) * (grid[1] - grid[0])
        seen = np.searchsorted(np.sort(x), grid[::50]) / len(x)
        assert np.abs(seen - cdf[::50]).max() < 0.01  # eq: ddpm-ancestral-forward


def test_the_true_reverse_step_by_bayes_rule_and_as_a_mixture_of_posteriors():
    data, grid = Empirical(POINTS, SHORT), np.linspace(-4, 4, 1601)[:, None]
    for t in (2, 4, 5):
        x_t = np.full_like(grid, 0.4)
        p = np.exp(data.log_reverse(grid, x_t, t))
        assert np.trapezoid(p, grid[:, 0]) == pytest.approx(1, abs=1e-3)
        a = math.prod(1 - np.array(BETA[:t]))
        k = stats.norm.pdf(0.4, math.sqrt(a) * POINTS[:, 0], math.sqrt(1 - a))
        posteriors = [data.forward.q_posterior(x_t, np.full_like(x_t, x), t) for x in POINTS[:, 0]]
        each = [np.exp(q.log_prob(grid).numpy()) for q in posteriors]
        mixture = sum(w * e[:, 0] for w, e in zip(k / k.sum(), each, strict=True))
        assert np.allclose(p, mixture)  # eq: ddpm-reverse-bayes


def test_true_reverse_steps_lead_from_noise_to_the_data():
    s = schedule.linear(100)
    x = Empirical(POINTS, s).sample(3000, RNG(9))
    place = np.abs(x - POINTS.T).argmin(1)
    assert np.abs(x - POINTS[place]).max() < 1e-9  # eq: ddpm-reverse-iterate
    assert np.allclose(np.bincount(place) / len(x), 1 / 3, atol=0.03)


def test_the_reverse_step_has_the_variance_of_the_forward_step():
    """This is exact for data from N(0, 1): over sampled pairs (x_{t−1}, x_t), x_{t−1} is regressed
    on x_t."""
    x, model = RNG(10).normal(size=(400_000, 1)), DDPM(unit_net(SHORT), SHORT)
    for t, _ in enumerate(BETA, 1):
        x_t = model.q_step(x, t).sample(RNG((11, t))).numpy()
        slope = (x * x_t).mean() / (x_t ** 2).mean()
        left = (x - slope * x_t).var()
        p = model.p(x_t, t)
        assert np.exp(p.logvar.item()) == pytest.approx(left, rel=0.01)  # eq: ddpm-sigma-choice
        assert np.allclose(p.mu.numpy(), slope * x_t, atol=0.02)
        x = x_t
