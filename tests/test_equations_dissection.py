"""Section "GAN", inside a generator: units, the concepts they draw, and paths between classes."""

import numpy as np
import pytest

from minigen import nn, tensor
from minigen.data.scenes import shows
from minigen.gan_demo import render
from minigen.models.gan import cgan, dcgan
from minigen.models.gan.dissection import (
    agreement,
    causal_effect,
    intervene,
    split_generator,
    thresholds,
    upsampled,
)

RNG = np.random.default_rng


def test_agreement_is_the_share_of_places_that_unit_and_concept_share():
    r, s = RNG(0).normal(size=(3, 4, 5, 6)), RNG(1).random((3, 5, 6)) < 0.3
    t = np.array([0.1, 0.5, -0.3, 9.0])
    concept = {(n, i, j) for n, i, j in np.ndindex(s.shape) if s[n, i, j]}
    found = agreement(r, s, t)
    for u in range(4):
        high = {(n, i, j) for n, i, j in np.ndindex(s.shape) if r[n, u, i, j] > t[u]}
        want = len(high & concept) / len(high | concept)
        assert found[u] == pytest.approx(want)  # eq: dissection-agreement
    assert found[3] == 0 and 0 < found[:3].min() and found[:3].max() < 1
    assert agreement(r, np.zeros((3, 5, 6), bool), np.full(4, 9.0)).tolist() == [0] * 4


def test_a_units_map_is_laid_over_the_image_at_its_size():
    r = np.zeros((2, 1, 4, 4), np.float32)
    r[0, 0, 1, 2] = 1
    big = upsampled(r, (8, 8))
    assert big.shape == (2, 1, 8, 8) and big[1].max() == 0
    rows, columns = np.nonzero(big[0, 0] > 0.5)
    assert set(rows) == {2, 3} and set(columns) == {4, 5}  # the four pixels of that cell
    s = np.zeros((2, 8, 8), bool)
    s[0, 2:4, 4:6] = True
    assert agreement(r, s, np.array([0.5]))[0] == 1  # eq: dissection-agreement
    s[1, 0, :4] = True
    assert agreement(r, s, np.array([0.5]))[0] == pytest.approx(4 / 8)
    assert upsampled(RNG(0).random((2, 5, 3, 3)), (28, 20)).shape == (2, 5, 28, 20)


def test_a_threshold_leaves_a_twentieth_of_a_units_values_above_it():
    r = RNG(0).normal(size=(20, 3, 8, 8)) * np.array([1, 5, 0.2])[:, None, None]
    t = thresholds(r)
    assert t.shape == (3,)
    assert np.allclose((r > t[:, None, None]).mean((0, 2, 3)), 0.05, atol=0.002)


def test_the_effect_of_units_against_a_loop():
    r, w = RNG(0).normal(size=(6, 4, 3, 3)), np.array([1.0, -2.0, 0.5, 0.0])
    f = lambda r: np.einsum("nuij,u->nij", r, w)
    s = lambda x: x > 1
    high = [2.0, 1.5]
    share = {}
    for name, values in (("on", high), ("off", [0, 0])):
        x = np.zeros((6, 3, 3))
        for n, i, j in np.ndindex(x.shape):
            x[n, i, j] = values[0] * w[2] + values[1] * w[0] + w[1] * r[n, 1, i, j]
        share[name] = np.mean([v > 1 for v in x.ravel()])
    effect = causal_effect(f, r, [2, 0], high, s)
    assert effect == pytest.approx(share["on"] - share["off"])  # eq: dissection-causal-effect
    assert effect > 0.2
    assert causal_effect(f, r, [1], [1.0], s) < 0  # eq: dissection-causal-effect
    assert causal_effect(f, r, [3], [50.0], s) == 0  # that unit changes no image
    before = r.copy()
    assert (intervene(r, [2, 0], high)[:, [2, 0]] == np.reshape(high, (2, 1, 1))).all()
    assert np.array_equal(r, before)


def test_a_generator_is_cut_in_two():
    G = dcgan.generator(5, (3, 16, 16), 4, RNG(0))
    for layer in G:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.data[...] = 0.01
    z = RNG(1).standard_normal((7, 5), np.float32)
    h, f = split_generator(G, 6)
    r = h(z)
    assert r.shape == (7, 8, 4, 4) and r.min() == 0
    game = cgan.NonSaturatingGAN(G, None, 5)
    assert np.array_equal(f(r), render(game, z))
    assert all(layer.training for layer in G if isinstance(layer, nn.BatchNorm2d))
    nn.eval(G)
    assert np.array_equal(h(z), r) and np.array_equal(render(game, z), f(r))
    assert not any(layer.training for layer in G if isinstance(layer, nn.BatchNorm2d))


def test_colours_are_found_by_their_hue():
    red, blue, grey, dark = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9), (0.5, 0.5, 0.5), (0.2, 0.0, 0.0)
    x = np.array([red, blue, grey, dark, (0.9, 0.1, 0.2)]).T.reshape(1, 3, 1, 5)
    assert shows(0)(x)[0, 0].tolist() == [True, False, False, False, True]
    assert shows(240)(x)[0, 0].tolist() == [False, True, False, False, False]
    assert shows(350)(x)[0, 0].tolist() == [True, False, False, False, True]  # 350° is near 0°


def test_between_two_classes_the_code_stays_and_the_class_is_mixed():
    game = cgan.conditional((1, 8, 8), 3, 4, width=4, rng=RNG(0))
    z = RNG(1).standard_normal(3, np.float32)
    codes, mixed = cgan.interpolate_classes(z, 2, 0, 4, 5)
    assert np.array_equal(codes, np.tile(z, (5, 1)))
    want = [[lam, 0, 1 - lam, 0] for lam in (0, 0.25, 0.5, 0.75, 1)]
    assert np.allclose(mixed, want)  # eq: biggan-interpolation
    x = render(game, codes, mixed)
    ends = render(game, codes[:2], np.array([2, 0]))
    assert np.array_equal(x[[0, -1]], ends)  # eq: biggan-interpolation
    assert not np.allclose(x[2], x[0]) and not np.allclose(x[2], x[-1])
    with pytest.raises(IndexError, match="must lie in 0…3, got -1"):
        cgan.interpolate_classes(z, 2, -1, 4, 5)


def test_a_mixture_of_labels_is_what_a_linear_network_mixes():
    net = nn.Conditioned(nn.Linear(2 + 3, 4, rng=RNG(0)), 3)
    x = RNG(1).standard_normal((2, 2), np.float32)
    pure = [net(tensor(x), np.full(2, k)).numpy() for k in range(3)]
    mixed = net(tensor(x), np.array([[0.5, 0.5, 0], [0.2, 0, 0.8]])).numpy()
    assert np.allclose(mixed[0], (pure[0][0] + pure[1][0]) / 2, atol=1e-6)
    assert np.allclose(mixed[1], 0.2 * pure[0][1] + 0.8 * pure[2][1], atol=1e-6)
