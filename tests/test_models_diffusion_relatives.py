"""Variants of the diffusion model learn, sample and refuse what they cannot do; demo flags."""

import importlib
import json

import numpy as np
import pytest

from minigen import grad, nn, optim
from minigen.models.diffusion import unclip, velocity
from minigen.models.diffusion.conditional import conditional
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.guidance import ClassifierFree, drop_labels, no_label
from minigen.models.diffusion.improved_ddpm import ImprovedDDPM
from minigen.models.diffusion.schedule import linear, respaced
from minigen.models.diffusion.threshold import dynamic
from minigen.train import UserError

RNG = np.random.default_rng
SHAPE, WIDTHS = (1, 8, 8), (8, 16)


def learnt(model, loss, steps=40):
    """The first loss and the mean of the last five, in `steps` steps of Adam on loss(rng)."""
    opt, losses = optim.Adam(nn.parameters(model), lr=5e-3), []
    for t in range(steps):
        value = loss(RNG((0, t)))
        losses.append(value.item())
        opt.step(grad(value, opt.params))
    return losses[0], np.mean(losses[-5:])


@pytest.fixture(scope="module")
def images():
    """Horizontal (label 0) and vertical (1) stripes, at random offsets."""
    rng, x = RNG(0), np.empty((16, *SHAPE), np.float32)
    y = np.arange(16) % 2
    for n in range(16):
        wave = np.sign(np.sin(np.arange(8) * np.pi / 2 + rng.integers(0, 4) * np.pi / 2 + 0.1))
        x[n] = wave if y[n] else wave[:, None]
    return x, y


def test_a_conditional_model_learns_and_guidance_draws_what_is_asked_for(images):
    x, y = images
    s = linear(200)
    net = velocity.Velocity(conditional(SHAPE, 2, WIDTHS, D=32, rng=RNG(1)), s)
    model = DDPM(net, s)
    first, last = learnt(model, lambda rng: model.loss(x, rng, drop_labels(y, 2, rng)), steps=100)
    assert last < 0.75 * first
    y = np.repeat([0, 1], 8)
    drawn = DDIM(ClassifierFree(net, 2.0, no_label(2)), respaced(s, 20)).sample(
        16, SHAPE, RNG(2), y, threshold=dynamic(0.9)).numpy()
    across, upright = (np.abs(np.diff(drawn, axis=k)).mean((1, 2, 3)) for k in (2, 3))
    assert ((upright > across) == y).mean() > 0.8


def test_a_model_with_learnt_variances_learns(images):
    s = linear(100)
    model = ImprovedDDPM(denoiser(SHAPE, WIDTHS, D=32, outputs=2, rng=RNG(3)), s)
    first, last = learnt(model, lambda rng: model.loss(images[0], rng)[0])
    assert last < 0.8 * first
    loss, parts = model.loss(images[0], RNG(4))
    assert set(parts) == {"simple", "vlb_bits"}
    hybrid = parts["simple"] + 0.001 * parts["vlb_bits"]
    assert loss.item() == pytest.approx(hybrid.item(), rel=1e-5)


@pytest.mark.parametrize("flags, says", [
    (["--weight", "-1"], "not a number from 0"),
    (["--weight", "much"], "not a number from 0"),
    (["--sampling-steps", "1001"], "only 1000 steps: give 1 to 1000"),
    (["--data", "cifar10"], "invalid choice"),
])
def test_the_guidance_demo_refuses(flags, says, tmp_path):
    demo = importlib.import_module("demos.guidance")
    with pytest.raises(UserError, match=says):
        demo.main(["--quick", "--out", str(tmp_path), *flags])


def test_the_frequency_demo_on_colour_images(tmp_path):
    demo = importlib.import_module("demos.frequency")
    demo.main(["--quick", "--data", "scenes", "--steps", "60", "--out", str(tmp_path)])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (tmp_path / "spectra.png").exists()
    assert metrics["drowns_at_t@f=1"] > metrics["drowns_at_t@f=16"] > 0


def test_the_codes_of_unclip_may_be_whole_numbers_and_equal_but_for_rounding():
    east, north = np.array([[1, 0]]), np.array([[0, 1]])
    assert np.allclose(unclip.slerp(east, north, 0.5), [[0.5**0.5, 0.5**0.5]])
    with pytest.raises(ValueError, match="the two texts have one code"):
        unclip.text_diff_slerp(east, north, north + 6e-8, [0.5])
