"""Section "VAE": each equation is checked by a second route.

Most are checked on a model that can be solved exactly, linear and Gaussian: x | z ~ N(Wz + b, ½I),
where x ~ N(b, WWᵀ + ½I) and the posterior is normal too (probabilistic PCA, Tipping & Bishop 1999).
The derivation of the bound has a file of its own.
"""

import numpy as np
import pytest
from scipy import stats

import minigen
from minigen import dist, exp, grad, nn, optim, tensor
from minigen.models.vae import cvae, gaussian_vae, latent, vae
from minigen.models.vae.conv_vae import convolutional

RNG = np.random.default_rng


@pytest.fixture
def linear():
    """A VAE with x | z ~ N(Wz + b, ½I), d_x = 3, d_z = 2, in float64, and its W, b."""
    rng = RNG(5)
    encoder = nn.Linear(3, 4, rng=rng)
    decoder = nn.Linear(2, 3, rng=rng)
    model = vae.VAE(encoder, decoder, 2, gaussian_vae.fixed_variance_normal)
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
    # E[z²] = μ² + σ²: its gradient through the samples is 2μ in μ, and σ² in log σ²
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
    var = np.exp(np.logaddexp(y[:, 1:], gaussian_vae.LOGVAR_MIN))  # log σ², softly bounded below
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
    model = vae.VAE(nn.Linear(3, 4, rng=rng), decoder, 2, gaussian_vae.fixed_variance_normal)
    nn.astype(model, np.float64)
    nn.load_state_dict(decoder, {"weight": W, "bias": b})
    x = rng.multivariate_normal(b, W @ W.T + np.eye(3) / 2, 256)
    opt = optim.Adam(nn.parameters(model.encoder), lr=0.02)
    for t in range(1500):
        opt.lr = 0.02 * optim.cosine(t, 1500)
        opt.step(grad(model.loss(x, RNG((0, t)))[0], opt.params))
    mean, S = exact_posterior(x, W, b)
    q = model.encode(x)
    assert np.allclose(q.mu.numpy(), mean, atol=0.1)
    assert np.allclose(np.exp(q.logvar.numpy()), np.diag(S), rtol=0.1)
    elbo = np.mean([model.elbo(x, RNG(s))[0].numpy().mean() for s in range(20)])
    assert elbo == pytest.approx(exact_log_p(x, W, b).mean(), abs=0.02)


def test_the_objective_is_the_sum_of_the_bounds(linear):
    model, *_ = linear
    x = RNG(16).normal(size=(8, 3))
    loss, parts = model.loss(x, RNG(17))
    each = model.elbo(x, RNG(17))[0].numpy()
    assert loss.item() == pytest.approx(-sum(each) / 8)
    assert loss.item() == pytest.approx((parts["reconstruction"] + parts["kl"]).item())


def test_a_training_step_goes_down_the_slope_of_the_bound(linear):
    """Encoding, sampling, decoding and comparing are written out in NumPy; the slope is taken by
    finite differences, followed by one step of gradient descent."""
    model, *_ = linear
    x, rng_seed, params = RNG(16).normal(size=(8, 3)), 17, nn.parameters(model)
    eps = RNG(rng_seed).standard_normal((8, 2))

    def by_hand(w_e, b_e, w_d, b_d):
        out = x @ w_e.T + b_e
        mu, logvar = out[:, :2], out[:, 2:]
        x_hat = (mu + np.exp(logvar / 2) * eps) @ w_d.T + b_d
        log_p = stats.norm.logpdf(x, x_hat, 0.5 ** 0.5).sum(1)
        kl = (np.exp(logvar) + mu ** 2 - 1 - logvar).sum(1) / 2
        return -(log_p - kl).mean()

    before = [p.numpy().copy() for p in params.values()]
    loss, _ = model.loss(x, RNG(rng_seed))
    assert loss.item() == pytest.approx(by_hand(*before))  # eq: vae-elbo-objective
    optim.SGD(params, lr=0.1).step(grad(loss, params))
    for i, (old, p) in enumerate(zip(before, params.values(), strict=True)):
        for at in np.ndindex(old.shape):
            ends = []
            for h in (1e-5, -1e-5):
                moved = [a.copy() for a in before]
                moved[i][at] += h
                ends.append(by_hand(*moved))
            step = -0.1 * (ends[0] - ends[1]) / 2e-5
            assert p.numpy()[at] - old[at] == pytest.approx(step, abs=1e-8)  # eq: vae-training-step


def test_importance_weights_give_the_evidence(linear):
    model, W, b = linear
    x = RNG(18).normal(size=(5, 3)) * 0.5  # near the mean: far from it, a few weights dominate
    exact = exact_log_p(x, W, b)
    wide = np.repeat(x, 200, axis=0)
    one, ten, hundred = (model.log_prob(wide, RNG(K), K=K).numpy().mean() for K in (1, 10, 100))
    assert one < ten < hundred < exact.mean() + 0.01
    many = model.log_prob(x, RNG(19), K=5000).numpy()
    assert np.allclose(many, exact, atol=0.05)  # eq: iwae-bound
    with pytest.raises(ValueError, match="at least one sample, got K = 0"):
        model.log_prob(x, RNG(0), K=0)


def test_an_encoder_that_is_the_posterior_makes_one_sample_exact():
    """p(x|z) p(z) / q(z|x) is then p(x), whatever z: the bound is tight. With orthogonal columns
    of W the posterior is diagonal, so that an encoder can equal it."""
    W, b = np.array([[1.5, 0], [0, 0.8], [0, 0]]), np.array([0.3, -0.2, 0.1])
    x = RNG(18).normal(size=(5, 3))
    mean, S = exact_posterior(x, W, b)
    model = vae.VAE(nn.Linear(3, 4), nn.Linear(2, 3), 2, gaussian_vae.fixed_variance_normal)
    nn.astype(model, np.float64)
    nn.load_state_dict(model.decoder, {"weight": W, "bias": b})
    nn.load_state_dict(model.encoder, {
        "weight": np.concatenate([(2 * W @ S).T, np.zeros((2, 3))]),
        "bias": np.concatenate([-b @ (2 * W @ S), np.log(np.diag(S))])})
    q = model.encode(x)
    z = RNG(20).normal(size=(5, 2))
    expected = [stats.multivariate_normal(m, S).logpdf(v) for m, v in zip(mean, z, strict=True)]
    assert np.allclose(q.log_prob(z).numpy().sum(1), expected)  # eq: vae-approx-posterior
    one = model.log_prob(x, RNG(20), K=1).numpy()
    assert np.allclose(one, exact_log_p(x, W, b), atol=1e-9)  # eq: vae-approx-evidence


def test_generated_images_follow_the_marginal(linear):
    model, W, b = linear
    p = model.generate(100_000, RNG(21))
    mean, z = p.mean.numpy(), RNG(21).standard_normal((100_000, 2))
    assert np.allclose(mean, z @ W.T + b)  # eq: vae-generate
    assert np.allclose(np.cov(mean.T), W @ W.T, atol=0.03)
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
    params = nn.parameters(model)
    grads = [grad(loss, params) for loss in (gaussian_vae.l2_loss(model, x, RNG(23)),
                                             model.loss(x, RNG(23))[0])]
    assert all(np.allclose(grads[0][k].numpy(), grads[1][k].numpy()) for k in params)
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
    rows = latent.traversal(z, [2, 0], values).reshape(2, 5, 3)
    for row, k in zip(rows, [2, 0], strict=True):
        others = [j for j in range(3) if j != k]
        assert np.allclose(row[:, k], values)  # eq: vae-latent-traversal
        assert np.array_equal(row[:, others], np.tile(z[others], (5, 1)))
    assert np.array_equal(latent.traversal([0, 3], [0], [0.5]), [[0.5, 3]])


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
