"""A deep energy-based model: Langevin dynamics, its chains, and the gradient of log p."""

import numpy as np
import pytest

from minigen import exp, grad, log, mean, nn, optim, square, sum, tanh, tensor, train
from minigen.models.energy import ebm as model

RNG = np.random.default_rng
T = model.SIGMA**2 / (2 * model.DELTA)


class Valley:
    """E = a/2 Σ (x − centre)²: e^{−E/T} is a normal of variance T/a."""

    def __init__(self, a, centre):
        self.a, self.centre = tensor(np.array(a), requires_grad=True), centre

    def __call__(self, x):
        return self.a / 2 * sum(square(x - self.centre), (1, 2, 3))


def test_langevin_dynamics_samples_the_density():
    """The chain x ← x − δ a (x − c) + σ ε is Gaussian: its variance is σ² / (1 − (1 − δa)²), which
    is T/a for small steps."""
    a = 0.02
    net = model.EBM(Valley(a, 0.3), (1, 4, 4), 1)
    x = net.langevin(tensor(np.full((3000, 1, 4, 4), 0.3)), RNG(0), 60).numpy()
    n, r = x.size, 1 - model.DELTA * a
    variance = model.SIGMA**2 / (1 - r**2)
    assert abs(x.mean() - 0.3) < 4 * (variance / n) ** 0.5  # eq: ebm-langevin
    assert abs(x.var() / variance - 1) < 4 * (2 / n) ** 0.5  # eq: ebm-langevin
    assert np.isclose(variance, T / a / (1 - model.DELTA * a / 2))


def test_steps_are_limited_and_stay_within_the_range_of_pixels():
    steep = model.EBM(Valley(1e3, 0.9), (1, 4, 4), 1)
    x = RNG(1).uniform(-1, 0, (50, 1, 4, 4))
    step = steep.langevin(tensor(x), RNG(2), 1).numpy() - x
    assert np.abs(step - model.DELTA * model.LIMIT).max() < 6 * model.SIGMA
    assert steep.langevin(tensor(x), RNG(3), 10).numpy().max() <= 1


class Curve:
    """An energy of one number x, a small network."""

    def __init__(self, rng):
        self.first, self.second = nn.Linear(1, 8, rng=rng), nn.Linear(8, 1, rng=rng)
        nn.astype(self, np.float64)

    def __call__(self, x):
        return 1e-5 * self.second(tanh(3 * self.first(x.reshape(-1, 1))))[:, 0]


def test_the_loss_has_the_gradient_of_the_likelihood(monkeypatch):
    """−T log p with Z summed over a grid of all x, against the loss on samples: the grid's points
    as often as p says."""
    net, grid = model.EBM(Curve(RNG(4)), (1, 1, 1), 20_000), np.linspace(-1, 1, 4001)
    x = RNG(5).uniform(-1, 1, (20_000, 1, 1, 1))

    energy = net.net(tensor(grid))
    log_Z = log(sum(exp(-energy / T)))
    objective = mean(net.net(tensor(x))) + T * log_Z
    want = grad(objective, nn.parameters(net.net))

    p = np.exp(-(energy / T + log_Z).numpy())
    samples = np.interp((np.arange(20_000) + 0.5) / 20_000, np.cumsum(p), grid)
    monkeypatch.setattr(net, "langevin", lambda *_: tensor(samples.reshape(x.shape)))
    monkeypatch.setattr(model, "SIGMA", 0.0)  # no noise on the data
    monkeypatch.setattr(model, "ALPHA", 0.0)
    net.chains.data = net.chains.data.astype(np.float64)
    got = grad(net.loss(x, RNG(6))[0], nn.parameters(net.net))
    assert p.max() > 2 * p.min()
    scale = max(np.abs(g.numpy()).max() for g in want.values())
    for key in want:
        assert np.allclose(got[key].numpy(), want[key].numpy(), atol=2e-3 * scale)  # eq: ebm-loss


def test_energies_are_kept_near_zero(monkeypatch):
    net = model.ebm((1, 8, 8), 4, 5, RNG(7))
    x, samples = RNG(8).uniform(-1, 1, (2, 3, 1, 8, 8)).astype("f4")
    monkeypatch.setattr(net, "langevin", lambda *_: tensor(samples))
    monkeypatch.setattr(model, "SIGMA", 0.0)
    real, fake = (net.net(tensor(images)).numpy().astype(float) for images in (x, samples))
    want = real.mean() - fake.mean() + 0.1 * np.square([real, fake]).mean(1).sum()
    loss, parts = net.loss(x, RNG(9))
    assert np.isclose(loss.item(), want)  # eq: ebm-loss
    assert np.isclose(parts["energy"].item(), real.mean())
    assert np.isclose(parts["energy_of_samples"].item(), fake.mean())


def test_chains_are_continued_and_some_start_again(monkeypatch):
    net = model.ebm((1, 8, 8), 4, 1000, RNG(10))
    starts = []
    monkeypatch.setattr(net, "langevin", lambda x, *_: starts.append(x.numpy()) or tensor(
        np.full_like(x.numpy(), 7)))
    before = net.chains.numpy().copy()
    net.loss(np.zeros((800, 1, 8, 8), "f4"), RNG(11))
    as_kept = (starts[0][:, None] == before[None]).all((2, 3, 4))
    again = ~as_kept.any(1)
    assert 20 <= again.sum() <= 60  # eq: ebm-chains
    assert abs(starts[0][again].mean()) < 0.05 and starts[0][again].std() > 0.5
    assert (as_kept.sum(0) <= 1).all()
    changed = (net.chains.numpy() == 7).all((1, 2, 3))
    assert changed.sum() == 800 and changed[as_kept.any(0)].all()  # eq: ebm-chains
    assert np.array_equal(net.chains.numpy()[~changed], before[~changed])
    with pytest.raises(ValueError, match="ebm: 1001 images need as many chains, there are 1000"):
        net.loss(np.zeros((1001, 1, 8, 8), "f4"), RNG(12))


def test_it_learns_where_the_data_is():
    """Images of one grey: their energy falls below that of other greys, and chains go there."""
    rng = RNG(13)
    net = model.ebm((1, 8, 8), 8, 100, rng)
    opt = optim.Adam(nn.parameters(net), lr=1e-3, betas=(0.0, 0.999))
    x = np.full((32, 1, 8, 8), 0.4, np.float32)
    for _ in range(60):
        train.descend(opt, *net.loss(x, rng, 10), max_norm=0.1)
    greys = np.linspace(-0.9, 0.9, 10, dtype=np.float32).reshape(-1, 1, 1, 1) + 0 * x[:10]
    energies = net.net(greys).numpy()
    assert abs(greys[energies.argmin(), 0, 0, 0] - 0.4) < 0.3
    assert abs(net.sample(50, rng, 60).numpy().mean() - 0.4) < 0.15
