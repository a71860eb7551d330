"""Distributions: densities, samples and divergences."""

import numpy as np
import pytest
from scipy import stats

from minigen import dist, grad, tensor
from minigen.random import Philox

RNG = np.random.default_rng


def test_log_prob_against_scipy():
    rng = RNG(1)
    mu, logvar, x = rng.normal(size=(3, 7))
    expected = stats.norm.logpdf(x, mu, np.exp(logvar / 2))
    assert np.allclose(dist.Normal(tensor(mu), tensor(logvar)).log_prob(x).numpy(), expected)
    logits, b = rng.normal(size=7) * 3, rng.integers(0, 2, 7).astype(float)
    expected = stats.bernoulli.logpmf(b, 1 / (1 + np.exp(-logits)))
    assert np.allclose(dist.Bernoulli(tensor(logits)).log_prob(b).numpy(), expected)
    logits, k = rng.normal(size=(7, 4)), rng.integers(0, 4, 7)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(dist.Categorical(tensor(logits)).log_prob(k).numpy(),
                       np.log(p[np.arange(7), k]))


def test_log_prob_broadcasts():
    logits, ks = tensor(RNG(2).normal(size=(3, 1, 5)), requires_grad=True), np.array([4, 0])
    log_p = dist.Categorical(logits).log_prob(ks)
    each = [[dist.Categorical(row[0]).log_prob(k).item() for k in ks] for row in logits]
    assert np.allclose(log_p.numpy(), each) and log_p.shape == (3, 2)
    assert grad(log_p.sum(), logits).shape == (3, 1, 5)
    bits = RNG(3).integers(0, 2, (3, 2, 5))
    log_p = dist.Bernoulli(logits).log_prob(bits)
    each = stats.bernoulli.logpmf(bits, 1 / (1 + np.exp(-logits.numpy())))
    assert np.allclose(log_p.numpy(), each) and log_p.shape == (3, 2, 5)
    with pytest.raises(ValueError, match="broadcast"):
        dist.Bernoulli(logits).log_prob(np.zeros((3, 4)))


def test_samples_have_the_right_frequencies():
    n = 100_000
    logits = np.array([0.3, -1.0, 2.0])
    wide = tensor(np.tile(logits, (n, 1)))
    draws = dist.Categorical(wide).sample(RNG(2)).numpy()
    p = np.exp(logits) / np.exp(logits).sum()
    assert stats.chisquare(np.bincount(draws, minlength=3), p * n).pvalue > 1e-3
    ones = dist.Bernoulli(wide).sample(RNG(3)).numpy().mean(0)
    assert np.allclose(ones, 1 / (1 + np.exp(-logits)), atol=0.01)
    z = dist.Normal(wide, tensor(np.zeros((n, 3)))).sample(RNG(4)).numpy()
    assert stats.kstest(z[:, 0], stats.norm(0.3, 1).cdf).pvalue > 1e-3


def test_kl_against_simulation():
    rng = RNG(5)
    mus, logvars = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)) / 2
    q, p = (dist.Normal(tensor(m), tensor(v)) for m, v in zip(mus, logvars, strict=True))
    x = mus[0] + np.exp(logvars[0] / 2) * rng.normal(size=(400_000, 3))
    ratio = stats.norm.logpdf(x, mus[0], np.exp(logvars[0] / 2)) - stats.norm.logpdf(
        x, mus[1], np.exp(logvars[1] / 2))
    assert np.allclose(dist.kl(q, p).numpy(), ratio.mean(0), atol=0.02)
    a, b = rng.normal(size=(2, 5))
    pa, pb = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
    expected = pa * np.log(pa / pb) + (1 - pa) * np.log((1 - pa) / (1 - pb))
    assert np.allclose(dist.kl(dist.Bernoulli(tensor(a)), dist.Bernoulli(tensor(b))).numpy(),
                       expected)
    pa, pb = (np.exp(v) / np.exp(v).sum() for v in (a, b))
    assert dist.kl(dist.Categorical(tensor(a)), dist.Categorical(tensor(b))).item() == (
        pytest.approx(stats.entropy(pa, pb)))
    with pytest.raises(TypeError, match="Normal and Bernoulli"):
        dist.kl(q, dist.Bernoulli(tensor(a)))


@pytest.mark.parametrize("logvar", [-170, 170])
def test_normals_of_which_float32_has_no_variance(logvar):
    q = dist.Normal(np.zeros(1, np.float32), np.full(1, logvar, np.float32))
    assert dist.kl(q, q).item() == 0
    assert q.log_prob(q.mu).item() == pytest.approx(-0.5 * (logvar + np.log(2 * np.pi)))


@pytest.mark.parametrize("a, b", [(25, 21), (20, 20.0001), (-30, -31), (3, -2)])
def test_kl_of_two_that_are_sure(a, b):
    def log_sigma(t):
        return -np.log1p(np.exp(-np.longdouble(t)))
    exact = sum(np.exp(log_sigma(s * a)) * (log_sigma(s * a) - log_sigma(s * b)) for s in (1, -1))
    kl = dist.kl(dist.Bernoulli(np.array(float(a))), dist.Bernoulli(np.array(float(b)))).item()
    assert kl >= 0 and kl == pytest.approx(float(exact), rel=1e-5, abs=1e-16)


def test_kl_of_impossible_classes():
    certain, fair = dist.Categorical([0, -np.inf]), dist.Categorical([0.0, 0.0])
    assert dist.kl(certain, fair).item() == pytest.approx(np.log(2))
    assert dist.kl(certain, certain).item() == 0
    assert dist.kl(fair, certain).item() == np.inf
    assert np.isnan(dist.kl(dist.Categorical([np.nan, 0]), fair).item())
    logits = tensor(np.array([1.0, 0, -np.inf]), requires_grad=True)
    p = np.exp([1.0, 0]) / np.exp([1.0, 0]).sum()
    kl = dist.kl(dist.Categorical(logits), dist.Categorical(np.zeros(3)))
    assert kl.item() == pytest.approx(np.log(3) - stats.entropy(p))
    slope = p * (np.log(p) + stats.entropy(p))
    assert np.allclose(grad(kl, logits).numpy(), [*slope, 0])
    sure, even = dist.Bernoulli([np.inf, -np.inf, 0.0]), dist.Bernoulli([0.0, 0.0, 0.0])
    assert np.allclose(dist.kl(sure, even).numpy(), [np.log(2), np.log(2), 0])
    assert np.array_equal(dist.kl(sure, sure).numpy(), np.zeros(3))
    assert dist.kl(even, sure).numpy()[0] == np.inf
    with pytest.raises(ValueError, match="kl: expected the same classes, got 2 and 3"):
        dist.kl(certain, dist.Categorical(np.zeros(3)))
    with pytest.raises(TypeError, match="kl: expected two Normal, .* got int and int"):
        dist.kl(1, 1)


def test_a_normal_has_a_mean_for_every_number():
    for mu, logvar in ((0.0, [0.0] * 3), (np.ones((4, 1)), np.ones(3)), (np.ones(2), np.ones(3))):
        with pytest.raises(ValueError, match="Normal: logvar .* must broadcast to mu"):
            dist.Normal(mu, logvar)
    z = dist.Normal(np.zeros((4, 3)), np.zeros((4, 1))).sample(RNG(0)).numpy()
    assert len(np.unique(z)) == 12


def test_one_sample_without_axes_is_a_tensor():
    for p in (dist.Categorical(np.zeros(3)), dist.Bernoulli(np.float32(0))):
        assert p.sample(RNG(0)).numpy().shape == () and "shape=()" in repr(p.sample(RNG(0)))
    for weights in ([0.0, 0.0], [np.nan, 1.0], [1.0, np.inf], [-1.0, 3.0]):
        with pytest.raises(ValueError, match="choice: weights are NaN, infinite, negative, or 0 f"):
            dist.choice(np.array(weights), RNG(0))


def test_draws_of_the_counter_have_their_ranges_and_frequencies():
    rng = Philox(0)
    shares = np.bincount(rng.integers(3, 8, 100_000), minlength=8) / 100_000
    assert len(shares) == 8 and np.allclose(shares, [0] * 3 + [0.2] * 5, atol=0.006)
    assert set(rng.integers(4, size=1000)) == {0, 1, 2, 3}
    x = rng.uniform(2, 5, 100_000)
    assert 2 <= x.min() < 2.001 and 4.999 < x.max() < 5
    assert stats.kstest(x, stats.uniform(2, 3).cdf).pvalue > 1e-3


def test_noise_is_like_a_tensor_or_has_the_shape_asked_for():
    for dtype in (np.float32, np.float64):
        like = tensor(np.zeros((2, 3), dtype))
        assert np.array_equal(dist.noise(RNG(0), like), RNG(0).standard_normal((2, 3), dtype))
        other = dist.noise(RNG(0), like, (4, 5))
        assert np.array_equal(other, RNG(0).standard_normal((4, 5), dtype))
        assert other.dtype == dtype


def test_samples_of_the_discretised_normal_are_levels():
    for dtype in (np.float32, np.float64):
        mu = tensor(np.full(20_000, 0.9, dtype), requires_grad=True)
        p = dist.DiscretisedNormal(mu, np.full(20_000, -3, dtype))
        x = p.sample(RNG(0))
        levels = np.rint((x.numpy() + 1) * 127.5)
        assert x.dtype == dtype and np.array_equal(x.numpy(), (levels / 127.5 - 1).astype(dtype))
        assert levels.min() > 0 and levels.max() == 255
        at_edge = np.exp(dist.DiscretisedNormal([0.9], [-3.0]).log_prob([1.0]).item())
        assert (levels == 255).mean() == pytest.approx(at_edge, abs=0.01)
        with pytest.raises(TypeError, match="round has no derivative"):
            grad(x.sum(), mu)
        with pytest.raises(TypeError, match="got DiscretisedNormal and DiscretisedNormal"):
            dist.kl(p, p)
