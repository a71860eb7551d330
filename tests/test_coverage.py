"""Mode coverage: known samples on the ring, known class probabilities, and invalid input."""

import numpy as np
import pytest

from minigen.coverage import coverage, likeliest_classes, nearest_modes
from minigen.data import ring

RNG = np.random.default_rng


def test_the_ring_has_its_means_and_covers_itself():
    x = ring.sample(80_000, RNG(0))
    assert x.shape == (80_000, 2) and x.dtype == np.float32
    c = ring.centres()
    assert np.allclose(np.linalg.norm(c, axis=1), 0.8) and np.allclose(c.sum(0), 0, atol=1e-6)
    mode = nearest_modes(x, c, max_distance=3 * ring.SIGMA)
    for k in range(8):
        own = x[mode == k]
        assert np.allclose(own.mean(0), c[k], atol=0.004)
        assert np.allclose(np.cov(own.T), 0.0016 * np.eye(2), atol=2e-4)
    numbers = coverage(mode, 8)
    assert numbers["modes_covered"] == 8 and numbers["kl_to_uniform"] < 0.001
    # within 3σ in two dimensions: 1 − e^(−9/2)
    assert numbers["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.002)


def test_a_collapsed_generator_is_told_apart():
    c = ring.centres()
    one = coverage(nearest_modes(c[[3] * 50] + 0.02, c, 0.12), 8)
    assert one == {"modes_covered": 1, "high_quality": 1.0, "least_share": 0.0,
                   "kl_to_uniform": pytest.approx(np.log(8))}
    two = coverage(nearest_modes(c[[3, 4] * 50], c, 0.12), 8)
    assert two["modes_covered"] == 2 and two["kl_to_uniform"] == pytest.approx(np.log(4))
    # samples between the modes belong to none: half of these
    half = coverage(nearest_modes(np.concatenate([c, 0 * c]), c, 0.12), 8)
    assert half["modes_covered"] == 8 and half["high_quality"] == 0.5
    assert half["kl_to_uniform"] == pytest.approx(0, abs=1e-12)
    nowhere = coverage(nearest_modes(0 * c, c, 0.12), 8)
    assert nowhere["modes_covered"] == 0 and nowhere["kl_to_uniform"] == np.log(8)


def test_a_mode_needs_its_share():
    modes = np.array([0] * 990 + [1] * 10 + [-1] * 1000)
    assert coverage(modes, 2, share=0.005)["modes_covered"] == 2
    assert coverage(modes, 2, share=0.006)["modes_covered"] == 1
    assert coverage(modes, 2)["least_share"] == 0.005


def test_classes_by_their_probability():
    p = np.array([[0.9, 0.1, 0], [0.2, 0.2, 0.6], [0.4, 0.3, 0.3]])
    assert likeliest_classes(p).tolist() == [0, 2, -1]
    assert likeliest_classes(p, threshold=0.3).tolist() == [0, 2, 0]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"points are \(3, 3\) and centres \(8, 2\)"):
        nearest_modes(np.zeros((3, 3)), ring.centres(), 1)
    for p in (np.ones((3, 10)), [[1.5, -0.5]]):
        with pytest.raises(ValueError, match="rows sum to 1"):
            likeliest_classes(p)
    with pytest.raises(ValueError, match="from −1 to 9, got 0 to 10"):
        coverage(np.arange(11), 10)
    with pytest.raises(ValueError, match="got none"):
        coverage(np.array([], int), 10)
