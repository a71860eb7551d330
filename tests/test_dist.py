"""Distributions: densities, samples and divergences."""

import numpy as np
import pytest
from scipy import stats

from minigen import dist, tensor

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
