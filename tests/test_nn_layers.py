"""Layers: initial weights, bad input, and what no equation's test covers."""


import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

import minigen
from minigen import grad, nn, tensor
from minigen.random import Philox
from minigen.tensor import write

RNG = np.random.default_rng


@pytest.mark.parametrize("shape", [(), (2, 1, 3)])
def test_a_parameter_starts_from_its_value(shape, tmp_path):
    made, other = nn.Parameter(*shape, value=0.25), nn.Parameter(*shape)
    assert made.weight.shape == other.weight.shape == shape and made.weight.dtype == np.float32
    assert (made.weight.numpy() == 0.25).all() and not other.weight.numpy().any()
    assert np.allclose(grad((3 * made.weight).sum(), made.weight).numpy(), 3)
    nn.astype(made, np.float64)
    nn.initializers.constant(made.weight, 7)
    nn.save([made], tmp_path / "made")
    nn.load([other], tmp_path / "made")
    assert list(nn.parameters([other])) == ["0.weight"] and (other.weight.numpy() == 7).all()
    rng = RNG(0)
    nn.init([made, other], rng)
    assert rng.random() == RNG(0).random()  # nothing was drawn
    assert (made.weight.numpy() == 0.25).all() and not other.weight.numpy().any()
    assert made.weight.dtype == np.float64


def test_attention_to_other_keys_and_values_by_hand():
    layer, rng = nn.MultiheadAttention(6, 2, rng=RNG(0)), RNG(1)
    write(layer.in_proj_bias, lambda b: np.copyto(b, rng.normal(size=18)))
    query, key, value = (rng.normal(size=(2, T, 6)).astype(np.float32) for T in (3, 5, 5))
    W, b = layer.in_proj_weight.numpy(), layer.in_proj_bias.numpy()
    q, k, v = (x @ W[i:i + 6].T + b[i:i + 6] for i, x in ((0, query), (6, key), (12, value)))
    heads = [softmax(q[..., h] @ k[..., h].swapaxes(1, 2) / 3 ** 0.5, -1) @ v[..., h]
             for h in (slice(3), slice(3, 6))]
    expected = np.concatenate(heads, -1) @ layer.out_proj.weight.numpy().T
    assert np.allclose(layer(query, key, value).numpy(), expected, atol=1e-6)


def test_positions_are_vectors_and_become_maps_again():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    p = nn.positions(tensor(x))
    assert p.shape == (2, 20, 3) and np.array_equal(p[1, 7].numpy(), x[1, :, 1, 2])
    assert np.array_equal(nn.as_maps(p, x.shape).numpy(), x)


def test_sequential_slices_subclasses_and_layers_that_take_noise():
    model = nn.Sequential(nn.Linear(4, 3, rng=RNG(0)), minigen.relu)
    x = RNG(1).random((2, 4), np.float32)
    assert np.array_equal(model[:1](x).numpy(), model[0](x).numpy())
    inner = nn.Sequential(nn.Dropout(0.5))
    zeroed = nn.Sequential(inner, minigen.relu)(np.ones((1, 1000), np.float32), RNG(0)).numpy()
    assert 300 < (zeroed == 0).sum() < 700

    class Noise:
        takes_rng = True

        def __call__(self, x, rng):
            return x + rng.standard_normal(x.shape)

    assert np.array_equal(nn.Sequential(Noise())(x, RNG(0)), Noise()(x, RNG(0)))

    class More(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(2, 2))
            self.extra = nn.Linear(2, 2)

    assert list(nn.parameters(More())) == ["0.weight", "0.bias", "extra.weight", "extra.bias"]


def test_default_distributions_of_weights():
    conv, linear = nn.Conv2d(8, 64, 5, rng=RNG(0)), nn.Linear(100, 400, rng=RNG(0))
    for layer, fan_in in ((conv, 200), (linear, 100)):
        for t in (layer.weight, layer.bias):
            w = t.numpy().ravel() * fan_in ** 0.5
            assert stats.kstest(w, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    for std, e in ((1, nn.Embedding(50, 40, RNG(0))), (0.2, nn.Embedding(50, 40, RNG(0), 0.2))):
        assert stats.kstest(e.weight.numpy().ravel(), stats.norm(0, std).cdf).pvalue > 1e-3
    up = nn.ConvTranspose2d(64, 8, 5, rng=RNG(0)).weight.numpy()
    assert abs(up).max() == pytest.approx((8 * 25) ** -0.5, rel=1e-3)


@pytest.mark.parametrize("make, message", [
    (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups 2 must divide in_channels 3"),
    (lambda: nn.Conv2d(3, 4, 3, groups=0), "Conv2d: groups 0 must divide in_channels 3"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, groups=0), "ConvTranspose2d: groups 0 must divide"),
    (lambda: nn.MaskedConv2d(3, 3, 3, colours=0), "MaskedConv2d: 0 colours must divide"),
    (lambda: nn.Linear(2, 2, rng=0), r"rng must be a generator, np.random.default_rng"),
    (lambda: nn.Linear(0, 3), r"a layer has a parameter of shape \(3, 0\): every size must be at"),
    (lambda: nn.GroupNorm(3, 4), "3 groups do not divide 4 channels"),
    (lambda: nn.GroupNorm(0, 4), "GroupNorm: 0 groups do not divide 4 channels"),
    (lambda: nn.BatchNorm2d(4, momentum=None), "BatchNorm: momentum must be a number, got None"),
    (lambda: nn.LayerNorm(np.int64(3))(np.ones((2, 4))), r"got \(.*3\)?,\), x is \(2, 4\)"),
    (lambda: nn.MultiheadAttention(6, 4), "4 heads do not divide 6"),
    (lambda: nn.MultiheadAttention(4, 2)(*[tensor(np.ones((5, 4)))] * 3),
     r"MultiheadAttention: expected query \(N, T, D\), .*, got \(5, 4\), \(5, 4\), \(5, 4\)"),
    (lambda: nn.Linear(3, 2)(np.zeros((2, 4), np.float32)),
     r"linear: x is \(2, 4\), weight \(2, 3\) needs 3 on the last axis"),
    (lambda: nn.Conv2d(3, 2, 3)(np.zeros((1, 2, 8, 8), np.float32)), r"conv2d.*2"),
    (lambda: nn.to(nn.Linear(3, 2), "gpu"), "nn.to: expected cpu or cuda, got gpu"),
    (lambda: Philox(0, "cuda:0"), "Philox: expected cpu or cuda, got cuda:0"),
    (lambda: nn.Embedding(5, 2)(np.array([5])), "must lie in 0…4, got 5…5"),
    (lambda: nn.Conditioned(None, 3)(np.ones((2, 4), int), [0, 1]), "input must be of floats"),
    (lambda: nn.Conditioned(None, 3)(np.ones((2, 4)), [0, 3]), "must lie in 0…2, got 0…3"),
    (lambda: nn.Conditioned(None, 3)(np.ones((2, 4)), [0]), r"2 inputs came with y \(1,\)"),
    (lambda: nn.Conditioned(None, 3)(np.ones((2, 4)), np.ones((2, 4))), r"y \(2, 4\), expected"),
])
def test_wrong_layers_and_inputs(make, message):
    with pytest.raises((ValueError, IndexError, TypeError), match=message):
        make()
