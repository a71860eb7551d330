"""PixelCNN++: what may depend on what, its fast sampler, its initialisation, and bad input."""

import importlib
import json

import numpy as np
import pytest

from minigen import grad, nn, no_grad, optim
from minigen.logistic import LogisticMixture
from minigen.models.autoregressive.linear_predictor import LinearPredictor
from minigen.models.autoregressive.pixelcnn_pp import PixelCNNpp
from minigen.tensor import write

RNG = np.random.default_rng


def images(N, C, side=8, seed=0):
    walk = RNG(seed).normal(size=(N, C, side, side)).cumsum(2).cumsum(3)
    return np.clip(128 + 10 * walk, 0, 255).astype(np.uint8)


def rough(C, side=8, widths=(4, 6, 4), depths=(1, 1, 1)):
    """A small model in float64 whose weights are all far from 0, and images of its size."""
    x = images(40, C, side)
    model = PixelCNNpp((C, side, side), LinearPredictor(C).fit(x), widths, depths, K=2, rng=RNG(1))
    rng = RNG(2)
    for p in nn.parameters(model).values():
        p.data[...] += rng.normal(0, 0.2, p.shape)
    nn.astype(model, np.float64)
    return model, x


@pytest.mark.parametrize("C", [1, 3])
def test_a_mean_depends_on_what_comes_before_and_on_nothing_else(C):
    """Every value of an image is changed in turn. The order: rows, pixels of a row, colours. There
    is no blind spot: a mean depends on every earlier value up to four columns away."""
    model, x = rough(C)
    one = x[:1].astype(int)
    order = np.arange(C * 64).reshape(8, 8, C).transpose(2, 0, 1).ravel()  # of (C, H, W)
    changed = np.repeat(one, C * 64, 0)
    for n, flat in enumerate(changed.reshape(C * 64, -1)):
        flat[n] = (flat[n] + 128) % 256

    def means(x):
        with no_grad():
            p = model.mixture(x)
            m = p.mean(2 * x / 255 - 1).numpy().sum(1)  # (N, C, H, W)
        return m.reshape(len(x), -1), p

    reference, p = means(one)
    found, q = means(changed)
    depends = np.abs(found - reference) > 1e-13  # [input, output]
    before = order[:, None] < order
    column = np.tile(np.arange(8), C * 8)
    near = np.abs(column[:, None] - column) <= 4
    assert not depends[~before].any() and depends[before & near].all()
    # scales and mixture weights do not depend on the pixel's own colours
    pixel = order // C
    before, near = pixel[:, None] < np.arange(64), near[:, :64]
    for t, u in ((p.log_s, q.log_s), (p.logits[:, :, None], q.logits[:, :, None])):
        t, u = (a.numpy().sum((1, 2)).reshape(-1, 64) for a in (t, u))
        depends = np.abs(u - t) > 1e-13
        assert not depends[~before].any() and depends[before & near].all()


def naive(model, x, known, rng):
    """Sample with a pass through the whole network for each pixel."""
    x = np.where(known, x, 0).astype(int)
    for i, j in np.argwhere(~np.broadcast_to(known, x.shape[2:])):
        with no_grad():
            p, at = model.mixture(x), (..., slice(i, i + 1), slice(j, j + 1))
            one = LogisticMixture(p.logits[at], p.mu[at], p.log_s[at], p.coef[at], p.centre[at])
            x[:, :, i, j] = one.sample(rng)[:, :, 0, 0]
    return x


@pytest.mark.parametrize("C, widths, depths", [(3, (4, 6, 4), (1, 2, 1)), (1, (5,), (2,))])
def test_pixel_by_pixel_with_memory_equals_passes_through_everything(C, widths, depths):
    model, x = rough(C, widths=widths, depths=depths)
    assert (model.sample(2, RNG(3)) == naive(model, np.zeros((2, C, 8, 8)), False, RNG(3))).all()
    known = np.zeros((8, 8), bool)
    known[:3], known[5, 2:6] = True, True
    done = model.complete(x[:2], known, RNG(4))
    assert (done == naive(model, x[:2], known, RNG(4))).all()
    assert (done[:, :, known] == x[:2][:, :, known]).all() and (done != x[:2]).any()


def test_the_network_sees_pixels_and_how_far_they_are_from_their_prediction():
    model = PixelCNNpp((3, 8, 8))
    write(model.base.log_s, lambda log_s: np.copyto(log_s, [-1, -2, -3]))
    v, a = RNG(5).uniform(-1, 1, (2, 2, 3, 8, 8)).astype(np.float32)
    seen = model.inputs(v, a)
    assert np.array_equal(seen[:, :3], v) and (seen[:, 6] == 1).all()
    for c, s in enumerate(np.exp([-1, -2, -3])):
        assert np.allclose(np.sinh(seen[:, 3 + c]), (v[:, c] - a[:, c]) / s / 4, atol=1e-5)


def test_all_that_describes_the_mixture_learns():
    """Mixture weights, means, scales and colour coefficients: each is a row of the last layer."""
    model, x = rough(3)
    slope = grad(model.loss(x[:8]), model.last.weight).numpy()
    assert (np.abs(slope).max((1, 2, 3)) > 1e-3).all()


def test_it_starts_at_the_linear_predictor():
    x = images(50, 3)
    linear = LinearPredictor(3).fit(x)
    model = PixelCNNpp((3, 8, 8), linear, (4, 4), (1, 1), K=1, rng=RNG(0))
    model.last.weight.data[...] = 0
    assert np.allclose(model.log_prob(x).numpy(), linear.log_prob(x).numpy(), rtol=1e-4)
    assert {"base.weight", "base.B", "base.log_s"} <= nn.state_dict(model).keys()
    assert not any(key.startswith("base") for key in nn.parameters(model))


@pytest.mark.parametrize("fitted", [True, False])
def test_it_learns(fitted):
    x = images(16, 3)
    linear = LinearPredictor(3).fit(x) if fitted else None
    model = PixelCNNpp((3, 8, 8), linear, (8, 8), (1, 1), rng=RNG(0))
    opt = optim.Adam(nn.parameters(model), 3e-3)
    losses = []
    for _ in range(25):
        loss = model.loss(x)
        losses.append(loss.item())
        opt.step(grad(loss, opt.params))
    assert losses[0] == pytest.approx(-model.log_prob(x).numpy().mean(), rel=0.5)
    assert losses[-1] < losses[0] - 20
    assert model.log_prob(x).shape == (16,) and model.sample(3, RNG(1)).shape == (3, 3, 8, 8)


def test_bad_input_is_one_line():
    with pytest.raises(ValueError, match="divisible by 4 to be halved 2 times, got 8×30"):
        PixelCNNpp((3, 8, 30))
    with pytest.raises(ValueError, match="2 widths came with 1 depths"):
        PixelCNNpp((3, 8, 8), widths=(4, 4), depths=(1,))
    with pytest.raises(ValueError, match="images of 3 channels with a base for 1"):
        PixelCNNpp((3, 8, 8), LinearPredictor(1))
    grey = np.zeros((4, 1, 8, 8), np.uint8)
    for call in (LinearPredictor(3).fit, LinearPredictor(3).log_prob):
        with pytest.raises(ValueError, match=r"are \(4, 1, 8, 8\), expected \(N, 3, H, W\)"):
            call(grey)
    with pytest.raises(ValueError, match="no images came"):
        LinearPredictor(1).fit(grey[:0])
    model = PixelCNNpp((3, 8, 8), widths=(4,), depths=(1,))
    for x, error, message in (
            (np.zeros((2, 3, 8, 8), np.float32), TypeError, "expected integers 0 … 255, got float"),
            (np.full((2, 3, 8, 8), 256), ValueError, "expected integers 0 … 255, got values from"),
            (np.zeros((2, 1, 8, 8), int), ValueError, r"images of \(1, 8, 8\), expected \(3, ")):
        for call in (model.log_prob, lambda x: model.complete(x, False, RNG(0))):
            with pytest.raises(error, match=message) as e:
                call(x)
            assert "\n" not in str(e.value)
    with pytest.raises(ValueError, match=r"known is \(3, 3\), expected \(8, 8\)"):
        model.complete(np.zeros((2, 3, 8, 8), int), np.zeros((3, 3), bool), RNG(0))


def test_the_demo_from_nothing_on_grey_images(tmp_path):
    module = importlib.import_module("demos.pixelcnn_pp")
    module.main(["--quick", "--plain", "--data", "glyphs", "--out", str(tmp_path)])
    assert (tmp_path / "completions.png").exists()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 8 > metrics["bits_per_dim"] > metrics["linear_predictor_bits_per_dim"] > 1
    assert "linear_predictor_passed_after_steps" not in metrics
