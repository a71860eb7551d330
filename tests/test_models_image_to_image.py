"""Image translation as a whole: the models learn; they and their demos refuse invalid input."""

import importlib

import numpy as np
import pytest

from minigen import l1_loss, nn
from minigen.models.gan.dcgan import adam
from minigen.models.image_to_image import cyclegan, pix2pix
from minigen.train import UserError, descend

RNG = np.random.default_rng


def squares(seed, n=8):
    """A bright square somewhere on black: (n, 1, 8, 8) in [−1, 1]."""
    x = np.full((n, 1, 8, 8), -1, np.float32)
    for image, (i, j) in zip(x, RNG(seed).integers(0, 5, (n, 2)), strict=True):
        image[0, i:i + 4, j:j + 4] = 1
    return x


def test_pix2pix_learns_what_belongs_to_an_image():
    model = pix2pix.pix2pix(1, 2, (8, 8), 8, lam=20.0, rng=RNG(0))
    x = squares(1)
    y = np.concatenate([-x, 0.5 * x], 1)
    before = l1_loss(model.translate(x), y).item()
    opt_d, opt_g = adam(nn.parameters(model.D), 1e-3), adam(nn.parameters(model.G), 5e-3)
    for _ in range(40):
        G_x = model.G(x)
        descend(opt_d, model.d_loss(x, y, G_x))
        descend(opt_g, model.g_loss(x, y, G_x))
    made = model.translate(x)
    assert l1_loss(made, y).item() < 0.3 * before and not made.requires_grad
    assert np.array_equal(made.numpy(), model.translate(x).numpy())


def test_a_cyclegan_learns_the_way_there_and_back():
    model = cyclegan.cyclegan(1, 2, 4, rng=RNG(2))
    x, y = squares(3), np.concatenate([squares(4), -squares(4)], 1)
    opt_d = adam(nn.parameters([model.D_X, model.D_Y]), 1e-4)
    opt_g = adam(nn.parameters([model.G, model.F]), 5e-3)
    cycles = []
    for _ in range(40):
        made = model.G(x), model.F(y)
        descend(opt_d, model.d_loss(x, y, *made))
        cycles.append(model.cycle_loss(x, y, *made).item())
        descend(opt_g, model.g_loss(x, y, *made))
    assert cycles[-1] < 0.4 * cycles[0]
    alone = np.concatenate([model.G(x[n:n + 1]).numpy() for n in range(8)])
    assert np.allclose(model.G(x).numpy(), alone, atol=1e-5)  # images do not influence each other
    assert [made.shape for made in model.translate(x, y)] == [y.shape, x.shape, x.shape, y.shape]


@pytest.mark.parametrize("call, message", [
    (lambda m, x: m.G(x[:, :, :7]), r"divisible by 2, got \(8, 1, 7, 8\)"),
    (lambda m, x: m.g_loss(x, x, m.G(x)), r"input has shape \(8, 2, 8, 8\), target \(8, 1, 8, 8\)"),
    (lambda m, x: m.d_loss(x, x, m.G(x)), r"outputs are \(8, 1, 8, 8\), G draws \(8, 2, 8, 8\)"),
    (lambda m, x: m.d_loss(x[:4], m.G(x), m.G(x)), r"\(4, 1, 8, 8\).* \(8, 2, 8, 8\)"),
])
def test_what_does_not_fit_is_refused_in_one_line(call, message):
    model = pix2pix.pix2pix(1, 2, (8, 8), 8, rng=RNG(0))
    with pytest.raises(ValueError, match=message) as error:
        call(model, squares(1))
    assert "\n" not in str(error.value)


def test_a_translator_of_the_wrong_size_is_refused():
    model = cyclegan.cyclegan(1, 1, 4, rng=RNG(0))
    x = squares(1)[:, :, :7, :7]
    with pytest.raises(ValueError, match=r"\(8, 1, 6, 6\), target \(8, 1, 7, 7\)"):
        model.cycle_loss(x, x, model.G(x), model.F(x))


@pytest.mark.parametrize("demo", ["pix2pix", "cyclegan"])
def test_the_demos_refuse_a_weight_that_is_none(demo, tmp_path):
    main = importlib.import_module(f"demos.{demo}").main
    for wrong in ("-1", "much"):
        with pytest.raises(UserError, match=f"--lam: '{wrong}' is not a whole number from 0"):
            main(["--quick", "--out", str(tmp_path), f"--lam={wrong}"])
