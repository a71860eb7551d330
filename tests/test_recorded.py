"""Recorded steps do what the same calls do without recording: on a stand-in for CuPy whose streams
capture, and, marked `gpu`, on CuPy and a device."""

import numpy as np
import pytest

import minigen as mg
from minigen import nn, optim
from minigen.models.autoregressive.pixelcnn import pixelcnn
from minigen.models.diffusion import schedule, threshold
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.gan import dcgan, gan
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.vae import conv_vae
from minigen.random import Philox
from minigen.recorded import Recorded
from minigen.train import descend

IMAGES = (np.random.default_rng(3).random((3, 3, 1, 8, 8)) < 0.4).astype(np.float32)
RATES = [0.01 / (t + 1) for t in range(len(IMAGES))]


def diffusion():
    return DDPM(denoiser((1, 8, 8), widths=(8, 8), D=16), schedule.linear(50))


def training_step(model, opt, rng):
    return lambda x: descend(opt, *model.loss(2 * x - 1, rng), max_norm=0.5)


def diffusion_step(model, opt, rng):
    return lambda x: descend(opt, model.loss(2 * x - 1, rng), max_norm=0.5)


def pixel_step(model, opt, rng):
    return lambda x: descend(opt, model.loss(x.astype(np.int64)))


def text_step(model, opt, rng):
    return lambda x: descend(opt, model.loss(1 + x[:, 0, :4, 0].astype(np.int64)))


def gan_step(game, opt, rng):
    opt_g = optim.SGD(nn.parameters(game.G), 0.01)
    return lambda x: gan.algorithm_1(game, opt, opt_g, lambda i: (2 * x - 1,), k=2)(0, rng)


MODELS = {
    "vae": (lambda: conv_vae.convolutional((1, 8, 8), 3), training_step),
    "ddpm": (diffusion, diffusion_step),
    "pixelcnn": (lambda: pixelcnn((1, 8, 8), 2, 12, 2), pixel_step),
    "language_model": (lambda: LanguageModel(3, 4, 8, 1, 2), text_step),
    "dcgan": (lambda: dcgan.dcgan((1, 8, 8), 3, 4), gan_step),
}


def trained(name, recorded, device="cuda"):
    """After three steps of a model: its weights and averages, what each step returned, how often
    Python ran the step, and the counters of the optimiser, the averages and the noise."""
    build, make = MODELS[name]
    model, rng = build(), Philox(5, device)
    nn.init(model, np.random.default_rng(0))
    nn.to(model, device)
    opt = optim.Adam(nn.parameters(model.D if name == "dcgan" else model))
    ema, step, seen = nn.EMA(opt.params), make(model, opt, rng), []

    def full_step(x):
        numbers = step(x)
        ema.update()
        seen.append(x)
        return numbers

    call = Recorded(full_step) if recorded else full_step
    results = []
    for t, x in enumerate(IMAGES):
        opt.lr = RATES[t]
        results.append(call(rng.xp.asarray(x)))
    average = {key: rng.xp.asarray(a) for key, a in ema.average.items()}
    return (nn.state_dict(model), {key: mg.tensor(a).numpy() for key, a in average.items()},
            results, len(seen), (opt.t, ema.t, rng.t))


@pytest.mark.parametrize("name", MODELS)
def test_training_steps(cupy, name, request):
    # a device adds up the gradients of an embedding in no fixed order
    ordered = name != "language_model" or not request.node.get_closest_marker("gpu")
    tolerances = {"rtol": 0, "atol": 0} if ordered else {"rtol": 1e-5, "atol": 1e-6}
    weights, averages, results, _, counts = trained(name, recorded=False)
    replayed = trained(name, recorded=True)
    for one, other in zip((weights, averages), replayed, strict=False):
        for key, a in one.items():
            np.testing.assert_allclose(other[key], a, err_msg=key, **tolerances)
    assert replayed[3:] == (2, counts)
    assert replayed[2] == (results if ordered else [pytest.approx(r, rel=1e-5) for r in results])
    assert not np.array_equal(averages[next(iter(averages))], weights[next(iter(weights))])
    here, *_, on_cpu = trained(name, recorded=False, device="cpu")
    assert on_cpu == counts
    for key, a in here.items():
        there = weights[key]
        if key.endswith("in_proj_bias"):
            # softmax does not depend on the keys' biases: their gradient is rounding error, of
            # which Adam's steps may make full ones, in opposite directions
            keys = slice(len(a) // 3, 2 * len(a) // 3)
            assert np.abs(there[keys] - a[keys]).max() <= 2 * sum(RATES)
            a, there = (np.delete(v, keys) for v in (a, there))
        np.testing.assert_allclose(there, a, rtol=1e-2, atol=3e-3, err_msg=key)


def drawn_back(model, rng):
    few = schedule.respaced(model.schedule, 2)
    sampler = DDPM(model.net, few, sigma2=few.beta_tilde)
    return sampler.sample(2, (1, 8, 8), rng, threshold=threshold.static)


@pytest.mark.parametrize("build, sample", [
    (diffusion, drawn_back),
    (lambda: pixelcnn((1, 3, 3), 4, 12, 1), lambda model, rng: model.sample(6, rng)),
    (lambda: dcgan.dcgan((1, 8, 8), 3, 4), lambda game, rng: game.sample(2, rng)),
    (lambda: conv_vae.convolutional((1, 8, 8), 3), lambda model, rng: model.generate(2, rng).mean),
], ids=["ddpm", "pixelcnn", "dcgan", "vae"])
def test_sampling_loops(cupy, build, sample):
    model = build()
    nn.init(model, np.random.default_rng(0))
    nn.to(model, "cuda")

    def three(wrap):
        rng = Philox(1, "cuda")
        draw = wrap(lambda: sample(model, rng))
        return [mg.tensor(draw()).numpy().copy() for _ in range(3)]

    images = three(lambda f: f)
    np.testing.assert_array_equal(three(Recorded), images)
    assert not np.array_equal(images[1], images[2])


def test_many_arrays_are_joined(cupy):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    join = Recorded(lambda x: mg.concatenate([x + i for i in range(70)]))
    for k in range(3):
        expected = np.concatenate([x + k + i for i in range(70)])
        np.testing.assert_array_equal(join(cupy.asarray(x + k)).numpy(), expected)


def linear(cupy):
    w = mg.tensor(np.ones((3, 2), np.float32), requires_grad=True)
    nn.to([w], "cuda")
    return w, optim.SGD([w], 0.1)


def test_what_a_recording_cannot_do_is_said(cupy):
    w, opt = linear(cupy)
    x, rng = np.ones((4, 3), np.float32), np.random.default_rng(0)

    def noisy(x):
        return descend(opt, mg.mean((x @ w) * rng.random((4, 2), np.float32)))

    step = Recorded(noisy)
    step(x)
    with pytest.raises(TypeError, match=r"an array \(4, 2\) float32 from the host"):
        step(x)
    with pytest.raises(TypeError, match="about to read a number from the device"):
        Recorded(lambda x: {"loss": mg.mean(x @ w).item()})(x)

    calls = []
    step = Recorded(lambda x: calls.append(descend(opt, mg.mean(x @ w))) or calls[-1])
    for _ in range(3):
        step(x)
    with pytest.raises(TypeError, match=r"recorded with \[\(\(4, 3\), .*given \[\(\(2, 3\)"):
        step(x[:2])
    loss = mg.mean(mg.square(mg.tensor(cupy.asarray(x)) @ w))
    step(x)
    with pytest.raises(RuntimeError, match="written"):
        mg.grad(loss, [w])
    nn.to([w], "cpu")
    with pytest.raises(TypeError, match="was moved since"):
        step(x)


def test_a_recording_that_fails_counts_nothing(cupy):
    w, opt = linear(cupy)
    step = Recorded(lambda x: descend(opt, mg.mean(x @ w)) | {
        "noise": mg.tensor(np.random.default_rng(opt.t).random(1, np.float32)) * x[0, 0]})
    x = np.ones((4, 3), np.float32)
    step(x)
    for _ in range(2):
        with pytest.raises(TypeError, match="from the host"):
            step(x)
        assert opt.t == 1


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
def test_a_gradient_that_is_not_finite_is_explained(cupy):
    w, opt = linear(cupy)
    step = Recorded(lambda x: descend(opt, mg.mean(mg.sqrt(x @ w))))
    x = np.ones((4, 3), np.float32)
    for _ in range(3):
        before, t = w.numpy().copy(), opt.t
        with pytest.raises(FloatingPointError, match="gradient by 0 is not finite.* sqrt"):
            step(0 * x)
        np.testing.assert_array_equal(w.numpy(), before)
        assert opt.t == t
        step(x)
        assert opt.t == t + 1


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_step_of_several_optimisers_is_not_done_twice(cupy):
    (w, opt), (v, other) = linear(cupy), linear(cupy)
    step = Recorded(lambda x: descend(opt, mg.mean(mg.square(x @ w)))
                    | descend(other, mg.mean(mg.log(x @ v)), name="other"))
    x = np.ones((4, 3), np.float32)
    step(x)
    for _ in range(2):
        before = w.numpy().copy()
        with pytest.raises(FloatingPointError, match="other is nan in a step that was recorded"):
            step(-x)
        assert not np.array_equal(w.numpy(), before)
        step(x)
    assert np.isfinite(v.numpy()).all()


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_step_that_has_written_is_not_done_twice(cupy):
    w, opt = linear(cupy)
    step = Recorded(lambda x: descend(opt, mg.mean(x @ w), {"part": mg.log(x[0, 0])}))
    x = np.ones((4, 3), np.float32)
    x[0, 0] = 0
    for t in range(1, 4):  # in the first call, in the recorded one, in a replay
        with pytest.raises(FloatingPointError, match="part is -inf in a step that was recorded"):
            step(x)
        np.testing.assert_allclose(w.numpy()[1:], 1 - 0.1 * t / 2, rtol=1e-6)
        assert opt.t == t


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_number_that_is_not_finite_is_said_without_an_optimiser(cupy):
    step = Recorded(lambda x: {"part": mg.mean(mg.log(x))})
    for _ in range(3):
        with pytest.raises(FloatingPointError, match="part is -inf in a step that was recorded"):
            step(np.zeros(3, np.float32))


def test_a_parameter_that_is_only_read_is_missed(cupy):
    w, _ = linear(cupy)
    draw = Recorded(lambda: w * 2)
    for _ in range(3):
        draw()
    nn.to([w], "cpu")
    nn.to([w], "cuda")
    with pytest.raises(TypeError, match="was moved since"):
        draw()


def test_a_label_out_of_range_writes_nothing_and_is_explained(cupy):
    w, opt = linear(cupy)
    step = Recorded(lambda x, t: descend(opt, mg.cross_entropy(x @ w, t)))
    x, t = np.ones((4, 3), np.float32), np.zeros(4, int)
    for label in (2, -1, 7):  # in the first call, in the recorded one, in a replay
        before = w.numpy().copy()
        with pytest.raises(IndexError, match="cross_entropy: indices must lie in 0…1"):
            step(x, t + label)
        np.testing.assert_array_equal(w.numpy(), before)
        step(x, t)


def test_a_loss_with_an_axis(cupy):
    w, opt = linear(cupy)
    step = Recorded(lambda x: descend(opt, mg.mean(x @ w)[None]))
    assert [step(np.ones((4, 3), np.float32))["loss"] for _ in range(3)] == pytest.approx(
        [3, 2.85, 2.7])


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_number_that_is_not_finite_writes_nothing_and_is_explained(cupy):
    w, opt = linear(cupy)
    rng = Philox(0, "cuda")
    step = Recorded(lambda x: descend(opt, mg.mean(mg.log(x @ w) + rng.random((4, 2)).astype(
        np.float32))))
    x = np.ones((4, 3), np.float32)
    for bad in range(4):  # in the first call, in the recorded one, in replays
        before, t = w.numpy().copy(), opt.t
        with pytest.raises(FloatingPointError, match="the loss is nan: .* come from log"):
            step(-x)
        np.testing.assert_array_equal(w.numpy(), before)
        assert opt.t == t == bad
        assert np.isfinite(step(x)["loss"])
        assert opt.t == t + 1 and not np.array_equal(w.numpy(), before)


def test_a_mask_cannot_be_recorded(cupy):
    x = cupy.asarray(np.array([1.0, -1.0, 2.0]))
    with pytest.raises(TypeError, match="cannot pick by a mask.*use where"):
        Recorded(lambda x: mg.tensor(x)[x > 0])(x)
    assert Recorded(lambda x: mg.where(x > 0, x, 0.0))(x).numpy().tolist() == [1, 0, 2]
