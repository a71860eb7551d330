"""Spectral normalisation: singular values, power iterations and the gradient."""

import numpy as np
import pytest

from minigen import grad, nn, sum, tensor

RNG = np.random.default_rng


def settled(layer, x, passes=100):
    """A normalised layer in float64, after as many power iterations on x."""
    nn.astype(layer, np.float64)
    for _ in range(passes):
        layer(x)
    return layer


LAYERS = {
    "linear": (lambda: nn.Linear(7, 5, rng=RNG(2)), tensor(RNG(3).random((2, 7)))),
    "conv": (lambda: nn.Conv2d(3, 5, 3, rng=RNG(4)), tensor(RNG(5).random((2, 3, 4, 4)))),
    "embedding": (lambda: nn.Embedding(5, 7, RNG(6)), np.array([0, 3, 4])),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_largest_singular_value_becomes_1(name):
    build, x = LAYERS[name]
    layer = settled(nn.SpectralNorm(build(), RNG(7)), x)
    W = layer.layer.weight.numpy().reshape(5, -1)
    largest = np.linalg.svd(W)[1][0]
    found = layer.normalised().numpy()
    assert np.allclose(found.reshape(5, -1) * largest, W)  # eq: spectral-norm, power-iteration
    top = np.linalg.svd(found.reshape(5, -1))[1][0]
    assert np.isclose(top, 1)  # eq: spectral-norm, power-iteration
    plain = build()
    nn.initializers.values(plain.weight, found)
    nn.astype(plain, np.float64)
    assert np.allclose(layer(x).numpy(), plain(x).numpy(), atol=1e-6)
    assert np.array_equal(layer.layer.weight.numpy(), build().weight.numpy())


def test_a_convolution_can_stretch_by_the_root_of_its_filters_size():
    layer = nn.SpectralNorm(nn.Conv2d(1, 1, 3, padding=1, bias=False), RNG(31))
    nn.initializers.constant(layer.layer.weight, 5)
    x = np.ones((1, 1, 32, 32))
    settled(layer, tensor(x))
    longer = np.linalg.norm(layer(tensor(x)).numpy()) / np.linalg.norm(x)
    assert 2.8 < longer < 3  # eq: spectral-norm


def test_an_iteration_is_made_for_each_pass_in_training_and_none_in_evaluation():
    layer = nn.SpectralNorm(nn.Linear(7, 5, rng=RNG(8)), RNG(9))
    nn.astype(layer, np.float64)
    W, u = layer.layer.weight.numpy(), layer.u.numpy().copy()
    assert np.isclose(np.linalg.norm(u), 1)
    # Wᵀu and then W Wᵀu, each divided by its norm
    with nn.evaluation(layer):
        sigma = np.linalg.norm(W.T @ u)
        assert np.allclose(layer.normalised().numpy(), W / sigma)  # eq: power-iteration
        assert np.array_equal(layer.u.numpy(), u)
    sigma = np.linalg.norm(W @ W.T @ u) / np.linalg.norm(W.T @ u)
    assert np.allclose(layer.normalised().numpy(), W / sigma)  # eq: power-iteration
    after = W @ W.T @ u
    assert np.allclose(layer.u.numpy(), after / np.linalg.norm(after))  # eq: power-iteration


def test_its_gradient_is_that_of_w_divided_by_its_norm():
    layer, x = nn.SpectralNorm(nn.Linear(4, 3, bias=False, rng=RNG(10)), RNG(11)), np.eye(4)
    settled(layer, tensor(x), 500)
    W, c = layer.layer.weight.numpy().copy(), RNG(12).random((4, 3))
    g = grad(sum(layer(tensor(x)) * c), layer.layer.weight).numpy()
    f = lambda W: (x @ W.T / np.linalg.norm(W, 2) * c).sum()
    for i in np.ndindex(W.shape):
        d = np.zeros_like(W)
        d[i] = 1e-6
        assert np.isclose(g[i], (f(W + d) - f(W - d)) / 2e-6)  # eq: spectral-norm, power-iteration
    assert abs((g * W).sum()) < 1e-9  # the scale of W does not matter


def test_it_is_drawn_anew_together_with_its_layer():
    layer, plain = nn.SpectralNorm(nn.Linear(7, 5)), nn.Linear(7, 5)
    before = layer.u.numpy().copy()
    nn.init(layer, RNG(13)), nn.init(plain, RNG(13))
    assert np.array_equal(layer.layer.weight.numpy(), plain.weight.numpy())
    assert np.isclose(np.linalg.norm(layer.u.numpy()), 1) and (layer.u.numpy() != before).all()
