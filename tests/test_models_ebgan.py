"""EBGAN and BEGAN: which networks learn from which loss, what autoencoders as discriminators need,
and that BEGAN's balance is part of a run."""

import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

import minigen
from minigen import nn, optim
from minigen.data import unsigned
from minigen.models.autoencoder.autoencoder import Autoencoder
from minigen.models.gan import began, dcgan, ebgan
from minigen.train import descend

RNG = np.random.default_rng
SHAPE = (3, 8, 8)
BUILD = {"ebgan": lambda: ebgan.ebgan(SHAPE, 3, 5, width=4, rng=RNG(0)),
         "began": lambda: began.began(SHAPE, 3, d_s=5, width=4, rng=RNG(0))}


def images(n=6):
    return RNG(1).uniform(-1, 1, (n, *SHAPE)).astype("f4")


def d_loss(game):
    loss = game.d_loss(images(), RNG(2))
    return loss[0] if isinstance(loss, tuple) else loss


@pytest.mark.parametrize("name", BUILD)
def test_each_loss_reaches_all_weights_of_its_player(name):
    """D's loss stops at the generated images; G's goes through all of D, encoder and decoder."""
    game = BUILD[name]()
    if name == "began":
        game.balance(1, 0)  # k > 0: D also learns from generated images
    of_d = minigen.grad(d_loss(game), nn.parameters(game), allow_unused=True)
    of_g = minigen.grad(game.g_loss(6, RNG(2)), nn.parameters(game), allow_unused=True)
    reached = {key for key, g in of_d.items() if (g.numpy() != 0).any()}
    assert reached == {key for key in of_d if key.startswith("D.")}
    assert all((g.numpy() != 0).any() for key, g in of_g.items() if key.startswith("G."))
    assert not game.sample(2, RNG(3)).requires_grad
    assert game.D.encode(images()).shape == (6, 5)
    keys = set(nn.state_dict(game))
    assert ("k" in keys) == (name == "began") and not any("k" == key for key in of_d)


@pytest.mark.parametrize("name", BUILD)
def test_d_learns_while_g_stands_still(name):
    game = BUILD[name]()
    before, losses = nn.state_dict(game.G), []
    opt = optim.Adam(nn.parameters(game.D), 1e-2)
    for _ in range(60):
        losses.append(descend(opt, d_loss(game))["loss"])
    assert losses[-1] < 0.7 * losses[0]
    weights = nn.parameters(game.G)
    assert all(np.array_equal(weights[key].numpy(), before[key]) for key in weights)


def test_began_needs_k_to_push_generated_images_away():
    game, x = BUILD["began"](), images()
    assert d_loss(game).item() == pytest.approx(minigen.mean(game.D(x)).item())
    game.balance(1, 0)
    assert d_loss(game).item() < minigen.mean(game.D(x)).item()


def test_a_step_of_began_trains_d_then_g_then_balances_them():
    game, x = BUILD["began"](), images()
    before = nn.state_dict(game)
    opt_d, opt_g = (dcgan.adam(nn.parameters(net)) for net in (game.D, game.G))
    numbers = began.training_step(game, opt_d, opt_g, lambda t: x)(0, RNG(4))
    assert (opt_d.t, opt_g.t) == (1, 1)
    assert set(numbers) == {"d_loss", "real", "g_loss", "k", "M"}
    assert numbers["k"] == pytest.approx(max(0, 0.2 * (0.5 * numbers["real"] - numbers["g_loss"])))
    after = nn.state_dict(game)
    moved = {key.split(".")[0] for key in after if not np.array_equal(after[key], before[key])}
    assert moved == {"D", "G", "k"} and game.k.item() > 0


def test_images_beside_their_reconstructions():
    D = BUILD["ebgan"]().D
    x, y = (unsigned(images(n)) for n in (2, 3))
    rows = ebgan.reconstructions(D, x, y)
    assert rows.shape == (10, *SHAPE) and np.array_equal(rows[:2], x)
    assert np.array_equal(rows[4:7], y)
    with nn.evaluation(D):
        error = np.sqrt(np.square(2 * (rows[7:] - y)).sum((1, 2, 3)))
        assert np.allclose(error, D(2 * y - 1).numpy(), rtol=1e-4)
    negative = Autoencoder(lambda x: x, lambda z: minigen.tensor(-z))
    assert np.allclose(ebgan.reconstructions(negative, x)[2:], 1 - x, atol=1e-6)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: ebgan.ebgan(SHAPE, 3, m=0), "the margin m is 0, expected a positive number"),
    (lambda: began.began(SHAPE, 3, gamma=1.5), "gamma is 1.5, expected a number from 0 to 1"),
    (lambda: ebgan.pulling_away(np.ones((1, 3))), "1 code came, pairs need at least 2: use"),
    (lambda: BUILD["began"]().d_loss(images()[:, :1], RNG(0)), r"G draws \(6, 3, 8, 8\)"),
    (lambda: ebgan.autoencoder((1, 30, 28), 5), "divisible by 4 and at least 8, got 30×28"),
])
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_began_demo_keeps_its_balance_when_it_goes_on(tmp_path):
    def go(out, *flags):
        importlib.import_module("demos.began").main(["--out", str(tmp_path / out), *flags])
        return nn.load_arrays(tmp_path / out / "last.safetensors")[0]

    whole = go("whole", "--quick", "--steps", "6")
    half, parts = go("parts", "--quick", "--steps", "3"), go("parts", "--resume", "--steps", "6")
    assert whole["model.k"] > half["model.k"] > 0
    assert parts["model.k"] > half["model.k"]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_began_demo_compares_m_with_the_distance(tmp_path, sign):
    """On a log of 20 steps: M falls, the distance falls with it or rises."""
    log = [{"M": 30 - t + (-1) ** t, "real": 2.0, "g_loss": 1.0 if t < 18 else 1.5}
           | ({"fid": sign * (100 - t ** 2)} if t % 5 == 4 else {}) for t in range(20)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    demo = importlib.import_module("demos.began")
    numbers = demo.convergence(SimpleNamespace(out=tmp_path))
    assert numbers == {"M_at_the_end": 11.5, "ratio": 0.75, "M_and_fid": pytest.approx(sign)}
