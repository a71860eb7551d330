"""Palette: what is lost in each of its tasks, and the loss of a network that sees the rest."""

import numpy as np
import pytest
from scipy.fft import dctn

from minigen import data, grad, nn, tensor
from minigen.dist import noise
from minigen.models.diffusion import palette as model
from minigen.models.diffusion import schedule
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.inpainting import inpaint

RNG = np.random.default_rng
# Luminance, Annex K of the JPEG standard
QUANTISATION = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]])


def images(n=6, size=16, seed=0):
    return data.signed(RNG(seed).integers(0, 256, (n, 3, size, size), np.uint8))


def test_a_grey_image_has_the_brightness_of_its_colours():
    x = images()
    y, m = model.grey(x, RNG(1))
    red, green, blue = x.transpose(1, 0, 2, 3)
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    for channel in y.transpose(1, 0, 2, 3):
        assert np.allclose(channel, brightness, atol=1e-6)  # eq: palette-tasks
    assert np.allclose(model.grey(y, RNG(1))[0], y, atol=1e-6) and (m == 1).all()


@pytest.mark.parametrize("task", ["inpaint", "uncrop"])
def test_what_is_hidden_is_noise_and_the_rest_as_it_was(task):
    x = images(300)
    y, m = model.TASKS[task](x, RNG(2))
    hidden = (y != x).any(1)  # (N, H, W)
    assert np.array_equal(m[:, 0], hidden)  # eq: palette-tasks
    for one in hidden:
        rows, columns = one.any(1), one.any(0)
        assert np.array_equal(one, rows[:, None] & columns)  # a rectangle
        assert one.sum() == 128 if task == "uncrop" else 36 <= one.sum() <= 100
    if task == "uncrop":
        assert len({one.tobytes() for one in hidden}) == 4
    drawn = (y.transpose(0, 2, 3, 1))[hidden]  # (pixels, 3)
    n = drawn.size
    assert abs(drawn.mean()) < 4 / n**0.5  # eq: palette-tasks
    assert abs(drawn.var() - 1) < 4 * (2 / n) ** 0.5  # eq: palette-tasks
    assert np.array_equal(y.transpose(0, 2, 3, 1)[~hidden], x.transpose(0, 2, 3, 1)[~hidden])


class Worst:
    """Quality 5, whose table is ten times the standard's, no entry above 255."""

    def integers(self, low, high):
        assert (low, high) == (5, 31)
        return low


def test_jpeg_keeps_multiples_of_the_quantisation_table():
    x = 0.6 * np.repeat(images(5)[:, :1], 3, axis=1)
    y = np.rint(127.5 * (model.jpeg(x, Worst())[0][:, 0] + 1))
    blocks = y.reshape(5, 2, 8, 2, 8).swapaxes(2, 3) - 128
    inside = (np.abs(blocks) < 127).all((3, 4))  # not clipped by the decoder
    coefficients = dctn(blocks[inside], axes=(1, 2), norm="ortho")
    table = np.minimum(10 * QUANTISATION, 255)
    of_table = coefficients / table
    assert len(of_table) > 10 and np.abs(of_table).max() > 0.9
    # decoding and rounding change a coefficient by little; it could be half of an entry, 50, away
    error = np.abs(coefficients - table * np.rint(of_table)).max()
    assert error < 5 and table.min() == 100  # eq: palette-tasks


def test_a_better_quality_loses_less():
    x = np.repeat(np.repeat(images(40, 8), 4, 2), 4, 3)
    loss = {}
    for quality in (5, 30):
        fixed = type("Fixed", (), {"integers": lambda *_, q=quality: q})()
        loss[quality] = np.square(model.jpeg(x, fixed)[0] - x).mean()
    assert loss[30] < 0.7 * loss[5]


def test_each_image_is_degraded_for_one_task():
    x = images(80)
    y, m = model.degraded(x, RNG(3))
    known = (y == x).all(1).mean((1, 2))
    grey = (np.ptp(y, 1) < 1e-6).all((1, 2))
    half, hole = known == 0.5, (known > 0.55) & (known < 0.9)
    jpeg = ~grey & (known < 0.05)
    assert np.array_equal(grey + half + hole + jpeg, np.ones(80, int))
    assert min(kind.sum() for kind in (grey, half, hole, jpeg)) > 8
    assert m.shape == (80, 1, 16, 16) and np.allclose(m.mean((1, 2, 3)), np.where(
        half | hole, 1 - known, 1))


def test_the_loss_is_of_a_network_that_sees_the_degraded_image():
    net = model.palette((3, 8, 8), (8,), D=16, rng=RNG(4))
    seen = []
    net.unet = lambda x, e: seen.append(x.numpy()) or x[:, 3:]  # what is said is y
    s = schedule.linear(50)
    x_0, y = images(4, 8), images(4, 8, seed=5)
    m = (RNG(11).random((4, 1, 8, 8)) < 0.4).astype(np.float32)
    loss = DDPM(net, s).loss(x_0, RNG(6), tensor(y), norm=model.masked(m))
    rng = RNG(6)
    t = rng.integers(1, 51, 4)
    eps = noise(rng, x_0).numpy()
    a = s.alpha_bar[t].reshape(4, 1, 1, 1)
    assert np.allclose(seen[0][:, :3], a**0.5 * x_0 + (1 - a) ** 0.5 * eps, atol=1e-5)
    assert np.array_equal(seen[0][:, 3:], y)  # eq: palette-loss
    assert np.isclose(loss.item(), np.square(m * (eps - y)).mean())  # eq: palette-loss


def test_it_learns_and_refuses_other_sizes():
    net = model.palette((3, 8, 8), (8,), D=16, rng=RNG(7))
    x_0, y = images(3, 8), tensor(images(3, 8, seed=8))
    ddpm = DDPM(net, schedule.linear(50))
    grads = grad(ddpm.loss(x_0, RNG(9), y), nn.parameters(net))
    assert all(np.isfinite(g.numpy()).all() for g in grads.values())
    y, m = model.hole(images(3, 8), RNG(12))
    x = inpaint(ddpm, y, m, RNG(10), tensor(y)).numpy()
    assert x.shape == (3, 3, 8, 8) and np.array_equal(((1 - m) * x), (1 - m) * y)
    with pytest.raises(ValueError, match=r"palette: the degraded images are \(3, 3, 8, 8\)"):
        ddpm.sample(2, (3, 8, 8), RNG(10), tensor(y))
