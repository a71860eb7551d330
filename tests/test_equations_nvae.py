"""NVAE: distributions and divergences against integrals, networks against the formulas written out,
the bound against the exact likelihood of a small model, and the loss against its terms."""

import math

import numpy as np
import pytest

from minigen import grad, nn, tensor
from minigen.dist import Bernoulli, Normal
from minigen.models.vae import cells
from minigen.models.vae import nvae as model

RNG = np.random.default_rng


def double(net, seed=0, scale=1.0):
    """A network in float64 whose weights are `scale` times as large as usual, evaluating with
    running averages other than 0 and 1."""
    nn.init(net, RNG(seed))
    nn.astype(net, np.float64)
    for p in nn.parameters(net).values():
        p.data[...] *= scale
    rng = RNG(seed + 100)
    for _, part in nn.walk(net):
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.data[...] = 0.3 * rng.normal(size=part.running_mean.shape)
            part.running_var.data[...] = rng.uniform(0.5, 2, part.running_var.shape)
            part.bias.data[...] = 0.3 * rng.normal(size=part.bias.shape)
    nn.eval(net)
    return net


def tiny(posterior=model.residual, shape=(1, 2, 2), groups=(2,), widths=(3,), d_z=1, scale=1.5):
    """Two groups of one number each, unless told otherwise."""
    net = double(model.NVAE(shape, groups, widths, d_z, posterior, RNG(1)), 1, scale)
    net.h_1.weight.data[...] = RNG(2).normal(size=net.h_1.weight.shape)
    return net


def images(n=4, shape=(1, 2, 2), seed=3):
    return (RNG(seed).random((n, *shape)) < 0.5).astype(float)


# One group -------------------------------------------------------------------------------------


def numbers():
    """p, and what the networks give q: (2, 3, 1, 1) and (2, 6, 1, 1)."""
    a, b = RNG(4).normal(size=(2, 2, 3, 1, 1)), 0.7 * RNG(5).normal(size=(2, 6, 1, 1))
    return Normal(*a), tensor(b)


def density(u, mu, logvar):
    return np.exp(-(u - mu)**2 / (2 * np.exp(logvar))) / np.sqrt(2 * np.pi * np.exp(logvar))


def normals(p, q, delta):
    """For each element: μ and log σ² of p and q, and both numbers of the networks."""
    return zip(*(a.numpy().ravel() for a in (p.mu, p.logvar, q.mu, q.logvar, delta[:, :3],
                                             delta[:, 3:])), strict=True)


U = np.linspace(-25, 25, 200_001)


@pytest.mark.parametrize("posterior", [model.residual, model.ladder])
def test_the_divergence_is_the_integral(posterior):
    p, delta = numbers()
    q, kl = posterior(p, delta)
    for found, (mu, logvar, mu_q, logvar_q, _, _) in zip(kl.numpy().ravel(), normals(p, q, delta),
                                                        strict=True):
        a, b = density(U, mu_q, logvar_q), density(U, mu, logvar)
        some = a > 1e-200
        want = np.sum(a[some] * np.log(a[some] / b[some])) * (U[1] - U[0])
        assert np.isclose(found, want, rtol=1e-4)  # eq: nvae-residual-kl, ladder-posterior


def test_the_residual_normal_is_p_moved_and_stretched():
    p, delta = numbers()
    q, _ = model.residual(p, delta)
    for mu, logvar, mu_q, logvar_q, d_mu, d_logvar in normals(p, q, delta):
        # a sample of p, as a standard normal u, moved by Δμ and stretched around μ by Δσ
        u = (U - mu - d_mu) / (np.exp(logvar / 2) * np.exp(d_logvar / 2))
        want = density(u, 0, 0) / np.exp((logvar + d_logvar) / 2)
        assert np.allclose(density(U, mu_q, logvar_q), want)  # eq: nvae-residual-normal
    q, kl = model.residual(p, 0 * delta)
    assert np.array_equal(q.mu.numpy(), p.mu.numpy()) and not kl.numpy().any()


def test_the_ladder_posterior_is_the_product_of_two_normals():
    p, delta = numbers()
    q, _ = model.ladder(p, delta)
    for mu, logvar, mu_q, logvar_q, mu_hat, logvar_hat in normals(p, q, delta):
        product = density(U, mu, logvar) * density(U, mu_hat, logvar_hat)
        product /= product.sum() * (U[1] - U[0])
        assert np.allclose(density(U, mu_q, logvar_q), product)  # eq: ladder-posterior


def conv(layer, h):
    """A convolution of one image (C, H, W), pixel by pixel."""
    W, b = layer.weight.numpy(), layer.bias.numpy()
    R, pad = W.shape[2], layer.options["padding"]
    h = np.pad(h, ((0, 0), (pad, pad), (pad, pad)))
    out = np.empty((len(W), h.shape[1] - R + 1, h.shape[2] - R + 1))
    for k, i, j in np.ndindex(out.shape):
        out[k, i, j] = b[k] + (W[k] * h[:, i:i + R, j:j + R]).sum()
    return out


def test_a_cell_written_out():
    cell, h = double(cells.Cell(3, RNG(1)), 2), RNG(6).normal(size=(2, 3, 4, 5))
    for x, found in zip(h, cell(tensor(h)).numpy(), strict=True):
        y = x
        for norm, convolution in ((cell[0], cell[2]), (cell[3], cell[5])):
            at = lambda t: t.numpy()[:, None, None]
            y = (y - at(norm.running_mean)) / np.sqrt(at(norm.running_var) + 1e-5)
            y = y * at(norm.weight) + at(norm.bias)
            y = conv(convolution, y / (1 + np.exp(-y)))
        assert np.allclose(found, x + y / 10)  # eq: nvae-cell
        assert np.abs(y).max() > 0.1


# All groups --------------------------------------------------------------------------------------


def silu(h):
    return h / (1 + tensor(np.exp(-h.numpy())))


def by_hand(net, x, eps):
    """q and p of each group and the logits, for z_l = μ + σ ε_l with ε_l = eps[l]; the layers one
    after the other for a model with three groups at two resolutions, two at the smaller one."""
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))  # 6 rows have to be 8, to be halved twice
    s_3 = net.bottom_up[2](net.stem(tensor(x)))
    s_2 = net.bottom_up[1](s_3)
    s_1 = net.bottom_up[0](s_2)
    h, steps = tensor(np.repeat(net.h_1.weight.numpy()[None], len(x), 0)), []
    for group, s, e in zip(net.top_down, (s_1, s_2, s_3), eps, strict=True):
        d = len(e[0])
        a = group.p[1](silu(h)).numpy()
        b = group.q[1](silu(s + group.mix(h))).numpy()
        p = a[:, :d], np.exp(a[:, d:] / 2)
        q = p[0] + b[:, :d], p[1] * np.exp(b[:, d:] / 2)
        steps.append((q, p))
        z = q[0] + q[1] * e
        h = group.cell(group.merge(tensor(np.concatenate([h.numpy(), z], 1))))
        if group is net.top_down[1]:
            h = tensor(group.after[0][0](h).numpy().repeat(2, 2).repeat(2, 3))
    return steps, net.tail(h).numpy()[:, :, 1:-1]


def test_inference_group_by_group():
    shape = (2, 6, 12)
    net, x = tiny(shape=shape, groups=(2, 1), widths=(6, 5), d_z=2), images(3, shape)
    assert net.sizes == [2 * 3, 2 * 3, 4 * 6]
    rng = RNG(7)
    eps = [rng.standard_normal((3, 2, h, w)) for h, w in ((2, 3), (2, 3), (4, 6))]
    p_x, steps = net.infer(net.features(x), RNG(7))
    want, logits = by_hand(net, x, eps)
    total = 0
    for (q, p, z, kl), (q_, p_), e in zip(steps, want, eps, strict=True):
        assert np.allclose(p.mu.numpy(), p_[0]) and np.allclose(p.sigma.numpy(), p_[1])
        # the features of the image's size are for the last group
        assert np.allclose(q.mu.numpy(), q_[0])  # eq: nvae-bidirectional
        assert np.allclose(q.sigma.numpy(), q_[1])  # eq: nvae-bidirectional
        assert np.allclose(z.numpy(), q_[0] + q_[1] * e)
        own = np.log(p_[1] / q_[1]) + (q_[1]**2 + (q_[0] - p_[0])**2) / (2 * p_[1]**2) - 0.5
        assert np.allclose(kl.numpy(), own.sum((1, 2, 3)))  # eq: nvae-residual-kl
        total = total + own.sum((1, 2, 3))
    assert np.allclose(p_x.logits.numpy(), logits)
    log_p = np.where(x, -np.log1p(np.exp(-logits)), -np.log1p(np.exp(logits))).sum((1, 2, 3))
    elbo, reconstruction, kl = (a.numpy() for a in net.elbo(x, RNG(7)))
    assert np.allclose(reconstruction, log_p) and np.allclose(kl, total)
    assert np.allclose(elbo, log_p - total)  # eq: nvae-bound


@pytest.mark.parametrize("posterior", [model.residual, model.ladder])
def test_the_bound_is_below_the_exact_likelihood(posterior):
    # two numbers z_1 and z_2: p(x) is an integral over a plane, in units of their noise
    net = tiny(posterior, scale=2.0)
    for group in net.top_down:  # a q that is no narrower than p(z | x): weights of finite variance
        group.q[1].weight.data[...] *= 0.1
        group.q[1].bias.data[...] = [0.3, 0.5 if posterior is model.residual else 3]
    at, weight = np.polynomial.hermite_e.hermegauss(60)
    eps = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2, 1, 1, 1)
    seen = []
    logits = net.generator(len(eps), lambda l, h, p: seen.append(p) or
                           p.mu + p.sigma * eps[:, l]).logits.numpy()
    assert np.ptp(seen[1].mu.numpy()) > 0.1  # z_2 depends on z_1
    x = np.stack(np.meshgrid(*[[0, 1]] * 4), -1).reshape(16, 1, 2, 2).astype(float)
    log_p = Bernoulli(tensor(logits)).log_prob(tensor(x[:, None])).numpy().sum((2, 3, 4))
    p = np.exp(log_p) @ np.outer(weight, weight).ravel() / (2 * np.pi)
    assert np.isclose(p.sum(), 1) and p.max() > 2 * p.min()
    bounds = net.elbo(np.repeat(x, 100, 0), RNG(0))[0].numpy().reshape(16, 100)
    error = bounds.std(1) / 10
    assert (bounds.mean(1) < np.log(p) + 4 * error).all()  # eq: nvae-bound
    # importance weights give p(x) itself
    for k in (0, 5):
        w = np.exp(net.log_prob(np.repeat(x[k:k + 1], 10_000, 0), RNG(8), K=1).numpy())
        assert abs(w.mean() - p[k]) < 4 * w.std() / 100  # eq: nvae-hierarchy
    likely = p > 0.07
    many = net.log_prob(x[likely], RNG(9), K=500).numpy()
    assert np.allclose(many, np.log(p[likely]), atol=0.1)  # eq: nvae-hierarchy


def test_the_temperature_multiplies_every_standard_deviation():
    net, rng = tiny(), RNG(10)
    eps = [rng.standard_normal((5, 1, 1, 1)) for _ in range(2)]
    _, z = net.draw(5, RNG(10), 0.3)
    seen = []
    net.generator(5, lambda l, h, p: seen.append(p) or z[l])
    for p, z_l, e in zip(seen, z, eps, strict=True):
        want = p.mu.numpy() + 0.3 * p.sigma.numpy() * e
        assert np.allclose(z_l.numpy(), want)  # eq: nvae-temperature


# The loss ----------------------------------------------------------------------------------------


def test_gamma_is_larger_where_more_is_told_per_position():
    kls, sizes = tensor(np.array([6.0, 3.0, 0.0, 16.0])), [2, 2, 2, 8]
    # 3, 1.5, 0 and 2 nats per position, divided by their mean
    found = model.balance(kls, sizes).numpy()
    assert np.allclose(found, np.array([3, 1.5, 0, 2]) / 1.625)  # eq: nvae-balance
    assert found.mean() == 1


@pytest.mark.parametrize("beta", [0.4, 1.0])
def test_the_loss_is_the_sum_of_its_terms(beta):
    shape = (1, 4, 8)
    net, x = tiny(shape=shape, groups=(2, 1), widths=(4, 3)), images(5, shape)
    for _, part in nn.walk(net):  # batch norm still evaluates
        if isinstance(part, nn.SpectralNorm):
            part.training = True
    for _ in range(300):
        [w.sigma() for w in net.weights]
    nn.eval(net)
    reconstruction, kls = (a.numpy() for a in net.terms(x, RNG(11)))
    KL = kls.mean(0)
    share = KL / np.array([1 * 2, 1 * 2, 2 * 4])
    gamma = share / share.mean() if beta < 1 else np.ones(3)
    assert np.ptp(gamma) > 0.1 or beta == 1
    layers = {id(part): part for _, part in nn.walk(net) if isinstance(part, nn.Conv2d)}
    largest = [np.linalg.svd(layer.weight.numpy().reshape(len(layer.weight), -1))[1][0]
               for layer in layers.values()]
    assert len(largest) == len(net.weights)
    want = -reconstruction.mean() + beta * sum(gamma * KL) + 0.5 * sum(largest)
    loss, parts = net.loss(x, RNG(11), beta, 0.5)
    assert np.isclose(loss.item(), want)  # eq: nvae-objective, nvae-spectral, nvae-balance
    bound = parts["reconstruction"].item() + parts["kl"].item()
    assert np.isclose(bound, -net.elbo(x, RNG(11))[0].numpy().mean())  # eq: nvae-bound
    # λ Σ σ_max pulls each weight towards u vᵀ, its first singular vectors
    w = layers[next(iter(layers))].weight
    W = w.numpy().reshape(len(w), -1)
    u, _, v = np.linalg.svd(W)
    with_, without = (grad(net.loss(x, RNG(11), beta, lam)[0], w).numpy() for lam in (0.5, 0.0))
    pull = (with_ - without).reshape(W.shape)
    assert np.allclose(pull, 0.5 * np.outer(u[:, 0], v[0]), atol=1e-6)  # eq: nvae-spectral


def test_gamma_is_a_constant_in_the_gradient():
    net, x = tiny(), images()
    by = net.top_down[0].q[1].bias
    g = grad(net.loss(x, RNG(12), 0.5)[0], by).numpy()
    _, kls = net.terms(x, RNG(12))
    gamma = model.balance(kls.mean(0), net.sizes).numpy()

    def f(d):
        before = by.data.copy()
        by.data[...] += d
        reconstruction, kls = (a.numpy() for a in net.terms(x, RNG(12)))
        by.data[...] = before
        return 0.5 * kls.mean(0) @ gamma - reconstruction.mean()
    for i in range(len(by)):
        d = 1e-6 * (np.arange(len(by)) == i)
        assert math.isclose(g[i], (f(d) - f(-d)) / 2e-6, rel_tol=1e-5)  # eq: nvae-balance
