"""Image translation as a whole: the models learn; they and their demos refuse invalid input."""

import importlib

import numpy as np
import pytest

from minigen import grad, l1_loss, nn, sum, tensor
from minigen.models.gan.dcgan import adam
from minigen.models.image_to_image import cyclegan, pix2pix, stargan
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


def coloured_squares(seed, n=8):
    """A square in one of two colours, (n, 2, 16, 16), and which one, c (n, 2)."""
    c = np.eye(2, dtype=np.float32)[RNG((seed, 1)).integers(0, 2, n)]
    return np.where(c[..., None, None], squares(seed, n).repeat(2, 2).repeat(2, 3), -1), c


def test_a_stargans_players_learn_against_each_other():
    model, rng = stargan.stargan((2, 16, 16), 2, 8, rng=RNG(5)), RNG(6)
    x, c_prime = coloured_squares(7)
    x, c = tensor(x), 1 - c_prime
    opt_g, opt_d = adam(nn.parameters(model.G), 3e-3), adam(nn.parameters(model.D), 4e-3)
    G_x = model.translate(x, c)
    d_logs = [descend(opt_d, *model.d_loss(x, c_prime, G_x, rng), name="L_D") for _ in range(30)]
    assert d_logs[-1]["L_cls_r"] < 0.1 * d_logs[0]["L_cls_r"]
    g_logs = [descend(opt_g, *model.g_loss(x, c_prime, c, model.G(x, c)), name="L_G")
              for _ in range(20)]
    assert g_logs[-1]["L_G"] < 0
    assert g_logs[-1]["L_cls_f"] < 0.2 * g_logs[0]["L_cls_f"]
    made = model.translate(x, c)
    assert made.shape == x.shape and not made.requires_grad


def test_the_domain_reaches_every_pixel_of_a_stargans_image():
    # an instance norm after the first layer would subtract it, except near the border
    model = stargan.stargan((3, 32, 32), 4, 4, rng=RNG(8))
    x = RNG(9).uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32)
    first, second = (model.translate(x, np.eye(4, dtype=np.float32)[[k]]).numpy() for k in (0, 1))
    assert (np.abs(first - second).max(1) > 1e-3).all()


def test_a_stargans_generator_proposes_a_change_of_the_image():
    G = stargan.stargan((3, 16, 16), 2, 4, rng=RNG(12)).G
    x, c = RNG(13).uniform(-1, 1, (2, 3, 16, 16)).astype(np.float32), np.eye(2, dtype=np.float32)
    assert np.abs(G(tensor(x), c).numpy() - x).max() > 1e-3
    for p in nn.parameters(G.f.net.last).values():
        nn.initializers.constant(p, 0)
    assert np.array_equal(G(tensor(x), c).numpy(), x)


def test_a_stargans_discriminator_has_two_outputs_and_judges_images_alone():
    D = stargan.Discriminator((3, 32, 48), 5, 4, RNG(10))
    x = tensor(RNG(11).uniform(-1, 1, (3, 3, 32, 48)).astype(np.float32))
    src, cls = D(x)
    assert src.shape == (3,) and cls.shape == (3, 5)
    for n in range(3):
        for alone, together in zip(D(x[n:n + 1]), (src, cls), strict=True):
            assert np.allclose(alone.numpy()[0], together.numpy()[n], atol=1e-6)
    h = D.body(x)
    assert h.shape == (3, 32, 2, 3) and D.src(h).shape == (3, 1, 2, 3)  # patches
    assert np.allclose(src.numpy(), D.src(h).numpy().mean((1, 2, 3)), atol=1e-6)
    for out in (src, cls):  # both outputs are of the same layers
        slopes = grad(sum(out), nn.parameters(D.body))
        assert len(slopes) == 8 and all((g.numpy() != 0).any() for g in slopes.values())


@pytest.mark.parametrize("call, message", [
    (lambda m, x, c: m.G(x, c[:, :0]), r"8 inputs came with y \(8, 0\), expected .* \(8, 2\)"),
    (lambda m, x, c: m.g_loss(x, c, c[:4], m.G(x, c)), r"has shape \(8, 2\), target \(4, 2\)"),
    (lambda m, x, c: m.d_loss(x, c, m.G(x[:4], c[:4]), RNG(0)),
     r"real samples are \(8, 2, 16, 16\), G draws \(4, 2, 16, 16\)"),
    (lambda m, x, c: m.g_loss(x[:4], c[:4], c[:4], m.G(x, c)), "StarGAN: .* build G"),
    (lambda m, x, c: stargan.stargan((1, 28, 28), 1), "divisible by 16, got 28×28: pad the images"),
])
def test_what_does_not_fit_a_stargan_is_refused_in_one_line(call, message):
    x, c = coloured_squares(7)
    with pytest.raises(ValueError, match=message) as error:
        call(stargan.stargan((2, 16, 16), 2, 4, rng=RNG(0)), tensor(x), c)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("call, message", [
    (lambda m, x: m.G(x[:, :, :7]), r"divisible by 2, got \(8, 1, 7, 8\)"),
    (lambda m, x: m.g_loss(x, x, m.G(x)), r"input has shape \(8, 2, 8, 8\), target \(8, 1, 8, 8\)"),
    (lambda m, x: m.d_loss(x, x, m.G(x)), r"are \(8, 1, 8, 8\), G draws \(8, 2, 8, 8\)"),
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


@pytest.mark.parametrize("demo, flag", [("pix2pix", "--lam"), ("cyclegan", "--lam"),
                                        ("stargan", "--lam-rec")])
def test_the_demos_refuse_a_weight_that_is_none(demo, flag, tmp_path):
    main = importlib.import_module(f"demos.{demo}").main
    for wrong in ("-1", "much"):
        with pytest.raises(UserError, match=f"{flag}: '{wrong}' is not a whole number from 0"):
            main(["--quick", "--out", str(tmp_path), f"{flag}={wrong}"])
