"""The GANs as a whole: each can be trained, its film is saved, and training equals PyTorch's."""

import importlib

import numpy as np
import pytest

import minigen
from minigen import nn, optim, tensor
from minigen.gan_demo import TrainingFilm, render
from minigen.models.gan import biggan, cgan, dcgan, ebgan, gan, lsgan, wgan, wgan_gp

RNG = np.random.default_rng

GAMES = {
    "gan": (lambda: gan.fully_connected((1, 8, 8), 3, 16, gan.GAN), dcgan.adam, ()),
    "non-saturating": (lambda: gan.fully_connected((1, 8, 8), 3, 16), dcgan.adam, ()),
    "lsgan": (lambda: gan.fully_connected((3, 4, 4), 3, 16, lsgan.LSGAN), dcgan.adam, ()),
    "wgan": (lambda: gan.fully_connected((1, 8, 8), 3, 16, wgan.WGAN), wgan.ClippedRMSprop, ()),
    "dcgan": (lambda: dcgan.dcgan((3, 8, 8), 3, 4), dcgan.adam, ()),
    "cgan": (lambda: cgan.conditional((1, 8, 8), 3, 4, 4), dcgan.adam, (np.arange(6) % 4,)),
    "wgan_gp": (lambda: wgan_gp.wgan_gp((1, 8, 8), 3, 4), wgan_gp.adam, ()),
    "ebgan": (lambda: ebgan.ebgan((1, 8, 8), 3, 5, width=4), dcgan.adam, ()),
    "biggan": (lambda: biggan.biggan((3, 8, 8), 4, 3, 16), dcgan.adam, (np.arange(6) % 4,)),
}


@pytest.mark.parametrize("name", GAMES)
def test_every_game_is_played_and_draws(name):
    build, optimiser, given = GAMES[name]
    game = build()
    nn.init(game, RNG(0))
    shape = game.sample(6, RNG(1), *given).shape
    x = RNG(2).uniform(-1, 1, shape).astype(np.float32)
    before = nn.state_dict(game)
    opt_d, opt_g = optimiser(nn.parameters(game.D)), optimiser(nn.parameters(game.G))
    step = gan.algorithm_1(game, opt_d, opt_g, lambda i: (x, *given), k=2)
    for t in range(3):
        numbers = step(t, RNG((0, t)))
    assert opt_d.t == 6 and opt_g.t == 3
    assert set(numbers) == {"d_loss", "g_loss"} and np.isfinite(list(numbers.values())).all()
    after = nn.state_dict(game)
    moved = [key for key in after if not np.array_equal(after[key], before[key])]
    # a constant added to D cancels in the distance, and in the hinge loss within the margins, and
    # the power iteration of its one row stands still
    stays = {"wgan": 1, "wgan_gp": 1, "biggan": 2}
    assert len(moved) >= len(after) - stays.get(name, 0)
    y = render(game, game.codes(6, RNG(3)), *given)
    assert y.shape == shape and y.min() >= 0 and y.max() <= 1
    assert np.array_equal(y, render(game, game.codes(6, RNG(3)), *given))  # evaluation mode


def test_samples_are_drawn_in_evaluation_mode():
    game = dcgan.dcgan((1, 8, 8), 3, 4, RNG(10))
    before, x = nn.state_dict(game), game.sample(6, RNG(11))
    for key, value in nn.state_dict(game).items():  # also the running statistics
        assert np.array_equal(value, before[key]), key
    assert np.allclose(game.sample(2, RNG(11)).numpy(), x.numpy()[:2])  # whatever its neighbours
    assert game.G[2].training


def test_the_discriminator_wins_when_the_generator_stands_still():
    game = gan.fully_connected((2,), 3, 16, rng=RNG(4))
    x = (RNG(5).normal(size=(64, 2)) * 0.1 + 3).astype(np.float32)
    opt_d, opt_g = optim.Adam(nn.parameters(game.D), 1e-2), optim.SGD(nn.parameters(game.G), 0)
    step = gan.algorithm_1(game, opt_d, opt_g, lambda i: (x,))
    losses = [step(t, RNG((1, t)))["d_loss"] for t in range(60)]
    assert losses[0] > 1 and losses[-1] < 0.05


def test_the_film_is_saved_with_the_run():
    game = gan.fully_connected((1, 8, 8), 3, 16, rng=RNG(6))
    reel = TrainingFilm(game.codes(4, RNG(7)), (1, 8, 8))
    done = []
    step = reel.recording(lambda t, rng: done.append(t), game)
    first = render(game, reel.z)
    for t in range(3):
        step(t, None)
        nn.init(game, RNG(8))
    again = TrainingFilm(game.codes(4, RNG(9)), (1, 8, 8))
    nn.load_state_dict(again, nn.state_dict(reel))
    strip = again.strip(3, game)
    assert done == [0, 1, 2] and strip.shape == (8, 1, 8, 8)  # the first frame, and G as it is now
    assert np.array_equal(strip[:4], first) and not np.array_equal(strip[4:], first)
    assert again.strip(51, game).shape == (12, 1, 8, 8)


@pytest.mark.parametrize("loss", ["saturating", "least-squares", "wasserstein"])
def test_the_gan_demo_with_other_losses(loss, tmp_path):
    importlib.import_module("demos.gan").main(["--quick", "--out", str(tmp_path), "--loss", loss])
    assert (tmp_path / "training.png").exists()


@pytest.mark.parametrize("model", ["gan_cls", "stackgan", "xmc_gan", "df_gan"])
def test_the_demo_of_texts_with_its_other_models(model, tmp_path):
    demo = importlib.import_module("demos.text_to_image")
    demo.main(["--quick", "--out", str(tmp_path), "--model", model])
    numbers = (tmp_path / "metrics.json").read_text()
    demo.main(["--resume", "--out", str(tmp_path)])
    kept = [text.partition('"seconds"')[0] for text in
            (numbers, (tmp_path / "metrics.json").read_text())]
    assert kept[0] == kept[1] and "variety" in numbers


# --------------------------------------------------------------------------- parity with PyTorch

def mirrored(torch, net):
    """The same network, with the same weights, in PyTorch."""
    def layer(ours):
        options = getattr(ours, "options", {})
        if isinstance(ours, nn.Conv2d):
            K, C, *size = ours.weight.shape
            return torch.nn.Conv2d(C, K, size, options["stride"], options["padding"],
                                   bias=ours.bias is not None)
        if isinstance(ours, nn.ConvTranspose2d):
            C, K, *size = ours.weight.shape
            return torch.nn.ConvTranspose2d(C, K, size, options["stride"], options["padding"],
                                            options["output_padding"], bias=ours.bias is not None)
        if isinstance(ours, nn.BatchNorm2d):
            return torch.nn.BatchNorm2d(len(ours.weight))
        known = {minigen.relu: torch.nn.ReLU(), minigen.tanh: torch.nn.Tanh(),
                 gan.leaky: torch.nn.LeakyReLU(0.2)}
        return known.get(ours, torch.nn.Identity())

    twin = torch.nn.Sequential(*map(layer, net)).double()
    twin.load_state_dict({k: torch.from_numpy(v) for k, v in nn.state_dict(net).items()})
    return twin


def start(build, torch):
    """A game in float64 and both its networks in PyTorch, where G takes (N, d_z, 1, 1)."""
    game = build((1, 28, 28), 10, 8)
    nn.init(game, RNG(0))
    nn.astype(game, np.float64)
    return game, mirrored(torch, game.G), mirrored(torch, game.D)


def equal(game, G, D):
    for ours, twin in ((game.G, G), (game.D, D)):
        for key, value in twin.state_dict().items():
            assert np.allclose(nn.state_dict(ours)[key], value.numpy(), rtol=1e-6, atol=1e-9), key


@pytest.mark.parity
def test_thirty_steps_of_dcgan_equal_pytorchs():
    torch = pytest.importorskip("torch")
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    game, G, D = start(dcgan.dcgan, torch)
    data = [np.tanh(RNG((1, i)).normal(size=(8, 1, 28, 28))) for i in range(30)]
    step = gan.algorithm_1(game, dcgan.adam(nn.parameters(game.D)),
                           dcgan.adam(nn.parameters(game.G)), lambda i: (tensor(data[i]),))
    adam_d, adam_g = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (D, G))
    for t in range(30):
        numbers, rng = step(t, RNG((2, t))), RNG((2, t))

        def z(rng=rng):
            return torch.from_numpy(rng.standard_normal((8, 10)))[..., None, None]

        x_fake = G(z()).detach()
        real, fake = D(torch.from_numpy(data[t])).flatten(), D(x_fake).flatten()
        d_loss = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
        adam_d.zero_grad()
        d_loss.backward()
        adam_d.step()
        fooled = D(G(z())).flatten()
        g_loss = bce(fooled, torch.ones_like(fooled))
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()
        assert numbers == pytest.approx({"d_loss": d_loss.item(), "g_loss": g_loss.item()},
                                        rel=1e-8), t
    equal(game, G, D)


@pytest.mark.parity
def test_thirty_steps_of_wgan_gp_equal_pytorchs():
    """Two critic steps for each generator step; the penalty is differentiated twice."""
    torch = pytest.importorskip("torch")
    game, G, D = start(wgan_gp.wgan_gp, torch)
    data = [np.tanh(RNG((1, i)).normal(size=(8, 1, 28, 28))) for i in range(60)]
    step = gan.algorithm_1(game, wgan_gp.adam(nn.parameters(game.D)),
                           wgan_gp.adam(nn.parameters(game.G)), lambda i: (tensor(data[i]),), 2)
    adam_d, adam_g = (torch.optim.Adam(net.parameters(), 1e-4, (0.0, 0.9)) for net in (D, G))
    for t in range(30):
        numbers, rng = step(t, RNG((2, t))), RNG((2, t))

        def z(rng=rng):
            return torch.from_numpy(rng.standard_normal((8, 10)))[..., None, None]

        for i in range(2):
            x, x_fake = torch.from_numpy(data[2 * t + i]), G(z()).detach()
            eps = torch.from_numpy(rng.random((8, 1, 1, 1)))
            x_hat = (eps * x + (1 - eps) * x_fake).requires_grad_()
            slope, = torch.autograd.grad(D(x_hat).sum(), x_hat, create_graph=True)
            penalty = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
            d_loss = D(x_fake).mean() - D(x).mean() + 10 * penalty
            adam_d.zero_grad()
            d_loss.backward()
            adam_d.step()
        g_loss = -D(G(z())).mean()
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()
        assert numbers == pytest.approx({"d_loss": d_loss.item(), "g_loss": g_loss.item()},
                                        rel=1e-8), t
    equal(game, G, D)
