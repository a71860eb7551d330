"""Section "GAN", LAPGAN: the Laplacian pyramid, and a game for the details of each level."""

import numpy as np
import pytest

from minigen import nn, tensor
from minigen.models.gan import dcgan
from minigen.models.gan import lapgan as model
from minigen.models.gan.gan import algorithm_1

RNG = np.random.default_rng


def images(n=3, side=8):
    return RNG(1).uniform(-1, 1, (n, 2, side, side)).astype("f4")


def halve(x):
    """Means of 2×2 pixels."""
    return (x[..., ::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, ::2] + x[..., 1::2, 1::2]) / 4


def double(x):
    """A new pixel lies a quarter of an old one's width from its centre: ¾ of it and ¼ of the next,
    along both axes; at the edge, the next is itself."""
    for axis in (2, 3):
        x = np.moveaxis(x, axis, 0)
        before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
        pairs = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=1)
        x = np.moveaxis(pairs.reshape(-1, *x.shape[1:]), 0, axis)
    return x


def test_a_pyramid_is_what_each_reduction_loses():
    x = images()
    (h_0, l_0), (h_1, l_1), (smallest,) = model.pyramid(tensor(x), 2)
    I_1 = halve(x)
    assert np.allclose(smallest, halve(I_1), atol=1e-6)  # eq: laplacian-pyramid
    assert np.allclose(l_0, double(I_1), atol=1e-6)
    assert np.allclose(h_0, x - double(I_1), atol=1e-6)  # eq: laplacian-pyramid
    rebuilt = double(double(smallest.numpy()) + h_1.numpy()) + h_0.numpy()
    assert np.allclose(rebuilt, x, atol=1e-6)  # eq: laplacian-pyramid
    assert l_1.shape == (3, 2, 4, 4)


def test_the_details_of_a_smooth_image_are_small_and_those_of_edges_are_not():
    smooth = np.linspace(-1, 1, 16, dtype="f4")[None, None, :, None] * np.ones((1, 1, 1, 16), "f4")
    (h, _), _ = model.pyramid(tensor(smooth), 1)
    assert np.abs(h.numpy()[:, :, 1:-1]).max() < 1e-6
    (h, _), _ = model.pyramid(tensor(np.sign(smooth[:, :, ::-1] + 0.2)), 1)
    assert np.abs(h.numpy()).max() > 0.2


class Recall:
    """A game that "draws" the given details, whatever the noise."""

    def __init__(self, h, low):
        self.h, self.low = h, low

    def sample(self, n, rng, low):
        assert n == len(self.h)
        assert np.allclose(low, self.low, atol=1e-6)  # the level below was drawn first
        return self.h


def test_drawing_the_details_of_an_image_gives_the_image():
    x = tensor(images())
    *levels, (smallest,) = model.pyramid(x, 2)
    lapgan = model.LAPGAN([*(Recall(*level) for level in levels), None])
    sizes = lapgan.rise(smallest, RNG(0))
    assert [y.shape[2] for y in sizes] == [2, 4, 8]
    assert np.allclose(sizes[1], halve(x.numpy()), atol=1e-6)  # eq: lapgan-sampling
    assert np.allclose(sizes[2], x, atol=1e-6)  # eq: lapgan-sampling


def test_samples_depend_on_the_noise_of_every_level():
    lapgan = model.lapgan((2, 8, 8), 3, K=2, width=4, d_h=8, rng=RNG(0))
    x = lapgan.games[-1].sample(2, RNG(0))
    first, second = lapgan.rise(x, RNG(1)), lapgan.rise(x, RNG(2))
    assert first[0] is second[0] is x
    for a, b in zip(first[1:], second[1:], strict=True):
        assert np.abs(a.numpy() - b.numpy()).max() > 1e-4
    assert lapgan.sample(5, RNG(3)).shape == (5, 2, 8, 8)


def test_a_discriminator_sees_the_image_and_not_the_details_alone():
    D = model.lapgan((2, 8, 8), 3, K=1, width=4, d_h=8, rng=RNG(0)).games[0].D
    (h, low), _ = model.pyramid(tensor(images()), 1)
    want = D.net(tensor(images())).numpy()
    assert np.allclose(D(h, low).numpy(), want, atol=1e-5)  # eq: lapgan-discriminator
    assert not np.allclose(D(h, 0 * low).numpy(), want, atol=1e-3)


def test_every_level_is_a_game_of_its_own():
    lapgan = model.lapgan((1, 8, 8), 3, K=1, width=4, d_h=8)
    nn.init(lapgan.games, RNG(0))
    levels = model.pyramid(tensor(images()[:, :1]), 1)
    for k, other in ((0, 1), (1, 0)):
        game, still = lapgan.games[k], nn.state_dict(lapgan.games[other])
        moved = nn.state_dict(game)
        opts = dcgan.adam(nn.parameters(game.D)), dcgan.adam(nn.parameters(game.G))
        numbers = algorithm_1(game, *opts, lambda _, k=k: levels[k])(0, RNG(1))
        assert np.isfinite(list(numbers.values())).all()
        same = lambda before, now: [np.array_equal(before[name], now[name]) for name in before]
        assert all(same(still, nn.state_dict(lapgan.games[other])))
        assert not any(same(moved, nn.state_dict(game)))


@pytest.mark.parametrize("shape", [(1, 6, 8), (1, 8, 10)])
def test_sizes_that_cannot_be_halved_are_refused(shape):
    with pytest.raises(ValueError, match=f"divisible by 4, got {shape[1]}×{shape[2]}"):
        model.lapgan(shape, 3)
