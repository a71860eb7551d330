"""The discretised logistic mixture and the linear predictor, each checked by a second route."""

import itertools

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from small_worlds import all_of

from minigen import grad, gradcheck, sum, tensor
from minigen.logistic import LogisticMixture, log_bin
from minigen.models.autoregressive.linear_predictor import SIDE, UP, LinearPredictor

RNG = np.random.default_rng
P = scipy.stats.logistic


def mixture(C, levels, K=3, N=1, H=1, W=1, seed=0):
    rng = RNG(seed)
    return LogisticMixture(rng.normal(size=(N, K, H, W)), rng.normal(size=(N, K, C, H, W)) / 2,
                           rng.normal(size=(N, K, C, H, W)) - 1.5,
                           rng.normal(size=(N, K, C * (C - 1) // 2, H, W)), levels=levels)


def test_a_bin_holds_the_integral_of_the_density():
    for mu, s in ((0.0, 0.05), (0.93, 0.02), (-1.2, 0.3)):
        log_p = log_bin(np.arange(256), tensor(np.array([mu])), tensor(np.log([s]))).numpy()
        for x in (0, 1, 77, 128, 246, 254, 255):
            a, b = (2 * x - 1) / 255 - 1, (2 * x + 1) / 255 - 1
            a, b = (-np.inf if x == 0 else a), (np.inf if x == 255 else b)
            edges = sorted({a, b, *(e for e in (mu - s, mu, mu + s) if a < e < b)})
            integral = np.sum([scipy.integrate.quad(P.pdf, *piece, args=(mu, s))[0]
                               for piece in itertools.pairwise(edges)])
            assert np.exp(log_p[x]) == pytest.approx(
                integral, rel=1e-6, abs=1e-12)  # eq: discretized-logistic


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_256_values_sum_to_one(dtype):
    N = 40
    rng = RNG(1)
    p = LogisticMixture(*(a.astype(dtype) for a in (
        rng.normal(size=(N, 4, 1, 256)), rng.uniform(-1.5, 1.5, (N, 4, 1, 1, 256)),
        rng.uniform(-9, 2, (N, 4, 1, 1, 256)), np.zeros((N, 4, 0, 1, 256)))))
    for t in (p.logits, p.mu, p.log_s):
        t.data[...] = t.data[..., :1]
    x = np.broadcast_to(np.arange(256), (N, 1, 1, 256))
    total = np.exp(p.log_prob(x).numpy().astype(np.float64)).sum(-1)
    assert np.allclose(total, 1, atol=2e-5 if dtype == np.float32 else 1e-12)


def test_all_colours_sum_to_one_and_are_what_the_formula_says():
    L, K = 6, 3
    p = mixture(3, L, K)
    colours = all_of(L, 3)
    found = np.array([p.log_prob(x.reshape(1, 3, 1, 1)).item() for x in colours])
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-12)
    pi = scipy.special.softmax(p.logits.numpy()[0, :, 0, 0])
    mu, s, coef = (t.numpy()[0, ..., 0, 0] for t in (p.mu, p.log_s, p.coef))
    for x, log_p in zip(colours, found, strict=True):
        r, g, b = 2 * x / (L - 1) - 1
        total = 0.0
        for k in range(K):
            means = (mu[k, 0], mu[k, 1] + coef[k, 0] * r,
                     mu[k, 2] + coef[k, 1] * r + coef[k, 2] * g)
            product = pi[k]
            for v, level, m, log_s in zip((r, g, b), x, means, s[k], strict=True):
                upper = 1 if level == L - 1 else P.cdf(v + 1 / (L - 1), m, np.exp(log_s))
                lower = 0 if level == 0 else P.cdf(v - 1 / (L - 1), m, np.exp(log_s))
                product *= upper - lower
            total += product
        assert np.exp(log_p) == pytest.approx(total, rel=1e-9)  # eq: discretized-logistic


def test_colours_are_drawn_as_often_as_they_are_probable():
    L, n = 4, 60_000
    p = mixture(3, L, seed=5)
    many = LogisticMixture(*(np.repeat(t.numpy(), n, 0) for t in (p.logits, p.mu, p.log_s, p.coef)),
                           levels=L)
    x = many.sample(RNG(2))[:, :, 0, 0]
    counts = np.bincount(x @ [L * L, L, 1], minlength=L ** 3)
    colours = all_of(L, 3)
    expected = n * np.exp([p.log_prob(c.reshape(1, 3, 1, 1)).item() for c in colours])
    z = (counts - expected) / np.sqrt(expected + 1)
    assert np.abs(z).max() < 4.5 and abs(np.mean(z ** 2) - 0.9) < 0.5


def test_centre_and_scale_change_the_variable():
    """log_prob of a mixture over (v − a) / s, against the same mixture written out in v."""
    rng, K, C = RNG(3), 2, 3
    raw = rng.normal(size=(4, LogisticMixture.parameters(K, C), 2, 2))
    a, s = rng.normal(size=(4, C, 2, 2)), np.array([0.5, 0.1, 0.2])
    p = LogisticMixture.from_channels(raw, a, s)
    plain = LogisticMixture.from_channels(raw, scale=np.ones(3))
    x = rng.integers(0, 256, (4, C, 2, 2))
    v = 2 * x / 255 - 1
    means = p.mean(v).numpy()
    standard = plain.mean((v - a) / s[:, None, None]).numpy()
    assert np.allclose(means, a[:, None] + s[:, None, None] * standard)
    assert np.allclose(p.log_s.numpy(), plain.log_s.numpy() + np.log(s)[:, None, None])
    one = LogisticMixture(p.logits, means, p.log_s, np.zeros((4, K, 3, 2, 2)))
    assert np.allclose(p.log_prob(x).numpy(), one.log_prob(x).numpy())


def test_all_parameters_have_the_slope_of_the_probability():
    x, raw = RNG(0).integers(0, 256, (2, 3, 2, 2)), RNG(1).normal(size=(2, 20, 2, 2))
    gradcheck(lambda raw: LogisticMixture.from_channels(raw, 0.1, (0.5, 1, 2)).log_prob(x), raw)


def test_float32_loses_nothing_far_out():
    x = np.array([0, 1, 100, 254, 255])
    for mu, log_s in itertools.product((-60.0, -1.0, 0.3, 40.0), (-7.0, -2.0, 3.0, 12.0)):
        narrow, wide = (log_bin(x, tensor(np.array([mu], t)), tensor(np.array([log_s], t)))
                        for t in (np.float32, np.float64))
        assert np.allclose(narrow.numpy(), wide.numpy(), rtol=2e-4, atol=1e-5), (mu, log_s)
        m = tensor(np.array([mu], np.float32), requires_grad=True)
        s = tensor(np.array([log_s], np.float32), requires_grad=True)
        assert all(np.isfinite(g.numpy()).all() for g in grad(sum(log_bin(x, m, s)), [m, s]))


def test_a_mixture_wider_than_float32_can_say():
    x = np.array([0, 100, 255]).reshape(3, 1, 1, 1)
    one = np.zeros((3, 1, 1, 1), np.float32)
    p = LogisticMixture(one, one[:, None], one[:, None] + 200, one[:, :0])
    np.testing.assert_allclose(p.log_prob(x).numpy().ravel()[[0, 2]], -np.log(2), rtol=1e-6)
    assert p.log_prob(x).numpy()[1] < -30


def test_mixture_refuses_what_is_no_level():
    p = mixture(3, 256)
    with pytest.raises(TypeError, match="expected integers 0 … 255, got float64"):
        p.log_prob(np.zeros((1, 3, 1, 1)))
    with pytest.raises(ValueError, match="expected integers 0 … 255, got values from -1 to 256"):
        p.log_prob(np.array([-1, 256, 0]).reshape(1, 3, 1, 1))


# ------------------------------------------------------------------------------ linear predictor

def images(N=60, C=3, side=12, seed=0):
    """Images smooth enough for neighbours to be informative."""
    steps = RNG(seed).normal(size=(N, C, side, side))
    walk = steps.cumsum(2).cumsum(3) + 3 * steps[:, :1].cumsum(2).cumsum(3)
    return np.clip(128 + 8 * walk, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("C", [1, 3])
def test_the_linear_predictor_is_one_regression_on_all_that_comes_before(C):
    x = images(C=C)
    N, _, H, W = x.shape
    v = x / 127.5 - 1
    inside = np.concatenate([v, np.ones((N, 1, H, W))], 1)
    padded = np.pad(inside, ((0, 0), (0, 0), (UP, 0), (SIDE, SIDE)))
    before = [(r, s) for r in range(UP + 1) for s in range(2 * SIDE + 1) if (r, s) < (UP, SIDE)]
    columns = [padded[:, c, r:r + H, s:s + W].ravel() for c in range(C + 1) for r, s in before]
    columns.append(np.ones(N * H * W))
    p = LinearPredictor(C).fit(x)
    means = p.mixture(x).mean(np.float32(v)).numpy()[:, 0]
    for c in range(C):
        A = np.stack([*columns, *(v[:, i].ravel() for i in range(c))], 1)
        w = np.linalg.lstsq(A, v[:, c].ravel(), rcond=None)[0]
        assert np.allclose(means[:, c].ravel(), A @ w, atol=2e-3)
        # the scale maximises the likelihood
        def nll(log_s, x=x[:, c], mean=means[:, c]):
            return -log_bin(x, mean, tensor([log_s])).numpy().sum(dtype=np.float64)
        log_s = p.log_s.numpy()[c]
        assert nll(log_s) < min(nll(log_s - 0.02), nll(log_s + 0.02))


def test_the_linear_predictor_looks_only_back():
    x = images(N=2)
    p = LinearPredictor(3).fit(images())
    changed = x.copy()
    changed[:, 1, 5, 6] ^= 128  # green
    a, b = (p.mixture(y).mean(np.float32(y / 127.5 - 1)).numpy() for y in (x, changed))
    differs = (a != b).any((0, 1))  # (C, H, W)
    i, j = np.indices(x.shape[2:])
    assert not differs[:, (i < 5) | (i == 5) & (j < 6)].any()
    assert differs[:, 5, 6].tolist() == [False, False, True] and differs[:, 5, 7].all()
    assert p.log_prob(x).shape == (2,) and p.log_prob(x).dtype == np.float32
