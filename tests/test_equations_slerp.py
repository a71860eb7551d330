"""Spherical interpolation of codes of any length, against SciPy's of unit vectors."""

import numpy as np
import pytest
from scipy.spatial import geometric_slerp

from minigen.models.diffusion.slerp import arcs, slerp

RNG = np.random.default_rng


@pytest.mark.parametrize("d", [2, 5, 300])
def test_codes_of_one_length_are_joined_by_an_arc_of_that_length(d):
    a, b = (z / np.linalg.norm(z) for z in RNG(d).standard_normal((2, d)))
    lam = np.linspace(0, 1, 7)
    want = 9 * geometric_slerp(a, b, lam)
    assert np.allclose(slerp(9 * a[None], 9 * b[None], lam), want)  # eq: dalle2-interpolation


def test_codes_of_different_lengths_keep_their_angle():
    """cos Ω is that of the directions: the code halfway is as far from both."""
    z = slerp([[3.0, 0.0]], [[0.0, 1.0]], 0.5)
    assert np.allclose(z, [[3 * 0.5**0.5, 0.5**0.5]])  # eq: dalle2-interpolation


def test_arcs_join_codes_two_by_two():
    z = RNG(0).standard_normal((6, 4)).astype("f4")
    path = arcs(z, 5).reshape(3, 5, 4)
    assert np.allclose(path[:, 0], z[::2]) and np.allclose(path[:, -1], z[1::2])
    assert np.allclose(path[1], slerp(z[2:3], z[3:4], np.linspace(0, 1, 5)))
    assert path.dtype == np.float32


@pytest.mark.parametrize(("call", "message"), [
    (lambda: slerp(np.zeros((1, 3)), np.ones((1, 3)), 0.5), "slerp: a code is 0"),
    (lambda: slerp(np.ones((1, 3)), -2 * np.ones((1, 3)), 0.5), "slerp: the codes are opposite"),
    (lambda: arcs(np.ones((3, 4))), "arcs: 3 codes came, expected an even number"),
])
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
