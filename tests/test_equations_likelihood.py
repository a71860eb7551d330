"""Section "probability, maximum likelihood": each equation is checked by a second route."""

import numpy as np
import pytest
from scipy import integrate, stats

import minigen
from minigen import nn, optim
from minigen.models.likelihood.joint import Joint
from minigen.models.likelihood.mixture import Mixture


@pytest.fixture
def table():
    p = np.random.default_rng(0).random((6, 3))
    return p / p.sum()


def counted(table, n=400_000):
    """Pairs (x, y) drawn from the table; their frequencies are the second route to everything."""
    flat = np.random.default_rng(1).choice(table.size, n, p=table.ravel())
    return np.divmod(flat, table.shape[1])


def test_generative_model_is_a_distribution_over_images(table):
    x, _ = counted(table)
    p = Joint(table).generative()
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert np.allclose(p, np.bincount(x) / len(x), atol=4e-3)  # eq: generative-model


def test_discriminative_model_cannot_reject(table):
    table[4] *= 1e-9  # an image that hardly ever occurs
    table /= table.sum()
    joint = Joint(table)
    p = joint.discriminative()
    x, y = counted(table)
    seen = [np.bincount(y[x == i], minlength=3) / (x == i).sum() for i in (0, 1, 2, 3, 5)]
    assert np.allclose(p[[0, 1, 2, 3, 5]], seen, atol=1e-2)  # eq: discriminative-model
    assert p[4].sum() == pytest.approx(1) and joint.generative()[4] < 1e-8


def test_conditional_generative_model(table):
    x, y = counted(table)
    p = Joint(table).conditional()
    seen = np.stack([np.bincount(x[y == k], minlength=6) / (y == k).sum() for k in range(3)], 1)
    assert np.allclose(p, seen, atol=1e-2)  # eq: conditional-generative-model


def test_bayes_rule_joins_the_three(table):
    joint = Joint(table)
    assert np.allclose(joint.bayes(), joint.conditional(), atol=1e-12)  # eq: bayes-three-models


def test_a_table_that_is_no_distribution_is_refused():
    with pytest.raises(ValueError, match=r"sum to 1, got shape \(2, 2\) with sum 4"):
        Joint(np.ones((2, 2)))
    with pytest.raises(ValueError, match="the least of them -0.5"):
        Joint([[1.5, -0.5], [0.25, -0.25]])
    with pytest.raises(ValueError, match="Joint: a row or column of zeros"):
        Joint([[0.5, 0.5], [0, 0]])


@pytest.fixture
def mixture():
    model = Mixture(3, np.random.default_rng(3))
    nn.astype(model, np.float64)
    model.weight_logits.data[:] = [0.2, -0.4, 0.6]
    model.logvar.data[:] = [0.1, -1.0, 0.7]
    return model


def scipy_density(model, x):
    """The same mixture, written with SciPy's normal density."""
    pi = np.exp(model.weight_logits.numpy())
    sigma = np.exp(model.logvar.numpy() / 2)
    return stats.norm.pdf(x[:, None], model.mu.numpy(), sigma) @ (pi / pi.sum())


def test_explicit_density(mixture):
    x = np.linspace(-4, 4, 33)
    assert np.allclose(mixture.f(x).numpy(), scipy_density(mixture, x))  # eq: explicit-density
    with pytest.raises(ValueError, match=r"points are \(33, 1\), expected \(N,\)"):
        mixture.loss(x[:, None])
    total, _ = integrate.quad(lambda t: mixture.f(np.array([t])).item(), -30, 30, limit=200)
    assert total == pytest.approx(1, abs=1e-6)


def test_the_three_forms_of_maximum_likelihood(mixture):
    x = np.random.default_rng(5).normal(0.3, 1.2, 12)
    density = scipy_density(mixture, x)
    assert mixture.likelihood(x).item() == pytest.approx(np.prod(density))  # eq: mle-product
    log_f = np.log(density)
    assert mixture.log_likelihood(x).item() == pytest.approx(log_f.sum())  # eq: mle-log-sum
    assert mixture.loss(x).item() == pytest.approx(-log_f.mean())  # eq: mle-parametric

    # all three have one argmax, on a grid of μ₁; the sum of logs is finite where the product is 0
    grid = np.linspace(-3, 3, 121)
    values = []
    for mu in grid:
        mixture.mu.data[0] = mu
        values.append([mixture.likelihood(x).item(), mixture.log_likelihood(x).item(),
                       -mixture.loss(x).item()])
    assert len(set(np.argmax(values, axis=0))) == 1
    many = np.random.default_rng(5).normal(0.3, 1.2, 2000)
    assert mixture.likelihood(many).item() == 0.0
    assert np.isfinite(mixture.log_likelihood(many).item())


def test_gradient_descent_reaches_the_maximum_known_in_closed_form():
    x = np.random.default_rng(6).normal(-1.5, 0.6, 500)
    model = Mixture(1, np.random.default_rng(0))
    nn.astype(model, np.float64)
    opt = optim.Adam(nn.parameters(model), lr=0.05)
    for _ in range(600):
        opt.step(minigen.grad(model.loss(x), opt.params))
    assert model.mu.item() == pytest.approx(x.mean(), abs=1e-6)
    assert np.exp(model.logvar.item()) == pytest.approx(x.var(), rel=1e-5)


def test_the_goal_p_model_close_to_p_data():
    rng = np.random.default_rng(7)
    x = np.where(rng.random(4000) < 0.3, rng.normal(-2, 0.5, 4000), rng.normal(1, 0.8, 4000))
    def p_data(t): return 0.3 * stats.norm.pdf(t, -2, 0.5) + 0.7 * stats.norm.pdf(t, 1, 0.8)
    t = np.linspace(-8, 8, 4001)

    model = Mixture(2, np.random.default_rng(1))
    nn.astype(model, np.float64)
    opt = optim.Adam(nn.parameters(model), lr=0.05)
    def divergence():
        p, q = p_data(t), model.f(t).numpy()
        return integrate.trapezoid(p * np.log(p / q), t)
    before = divergence()
    for _ in range(300):
        opt.step(minigen.grad(model.loss(x), opt.params))
    assert before > 0.5 and divergence() < 5e-3
    cdf = p_data(t).cumsum() / p_data(t).sum()
    drawn = model.sample(4000, np.random.default_rng(2))
    p = stats.kstest(drawn, lambda v: np.interp(v, t, cdf)).pvalue
    assert p > 0.01  # eq: generative-goal


def test_likelihood_of_new_data(mixture):
    x_new = np.random.default_rng(8).normal(size=50)
    assert np.allclose(mixture.log_prob(x_new).numpy(),
                       np.log(scipy_density(mixture, x_new)))  # eq: model-likelihood-eval


def test_samples_follow_the_density(mixture):
    t = np.linspace(-15, 15, 20001)
    cdf = np.cumsum(scipy_density(mixture, t)) * (t[1] - t[0])
    drawn = mixture.sample(5000, np.random.default_rng(9))
    p = stats.kstest(drawn, lambda v: np.interp(v, t, cdf)).pvalue
    assert p > 0.01  # eq: model-sample
