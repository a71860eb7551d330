"""DRAW and alignDRAW: filters against their moments, patches against sums over pixels, whole passes
against the formulas written out, and the bound against the exact likelihood of a small model."""

import numpy as np
import pytest
from draw_world import SHAPE, affine, double, lstm, sigma, tiny, words

from minigen import dist, nn, tensor
from minigen.models.text_to_image import align_draw as align
from minigen.models.vae import draw as model
from minigen.models.vae import glimpse

RNG = np.random.default_rng


# The cell ----------------------------------------------------------------------------------------


def test_the_cell_equals_its_four_layers():
    cell = double(nn.LSTMCell(3, 4), 1, 2.0)
    x, (h, c) = RNG(2).normal(size=(5, 3)), RNG(3).normal(size=(2, 5, 4))
    found = [a.numpy() for a in cell(tensor(x), (tensor(h), tensor(c)))]
    want = lstm(cell, x, h, c)
    assert np.allclose(found[0], want[0])  # eq: lstm
    assert np.allclose(found[1], want[1])  # eq: lstm
    assert not any(a.numpy().any() for a in cell.start(5)) and cell.start(5)[0].shape == (5, 4)


# Filters and patches -----------------------------------------------------------------------------


def grid(kind, N, shape, numbers):
    """A Read or Write whose state is a row of `numbers`: g̃_X, g̃_Y, log σ², log δ̃, log γ."""
    net = double(kind(shape, N, 5))
    net.grid.W.weight.data[...], net.grid.W.bias.data[...] = np.eye(5), 0
    return net, tensor(np.array(numbers, float))


NUMBERS = [[0.1, -0.2, 0.2, -1.5, 0.4], [-0.15, 0.25, 0.5, -1.8, -0.3]]


def test_filters_have_the_places_and_widths_of_the_grid():
    N, A, B = 3, 41, 31
    net, h = grid(glimpse.Read, N, (1, B, A), NUMBERS)
    F_Y, F_X, gamma = (a.numpy() for a in net.grid.filters(h))
    for n, (g_x, g_y, log_s2, log_d, log_gamma) in enumerate(NUMBERS):
        # normal distributions far from the border: sums over pixels are moments
        for F, g, size in ((F_X, g_x, A), (F_Y, g_y, B)):
            a = np.arange(1, size + 1)
            mean = F[n, 0] @ a
            assert np.allclose(mean.mean(), (size + 1) / 2 * (g + 1))  # eq: draw-grid
            step = 40 / 2 * np.exp(log_d)  # with δ̃ = 1 the outer two are 40 pixels apart
            assert np.allclose(np.diff(mean), step)  # eq: draw-grid
            spread = [F[n, 0, i] @ (a - mean[i])**2 for i in range(N)]
            assert np.allclose(spread, np.exp(log_s2), rtol=1e-6)  # eq: draw-filters
            odd = [F[n, 0, i] @ (a - mean[i])**3 for i in range(N)]
            assert np.allclose(odd, 0, atol=1e-6) and np.allclose(F.sum(-1), 1)
        assert np.isclose(gamma[n, 0, 0, 0], np.exp(log_gamma))


def test_filters_of_an_even_grid_lie_around_its_centre():
    net, h = grid(glimpse.Read, 4, (1, 41, 41), [[0, 0, 0, np.log(0.3), 0]])
    mean = net.grid.filters(h)[1].numpy()[0, 0] @ np.arange(1, 42)
    assert np.allclose(mean - 21, np.array([-1.5, -0.5, 0.5, 1.5]) * 4)  # eq: draw-grid


def test_a_plane_is_read_at_the_points_of_the_grid():
    # a mean of a plane's values, weighted by a distribution, is its value at the mean
    N, A, B = 2, 41, 31
    net, h = grid(glimpse.Read, N, (1, B, A), NUMBERS)
    row, column = np.mgrid[1:B + 1, 1:A + 1]
    x, x_hat = 3 + 2 * row - column, 0.5 * row + 5.0 * column
    found = net(*(tensor(np.stack([a[None]] * 2).astype(float)) for a in (x, x_hat)), h).numpy()
    found = found.reshape(2, 2, N, N)
    for n, (g_x, g_y, _, log_d, log_gamma) in enumerate(NUMBERS):
        at_x, at_y = (((s + 1) / 2 * (g + 1) + np.array([-20, 20]) * np.exp(log_d))
                      for g, s in ((g_x, A), (g_y, B)))
        r, c = at_y[:, None], at_x[None]
        want = np.exp(log_gamma) * np.array([3 + 2 * r - c, 0.5 * r + 5 * c])
        assert np.allclose(found[n], want)  # eq: draw-read


def test_writing_puts_each_value_where_its_filters_are():
    net, h = grid(glimpse.Write, 3, SHAPE, NUMBERS)
    F_Y, F_X, gamma = (a.numpy() for a in net.grid.filters(h))
    w = affine(net.patch, h.numpy()).reshape(2, 2, 3, 3)
    want = np.zeros((2, *SHAPE))
    for n, k, i, j in np.ndindex(w.shape):
        want[n, k] += w[n, k, i, j] * np.outer(F_Y[n, 0, i], F_X[n, 0, j]) / gamma[n, 0, 0, 0]
    assert np.allclose(net(h).numpy(), want)  # eq: draw-write


# The recurrence ----------------------------------------------------------------------------------


def prior(net, h):
    """μ and σ of the prior, from its layers."""
    if not isinstance(net, align.AlignDRAW):
        return np.zeros((len(h), 2)), np.ones((len(h), 2))
    mu, log_sigma = (np.tanh(h @ W.weight.numpy().T) for W in (net.W_mu, net.W_sigma))
    return mu, np.exp(log_sigma)


def by_hand(net, x, eps, given):
    """q, p and the canvas of each step; x is None for samples from the prior."""
    n = len(eps[0])
    c = np.broadcast_to(net.c_0.weight.numpy(), (n, *SHAPE))
    (h_e, c_e), (h_d, c_d) = np.zeros((2, 2, n, 4))
    for e in eps:
        p = q = prior(net, h_d)
        if x is not None:
            r = net.read(tensor(x), tensor(x - sigma(c)), tensor(h_d)).numpy()
            h_e, c_e = lstm(net.encoder, np.concatenate([r, h_d], 1), h_e, c_e)
            out = affine(net.posterior, h_e)
            q = out[:, :2], np.exp(out[:, 2:] / 2)
        inputs = [q[0] + q[1] * e]
        if given:
            h, mask = given[0].numpy(), given[1]
            inputs.append(np.einsum("nl,nld->nd", net.align.weights(
                tensor(h_d), given[0], mask).numpy(), h))
        h_d, c_d = lstm(net.decoder, np.concatenate(inputs, 1), h_d, c_d)
        c = c + net.write(tensor(h_d)).numpy()
        yield q, p, c


@pytest.mark.parametrize("kind", ["draw", "align_draw"])
def test_inference_step_by_step(kind):
    net, given = tiny(kind)
    x = RNG(4).random((4, *SHAPE))
    rng = RNG(5)
    eps = [rng.standard_normal((4, 2)) for _ in range(3)]
    steps = [*net.infer(x, RNG(5), *given)]
    assert len(steps) == 3
    total = 0
    for (q, p, c), (q_, p_, c_) in zip(steps, by_hand(net, x, eps, given), strict=True):
        mu, s = q.mu.numpy(), q.sigma.numpy()
        # the reading of x and x̂, the encoder's state, and q
        assert np.allclose(mu, q_[0]) and np.allclose(s, q_[1])  # eq: draw-encoder, draw-posterior
        assert np.allclose(q.mu.numpy(), q_[0])  # eq: draw-error-image
        assert np.allclose(p.mu.numpy(), p_[0])  # eq: align-draw-prior
        assert np.allclose(p.sigma.numpy(), p_[1])  # eq: align-draw-prior
        assert np.allclose(c.numpy(), c_)  # eq: draw-canvas, align-draw-context
        total = total + (np.log(p_[1] / q_[1]) + (q_[1]**2 + (q_[0] - p_[0])**2) / (2 * p_[1]**2)
                         - 0.5).sum(1)
    elbo, reconstruction, kl = (a.numpy() for a in net.elbo(x, RNG(5), *given))
    y = sigma(c_)
    want = (x * np.log(y) + (1 - x) * np.log1p(-y)).sum((1, 2, 3))
    assert np.allclose(kl, total) and np.allclose(reconstruction, want)
    assert np.allclose(elbo, want - total)  # eq: draw-bound
    loss, parts = net.loss(x, RNG(5), *given)
    assert np.isclose(loss.item(), (total - want).mean())
    assert np.isclose(parts["kl"].item() + parts["reconstruction"].item(), loss.item())


@pytest.mark.parametrize("kind", ["draw", "align_draw"])
def test_samples_step_by_step(kind):
    net, given = tiny(kind)
    rng = RNG(6)
    eps = [rng.standard_normal((4, 2)) for _ in range(3)]
    images, states = net.trace(4, RNG(6), *given)
    assert len(images) == len(states) == 3 and not states[0].numpy().any()
    for image, h, (_, p, c) in zip(images, states, by_hand(net, None, eps, given), strict=True):
        assert np.allclose(image.numpy(), sigma(c))  # eq: draw-generate
        assert np.allclose(prior(net, h.numpy()), p)  # eq: draw-generate


def test_the_bound_is_below_the_exact_likelihood():
    # one z_t of one number per step: p(x) is an integral over a plane
    shape = (1, 2, 2)
    net = double(model.DRAW(shape, 2, 1, 3, 2, 2), 2, 3.0)
    at, weight = np.polynomial.hermite_e.hermegauss(60)
    z = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
    c, _, dec = net.start(len(z))
    for t in range(2):
        c, dec = net.step(c, dec, tensor(z[:, t:t + 1]))
    x = np.stack(np.meshgrid(*[[0, 1]] * 4), -1).reshape(16, *shape).astype(float)
    log_p = dist.Bernoulli(c).log_prob(tensor(x[:, None])).numpy().sum((2, 3, 4))
    p = np.exp(log_p) @ np.outer(weight, weight).ravel() / (2 * np.pi)
    assert np.isclose(p.sum(), 1)
    bounds = np.stack([net.elbo(x, RNG(seed))[0].numpy() for seed in range(100)])
    error = bounds.std(0) / 10
    assert (bounds.mean(0) < np.log(p) + 4 * error).all()  # eq: draw-bound
    # importance weights give p(x) itself: their logs are the terms of the bound, but with
    # log q − log p at the sample in place of the KL
    many, rng, again = np.repeat(x[5:6], 10_000, 0), RNG(8), RNG(8)
    log_w = 0
    for q, p_z, c in net.infer(many, rng):  # noqa: B007
        z_t = q.sample(again)
        log_w = log_w + (p_z.log_prob(z_t) - q.log_prob(z_t)).numpy().sum(1)
    w = np.exp(log_w + dist.per_image(dist.Bernoulli(c).log_prob(many)).numpy())
    assert abs(w.mean() - p[5]) < 4 * w.std() / 100  # eq: draw-bound, draw-posterior


# The caption -------------------------------------------------------------------------------------


def test_words_are_read_in_both_directions_without_padding():
    net, y = double(align.Language(6, 3), 4, 2.0), words()
    h, mask = net(y)
    assert np.array_equal(mask, y != 0) and h.shape == (4, 5, 6)
    for row, found in zip(y, h.numpy(), strict=True):
        length = (row != 0).sum()
        e = net.embed.weight.numpy()[row[:length]]
        for cell, order, half in ((net.ahead, range(length), found[:, :3]),
                                  (net.back, reversed(range(length)), found[:, 3:])):
            state = np.zeros((2, 1, 3))
            for i in order:
                state = lstm(cell, e[i:i + 1], *state)
                assert np.allclose(half[i], state[0])  # eq: align-draw-language
            assert not half[length:].any()


def test_attention_word_by_word():
    net, mask = double(align.Align(3, 4, 5), 5, 3.0), words() != 0
    h_lang, h_gen = RNG(6).normal(size=(4, 5, 6)), RNG(7).normal(size=(4, 4))
    alpha = net.weights(tensor(h_gen), tensor(h_lang), mask).numpy()
    s = net(tensor(h_gen), tensor(h_lang), mask).numpy()
    for n in range(4):
        U, W, v = net.U, net.W.weight.numpy(), net.v.weight.numpy()[0]
        score = [np.exp(v @ np.tanh(U.weight.numpy() @ h + U.bias.numpy() + W @ h_gen[n]))
                 for h in h_lang[n, mask[n]]]
        want = np.array(score) / np.sum(score)
        assert np.allclose(alpha[n, mask[n]], want)  # eq: align-draw-attention
        assert not alpha[n, ~mask[n]].any()
        assert np.allclose(s[n], want @ h_lang[n, mask[n]])  # eq: align-draw-context


def test_the_first_prior_is_standard_and_the_others_are_bounded():
    net = double(align.AlignDRAW(SHAPE, 6, 2, 3, 4, 2, 3, 3, 3), 6, 50.0)
    first, far = (net.prior(tensor(h)) for h in (np.zeros((2, 4)), RNG(9).normal(size=(2, 4))))
    assert np.array_equal(first.mu.numpy(), np.zeros((2, 3)))
    assert np.array_equal(first.sigma.numpy(), np.ones((2, 3)))
    assert np.abs(far.mu.numpy()).max() <= 1
    log_sigma = np.log(far.sigma.numpy())  # saturated: 1/e or e
    assert np.allclose(np.abs(log_sigma).max(), 1, atol=1e-3)  # eq: align-draw-prior
