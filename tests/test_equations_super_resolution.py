"""Section "Super-resolution", and cascades: diffusion conditioned on a small image."""

import numpy as np
import pytest
from normal_world import World, alpha_bar_of, recording_unet, shrink

from minigen import grad, nn, tensor
from minigen.models.diffusion import cascade, super_resolution
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.schedule import Schedule, cosine

RNG = np.random.default_rng


# ------------------------------------------------------------------------------- super-resolution

def bilinear(y, factor):
    """By loops: every pixel from the four around its position (i + ½) / factor − ½."""
    N, C, h, w = y.shape
    out = np.zeros((N, C, h * factor, w * factor))
    for n, c, i, j in np.ndindex(out.shape):
        u, v = ((k + 0.5) / factor - 0.5 for k in (i, j))
        for di, dj in np.ndindex(2, 2):
            p, q = int(np.floor(u)) + di, int(np.floor(v)) + dj
            share = (1 - abs(u - p)) * (1 - abs(v - q))
            out[n, c, i, j] += share * y[n, c, min(max(p, 0), h - 1), min(max(q, 0), w - 1)]
    return out


def test_the_enlarged_small_image_stands_beside_the_noisy_one():
    seen, embed = [], nn.TimeEmbedding(4, nn.Sinusoidal(4), RNG(0))
    x_t, y = RNG(1).normal(size=(3, 2, 8, 12)), RNG(2).normal(size=(3, 2, 4, 6))
    t = np.array([1, 7, 30])
    super_resolution.SR3Denoiser(recording_unet(seen), embed)(tensor(x_t), t, tensor(y))
    (x, e), = seen
    assert x.shape == (3, 4, 8, 12) and np.array_equal(x[:, :2], x_t)  # eq: sr3-concat
    assert np.allclose(x[:, 2:], bilinear(y, 2), atol=1e-12)  # eq: sr3-concat
    assert np.array_equal(e, embed(t).numpy())


@pytest.fixture(scope="module")
def world():
    return World(cosine(60))


@pytest.mark.parametrize("p", [1, 2])
def test_the_loss_of_a_perfect_network_is_what_cannot_be_known(world, p):
    """ε − E[ε | x_t, y] is normal; for N(0, v) the mean square is v, the mean of |·| √(2v/π)."""
    model, x = DDPM(world.sr3, cosine(60)), world.sample(60_000, RNG(0))
    loss = lambda net: DDPM(net, model.schedule).loss(
        x, RNG(1), shrink(x), norm=super_resolution.power(p)).item()
    v = np.array([np.diag(world.eps_posterior(t, world.mean, [0])[1]) for t in range(1, 61)])
    unknown = (v if p == 2 else np.sqrt(2 * v / np.pi)).mean()
    assert loss(world.sr3) == pytest.approx(unknown, rel=0.01)  # eq: sr3-loss
    for wrong in (lambda x_t, t, y: world.sr3(x_t, t, 0 * y),
                  lambda x_t, t, y: world.sr3(x_t, t, y) + 0.1,
                  lambda x_t, t, y: 0.9 * world.sr3(x_t, t, y)):
        assert loss(wrong) > 1.01 * unknown


def test_the_norm_against_loops():
    error = RNG(0).normal(size=(2, 1, 3, 3))
    for p in (1, 2, 3):
        want = sum(abs(e) ** p for e in error.ravel())
        found = super_resolution.power(p)(tensor(error)).numpy()
        assert found.sum() == pytest.approx(want) and (found >= 0).all()  # eq: sr3-loss


def test_samples_differ_and_are_right_where_their_mean_is_blurred(world):
    n, y = 20_000, 0.2
    K, left = world.posterior(world.mean, [0])
    x = DDPM(world.sr3, cosine(60)).sample(n, (1, 2, 2), RNG(0), np.full((n, 1, 1, 1), y))
    x = x.numpy().reshape(n, 4)
    assert np.allclose(x.mean(0), K[:, 0] * y, atol=0.01)
    assert np.allclose(np.cov(x.T), left, atol=0.003)
    assert np.allclose(x.mean(1), y, atol=1e-2)  # each sample, shrunk, is the given y


def test_the_small_image_must_fit():
    net = super_resolution.super_resolution((1, 8, 8), (8, 8), 16)
    x, t = np.zeros((2, 1, 8, 8), np.float32), np.array([1, 1])
    for shape in ((2, 1, 3, 4), (1, 1, 4, 4), (2, 3, 4, 4), (2, 4, 4)):
        with pytest.raises(ValueError, match=r"the small images are .*expected \(2, 1, h, w\)"):
            net(tensor(x), t, tensor(np.zeros(shape, np.float32)))


# ----------------------------------------------------------------------------------------- cascade

def test_the_small_image_is_spoilt_as_a_diffusion_spoils(world):
    schedule = Schedule([0.1, 0.3, 0.2, 0.5])
    a = alpha_bar_of(schedule)
    y, s = np.full((40_000, 1, 1, 2), 0.7), np.arange(40_000) % 4 + 1
    y_s, steps = cascade.noise_augment(y, s, schedule, RNG(0))
    assert np.array_equal(steps, s)
    for k in (1, 2, 3, 4):
        some = y_s.numpy()[s == k]
        assert some.mean() == pytest.approx(0.7 * a[k]**.5, abs=0.02)  # eq: noise-cond-augmentation
        assert some.var() == pytest.approx(1 - a[k], rel=0.05)  # eq: noise-cond-augmentation
        assert abs(np.corrcoef(some.reshape(-1, 2).T)[0, 1]) < 0.05  # independent for each pixel
    _, steps = cascade.noise_augment(y, 3, schedule, RNG(0))
    assert steps.shape == (40_000,) and (steps == 3).all()
    with pytest.raises(ValueError, match="from 1 to T = 4, got 0"):
        cascade.noise_augment(y, 0, schedule, RNG(0))


def test_the_network_is_told_how_much():
    seen, embed = [], nn.TimeEmbedding(4, nn.Sinusoidal(4), RNG(0))
    net = cascade.AugmentedSR3Denoiser(recording_unet(seen), embed, 4, RNG(1))
    x_t, y = RNG(1).normal(size=(3, 1, 4, 4)), RNG(2).normal(size=(3, 1, 2, 2))
    t, s = np.array([1, 7, 30]), np.array([5, 1, 9])
    net(tensor(x_t), t, tensor(y), s)
    (x, e), = seen
    assert np.array_equal(x[:, :1], x_t) and np.allclose(x[:, 1:], bilinear(y, 2))
    e_s = e - embed(t).numpy()
    assert np.allclose(e_s, net.aug_embed(s).numpy(), atol=1e-6)  # eq: noise-cond-augmentation
    assert np.ptp(e_s, axis=0).min() > 1e-3
    net = cascade.augmented((1, 4, 4), (8, 8), 16, RNG(0))
    loss = DDPM(net, cosine(60)).loss(x_t.astype('f4'), RNG(3), y.astype('f4'), s)
    grad(loss, nn.parameters(net.aug_embed))  # raises an error if it gets no gradient


class Sampler:
    """A sampler that records its calls and returns noise."""

    def __init__(self):
        self.calls = []

    def sample(self, n, shape, rng, *given, threshold=None):
        self.calls.append((shape, given))
        return tensor(rng.standard_normal((n, *shape), np.float32))


@pytest.mark.parametrize("name, sides", [("GLIDE", [64, 256]), ("DALL·E 2", [64, 256, 1024])])
def test_each_model_enlarges_what_the_one_before_drew(name, sides):
    models = [Sampler() for _ in sides]
    made = cascade.Cascade((3, 64, 32), models[0], models[1:], cosine(60), 4)
    images = made.sample(1, RNG(0), s=7)
    shapes = [shape for model in models for shape, _ in model.calls]
    assert shapes == [(3, side, side // 2) for side in sides]  # eq: cascade-resolutions
    assert [x.shape for x in images] == [(1, 3, side, side // 2) for side in sides]
    a = alpha_bar_of(cosine(60))[7]
    assert models[0].calls[0][1] == ()
    for before, model in zip(images, models[1:], strict=False):
        y, s = model.calls[0][1]
        noise = (y.numpy() - a**0.5 * before.numpy()) / (1 - a) ** 0.5
        assert s.tolist() == [7] and noise.std() == pytest.approx(1, abs=0.02)
        assert abs(np.corrcoef(noise.ravel(), before.numpy().ravel())[0, 1]) < 0.03


def test_a_cascade_of_perfect_models_draws_what_one_model_would(world):
    """p(x) = ∫ p(ỹ) p(x | ỹ) dỹ, whatever s. A fault of the first model is passed on, but the more
    noise hides it, the less."""
    class Small:
        """y from the true distribution, shifted by a fault."""

        def __init__(self, fault):
            self.fault = fault

        def sample(self, n, shape, rng, threshold=None):
            return shrink(world.sample(n, rng)) + self.fault

    schedule, passed_on = cosine(60), []
    upsampler, a = DDPM(world.sr3, schedule), alpha_bar_of(schedule)
    for s in (1, 5, 15, 40):
        K, _ = world.posterior(world.mean, [(1 - a[s]) / a[s]])
        for fault in (0, 0.5):
            model = cascade.Cascade((1, 1, 1), Small(fault), [upsampler], schedule, factor=2)
            x = model.sample(20_000, RNG(s), s)[1].numpy().reshape(-1, 4)
            assert np.allclose(x.mean(0), fault * K[:, 0], atol=0.01)  # eq: noise-cond-augmentation
            assert np.allclose(np.cov(x.T), world.sigma, atol=0.006)
        passed_on.append(x.mean())
    assert passed_on[0] > 0.45 and (np.diff(passed_on) < 0).all() and passed_on[-1] < 0.02
