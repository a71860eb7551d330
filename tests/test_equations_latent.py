"""Section "DCGAN": interpolation between codes and arithmetic with them, through a generator whose
images are known functions of the code."""

from types import SimpleNamespace

import numpy as np
import pytest

from demos import dcgan
from minigen import tensor
from minigen.data import glyphs, signed
from minigen.models.gan import latent_arithmetic as latent
from minigen.models.vae.latent import interpolation

RNG = np.random.default_rng
F32 = np.float32


def test_the_way_between_whole_numbers_is_not_rounded():
    assert interpolation(np.array([0, 0]), np.array([1, 4]), 3)[1].tolist() == [0.5, 2.0]


def test_interpolation_moves_every_image_at_even_pace():
    """Through a linear generator, G(z) = Wz, equal steps of λ give equal steps of the pixels."""
    W = RNG(0).normal(size=(12, 5)).astype(F32)
    z1, z2 = RNG(1).standard_normal((2, 5), F32)
    walk = interpolation(z1, z2, 11)
    x = walk @ W.T
    for k, lam in enumerate(np.arange(11) / 10):
        expected = W @ z1 + lam * (W @ z2 - W @ z1)
        assert np.allclose(x[k], expected, atol=1e-5)  # eq: latent-interpolation
    assert walk.dtype == F32 and np.array_equal(walk[0], z1) and np.array_equal(walk[-1], z2)


def test_arithmetic_makes_the_missing_combination():
    """If a code is digit ⊕ slant ⊕ rest, slanted 7 − upright 7 + upright 1 is exactly a slanted 1,
    provided that the rests of each concept's three exemplars cancel."""
    rng = RNG(2)
    seven, one, slanted, upright = rng.normal(size=(4, 6))

    def exemplars(digit, lean):
        rest = rng.normal(size=(3, 4))
        return np.concatenate([np.tile(np.concatenate([digit, lean]), (3, 1)),
                               rest - rest.mean(0)], axis=1)

    z = latent.arithmetic(exemplars(seven, slanted), exemplars(seven, upright),
                          exemplars(one, upright))
    expected = np.concatenate([one, slanted, np.zeros(4)])
    assert np.allclose(z, expected, atol=1e-12)  # eq: latent-arithmetic


def test_three_exemplars_leave_a_third_of_the_variance():
    """Why the slide's single samples were unstable: codes vary around a concept as N(0, I), so with
    n exemplars each the result has variance 3 / n; with n = 3, that of one natural code."""
    z = RNG(3).standard_normal((3, 20_000, 3, 8))
    for n in (1, 3):
        results = np.stack([latent.arithmetic(a[:n], b[:n], c[:n])
                            for a, b, c in zip(*z, strict=True)])
        assert results.var() == pytest.approx(3 / n, rel=0.02)
        assert np.allclose(results.mean(0), 0, atol=0.05)


def test_slant_and_ink_of_known_shapes():
    row, column = np.indices((28, 28))
    for lean in (-0.5, 0.0, 0.8):
        middle = 13.5 - lean * (row - 13.5)
        bar = np.exp(-(column - middle) ** 2 / 4) * (np.abs(row - 13.5) < 10)
        assert latent.slant(bar[None, None])[0] == pytest.approx(lean, abs=0.02)
    half = np.zeros((1, 3, 4, 4))
    half[:, :, :2] = 1
    assert latent.ink(half) == pytest.approx(0.5)
    assert latent.slant(0 * half) == 0


def test_slant_orders_the_digits():
    """The most slanted of the drawn 1s lean to the right: the ink of their upper half is further
    right than that of their lower half. The least slanted lean to the left."""
    ones = glyphs.load(n_train=2000, n_test=1)
    ones = ones.train_x[ones.train_y == 1]
    lean = latent.slant(ones)
    low, high = latent.extremes(lean)
    assert lean[low].max() < -0.3 and lean[high].min() > 0.3

    def column(half):  # the mean column of each image's ink
        return (half.astype(float) * np.arange(28)).sum((1, 2, 3)) / half.sum((1, 2, 3))

    right = column(ones[:, :, :14]) - column(ones[:, :, 14:])
    assert right[low].max() < -1 and right[high].min() > 1


def test_exemplars_lean_and_belong_together():
    rng = RNG(4)
    digit, lean = rng.integers(-1, 9, 400), rng.normal(size=400)  # no nines
    rows = dcgan.exemplars(digit, lean)
    assert len(rows) == 8  # neither 8, whose successor is missing, nor 9
    for k, (a, b, c) in enumerate(rows):
        assert set(digit[a]) == set(digit[b]) == {k} and set(digit[c]) == {k + 1}
        assert lean[a].min() >= np.sort(lean[digit == k])[-3]
        assert lean[b].max() <= np.sort(lean[digit == k])[2]
        assert lean[c].max() <= np.sort(lean[digit == k + 1])[2]


def test_the_analogy_of_a_generator_that_has_a_code_for_slant(tmp_path):
    """G reads the digit and the slant from its code, so every result has the slant aimed at."""
    data = glyphs.load(n_train=3000, n_test=1)
    lean = latent.slant(data.train_x)

    class Lookup:
        d_z = 11

        def codes(self, n, rng):
            k = rng.integers(len(data.train_x), size=n)
            return tensor(np.concatenate([np.eye(10)[data.train_y[k]], lean[k, None]], 1))

    def G(z):
        y, at = np.asarray(z.numpy()), []
        for code, wanted in zip(y[:, :10].argmax(1), y[:, 10], strict=True):
            own = np.flatnonzero(data.train_y == code)
            at.append(own[np.abs(lean[own] - wanted).argmin()])
        return tensor(signed(data.train_x[at]))

    game, run = Lookup(), SimpleNamespace(data=data, rng=RNG(5), picture=lambda *a, **kw: None)
    game.G = G
    numbers = dcgan.slant_arithmetic(run, game, n=1000)
    assert numbers["arithmetic_same_digit"] == 1
    aim, after = numbers["arithmetic_slant_aim"], numbers["arithmetic_slant_after"]
    assert after == pytest.approx(aim, abs=0.1) and after > numbers["arithmetic_slant_before"] + 0.3


def test_mistakes_are_named():
    z = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"\(3, 4\), \(3, 4\), \(3, 5\); expected \(n, d_z\)"):
        latent.arithmetic(z, z, np.zeros((3, 5)))
    with pytest.raises(ValueError, match="expected"):
        latent.arithmetic(z[0], z, z)
    with pytest.raises(ValueError, match="5 images are too few for twice 3"):
        latent.extremes(np.arange(5))
