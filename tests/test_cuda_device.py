"""The device gives the results of the CPU: on a stand-in for CuPy that refuses NumPy's arrays and
runs kernels in the emulator, and, marked `gpu`, on CuPy and a device."""

import importlib
import json
import types

import numpy as np
import pytest
from op_table import TABLE

import minigen as mg
from minigen import grad, nn, optim, tensor
from minigen.demo import QUICK
from minigen.models.autoregressive import decoding
from minigen.models.autoregressive.linear_predictor import LinearPredictor
from minigen.models.autoregressive.pixelcnn import pixelcnn
from minigen.models.autoregressive.pixelcnn_pp import PixelCNNpp
from minigen.models.autoregressive.rnn import RNN
from minigen.models.classifier.lenet import LeNet
from minigen.models.clip.clip import CLIP, ImageEncoder, TextEncoder
from minigen.models.diffusion import schedule
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.improved_ddpm import ImprovedDDPM
from minigen.models.diffusion.super_resolution import super_resolution
from minigen.models.gan import dcgan, gan, wgan_gp
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.prior.deep_image_prior import DeepImagePrior
from minigen.models.vae import conv_vae, vae, vae_gan
from minigen.models.vae.vq_vae import Codebook
from minigen.train import UserError


@pytest.mark.parametrize("name, f, arrays, expected", TABLE, ids=[
    f"{row[0]}-{i}" for i, row in enumerate(TABLE)])
def test_every_op(cupy, name, f, arrays, expected):
    def value_and_gradients(put):
        xs = [tensor(put(a), requires_grad=True) for a in arrays]
        y = f(*xs)
        return [y.data] + [g.data for g in grad(mg.tanh(y).sum(), xs)]
    for here, there in zip(value_and_gradients(np.asarray), value_and_gradients(cupy.asarray),
                           strict=True):
        assert type(there) is cupy.ndarray and there.dtype == here.dtype
        np.testing.assert_allclose(cupy.asnumpy(there), here, rtol=1e-9, atol=1e-11)


RNG = np.random.default_rng


def two_steps(build, data, loss=lambda model, *data, rng: model.loss(*data, rng=rng)[0]):
    """Two training steps of a model, from the same weights and noise on every device. With SGD,
    because Adam's first step is equally large even for gradients that are only rounding error."""
    def run(device, put):
        model = build()
        nn.init(model, RNG(0))
        nn.to(model, device)
        opt = optim.SGD(nn.parameters(model), 0.1, momentum=0.9)
        for t in range(2):
            opt.step(grad(loss(model, *map(put, data), rng=RNG((0, t))), opt.params))
        return nn.state_dict(model)
    return run


def gan_step(build):
    """One step of the game of a GAN's two networks."""
    def run(device, put):
        game = build()
        nn.init(game, RNG(0))
        nn.to(game, device)
        opts = [optim.SGD(nn.parameters(net), 0.1) for net in (game.D, game.G)]
        x = RNG(2).uniform(-1, 1, game.sample(4, RNG(1)).shape).astype(np.float32)
        gan.algorithm_1(game, *opts, lambda i: (put(x),), k=1)(0, RNG((0, 0)))
        return nn.state_dict(game)
    return run


IMAGES = (RNG(3).random((4, 1, 8, 8)) < 0.4).astype(np.float32)
BYTES = (255 * IMAGES).astype(np.uint8)
SMALL, WORDS = IMAGES[:, :, ::2, ::2].copy(), np.array([[1, 2, 0], [3, 0, 0], [4, 1, 2], [2, 2, 0]])
MODELS = {
    "vae": two_steps(lambda: vae.fully_connected((1, 8, 8), 3), (IMAGES,)),
    "conv_vae": two_steps(lambda: conv_vae.convolutional((1, 8, 8), 3), (IMAGES,)),
    "vae_gan": two_steps(lambda: vae_gan.vae_gan((1, 8, 8), 3, 4), (2 * IMAGES - 1,),
                         lambda model, x, rng: sum(model.losses(tensor(x), rng))),
    "pixelcnn": two_steps(lambda: pixelcnn((1, 8, 8), 2, 12, 2), (IMAGES.astype(np.int64),),
                          lambda model, x, rng: model.loss(x)),
    "pixelcnn_pp": two_steps(
        lambda: PixelCNNpp((1, 8, 8), LinearPredictor(1).fit(BYTES), (4,), (1,)), (),
        lambda model, rng: model.loss(BYTES)),
    "ddpm": two_steps(lambda: DDPM(denoiser((1, 8, 8), widths=(8, 8), D=16), schedule.linear(50)),
                      (2 * IMAGES - 1,), lambda model, x, rng: model.loss(x, rng)),
    "improved_ddpm": two_steps(
        lambda: ImprovedDDPM(denoiser((1, 8, 8), (8, 8), D=16, outputs=2), schedule.linear(50)),
        (2 * IMAGES - 1,)),
    "rnn": two_steps(lambda: RNN(5, 8), (), lambda model, rng: -model.log_prob(WORDS).mean()),
    "super_resolution": two_steps(
        lambda: DDPM(super_resolution((1, 8, 8), (8, 8), D=16), schedule.linear(50)),
        (2 * IMAGES - 1, 2 * SMALL - 1), lambda model, x, y, rng: model.loss(x, rng, y)),
    "lenet": two_steps(LeNet, (RNG(4).random((3, 1, 28, 28), np.float32), np.arange(3)),
                       lambda net, x, y, rng: mg.cross_entropy(net(x), y)),
    "clip": two_steps(
        lambda: CLIP(ImageEncoder((1, 8, 8), 4, (4, 8)), TextEncoder(5, 3, 4, 8, 1, 2)),
        (IMAGES, WORDS), lambda model, x, c, rng: model.loss(x, c)[0]),
    "language_model": two_steps(lambda: LanguageModel(5, 3, 8, 1, 2), (),
                                lambda model, rng: model.loss(WORDS)),
    "dcgan": gan_step(lambda: dcgan.dcgan((1, 8, 8), 3, 4)),
    "wgan_gp": gan_step(lambda: wgan_gp.wgan_gp((1, 8, 8), 3, 4)),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_takes_a_step(cupy, name):
    here, there = MODELS[name]("cpu", np.asarray), MODELS[name]("cuda", cupy.asarray)
    for key, a in here.items():
        np.testing.assert_allclose(there[key], a, rtol=1e-3, atol=1e-4, err_msg=key)


def test_weights_are_drawn_on_the_device_as_on_the_cpu(cupy):
    def drawn(device, put):
        parts = [LeNet(), PixelCNNpp((1, 8, 8), None, (4,), (1,)), Codebook(4, 3),
                 DeepImagePrior((1, 8, 8), (4, 4), 4), Codebook(5, 4)]
        nn.to(parts, device)
        nn.init(parts, RNG(5))
        parts[-1].init_from(tensor(put(IMAGES.reshape(2, 4, 4, 8))), RNG(6))
        return nn.state_dict(parts)
    here, there = drawn("cpu", np.asarray), drawn("cuda", cupy.asarray)
    for key, a in here.items():
        np.testing.assert_array_equal(there[key], a, err_msg=key)


def test_samples_are_chosen_on_the_device(cupy):
    model, noise = pixelcnn((1, 4, 4), 3, 12, 2), RNG(9).random((16, 4, 1))
    nn.init(model, RNG(0))
    begun, known = RNG(1).integers(0, 3, (4, 1, 4, 4)), np.arange(4)[:, None] < 2

    def drawn(put):
        uniform = iter(noise)
        rng = types.SimpleNamespace(random=lambda shape: next(uniform).reshape(shape))
        rule = lambda s, rng: decoding.sample(decoding.top_p(decoding.top_n(s, 2), 0.9), rng)
        return model.complete(put(begun), known, rng, choose=rule)
    here = drawn(np.asarray)
    nn.to(model, "cuda")
    there = drawn(cupy.asarray)
    assert type(there) is cupy.ndarray and (cupy.asnumpy(there) == here).all()
    assert (here[:, :, :2] == begun[:, :, :2]).all() and (here != begun).any()


def test_pixelcnn_pp_draws_on_the_device(cupy):
    model = PixelCNNpp((1, 4, 4), LinearPredictor(1).fit(BYTES), (4,), (1,))
    nn.init(model, RNG(0))
    here = model.sample(3, RNG(1))
    nn.to(model, "cuda")
    there = model.sample(3, RNG(1))
    assert np.abs(there - here).max() <= 1 and here.std() > 10  # levels are rounded


def test_what_requires_grad_stays_where_it_was_put(cupy):
    a, b = tensor([1.0, 2.0], requires_grad=True), tensor(cupy.asarray(np.ones(2, np.float32)))
    with pytest.raises(TypeError, match="multiply.*: move the model with nn.to"):
        a * b
    nn.to([a], "cuda")
    assert type((a * b).data) is cupy.ndarray
    nn.to([a], "cpu")
    assert type(a.data) is np.ndarray


def test_constants_of_the_host_follow_what_they_meet(cupy):
    a, b = RNG(7).normal(size=(2, 3, 4)).astype(np.float32)
    t, w = np.array([1, 3, 0]), np.array([1, 2, 0.5, 3], np.float32)
    put = lambda x: tensor(cupy.asarray(x))
    for y, want in ((put(a) < b, a < b), (mg.less(b, put(a)), b < a),
                    (mg.less(0.5, put(a)), a > 0.5), (put(t) == t, t == t),
                    (mg.where(put(a) > 0, 1.0, -1.0), np.sign(a)),
                    (mg.where(put(a) > 0, tensor(a), b), np.where(a > 0, a, b))):
        assert type(y.data) is cupy.ndarray
        np.testing.assert_array_equal(y.numpy(), want)
    want = mg.cross_entropy(a, t, w, label_smoothing=0.1).item()
    for targets, weight in ((put(t), w), (t, put(w)), (put(t), put(w))):
        y = mg.cross_entropy(put(a), targets, weight, label_smoothing=0.1)
        assert y.item() == pytest.approx(want, rel=1e-5)


def test_shifts_may_be_an_array(cupy):
    x = tensor(cupy.asarray(np.arange(12.0).reshape(3, 4)), requires_grad=True)
    y = mg.roll(x, np.array([1, 2]), (0, 1))
    np.testing.assert_array_equal(y.numpy(), np.roll(np.arange(12.0).reshape(3, 4), (1, 2), (0, 1)))
    g, = grad((y * np.arange(12.0).reshape(3, 4)).sum(), [x])
    np.testing.assert_array_equal(g.numpy(), np.roll(np.arange(12.0).reshape(3, 4), (-1, -2),
                                                     (0, 1)))


def test_indices_beyond_an_axis_are_told_before_they_are_copied(cupy):
    x = tensor(cupy.asarray(np.zeros((2, 5, 3), np.float32)))
    for index in ([2], [-3], (0, [5]), (..., [3]), (None, 1, [-6]), (slice(1), [[0, 1], [2, 5]])):
        with pytest.raises(IndexError, match="indices are .* but axis . of .2, 5, 3. has length"):
            x[index]
    for index in ((..., None, [3]), (np.ones((2, 5), bool), [5]), (True, [2]), ([0], [5], [0])):
        with pytest.raises(IndexError, match="but axis . of .2, 5, 3. has length"):
            x[index]
    with pytest.raises(IndexError, match="getitem.*too many indices"):
        x[0, 0, 0, [0]]
    with pytest.raises(IndexError, match="take_along_axis: indices are 0 … 3, but axis 2"):
        mg.take_along_axis(x, np.array([[[0, 3]]]), -1)
    assert x[[-2, 1], ..., np.array([2, 0])].shape == (2, 5)
    assert x[np.array([True, False]), [4], None].shape == (1, 1, 3)


def test_nesterov_may_be_a_number(cupy):
    p = tensor(np.ones(3, np.float32), requires_grad=True)
    nn.to([p], "cuda")
    optim.SGD([p], 0.1, momentum=0.5, nesterov=1).step([p.detach()])
    np.testing.assert_allclose(p.numpy(), 1 - 0.1 * (1 + 0.5))


def test_recording_is_for_a_device(tmp_path):
    with pytest.raises(UserError, match="--recorded is for a device"):
        importlib.import_module("demos.pixelcnn").main(
            ["--quick", "--recorded", "--out", str(tmp_path)])


def test_a_demo_trains_on_the_device(cupy, tmp_path, monkeypatch):
    monkeypatch.setitem(QUICK, "n_test", 4)  # the emulator is slow

    def nats(*flags):
        out = tmp_path / "-".join(flags)
        importlib.import_module("demos.pixelcnn").main(
            ["--quick", "--batch", "1", "--out", str(out), *flags])
        return json.loads((out / "metrics.json").read_text())["test_nll_nats"]

    there = nats("--device", "cuda")
    assert there == pytest.approx(nats("--device", "cpu"), rel=1e-3)
    assert nats("--device", "cuda", "--recorded") == there
    rounded = nats("--device", "cuda", "--precision", "bf16")
    assert rounded != there == pytest.approx(rounded, rel=1e-2)
