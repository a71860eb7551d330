"""Diffusion autoencoders: the two codes of an image, for images whose perfect network is known in
closed form, and the networks against NumPy."""

import numpy as np
import pytest
from normal_world import alpha_bar_of, recording_unet

from minigen import grad, nn, no_grad, optim, tensor
from minigen.models.diffusion.diffusion_autoencoder import (
    CodeMLP,
    DiffusionAutoencoder,
    edit_attribute,
    semantic_denoiser,
)
from minigen.models.diffusion.schedule import linear

RNG = np.random.default_rng
SCHEDULE = linear(1000)
A = alpha_bar_of(SCHEDULE)


class World:
    """Images (1, 2, 3) of two rows, each normally distributed around the code with variance s². The
    encoder returns the first row."""

    d, s2 = 3, 0.09

    def draw(self, n, rng):
        codes = [0.5, -0.3, 0.1] + [0.4, 0.2, 0.6] * rng.standard_normal((n, 1, 1, 3))
        return (codes + self.s2 ** 0.5 * rng.standard_normal((n, 1, 2, 3))).astype(np.float32)

    def encoder(self, x):
        return x[:, 0, 0]

    def eps(self, x_t, t, z):
        """The prediction of a perfect network for x_t, given the code z."""
        a, mu = A[t].reshape(-1, 1, 1, 1), z[:, None, None]
        return (1 - a) ** 0.5 * (x_t - a ** 0.5 * mu) / (a * self.s2 + 1 - a)

    def __call__(self, x_t, t, z):
        """The same prediction as a velocity."""
        a, x_t = A[t].reshape(-1, 1, 1, 1), x_t.numpy()
        v = self.eps(x_t, t, z.numpy()) / a ** 0.5 - ((1 - a) / a) ** 0.5 * x_t
        return tensor(v.astype(np.float32))

    def prior(self, z_t, t):
        """The velocity that a perfect network predicts for codes z ~ N(0, I): 0."""
        return 0 * z_t

    def scale(self, t):
        """The standard deviation of x_t around √ᾱ_t z."""
        return (A[t] * self.s2 + 1 - A[t]) ** 0.5

    def model(self, steps):
        return DiffusionAutoencoder(self.encoder, self, self.prior, SCHEDULE, steps)


def test_both_codes_of_an_image_in_closed_form():
    """For normal images the differential equation has a closed-form solution: the distance of x_t
    from its mean, in standard deviations, stays constant."""
    world, x = World(), World().draw(20, RNG(0))
    far = []
    for steps in (25, 100, 1000):
        z, x_T = (a.numpy() for a in world.model(steps).encode(x))
        assert np.array_equal(z, x[:, 0, 0])
        mu = z[:, None, None]
        expected = A[-1] ** 0.5 * mu + world.scale(1000) * (x - mu) / world.s2 ** 0.5
        far.append(np.abs(x_T - expected).max())
    assert far[0] > 3 * far[1] > 9 * far[2] and far[2] < 0.02  # eq: dae-stochastic-code


def test_a_step_backwards_is_a_step_of_sampling_with_its_times_exchanged():
    """Equation 8 of the paper, applied step by step, gives the same x_T; from there the sampler's
    steps, written out, lead back to the image."""
    world, x = World(), World().draw(20, RNG(1))
    z = x[:, 0, 0]

    def step(x, now, then):
        eps = world.eps(x, np.full(len(x), now), z)
        x_0 = (x - (1 - A[now]) ** 0.5 * eps) / A[now] ** 0.5
        return A[then] ** 0.5 * x_0 + (1 - A[then]) ** 0.5 * eps

    x_T = world.model(1000).encode(x)[1].numpy()
    x_t = x
    for t in range(1000):
        x_t = step(x_t, t, t + 1)
    assert np.allclose(x_T, x_t, atol=0.05)  # eq: dae-stochastic-code
    for t in range(1000, 0, -1):
        x_T = step(x_T, t, t - 1)
    assert np.allclose(x_T, x, atol=1e-3)  # eq: dae-stochastic-code


def test_what_a_code_says_and_what_noise_adds():
    world, x = World(), World().draw(2, RNG(2))
    model, x_T = world.model(1000), RNG(3).standard_normal((2, 1, 2, 3), np.float32)
    codes = RNG(4).normal([1, 2, 3], 2, size=(50, 3))
    model.fit_statistics(codes)
    z = model.encode_semantic(x).numpy()
    assert np.allclose(codes.mean(0) + codes.std(0) * z, x[:, 0, 0], atol=1e-6)
    mu, s = x[:, :, :1], world.s2 ** 0.5  # the first row, the code, is the mean of both
    u = (x_T - A[-1] ** 0.5 * mu) / world.scale(1000)
    assert np.allclose(model.decode(z, x_T).numpy(), mu + s * u, atol=0.01)
    gain = A[-1] ** 0.5 * s / world.scale(1000)  # what x_T tells of the image: next to nothing
    assert np.allclose(model.mean(z, x_T).numpy(), mu + gain * s * u, atol=1e-4)
    with pytest.raises(ValueError, match=r"number 1 is the same in all codes \(2, 3\)"):
        model.fit_statistics(np.array([[0, 1, 0], [1, 1, 2]]))


def test_images_drawn_have_the_moments_of_the_data():
    world, n = World(), 5000
    model, x = world.model(400), world.draw(n, RNG(5))
    codes = world.encoder(x)
    model.fit_statistics(codes)
    samples = model.sample(n, (1, 2, 3), RNG(6)).numpy()[:, 0]
    assert np.allclose(samples.mean(0), codes.mean(0), atol=0.03)
    assert np.allclose(samples.var(0), codes.var(0) + world.s2, rtol=0.07)
    assert np.allclose((samples[:, 0] - samples[:, 1]).var(0), 2 * world.s2, rtol=0.07)


def test_the_way_between_two_images():
    """z is interpolated linearly; x_T spherically: by equal angles in the plane of both."""
    model, seen = World().model(10), []
    model.decode = lambda z, x_T: seen.append((z, x_T))
    east, north = np.zeros((2, 1, 1, 2, 3), np.float32)
    east[..., 0, 0], north[..., 1, 2] = 3, 3
    z_1, z_2 = RNG(7).normal(size=(2, 1, 3)).astype(np.float32)
    model.interpolation((tensor(z_1), tensor(east)), (tensor(z_2), tensor(north)), 4)
    (z, x_T), = seen
    assert np.allclose(np.diff(z, axis=0), (z_2 - z_1) / 3, atol=1e-6)
    assert np.allclose(z[[0, -1]], np.concatenate([z_1, z_2]))
    angle = np.radians([0, 30, 60, 90])
    expected = np.zeros((4, 1, 2, 3))
    expected[:, 0, 0, 0], expected[:, 0, 1, 2] = 3 * np.cos(angle), 3 * np.sin(angle)
    assert np.allclose(x_T, expected, atol=1e-6)


def test_a_classifiers_normal_is_the_shortest_way_to_what_it_looks_for():
    z, w = RNG(8).normal(size=(6, 9)), RNG(9).normal(size=9)
    new = edit_attribute(z, w, 0.4)
    assert np.allclose(np.linalg.norm(new - z, axis=1), 0.4 * 3)  # eq: dae-manipulation
    gained = (new - z) @ w
    assert np.allclose(gained, 1.2 * (w @ w) ** 0.5)  # eq: dae-manipulation
    each, s = RNG(10).normal(size=(6, 9)), np.linspace(-1, 1, 6)[:, None]
    rows = [edit_attribute(z[i:i + 1], each[i], s[i].item())[0] for i in range(6)]
    assert np.allclose(edit_attribute(z, each, s), rows)
    assert edit_attribute(z.astype(np.float32), w.astype(np.float32), s).dtype == np.float32


# ------------------------------------------------------------------------------------- networks

def test_the_loss_compares_velocities_of_images_with_their_codes():
    world, x = World(), World().draw(40, RNG(11))
    wrong = RNG(12).normal(size=x.shape).astype(np.float32)
    codes = []

    class Net:
        d = 3

        def __call__(self, x_t, t, z):
            codes.append(z.numpy())
            return world(x_t, t, z) + wrong

    draws = RNG(13)
    t, eps = draws.integers(1, 1001, 40), draws.standard_normal(x.shape, np.float32)
    a = A[t].reshape(-1, 1, 1, 1)
    x_t, v = a ** 0.5 * x + (1 - a) ** 0.5 * eps, a ** 0.5 * eps - (1 - a) ** 0.5 * x
    best = world(tensor(x_t), t, tensor(x[:, 0, 0])).numpy()
    model = DiffusionAutoencoder(world.encoder, Net(), world.prior, SCHEDULE)
    loss = model.loss(x, RNG(13)).item()
    expected = ((best + wrong - v) ** 2).mean()
    assert loss == pytest.approx(expected, rel=1e-3)  # eq: dae-loss
    assert np.array_equal(codes[0], x[:, 0, 0])  # eq: dae-loss
    z, draws = x[:, 0, 0], RNG(14)
    t, eps = draws.integers(1, 1001, 40), draws.standard_normal(z.shape, np.float32)
    v = A[t][:, None] ** 0.5 * eps - (1 - A[t][:, None]) ** 0.5 * z
    assert model.loss_z(z, RNG(14)).item() == pytest.approx((v ** 2).mean(), rel=1e-3)


def test_the_decoder_is_told_the_code_with_the_time():
    net = semantic_denoiser((1, 8, 8), 4, (8, 8), 16, RNG(15))
    seen, z = [], RNG(16).normal(size=(2, 4)).astype(np.float32)
    x, t = tensor(np.zeros((2, 1, 8, 8), np.float32)), np.array([3, 9])
    net.unet = recording_unet(seen)
    net(x, t, tensor(z))
    (_, e), = seen
    W, b = net.code.weight.numpy(), net.code.bias.numpy()
    assert np.allclose(e, net.embed(t).numpy() + z @ W.T + b, atol=1e-5)
    with pytest.raises(ValueError, match=r"codes are \(1, 4\), expected \(2, 4\)"):
        net(x, t, tensor(z[:1]))


def test_the_network_of_codes_sees_them_in_every_layer():
    net = CodeMLP(3, (24, 24), 16, RNG(17))
    z, t = RNG(18).normal(size=(5, 3)).astype(np.float32), np.array([1, 20, 300, 4, 50])
    W = {key: p.numpy() for key, p in nn.parameters(net).items()}
    silu = lambda h: h / (1 + np.exp(-h))
    line = lambda key, h: h @ W[f"{key}.weight"].T + W[f"{key}.bias"]
    e, h = silu(net.embed(t).numpy()), np.empty((5, 0))
    for k in range(2):
        h = line(f"layers.{k}", np.hstack([h, z]))
        h = h.reshape(5, 8, 3)  # eight groups
        h = (h - h.mean(2, keepdims=True)) / np.sqrt(h.var(2, keepdims=True) + 1e-5)
        y_s, y_b = np.split(line(f"inject.{k}.linear", e), 2, 1)
        h = silu((1 + y_s) * h.reshape(5, 24) + y_b)
    assert np.allclose(net(tensor(z), t).numpy(), line("last", h), atol=1e-5)


def test_it_learns_and_what_z_says_survives_another_noise():
    """Horizontal and vertical stripes of random contrast."""
    upright = np.tile(np.array([-1, 1], np.float32), (1, 8, 4))
    kinds = np.repeat(np.stack([upright.swapaxes(1, 2), upright]), 8, 0)
    x = kinds * RNG(19).uniform(0.5, 1, (16, 1, 1, 1)).astype(np.float32)
    encoder = nn.Sequential(lambda x: x.flatten(1), nn.Linear(64, 2, rng=RNG(20)))
    net = semantic_denoiser((1, 8, 8), 2, (8, 8), 16, RNG(21))
    model = DiffusionAutoencoder(encoder, net, CodeMLP(2, (8,), 16), linear(100), 10)
    opt = optim.Adam(nn.parameters([model.encoder, model.ddim]), lr=1e-2)
    losses = []
    for t in range(80):
        loss = model.loss(x, RNG((22, t)))
        losses.append(loss.item())
        opt.step(grad(loss, opt.params))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    with no_grad():
        model.fit_statistics(model.encoder(tensor(x)).numpy())
    z, x_T = model.encode(x)
    assert np.allclose(z.numpy().mean(0), 0, atol=1e-5) and np.allclose(z.numpy().std(0), 1)
    near = np.square(model.decode(z, x_T).numpy() - x).mean()
    other = model.decode(z, RNG(23).standard_normal(x.shape, np.float32)).numpy()
    assert near < 0.1 * np.square(other - x).mean()
    assert ((other * kinds).mean((1, 2, 3)) > 0.3).all()
