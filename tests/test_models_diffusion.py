"""Diffusion models as a whole: they learn, refuse invalid input, and train as PyTorch's do."""

import re

import numpy as np
import pytest

from minigen import concatenate, data, grad, nn, optim, tensor
from minigen.models.diffusion import schedule
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.guidance import ClassifierFree, no_label
from minigen.models.diffusion.velocity import Velocity
from side_by_side.ddpm import unet

RNG = np.random.default_rng


@pytest.mark.parametrize("inject", [nn.AdaGN, nn.AddTime])
def test_a_small_model_learns_samples_and_scores(inject):
    net = denoiser((1, 8, 8), widths=(8, 8), D=16, inject=inject)
    nn.init(net, RNG(0))
    model, images = DDPM(net, schedule.linear(100)), np.zeros((32, 1, 8, 8), np.uint8)
    images[:, :, 2:6, 2:6] = 255
    x_0 = data.signed(images)
    assert model.loss(x_0, RNG(1)).item() == pytest.approx(1, abs=0.05)  # it starts at ε_θ = 0
    before = model.bound(x_0, RNG(2))[0].numpy().mean()
    opt = optim.Adam(nn.parameters(net), lr=3e-3)
    for t in range(60):
        loss = model.loss(x_0, RNG((3, t)))
        opt.step(grad(loss, opt.params))
    assert loss.item() < 0.5
    bound, parts = model.bound(x_0, RNG(2))
    assert bound.shape == (32,) and not bound.requires_grad and bound.numpy().mean() < before / 2
    assert np.allclose(bound.numpy(), sum(part.numpy() for part in parts.values()), rtol=1e-5)
    few = DDPM(net, schedule.respaced(model.schedule, 5))
    x = few.sample(3, (1, 8, 8), RNG(4))
    assert x.shape == (3, 1, 8, 8) and x.dtype == np.float32 and not x.requires_grad
    assert np.array_equal(x.numpy(), few.sample(3, (1, 8, 8), RNG(4)).numpy())


def test_every_weight_of_the_network_takes_part():
    net = denoiser((3, 8, 8), widths=(8, 16, 16), D=16, outputs=2)
    nn.init(net, RNG(0))
    for p in nn.parameters(net).values():  # those that start at 0, too
        p.data[...] = RNG(p.size).normal(size=p.shape) / 10
    y = net(RNG(1).normal(size=(2, 3, 8, 8)).astype(np.float32), np.array([1, 900]))
    assert y.shape == (2, 6, 8, 8)
    grads = grad((y * y).sum(), nn.parameters(net))
    assert not [key for key, g in grads.items() if not np.abs(g.numpy()).max() > 0]


def test_dense_mixing_is_its_formula():
    layer, rng = nn.DenseMixing(8, (2, 3), 5, channels=4, d_h=6), np.random.default_rng(0)
    nn.astype(layer, np.float64)
    for p in nn.parameters(layer).values():
        p.data[...] = rng.normal(size=p.shape)
    x, e = rng.normal(size=(7, 8, 2, 3)), rng.normal(size=(7, 5))
    W = {key: p.numpy() for key, p in nn.parameters(layer).items()}
    h = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    h = h * W["norm.weight"][:, None, None] + W["norm.bias"][:, None, None]
    h = np.einsum("kc,nchw->nkhw", W["first.weight"][..., 0, 0], h)
    h = (h + W["first.bias"][:, None, None]).reshape(7, -1) @ W["gather.weight"].T
    h = h + W["gather.bias"] + e @ W["time.weight"].T + W["time.bias"]
    h = h / (1 + np.exp(-h)) @ W["scatter.weight"].T + W["scatter.bias"]
    h = np.einsum("kc,nchw->nkhw", W["second.weight"][..., 0, 0], h.reshape(7, 4, 2, 3))
    found = layer(tensor(x), tensor(e)).numpy()
    assert np.allclose(found, x + h + W["second.bias"][:, None, None])


def test_a_folded_unet_sees_four_pixels_as_one_place():
    x, seen = RNG(0).normal(size=(3, 2, 4, 6)), []

    def unet(h, e):
        seen.append((h.numpy(), e))
        return 2 * h

    net = nn.SpaceToDepthUNet(unet)
    assert np.allclose(net(tensor(x), "e").numpy(), 2 * x)  # each pixel is put back in its place
    (h, e), = seen
    assert h.shape == (3, 8, 2, 3) and e == "e"
    for c, i, j in np.ndindex(2, 2, 2):
        assert np.array_equal(h[:, 4 * c + 2 * i + j], x[:, c, i::2, j::2])


def test_the_bound_of_small_variances_is_that_of_near_ones():
    """With β̃_1 = 0 images would have no density: β̃_2 takes its place."""
    net, x = lambda x_t, t: 0.9 * tensor(x_t), np.float32([-1, 0, 1]).repeat(16)
    x = x.reshape(3, 1, 4, 4)
    s = schedule.respaced(schedule.linear(1000), 200)
    sigma2 = s.beta_tilde.copy()
    sigma2[1] = sigma2[2]
    bound, parts = DDPM(net, s, s.beta_tilde).bound(x, RNG(0))
    expected, _ = DDPM(net, s, sigma2).bound(x, RNG(0))
    assert np.isfinite(bound.numpy()).all()
    np.testing.assert_array_equal(bound.numpy(), expected.numpy())


X = np.zeros((2, 1, 8, 8), np.float32)
MODEL = DDPM(lambda x_t, t: x_t, schedule.linear(50))
TWO = lambda x_t, t, *_: concatenate([tensor(x_t)] * 2, 1)  # a network that predicts variances, too


@pytest.mark.parametrize(("call", "message"), [
    (lambda: MODEL.q_sample(X, 0, X), "t must be integers from 1 to T = 50, got 0"),
    (lambda: MODEL.p(X, 51), "t must be integers from 1 to T = 50, got 51"),
    (lambda: MODEL.q(X, np.array([3, -1])), "from 1 to T = 50, got -1"),
    (lambda: MODEL.q_step(X, 1.5), "must be integers from 1 to T = 50, got 1.5 (float64)"),
    (lambda: schedule.Schedule([0.1, 1.0]), "β must lie in (0, 1), but β_2 is 1 (T = 2)"),
    (lambda: schedule.Schedule([0.0]), "but β_1 is 0"),
    (lambda: schedule.Schedule([[0.1]]), "expected β_1 … β_T, got an array of shape (1, 1)"),
    (lambda: schedule.linear(1), "linear: expected more than 20 steps, got 1: β_T would be 20"),
    (lambda: schedule.linear(20), "expected more than 20 steps, got 20: β_T would be 1"),
    (lambda: schedule.cosine(0), "T must be a whole number of steps, at least 1, got 0"),
    (lambda: schedule.respaced(schedule.linear(50), 51), "expected 1 to 50 steps"),
    (lambda: schedule.linear(50.0), "T must be a whole number of steps, at least 1, got 50.0"),
    (lambda: schedule.respaced(schedule.linear(50), 0), "expected 1 to 50 steps"),
    (lambda: schedule.respaced(schedule.linear(50), 5.0), "expected 1 to 50 steps"),
    (lambda: schedule.respaced(schedule.linear(50), 5, power=-1), "must be positive, got -1"),
    (lambda: schedule.respaced(schedule.linear(50), 5, first=0), "a t from 1 to 50, got 0"),
    (lambda: denoiser((1, 30, 28)), "height and width must be divisible by 4, got 30×28"),
    (lambda: nn.TimeUNet(1, 1, 4, (8, 8))(X[:, :, :7], X[:, 0, 0, :4]), "divisible by 2, got (2,"),
    (lambda: nn.SpaceToDepthUNet(None)(X[:, :, :7], None), "must be even, got (2, 1, 7, 8)"),
    (lambda: DDPM(TWO, MODEL.schedule).loss(X, RNG(0)), "gives (2, 2, 8, 8) for images x_t (2,"),
    (lambda: DDPM(TWO, MODEL.schedule).p(X, 3), "expected noise of their shape"),
    (lambda: ClassifierFree(TWO, 1.0, no_label(3))(X, 3, [0, 1]), "expected noise of their shape"),
    (lambda: Velocity(TWO, MODEL.schedule)(X, 3), "expected noise of their shape"),
    (lambda: DDIM(MODEL.net, MODEL.schedule).bound(X, RNG(0)), "adds no noise, so that"),
    (lambda: DDIM(MODEL.net, MODEL.schedule, 0.5).decode(X), "a DDIM(net, schedule) with eta=0"),
    (lambda: DDIM(MODEL.net, MODEL.schedule, 1).encode(X), "a DDIM(net, schedule) with eta=0"),
    (lambda: nn.Sinusoidal(5), "D must be even"),
    (lambda: nn.RandomFourier(0), "D must be even"),
])
def test_mistakes_are_one_clear_line(call, message):
    with pytest.raises(ValueError, match=re.escape(message)) as e:
        call()
    assert "\n" not in str(e.value)


def test_no_images_have_no_t():
    assert schedule.linear(50).check([]).dtype.kind == "i"
    assert MODEL.q_sample(X[:0], [], X[:0]).shape == (0, 1, 8, 8)


@pytest.mark.parity
@pytest.mark.parametrize("inject", [nn.AdaGN, nn.AddTime])
def test_thirty_steps_of_algorithm_1_equal_pytorchs(inject):
    """The same weights, data, times and noise, float64: loss and network written in PyTorch."""
    torch = pytest.importorskip("torch")
    net = denoiser((1, 8, 8), widths=(8, 16), D=16, inject=inject)
    nn.init(net, RNG(0))
    nn.astype(net, np.float64)
    torch.set_default_dtype(torch.float64)
    try:
        twin = unet((1, 8, 8), (8, 16), 16, add_time=inject is nn.AddTime).double()
        twin.load_state_dict({k: torch.from_numpy(v) for k, v in nn.state_dict(net).items()})
        model, alpha_bar = DDPM(net, schedule.linear(1000)), np.cumprod(
            1 - np.linspace(1e-4, 0.02, 1000))
        ours = optim.Adam(nn.parameters(net), lr=1e-3)
        theirs = torch.optim.Adam(twin.parameters(), lr=1e-3)
        for step in range(30):
            x_0 = RNG((1, step)).uniform(-1, 1, (8, 1, 8, 8))
            loss = model.loss(tensor(x_0), RNG((2, step)))
            ours.step(grad(loss, ours.params))

            rng = RNG((2, step))
            t, eps = rng.integers(1, 1001, 8), rng.standard_normal(x_0.shape)
            a = alpha_bar[t - 1][:, None, None, None]
            x_t = torch.from_numpy(np.sqrt(a) * x_0 + np.sqrt(1 - a) * eps)
            expected = torch.nn.functional.mse_loss(twin(x_t, torch.from_numpy(t).double()),
                                                    torch.from_numpy(eps))
            theirs.zero_grad()
            expected.backward()
            theirs.step()
            assert loss.item() == pytest.approx(expected.item(), rel=1e-8), step
        for key, value in twin.state_dict().items():
            assert np.allclose(nn.state_dict(net)[key], value.numpy(), rtol=1e-6, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)
