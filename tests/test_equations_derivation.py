"""The derivation of the variational bound, on a model with finitely many x and z.

Every expectation is a sum, so every line of the slides' derivation can be computed, and the slides'
errors can be shown to be errors.
"""

import numpy as np
import pytest
from scipy import stats

import minigen
from minigen import grad, optim, softmax, tensor
from minigen.models.vae import derivation
from minigen.models.vae.derivation import LatentModel

RNG = np.random.default_rng


@pytest.fixture
def tables():
    """p(z) (4,), p(x | z) (4, 5) and an arbitrary q(z | x) (4,) for x = 2."""
    rng = RNG(0)
    return rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(5), 4), rng.dirichlet(np.ones(4))


@pytest.fixture
def model(tables):
    return LatentModel(*tables[:2])


def counted(model, n=400_000):
    """The joint distribution by simulation: how often (z, x) occurs in n samples, divided by n."""
    z, x = model.sample(n, RNG(1))
    return np.bincount(z * 5 + x, minlength=20).reshape(4, 5) / n


def test_marginal_posterior_and_likelihood(model, tables):
    seen = counted(model)
    assert np.allclose(model.marginal().numpy(), seen.sum(0), atol=4e-3)  # eq: vae-marginal
    posterior = model.posterior().numpy()
    assert np.allclose(posterior, seen / seen.sum(0), atol=2e-2)  # eq: posterior-from-joint
    likelihood = model.likelihood().numpy()
    assert np.allclose(likelihood, tables[1], atol=1e-12)  # eq: likelihood-from-joint


def test_evidence_is_the_same_for_every_z(model, tables):
    p_x = tables[0] @ tables[1]
    assert np.allclose(model.evidence().numpy(), np.tile(p_x, (4, 1)))  # eq: vae-bayes-evidence


def test_the_posterior_integral_says_nothing(model):
    posterior = model.posterior().numpy()
    p_x = model.marginal().numpy()
    integral = derivation.posterior_integral(posterior, p_x).numpy()
    assert np.allclose(integral, p_x)  # eq: vae-posterior-integral
    # The slide lists ∫ p(z|x) p(x) dz as a second route to p(x), but any function comes back:
    nonsense = RNG(2).random(5) * 7
    back = derivation.posterior_integral(posterior, nonsense).numpy()
    assert np.allclose(back, nonsense) and not np.allclose(back, p_x)  # slide error: 3


@pytest.mark.parametrize("x", range(5))
def test_every_line_of_the_derivation_equals_log_p_of_x(model, tables, x):
    q = tables[2]
    log_p = np.log(tables[0] @ tables[1][:, x])  # by the sum over z
    line1, line2, line3, line4, line5 = (v.item() for v in derivation.derivation(model, q, x))
    assert line1 == pytest.approx(log_p, abs=1e-12)  # eq: elbo-step-1-expectation
    assert line2 == pytest.approx(log_p, abs=1e-12)  # eq: elbo-step-2-bayes
    assert line3 == pytest.approx(log_p, abs=1e-12)  # eq: elbo-step-3-multiply
    assert line4 == pytest.approx(log_p, abs=1e-12)  # eq: elbo-step-4-split
    assert line5 == pytest.approx(log_p, abs=1e-12)  # eq: elbo-step-5-kl


def test_a_z_that_q_never_draws_counts_nothing(model, tables):
    """Where p(x|z) = 0 the posterior is 0 as well; there, and where q(z|x) = 0, 0 log 0 is 0."""
    p_x_given_z = tables[1].copy()
    p_x_given_z[1] = np.eye(5)[4]
    for world, q in ((model, np.eye(4)[3]), (LatentModel(tables[0], p_x_given_z), None)):
        q = world.posterior().numpy()[:, 2] if q is None else q
        log_p = np.log(world.p_z @ world.p_x_given_z[:, 2])
        lines = [v.item() for v in derivation.derivation(world, q, 2)]
        assert (q == 0).any() and lines == pytest.approx([log_p] * 5)
        gap = derivation.vi_objective(world, q, 2).item()
        assert derivation.elbo(world, q, 2).item() == pytest.approx(log_p - gap)


def test_kl_is_never_negative_and_zero_only_for_equal_distributions():
    rng = RNG(3)
    for _ in range(200):
        q, p = rng.dirichlet(np.ones(4), 2)
        value = derivation.kl(q, p).item()
        assert value == pytest.approx(stats.entropy(q, p)) and value >= 0  # eq: kl-nonnegative
    assert derivation.kl(q, q).item() == 0
    certain, fair = np.array([0, 1.0]), np.array([0.5, 0.5])
    assert derivation.kl(certain, fair).item() == pytest.approx(np.log(2))  # eq: kl-nonnegative
    assert derivation.kl(certain, certain).item() == 0


def test_the_gap_of_the_bound_is_the_kl_to_the_posterior(model, tables):
    q, x = tables[2], 2
    log_p = model.marginal().numpy()[x]
    gap = np.log(log_p) - derivation.elbo(model, q, x).item()
    assert gap == pytest.approx(derivation.vi_objective(model, q, x).item())  # eq: vi-objective
    exact = model.posterior().numpy()[:, x]
    assert derivation.elbo(model, exact, x).item() == pytest.approx(np.log(log_p))


def test_variational_inference_minimises_kl_from_q_to_the_posterior(model):
    """The slide says "minimize KL(P|Q)", with q(z|θ). In a family too small for the posterior, here
    q = (a, a, b, b), the two directions have different minima, and the bound's optimum is that of
    KL(q‖p). And q must depend on x, not θ: the best q differs from one x to the next."""
    x, best = 2, {}
    posterior = model.posterior().numpy()
    for name, loss in {
        "elbo": lambda q: -derivation.elbo(model, q, x),
        "kl(q, p)": lambda q: derivation.kl(q, posterior[:, x]),
        "kl(p, q)": lambda q: derivation.kl(tensor(posterior[:, x]), q),
    }.items():
        theta = tensor(np.zeros(2), requires_grad=True)
        opt = optim.Adam([theta], lr=0.05)
        for _ in range(500):
            q = minigen.repeat(softmax(theta) / 2, 2, axis=0)
            opt.step([grad(loss(q), theta)])
        best[name] = q.numpy()
    assert np.allclose(best["elbo"], best["kl(q, p)"], atol=1e-6)
    assert np.abs(best["elbo"] - best["kl(p, q)"]).max() > 0.01  # slide error: 4
    assert np.abs(posterior[:, 0] - posterior[:, 2]).max() > 0.1


def test_a_prior_that_is_the_encoders_own_breaks_the_bound(model, tables):
    """The slide has log p(x) ≥ −KL(q(z|x) ‖ q(z)) + log p(x|z). The prior is p(z), and log p(x|z)
    needs an expectation over q; each error makes a "bound" that can exceed log p(x)."""
    p_z, p_x_given_z, q = tables
    log_p = np.log(p_z @ p_x_given_z)
    # prior q(z) := q(z | x): the KL vanishes and E_q[log p(x|z)] alone can exceed log p(x)
    sharp = np.eye(4)[p_x_given_z[:, 2].argmax()] * 0.999 + 0.001 / 4
    printed = (sharp * np.log(p_x_given_z[:, 2])).sum() - derivation.kl(sharp, sharp).item()
    assert printed > log_p[2] > derivation.elbo(model, sharp, 2).item()  # slide error: 2
    # no expectation: for a single z the right-hand side can exceed log p(x)
    single = np.log(p_x_given_z[:, 2]) - derivation.kl(q, p_z).item()
    assert single.max() > log_p[2] > (q * single).sum()


def test_the_brace_must_cover_both_terms(model, tables):
    """On the slide the brace "L" is under the reconstruction term alone, which is not a bound."""
    p_z, p_x_given_z, _ = tables
    sharp = np.eye(4)[p_x_given_z[:, 2].argmax()] * 0.999 + 0.001 / 4
    log_p, first = np.log(p_z @ p_x_given_z[:, 2]), (sharp * np.log(p_x_given_z[:, 2])).sum()
    assert first > log_p > first - derivation.kl(sharp, p_z).item()  # slide error: 23


def test_maximum_likelihood_of_a_latent_variable_model():
    """θ* by gradient ascent on log p_θ, compared with the expectation-maximisation algorithm."""
    rng = RNG(4)
    counts = rng.integers(20, 200, 5).astype(np.float64)
    p_z, p_x = rng.dirichlet(np.ones(2)), rng.dirichlet(np.ones(5), 2)
    for _ in range(3000):  # EM
        r = p_z[:, None] * p_x
        r = r / r.sum(0) * counts
        p_z, p_x = r.sum(1) / r.sum(), r / r.sum(1, keepdims=True)
    by_em = (counts * np.log(p_z @ p_x)).sum()

    a, b = (tensor(rng.normal(size=s), requires_grad=True) for s in ((2,), (2, 5)))
    opt = optim.Adam([a, b], lr=0.05)
    for _ in range(1500):
        value = LatentModel(softmax(a), softmax(b)).log_likelihood(counts)
        opt.step(grad(-value, [a, b]))
    best = (counts * np.log(counts / counts.sum())).sum()  # p_θ(x) = the observed frequencies
    assert value.item() == pytest.approx(best, rel=1e-6)  # eq: vae-mle-goal
    assert by_em == pytest.approx(best, rel=1e-6)
