"""The autoregressive models as a whole: they learn, sample, complete, refuse invalid input, and
train as PyTorch's do."""

import importlib
import json

import numpy as np
import pytest

from minigen import grad, metrics, nn, no_grad, optim
from minigen.data import glyphs
from minigen.models.autoregressive.conditional_pixelcnn import conditional
from minigen.models.autoregressive.decoding import greedy, sample, temperature
from minigen.models.autoregressive.gated_pixelcnn import gated_pixelcnn
from minigen.models.autoregressive.pixelcnn import pixelcnn
from minigen.models.autoregressive.pixelcnn_pp import PixelCNNpp
from minigen.models.autoregressive.pixelrnn import pixelrnn
from minigen.models.autoregressive.rnn import RNN
from minigen.models.autoregressive.structure_pixelcnn import structure_pixelcnn

RNG = np.random.default_rng

BUILD = {
    "pixelrnn": lambda shape, V: pixelrnn(shape, V, 8),
    "pixelcnn": lambda shape, V: pixelcnn(shape, V, 18, 2),
    "gated_pixelcnn": lambda shape, V: gated_pixelcnn(shape, V, 18, 2),
}


def stripes(n, shape, V, rng):
    """Images whose rows are constant: easy to learn."""
    return np.broadcast_to(rng.integers(0, V, (n, *shape[:2], 1)), (n, *shape)).copy()


def learn(model, batch, steps, lr=0.01):
    opt, losses = optim.Adam(nn.parameters(model), lr), []
    for t in range(steps):
        loss = model.loss(*batch(RNG((0, t))))
        losses.append(loss.item())
        opt.step(grad(loss, opt.params))
    return losses


@pytest.mark.parametrize("name", BUILD)
def test_no_images_are_drawn_as_none(name):
    assert BUILD[name]((1, 4, 4), 2).sample(0, RNG(0)).shape == (0, 1, 4, 4)


@pytest.mark.parametrize("name, shape, V", [*((name, (1, 6, 6), 2) for name in BUILD),
                                            ("pixelcnn", (3, 5, 5), 4),
                                            ("gated_pixelcnn", (3, 5, 5), 4)])
def test_every_model_learns_draws_and_completes(name, shape, V):
    model = BUILD[name](shape, V)
    nn.init(model, RNG(0))
    losses = learn(model, lambda rng: (stripes(16, shape, V, rng),), 120)
    # only the first value of each row is uncertain: log V each
    assert losses[-1] < losses[0] / 2 and losses[-1] > shape[0] * shape[1] * np.log(V) - 2
    x = model.sample(20, RNG(1))
    assert x.shape == (20, *shape) and x.dtype.kind == "i" and x.min() >= 0 and x.max() < V
    flat = (x == x[..., :1]).mean()
    assert flat > 0.8, flat
    with no_grad():
        log_p = model.log_prob(stripes(8, shape, V, RNG(2)))
    assert log_p.shape == (8,) and log_p.dtype == np.float32

    known = np.zeros((20, *shape), bool)
    known[:, :, ::2, :2] = True  # a mask with holes, which may differ between images
    known[5] = True
    done = model.complete(stripes(20, shape, V, RNG(3)), known, RNG(4))
    assert (done[known] == stripes(20, shape, V, RNG(3))[known]).all()
    assert (done == done[..., :1]).mean() > 0.7
    bolder = model.sample(3, RNG(5), choose=lambda s, rng: sample(temperature(s, 0.1), rng))
    best = model.sample(3, RNG(5), choose=greedy)
    assert bolder.shape == best.shape and (best == best[:1]).all()


def test_the_label_decides():
    def batch(rng):
        y = rng.integers(0, 3, 16)
        return np.broadcast_to((y % 2)[:, None, None, None], (16, 1, 5, 5)), y

    model = conditional((1, 5, 5), 3, 2, 16, 1)
    nn.init(model, RNG(0))
    assert learn(model, batch, 80)[-1] < 1
    drawn = model.sample(30, RNG(1), np.repeat([0, 1, 2], 10)).reshape(3, -1).mean(1)
    assert drawn[0] < 0.1 and drawn[1] > 0.9 and drawn[2] < 0.1
    with pytest.raises(IndexError, match=r"0…2, got 3…3"):
        model.sample(1, RNG(0), np.array([3]))


def test_a_label_is_that_of_its_image_or_of_all():
    model = conditional((1, 4, 4), 3, 2, 4, 1, RNG(0))
    x = RNG(1).integers(0, 2, (8, 1, 4, 4))
    one = model.log_prob(x, np.array([2])).numpy()
    assert np.allclose(one, model.log_prob(x, np.full(8, 2)).numpy())
    assert not np.allclose(one, model.log_prob(x, np.array([1])).numpy())
    for wrong in ([0, 1], np.zeros(16, int)):
        with pytest.raises(ValueError, match="could not be broadcast"):
            model.log_prob(x, wrong)


def test_the_text_decides_what_and_the_map_where():
    """One code of the text makes objects white, the other makes their background white."""
    def batch(rng):
        kind = rng.integers(0, 2, (16, 1, 1, 5)).repeat(5, 2)
        t = rng.integers(0, 2, (16, 1))
        return kind ^ t[:, :, None, None], t.astype(np.float32)[..., None], kind

    model = structure_pixelcnn((1, 5, 5), 1, 2, 2, 8, 1, 8)
    nn.init(model, RNG(0))
    assert learn(model, batch, 120)[-1] < 1
    x, *given = batch(RNG(1))
    assert (model.sample(16, RNG(2), *given) == x).mean() > 0.95
    with pytest.raises(IndexError, match=r"0…1, got 2…3"):
        model.log_prob(x, given[0], given[1] + 2)


@pytest.mark.parametrize("build", [lambda: pixelcnn((1, 4, 4), 256, 4, 1, RNG(0)),
                                   lambda: PixelCNNpp((1, 4, 4), None, (4,), (1,), rng=RNG(0))])
def test_completed_images_hold_all_levels(build):
    x, known = np.zeros((3, 1, 4, 4), np.int8), np.arange(4) < 1
    drawn = build().complete(x, known, RNG(1))
    assert (drawn == build().complete(x.astype(int), known, RNG(1))).all() and drawn.max() > 127


def test_the_rnn_learns_to_count():
    def batch(rng):
        return ((rng.integers(0, 5, (16, 1)) + np.arange(6)) % 5,)

    model = RNN(5, 16)
    nn.init(model, RNG(0))
    assert learn(model, batch, 150)[-1] == pytest.approx(np.log(5), abs=0.3)
    drawn = model.sample(20, 6, RNG(1))
    assert (np.diff(drawn, axis=1) % 5 == 1).mean() > 0.9
    found, _ = model.most_probable(6, 5)
    assert sorted(found[:, 0]) == list(range(5)) and (np.diff(found, axis=1) % 5 == 1).all()


@pytest.mark.parametrize("x, error, says", [
    (np.full((2, 1, 4, 4), 2), ValueError, "expected integers 0 … 1, got values from 2 to 2"),
    (np.full((2, 1, 4, 4), -1), ValueError, "expected integers 0 … 1, got values from -1 to -1"),
    (np.zeros((2, 1, 4, 4)), TypeError, "expected integers 0 … 1, got float64: pass levels"),
    (np.zeros((2, 3, 4, 4), int), ValueError,
     r"images are \(2, 3, 4, 4\), expected \(N, 1, 4, 4\)"),
])
def test_images_it_cannot_read_are_refused(x, error, says):
    model = pixelcnn((1, 4, 4), 2, 4, 1)
    for call in (model.loss, model.log_prob, lambda x: model.complete(x, True, RNG(0))):
        with pytest.raises(error, match=says) as e:
            call(x)
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("call, says", [
    (lambda: nn.MaskedConv2d(1, 4, 3, "C"), 'mask must be "A", "B" or "rows", got \'C\''),
    (lambda: nn.MaskedConv2d(1, 4, 4), "kernel_size must be odd"),
    (lambda: nn.MaskedConv2d(3, 4, 3, "A", 3), "3 colours must divide in_channels 3 and out_cha"),
    (lambda: pixelrnn((3, 4, 4)), r"grey images \(1, H, W\), got \(3, 4, 4\)"),
    (lambda: RNN(3).log_prob(np.zeros(4, int)), r"sequences are \(4,\), expected \(N, T\)"),
    (lambda: RNN(3).log_prob(np.zeros((4, 0), int)), r"are \(4, 0\), expected \(N, T\), T ≥ 1"),
    (lambda: pixelcnn((1, 4, 4), 2, 4, 1).complete(np.zeros((2, 1, 4, 4), int), np.ones((3, 3)),
                                                   RNG(0)),
     r"known is \(3, 3\), expected \(2, 1, 4, 4\)"),
])
def test_what_cannot_be_built_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_the_mask_is_neither_parameter_nor_buffer():
    layer = nn.MaskedConv2d(2, 4, 3)
    assert set(nn.state_dict(layer)) == {"weight", "bias"}
    assert layer.mask.shape == layer.weight.shape


def test_the_demo_in_colour_and_with_more_levels(tmp_path):
    module = importlib.import_module("demos.pixelcnn")
    module.main(["--quick", "--out", str(tmp_path / "a"), "--levels", "5"])
    assert {"completions.png", "temperature.png"} <= {p.name for p in (tmp_path / "a").iterdir()}
    found = json.loads((tmp_path / "a/metrics.json").read_text())
    bits = metrics.bits_per_dim(found["test_nll_nats"], 28 * 28)
    assert found["bits_per_dim"] == pytest.approx(bits) and bits < np.log2(5) + 1
    with pytest.raises(ValueError, match="--levels is 300.*at most 256"):
        module.main(["--quick", "--out", str(tmp_path / "b"), "--levels", "300"])


@pytest.mark.parity
def test_thirty_adam_steps_of_pixelcnn_equal_pytorchs():
    """The same weights and data, float64; the network written in PyTorch from the formulas."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    model = pixelcnn((1, 14, 14), 2, 16, 3)
    nn.init(model, RNG(0))
    nn.astype(model, np.float64)
    theirs = {k: torch.from_numpy(v).requires_grad_() for k, v in nn.state_dict(model).items()}

    def conv(x, key, mask=None):
        w = theirs[f"net.{key}.weight"]
        if mask is not None:
            flat = torch.ones(w.shape[2] * w.shape[3], dtype=torch.float64)
            centre = len(flat) // 2
            flat[centre + (mask == "B"):] = 0
            w = w * flat.reshape(w.shape[2:])
        return F.conv2d(x, w, theirs[f"net.{key}.bias"], padding=w.shape[2] // 2)

    def network(x):
        h = conv(x, "first", "A") + theirs["net.position_bias.bias"]
        for block in range(3):
            h = h + conv(torch.relu(h), f"blocks.{block}", "B")
        return conv(torch.relu(conv(torch.relu(h), "head")), "last")

    ours = optim.Adam(nn.parameters(model), lr=2e-3)
    opt = torch.optim.Adam(theirs.values(), lr=2e-3)
    images = glyphs.load(n_train=64, n_test=1).train_x[:, :, ::2, ::2] / np.float32(255)
    for t in range(30):
        x = metrics.binarise(images[RNG((1, t)).integers(0, 64, 8)], RNG((2, t))).astype(np.uint8)
        loss = model.loss(x)
        ours.step(grad(loss, ours.params))
        tx = torch.from_numpy(x.astype(np.float64))
        expected = F.binary_cross_entropy_with_logits(network(2 * tx - 1), tx,
                                                      reduction="sum") / len(x)
        opt.zero_grad()
        expected.backward()
        opt.step()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-8), t
    for key, value in theirs.items():
        found = nn.state_dict(model)[key]
        assert np.allclose(found, value.detach().numpy(), rtol=1e-6, atol=1e-9)
