"""Section "Input optimisation": images that maximise a network's output, and total variation."""

import numpy as np
import pytest

from minigen import gradcheck, nn, relu, sin, tensor
from minigen.models.classifier import input_optimisation as inputs

RNG = np.random.default_rng


class Linear:
    """Logits W x of images of 2×3 pixels."""

    def __init__(self, classes=4):
        self.W = RNG(0).normal(size=(classes, 6))

    def __call__(self, x):
        return x.reshape(len(x), 6) @ self.W.T

    def p(self, x):
        """The probabilities, by hand."""
        s = np.exp(x.reshape(len(x), 6) @ self.W.T)
        return s / s.sum(1, keepdims=True)


def images(n=3):
    return 0.3 + 0.4 * RNG(1).random((n, 1, 2, 3))


def test_an_image_climbs_the_probability_of_a_wrong_label():
    net, x, y = Linear(), images(), np.array([3, 0, 1])
    objective = inputs.log_p(net, y)
    want = np.log(net.p(x)[np.arange(3), y]).sum()
    assert objective(tensor(x)).item() == pytest.approx(want)  # eq: adv-targeted-input-opt
    before = net.p(x)[np.arange(3), y]
    *_, last = inputs.ascend(objective, x, 20, 0.01)
    after = net.p(last.numpy())[np.arange(3), y]
    assert (after > before + 0.05).all()  # eq: adv-targeted-input-opt


def test_a_step_is_no_larger_than_asked_and_stays_an_image():
    net, x = Linear(), images()
    climb = inputs.ascend(inputs.log_p(net, np.zeros(3, int)), x, 60, 0.03)
    steps = [x, *(y.numpy() for y in climb)]
    moves = [np.abs(b - a).max((1, 2, 3)) for a, b in zip(steps, steps[1:], strict=False)]
    assert np.allclose(moves[0], 0.03) and np.max(moves) < 0.03 + 1e-9
    assert all(0 <= y.min() and y.max() <= 1 for y in steps) and steps[-1].max() == 1
    still = list(inputs.ascend(lambda x: 0 * x.sum(), x, 1, 0.03))[0]
    assert np.array_equal(still.numpy(), x)


def test_a_fooling_image_is_near_certain():
    net, y = Linear(), np.arange(4)
    net.W = 20 * np.eye(4, 6)
    mean = np.full((1, 2, 3), 0.5)
    x, p = inputs.fool(net, mean, y, RNG(2))
    assert np.allclose(p, net.p(x.numpy())[np.arange(4), y], rtol=1e-6)
    assert (p >= 0.9999).all()  # eq: fooling-image-ascent
    early, q = inputs.fool(net, mean, y, RNG(2), confidence=0.6)
    assert 0.6 <= q.min() < 0.9  # eq: fooling-image-ascent
    assert np.abs(early.numpy() - mean).max() < np.abs(x.numpy() - mean).max()
    with pytest.raises(RuntimeError, match="after 3 steps the network is sure of an image by 0"):
        inputs.fool(net, mean, y, RNG(2), max_steps=3)


def test_a_small_change_of_every_pixel_is_a_large_one_of_the_score():
    for n in (10, 1000):
        w, x, b, eps = RNG(0).normal(size=n), RNG(1).random(n), 0.7, 0.01
        d = inputs.worst_perturbation(w, eps)
        score = lambda x, w=w, b=b: sum(w_i * x_i for w_i, x_i in zip(w, x, strict=True)) + b
        change = score(x + d) - score(x)
        assert inputs.score_change(w, d) == pytest.approx(change)  # eq: adv-linear-argument
        assert change == pytest.approx(eps * np.abs(w).sum())  # grows with n
        others = eps * RNG(2).uniform(-1, 1, (200, n))
        assert np.abs(d).max() <= eps and (others @ w < change).all()


def test_fast_gradient_sign_is_the_worst_change_for_a_linear_network():
    net, x, y = Linear(2), images(), np.array([0, 1, 1])
    bad = inputs.fast_gradient_sign(net, x, y, 0.05)
    w = (net.W[1 - y] - net.W[y]).reshape(x.shape)  # raises the other class
    assert np.allclose(bad, x + 0.05 * np.sign(w))


def test_fast_gradient_sign_is_not_the_worst_for_three_classes():
    """Here the slope at x points between the two other classes, and so leads to neither."""
    net, x, y = Linear(3), np.full((1, 1, 2, 3), 0.5), np.array([0])
    net.W = np.zeros((3, 6))
    net.W[1:, :2] = [1, -0.9], [-0.9, 1]
    neg_log_p = lambda x: -np.log(net.p(x)[0, 0])
    bad, other = inputs.fast_gradient_sign(net, x, y, 0.4), x.copy()
    other[0, 0, 0, :2] += 0.4, -0.4
    assert neg_log_p(x) < neg_log_p(bad) < neg_log_p(other) - 0.1


def test_numbers_of_numpy_leave_float32_as_it_is():
    net, x, y = nn.Linear(6, 4), images().astype(np.float32).reshape(3, 1, 1, 6), np.zeros(3, int)
    flat, eps = lambda x: net(x.reshape(3, 6)), np.float64(0.1)
    assert inputs.fast_gradient_sign(flat, x, y, eps).dtype == np.float32
    assert {y.dtype for y in inputs.ascend(inputs.log_p(flat, y), x, 2, eps)} == {x.dtype}


def test_total_variation_against_loops():
    x = RNG(0).random((2, 2, 3, 4))
    for beta in (1.0, 1.5, 2.0):
        want = 0.0
        for n, c, i, j in np.ndindex(2, 2, 2, 3):
            across, down = x[n, c, i, j + 1] - x[n, c, i, j], x[n, c, i + 1, j] - x[n, c, i, j]
            want += (across**2 + down**2) ** (beta / 2)
        found = inputs.total_variation(tensor(x), beta).item()
        assert found == pytest.approx(want)  # eq: tv-discrete
    gradcheck(lambda x: inputs.total_variation(x, 1.0), x)


def test_the_derivative_is_finite_where_an_image_is_flat():
    x = np.full((1, 1, 6, 6), 0.5)
    x[0, 0, 3, 3] = 0.7
    *_, y = inputs.ascend(lambda x: -inputs.total_variation(x), x, 1, 0.1)
    y = y.numpy()[0, 0]
    assert y[3, 3] == pytest.approx(0.6) and (y[:2] == 0.5).all() and (y[:, :2] == 0.5).all()
    assert inputs.total_variation(tensor(0 * x)).item() == 0


def test_the_sum_over_pixels_tends_to_the_integral():
    a, b = 0.3, -0.4
    plane = lambda u, v: a * u + b * v
    for beta in (1, 2):
        found = inputs.total_variation_of(plane, beta, 5)
        assert found == pytest.approx((a * a + b * b) ** (beta / 2))  # eq: tv-continuous
    wave = lambda u, v: sin(3 * u) * v
    fine = inputs.total_variation_of(wave, 1.5)
    u, v = np.meshgrid(*[(np.arange(400) + 0.5) / 400] * 2, indexing="ij")
    exact = ((3 * np.cos(3 * u) * v) ** 2 + np.sin(3 * u) ** 2) ** 0.75
    assert fine == pytest.approx(exact.mean(), rel=1e-4)  # eq: tv-continuous
    n = 200
    u, v = np.meshgrid(*[(np.arange(n) + 0.5) / n] * 2, indexing="ij")
    x = (np.sin(3 * u) * v)[None, None]
    discrete = inputs.total_variation(tensor(x), 1.5).item() * n ** (1.5 - 2)
    assert discrete == pytest.approx(fine, rel=0.02)


def test_the_objectives_of_inversion_and_dream():
    layer = nn.Conv2d(1, 3, 2, rng=RNG(3))
    phi = lambda x: relu(layer(x))
    x, x_0 = (RNG(k).random((1, 1, 4, 5)).astype(np.float32) for k in (4, 5))
    far = ((phi(tensor(x)).numpy() - phi(tensor(x_0)).numpy()) ** 2).sum()
    rough = inputs.total_variation(tensor(x), 1.5).item()
    found = inputs.inversion(phi, x_0, 0.1, 1.5)(tensor(x)).item()
    assert found == pytest.approx(-far - 0.1 * rough, rel=1e-5)  # eq: feature-inversion-tv
    square = lambda x: x * x
    gradcheck(inputs.inversion(square, x_0.astype(float), 0.1, 1.5), x.astype(float))
    seen = (phi(tensor(x)).numpy() ** 2).sum()
    assert inputs.dream(phi)(tensor(x)).item() == pytest.approx(seen, rel=1e-5)  # eq: deepdream
    *_, y = inputs.ascend(inputs.dream(phi), x, 10, 0.02)
    assert (phi(y).numpy() ** 2).sum() > seen
