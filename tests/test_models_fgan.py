"""f-GAN and the demos of mode coverage as a whole, in variants that a default run leaves out."""

import importlib
import json

import numpy as np
import pytest

from minigen import nn, optim, train
from minigen.data import ring
from minigen.models.gan import gan
from minigen.models.gan.divergences import DIVERGENCES
from minigen.models.gan.fgan import FGAN

RNG = np.random.default_rng


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_critic_raises_the_bound_and_the_generator_lowers_it(name):
    def build(*players):
        return FGAN(*players, name)

    model = gan.fully_connected((2,), 2, d_h=32, game=build)
    nn.init(model, RNG(0))
    x, nothing = ring.sample(256, RNG(1)), DIVERGENCES[name].f(np.ones(1)).item()  # D_f(P ‖ P)
    values = [model.value(x, RNG(2)).item()]
    for net, loss in ((model.D, lambda: model.d_loss(x, RNG(2))),
                      (model.G, lambda: model.g_loss(256, RNG(2)))):
        opt = optim.Adam(nn.parameters(net), 2e-3, betas=(0.5, 0.999))
        for _ in range(40):
            train.descend(opt, loss())
        values.append(model.value(x, RNG(2)).item())
    assert values[1] > max(values[0], nothing) and values[2] < values[1]


@pytest.mark.parametrize("demo, flags, pictures", [
    ("fgan", ["--data", "glyphs", "--divergence", "jeffrey"], ["training", "nearest"]),
    ("mode_collapse", ["--data", "glyphs"], ["training_collapsing", "training_wgan_gp"]),
])
def test_demos_on_digits(demo, flags, pictures, tmp_path):
    importlib.import_module(f"demos.{demo}").main(["--quick", "--out", str(tmp_path), *flags])
    assert all((tmp_path / f"{name}.png").exists() for name in ["samples", *pictures])
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["train_images"] == 64 and np.isfinite(list(numbers.values())).all()
