"""Energy-based models: what they are given, and what they leave as it was."""

import numpy as np
import pytest

from demos import ebm as ebm_demo
from demos import rbm as rbm_demo
from minigen import mean, nn, no_grad
from minigen.models.energy import ebm, rbm
from minigen.train import UserError

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


def test_images_of_another_shape_are_refused():
    model, v, h = machine(), np.ones((5, 1, 2, 2), np.float32), np.ones((5, 3), np.float32)
    for call in (model.free_energy, model.hidden, lambda v: model.gibbs(v, RNG(22)),
                 lambda v: model.energy(v, h)):
        with pytest.raises(ValueError, match=r"are \(5, 1, 2, 2\), expected \(N, 4\): flatten"):
            call(v)
    model = ebm.EBM(Mean(1.0), (1, 4, 4), 10)
    with pytest.raises(ValueError, match=r"are \(5, 1, 2, 2\), expected \(N, 1, 4, 4\)"):
        model.loss(v, RNG(23))
    assert not model.net.given  # nor any steps taken


def test_a_training_step_continues_its_chains_by_20_steps():
    model = ebm.EBM(Mean(1.0), (1, 4, 4), 10)
    model.loss(np.zeros((5, 1, 4, 4), np.float32), RNG(24))
    assert len(model.net.given) == 20 + 2  # and the energies of the images and of the samples


def test_no_steps_of_annealing_are_refused():
    with pytest.raises(ValueError, match="T = 0 steps came, expected at least 1"):
        rbm.ais(machine(), np.zeros(4, np.float32), 5, 0, RNG(9))


class Mean:
    """E(x): the sum of all pixels times `slope`. It keeps what it was given."""

    def __init__(self, slope):
        self.slope, self.given = slope, []

    def __call__(self, x):
        self.given.append(x.numpy().copy())
        return self.slope * x.shape[2] * x.shape[3] * mean(x, (1, 2, 3))


@pytest.mark.parametrize("slope", [-1.0, 1.0])
def test_steps_are_limited_on_both_sides(slope):
    model, x = ebm.EBM(Mean(slope), (1, 4, 4), 1), np.zeros((5, 1, 4, 4), np.float32)
    step = model.langevin(x, RNG(10), 1).numpy()
    assert np.abs(step + slope * ebm.DELTA * ebm.LIMIT).max() < 6 * ebm.SIGMA
    assert (model.langevin(x, RNG(11), 10).numpy() == -slope).mean() > 0.3
    assert np.abs(model.langevin(x, RNG(12), 10).numpy()).max() <= 1


def test_images_of_the_data_get_the_noise_of_samples(monkeypatch):
    monkeypatch.setattr(ebm, "SIGMA", 0.1)
    model, x = ebm.EBM(Mean(0.0), (1, 8, 8), 50, RNG(13)), np.full((50, 1, 8, 8), 0.5, np.float32)
    model.loss(x, RNG(14), 0)
    real, fake = model.net.given
    assert abs((real - x).std() - 0.1) < 0.005 and abs((real - x).mean()) < 0.01
    assert np.array_equal(np.sort(fake.ravel()), np.sort(model.chains.numpy().ravel()))


def test_chains_start_from_uniform_noise():
    model = ebm.ebm((1, 8, 8), 4, 100)
    nn.init(model, RNG(15))
    for x in (model.chains.numpy(), model.sample(100, RNG(16), 0).numpy()):
        assert abs(x.mean()) < 0.03 and abs(x.std() - 3**-0.5) < 0.02


def test_samples_can_be_drawn_without_history():
    model = ebm.ebm((1, 8, 8), 4, 10, RNG(17))
    want = model.sample(3, RNG(18), 2).numpy()
    with no_grad():
        assert np.array_equal(model.sample(3, RNG(18), 2).numpy(), want)
    x = RNG(19).uniform(-1, 1, (3, 1, 8, 8)).astype("f4")
    assert model.langevin(x, RNG(20), 2).requires_grad is False  # an array, not a tensor
    with pytest.raises(TypeError, match=r"noise: expected float32 or float64, got uint8: .*signed"):
        model.loss(np.zeros((2, 1, 8, 8), np.uint8), RNG(21))


def test_demos_take_any_batch_for_which_there_are_chains(tmp_path):
    out = ["--quick", "--steps", "1", "--out", str(tmp_path)]
    ebm_demo.main([*out, "--batch", "60"])  # more than the 50 chains of --quick
    with pytest.raises(UserError, match="--batch: '1' is not a whole number from 2"):
        rbm_demo.main([*out, "--batch", "1"])
