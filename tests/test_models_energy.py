"""Energy-based models: what they are given, and what they leave as it was."""

import numpy as np
import pytest

from minigen import nn
from minigen.models.energy import rbm

RNG = np.random.default_rng


def machine(D=4, K=3):
    model = rbm.RBM(D, K)
    for seed, t in enumerate(nn.parameters(model).values()):
        nn.initializers.normal(t, 1, RNG(seed))
    return model


@pytest.mark.parametrize("dtype", [np.uint8, bool])
def test_binary_images_may_be_bytes_or_booleans(dtype):
    model, v, h = machine(), RNG(3).integers(0, 2, (9, 4)), RNG(4).integers(0, 2, (9, 3))
    floats, given = ([a.astype(kind) for a in (v, h)] for kind in (np.float32, dtype))
    assert np.allclose(model.energy(*given).numpy(), model.energy(*floats).numpy())
    assert np.allclose(model.free_energy(given[0]).numpy(), model.free_energy(floats[0]).numpy())


def test_chains_leave_the_images_they_start_from():
    v = np.ones((50, 4), np.float32)
    chains = rbm.Chains(v)
    chains.advance(machine(), RNG(5))
    assert (chains.v.numpy() != 1).any() and (v == 1).all()


def test_a_step_of_completion_starts_from_the_known_pixels():
    """After one step the other pixels are samples given latents of the whole image."""
    model, n, known = machine(), 20_000, np.array([True, True, False, False])
    v = np.tile(np.float32([1, 0, 1, 1]), (n, 1))
    once = model.complete(v, known, RNG(6), 1).numpy()
    assert np.array_equal(once[:, known], v[:, known])
    means = model.gibbs(v, RNG(7)).numpy().mean(0)
    assert np.abs(once.mean(0) - means)[~known].max() < 0.02
    assert np.abs(means[~known] - model.gibbs(0 * v, RNG(8)).numpy().mean(0)[~known]).max() > 0.1


def test_no_steps_of_annealing_are_refused():
    with pytest.raises(ValueError, match="T = 0 steps came, expected at least 1"):
        rbm.ais(machine(), np.zeros(4, np.float32), 5, 0, RNG(9))
