"""Section "VAE": each equation by a second route.

Two models can be solved exactly: one with finitely many x and z, where every expectation is a sum,
and one that is linear and Gaussian, x | z ~ N(Wz + b, ½I), where x ~ N(b, WWᵀ + ½I) and the
posterior is normal too (probabilistic PCA, Tipping & Bishop 1999).
"""

import numpy as np
import pytest
from scipy import stats

import minigen
from minigen import dist, exp, grad, nn, optim, softmax, tensor
from minigen.models.vae import cvae, derivation, gaussian_vae, latent, vae
from minigen.models.vae.conv_vae import convolutional
from minigen.models.vae.derivation import LatentModel

RNG = np.random.default_rng


# --------------------------------------------------------------------------- finitely many x and z

@pytest.fixture
def tables():
    """p(z) (4,), p(x | z) (4, 5) and some q(z | x) for x = 2, (4,)."""
    rng = RNG(0)
    return rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(5), 4), rng.dirichlet(np.ones(4))


@pytest.fixture
def model(tables):
    return LatentModel(*tables[:2])


def counted(model, n=400_000):
    """How often (z, x) occurs in n draws, divided by n: the joint distribution by simulation."""
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
    # The slide lists ∫ p(z|x) p(x) dz as a second route to p(x). Any other function comes back too:
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


def test_kl_is_never_negative_and_zero_only_for_equal_distributions():
    rng = RNG(3)
    for _ in range(200):
        q, p = rng.dirichlet(np.ones(4), 2)
        value = derivation.kl(q, p).item()
        assert value == pytest.approx(stats.entropy(q, p)) and value >= 0  # eq: kl-nonnegative
    assert derivation.kl(q, q).item() == 0


def test_the_gap_of_the_bound_is_the_kl_to_the_posterior(model, tables):
    q, x = tables[2], 2
    log_p = model.marginal().numpy()[x]
    gap = np.log(log_p) - derivation.elbo(model, q, x).item()
    assert gap == pytest.approx(derivation.vi_objective(model, q, x).item())  # eq: vi-objective
    exact = model.posterior().numpy()[:, x]
    assert derivation.elbo(model, exact, x).item() == pytest.approx(np.log(log_p))


def test_variational_inference_minimises_kl_from_q_to_the_posterior(model):
    """Slide: "minimize KL(P|Q)", with q(z|θ). With too small a family, here q = (a, a, b, b), the
    two directions have different minima, and the bound has that of KL(q‖p); q needs x, not θ: the
    best q differs from one x to the next."""
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
    """Slide: log p(x) ≥ −KL(q(z|x) ‖ q(z)) + log p(x|z). The prior is p(z), and log p(x|z) needs an
    expectation over q: as printed, both changes make "bounds" that exceed log p(x)."""
    p_z, p_x_given_z, q = tables
    log_p = np.log(p_z @ p_x_given_z)
    # prior q(z) := q(z | x): the KL vanishes and E_q[log p(x|z)] alone can be above log p(x)
    sharp = np.eye(4)[p_x_given_z[:, 2].argmax()] * 0.999 + 0.001 / 4
    printed = (sharp * np.log(p_x_given_z[:, 2])).sum() - derivation.kl(sharp, sharp).item()
    assert printed > log_p[2] > derivation.elbo(model, sharp, 2).item()  # slide error: 2
    # no expectation: for a single z the right-hand side can be above log p(x)
    single = np.log(p_x_given_z[:, 2]) - derivation.kl(q, p_z).item()
    assert single.max() > log_p[2] > (q * single).sum()


def test_the_brace_must_cover_both_terms(model, tables):
    """Slide: the brace "L" stands under the reconstruction term alone, which is no bound."""
    p_z, p_x_given_z, _ = tables
    sharp = np.eye(4)[p_x_given_z[:, 2].argmax()] * 0.999 + 0.001 / 4
    log_p, first = np.log(p_z @ p_x_given_z[:, 2]), (sharp * np.log(p_x_given_z[:, 2])).sum()
    assert first > log_p > first - derivation.kl(sharp, p_z).item()  # slide error: 24


def test_maximum_likelihood_of_a_latent_variable_model():
    """θ* by gradient ascent on log p_θ against the expectation-maximisation algorithm."""
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


# ------------------------------------------------------------------------------ linear, Gaussian

@pytest.fixture
def linear():
    """A VAE with x | z ~ N(Wz + b, ½I), d_x = 3, d_z = 2, in float64, and its W, b."""
    rng = RNG(5)
    encoder = nn.Linear(3, 4, rng=rng)
    decoder = nn.Linear(2, 3, rng=rng)
    model = vae.VAE(encoder, decoder, 2, gaussian_vae.half_normal)
    nn.astype(model, np.float64)
    return model, decoder.weight.numpy(), decoder.bias.numpy()


def exact_log_p(x, W, b):
    return stats.multivariate_normal(b, W @ W.T + np.eye(3) / 2).logpdf(x)


def exact_posterior(x, W, b):
    """Mean (N, 2) and covariance (2, 2) of z given x."""
    S = np.linalg.inv(np.eye(2) + 2 * W.T @ W)
    return (x - b) @ (2 * W @ S), S


def test_prior(linear):
    z = linear[0].prior(200_000).sample(RNG(6)).numpy()
    assert np.allclose(np.cov(z.T), np.eye(2), atol=0.02)  # eq: vae-gaussian-prior
    assert np.allclose(z.mean(0), 0, atol=0.01)


def test_reparametrised_samples_and_their_gradient():
    mu, logvar = tensor(np.array([0.5, -2.0]), True), tensor(np.array([0.3, -1.0]), True)
    wide = [minigen.broadcast_to(t, shape=(200_000, 2)) for t in (mu, logvar)]
    z = dist.Normal(*wide).sample(RNG(7))
    var = np.exp(logvar.numpy())
    assert np.allclose(z.numpy().mean(0), mu.numpy(), atol=0.01)
    assert np.allclose(z.numpy().var(0), var, rtol=0.02)  # eq: vae-reparam
    # E[z²] = μ² + σ²: its gradient through the samples is 2μ and, in log σ², σ²
    g = grad(minigen.mean(z * z, 0).sum(), [mu, logvar])
    assert np.allclose(g[0].numpy(), 2 * mu.numpy(), atol=0.02)
    assert np.allclose(g[1].numpy(), var, rtol=0.03)


def test_kl_in_closed_form_against_simulation_and_the_general_formula():
    rng = RNG(8)
    q = dist.Normal(tensor(rng.normal(size=(3, 2))), tensor(rng.normal(size=(3, 2))))
    closed = vae.kl_to_prior(q).numpy()
    zeros = tensor(np.zeros((3, 2)))
    p = dist.Normal(zeros, zeros)
    total = np.zeros(3)
    for _ in range(100):
        wide = dist.Normal(q.mu.numpy()[None] + np.zeros((2000, 1, 1)), tensor(q.logvar.numpy()))
        z = tensor(wide.mu + np.exp(q.logvar.numpy() / 2) * rng.normal(size=(2000, 3, 2)))
        total += (q.log_prob(z) - p.log_prob(z)).numpy().sum(2).mean(0)
    assert np.allclose(closed, total / 100, atol=0.02)  # eq: vae-kl-closed-form
    assert np.allclose(closed, dist.kl(q, p).numpy().sum(1), atol=1e-12)


def test_the_encoder_is_a_diagonal_normal(linear):
    model, *_ = linear
    x = RNG(9).normal(size=(4, 3))
    q = model.encode(x)
    out = x @ model.encoder.weight.numpy().T + model.encoder.bias.numpy()
    z = RNG(10).normal(size=(4, 2))
    expected = stats.norm.logpdf(z, out[:, :2], np.exp(out[:, 2:] / 2))
    assert np.allclose(q.log_prob(z).numpy(), expected)  # eq: vae-gaussian-encoder


def test_the_decoder_is_a_diagonal_normal():
    y = RNG(11).normal(size=(2, 2, 3, 3)) * 3
    p = gaussian_vae.diagonal_normal(tensor(y))
    x = RNG(12).normal(size=(2, 1, 3, 3))
    var = np.exp(np.logaddexp(y[:, 1:], gaussian_vae.LOGVAR_MIN))  # log σ², softly ≥ its minimum
    expected = stats.norm.logpdf(x, y[:, :1], np.sqrt(var))
    assert np.allclose(p.log_prob(x).numpy(), expected)  # eq: vae-gaussian-decoder


def test_the_bound_against_the_exact_likelihood(linear):
    model, W, b = linear
    x = RNG(13).normal(size=(6, 3))
    exact = exact_log_p(x, W, b)
    wide = np.repeat(x, 20_000, axis=0)
    elbo, reconstruction, kl = (v.numpy().reshape(6, -1) for v in model.elbo(wide, RNG(14)))
    # The gap is KL(q ‖ posterior), between two normals whose parameters are known.
    mean, S = exact_posterior(x, W, b)
    q = model.encode(x)
    m, var = q.mu.numpy() - mean, np.exp(q.logvar.numpy())
    P = np.linalg.inv(S)
    gap = 0.5 * ((var * np.diag(P)).sum(1) + np.einsum("ni,ij,nj->n", m, P, m) - 2
                 + np.log(np.linalg.det(S)) - np.log(var).sum(1))
    error = 4 * elbo.std(1) / 20_000 ** 0.5
    assert (np.abs(elbo.mean(1) - (exact - gap)) < error).all()  # eq: vae-elbo
    assert (elbo.mean(1) < exact).all()
    assert np.allclose(elbo, reconstruction - kl)


def test_training_the_bound_brings_the_encoder_to_the_posterior():
    """A posterior with diagonal covariance can be matched exactly: then the bound is tight."""
    rng = RNG(15)
    W, b = np.array([[1.5, 0], [0, 0.8], [0, 0]]), np.array([0.3, -0.2, 0.1])
    decoder = nn.Linear(2, 3)
    model = vae.VAE(nn.Linear(3, 4, rng=rng), decoder, 2, gaussian_vae.half_normal)
    nn.astype(model, np.float64)
    nn.load_state_dict(decoder, {"weight": W, "bias": b})
    x = rng.multivariate_normal(b, W @ W.T + np.eye(3) / 2, 256)
    opt = optim.Adam(nn.parameters(model.encoder), lr=0.02)
    for t in range(1500):
        opt.lr = 0.02 * optim.cosine(t, 1500)
        opt.step(grad(model.loss(x, RNG((0, t)))[0], opt.params))
    mean, S = exact_posterior(x, W, b)
    q = model.encode(x)
    assert np.allclose(q.mu.numpy(), mean, atol=0.1)  # eq: vae-approx-posterior
    assert np.allclose(np.exp(q.logvar.numpy()), np.diag(S), rtol=0.1)
    elbo = np.mean([model.elbo(x, RNG(s))[0].numpy().mean() for s in range(20)])
    assert elbo == pytest.approx(exact_log_p(x, W, b).mean(), abs=0.02)


def test_the_objective_is_the_sum_of_the_bounds(linear):
    model, *_ = linear
    x = RNG(16).normal(size=(8, 3))
    loss, parts = model.loss(x, RNG(17))
    each = model.elbo(x, RNG(17))[0].numpy()
    assert loss.item() == pytest.approx(-sum(each) / 8)  # eq: vae-elbo-objective
    assert loss.item() == pytest.approx(parts["reconstruction"] + parts["kl"])


def test_importance_weights_give_the_evidence(linear):
    model, W, b = linear
    x = RNG(18).normal(size=(5, 3)) * 0.5  # near the mean: few weights dominate far from it
    exact = exact_log_p(x, W, b)
    wide = np.repeat(x, 200, axis=0)
    one, ten, hundred = (model.log_prob(wide, RNG(K), K=K).numpy().mean() for K in (1, 10, 100))
    assert one < ten < hundred < exact.mean() + 0.01
    many = model.log_prob(x, RNG(19), K=5000).numpy()
    assert np.allclose(many, exact, atol=0.05)  # eq: iwae-bound
    # with the true posterior as q, one sample is exact: p(x|z) p(z) / q(z|x) = p(x) for every z
    mean, S = exact_posterior(x, W, b)
    diagonal = vae.VAE(model.encoder, nn.Linear(2, 3), 2, gaussian_vae.half_normal)
    nn.astype(diagonal, np.float64)
    D = np.array([[1.5, 0], [0, 0.8], [0, 0]])
    nn.load_state_dict(diagonal.decoder, {"weight": D, "bias": b})
    _, S = exact_posterior(x, D, b)
    nn.load_state_dict(diagonal.encoder, {
        "weight": np.concatenate([(2 * D @ S).T, np.zeros((2, 3))]),
        "bias": np.concatenate([-b @ (2 * D @ S), np.log(np.diag(S))])})
    one = diagonal.log_prob(x, RNG(20), K=1).numpy()
    assert np.allclose(one, exact_log_p(x, D, b), atol=1e-9)  # eq: vae-approx-evidence


def test_generated_images_follow_the_marginal(linear):
    model, W, b = linear
    p = model.generate(100_000, RNG(21))
    mean = p.mean.numpy()
    assert np.allclose(np.cov(mean.T), W @ W.T, atol=0.03)  # eq: vae-generate
    x = model.sample(100_000, RNG(21)).numpy()
    covariance = W @ W.T + np.eye(3) / 2
    assert np.allclose(np.cov(x.T), covariance, atol=0.03)  # eq: vae-generative-process
    assert np.allclose(x.mean(0), b, atol=0.02)


# ---------------------------------------------------------------------------------- other losses

def test_the_l2_loss_is_the_bound_up_to_a_constant(linear):
    model, *_ = linear
    x = RNG(22).normal(size=(8, 3))
    l2 = gaussian_vae.l2_loss(model, x, RNG(23)).item()
    constant = 3 * np.log(np.pi) / 2  # −log N(x; x′, ½I) = ‖x − x′‖² + d/2 log π
    assert l2 == pytest.approx(model.loss(x, RNG(23))[0].item() - constant)  # eq: vae-loss-l2-kl
    # and from its two parts, in NumPy
    out = x @ model.encoder.weight.numpy().T + model.encoder.bias.numpy()
    mu, logvar = out[:, :2], out[:, 2:]
    z = mu + np.exp(logvar / 2) * RNG(23).standard_normal((8, 2))
    x_hat = z @ model.decoder.weight.numpy().T + model.decoder.bias.numpy()
    L_data = ((x - x_hat) ** 2).sum(1)
    L_latent = 0.5 * (np.exp(logvar) + mu ** 2 - 1 - logvar).sum(1)
    assert l2 == pytest.approx((L_data + L_latent).mean())  # eq: vae-loss-data-latent


# -------------------------------------------------------------------------- latent space, labels

def test_manifold_grid_has_equal_probability_between_lines():
    z = latent.manifold(9)
    u = stats.norm.cdf(z.astype(np.float64))
    grid = (np.arange(9) + 0.5) / 9
    assert np.allclose(u[:9, 0], grid, atol=1e-6)  # eq: vae-2d-manifold
    assert np.allclose(u[::9, 1], grid[::-1], atol=1e-6)


def test_traversal_changes_one_dimension_at_a_time():
    z, values = np.array([0.5, -1.0, 2.0], np.float32), np.linspace(-2, 2, 5)
    rows = latent.traversal(z, values).reshape(3, 5, 3)
    for k in range(3):
        others = [j for j in range(3) if j != k]
        assert np.allclose(rows[k][:, k], values)  # eq: vae-latent-traversal
        assert np.array_equal(rows[k][:, others], np.tile(z[others], (5, 1)))


def test_interpolation_is_a_straight_line():
    z = latent.interpolation(np.zeros(2, np.float32), np.array([1, -3], np.float32), 5)
    assert np.allclose(z, np.outer([0, 0.25, 0.5, 0.75, 1], [1, -3]))


def test_conditional_vae_feeds_the_label_to_both_networks():
    rng = RNG(24)
    model = cvae.conditional((1, 8, 8), 3, 4, rng)
    x, y = rng.random((5, 1, 8, 8), np.float32), np.array([0, 1, 2, 3, 1])
    # by hand: planes of ones in the label's channel beside x, a one-hot vector beside z
    planes = np.zeros((5, 4, 8, 8), np.float32)
    planes[np.arange(5), y] = 1
    out = model.encoder.net(np.concatenate([x, planes], 1)).numpy()
    q = model.encode(x, y)
    assert np.allclose(np.concatenate([q.mu.numpy(), q.logvar.numpy()], 1), out)
    z = rng.standard_normal((5, 3), np.float32)
    logits = model.decoder.net(np.concatenate([z, np.eye(4, dtype=np.float32)[y]], 1)).numpy()
    assert np.allclose(model.decode(z, y).logits.numpy(), logits)  # eq: cvae-conditioning
    loss, _ = model.loss(x, RNG(0), y)
    gradients = grad(loss, nn.parameters(model))
    assert all(np.isfinite(g.numpy()).all() for g in gradients.values())
    with pytest.raises(IndexError, match="0…3, got 0…4"):
        model.loss(x, RNG(0), np.array([0, 1, 2, 3, 4]))


def test_conv_vae_refuses_sizes_it_cannot_halve_twice():
    with pytest.raises(ValueError, match="divisible by 4, got 30×30"):
        convolutional((1, 30, 30), 8)


def test_bernoulli_decoder_against_its_formula():
    logits, x = RNG(25).normal(size=(3, 4)) * 4, RNG(26).random((3, 4))
    p = 1 / (1 + np.exp(-logits))
    expected = x * np.log(p) + (1 - x) * np.log(1 - p)
    assert np.allclose(dist.Bernoulli(tensor(logits)).log_prob(x).numpy(), expected)
    assert np.allclose(exp(dist.Bernoulli(tensor(logits)).log_prob(np.ones((3, 4)))).numpy(), p)
