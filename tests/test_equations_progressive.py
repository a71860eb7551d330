"""Section "GAN", progressive growing: layers that are faded in."""

import numpy as np
import pytest

from minigen import grad, optim, tensor
from minigen.models.gan import progressive as model

RNG = np.random.default_rng


def game(seed=0):
    return model.progressive((1, 8, 8), 5, (6, 5, 4), RNG(seed))


def images(n=3, size=8):
    return tensor(RNG(1).uniform(-1, 1, (n, 1, size, size)).astype("f4"))


def double(x):
    return np.repeat(np.repeat(x, 2, 2), 2, 3)


def halve(x):
    N, C, H, W = x.shape
    return x.reshape(N, C, H // 2, 2, W // 2, 2).mean((3, 5))


@pytest.mark.parametrize("k", [1, 2])
def test_a_new_layer_begins_as_what_was_drawn_before_enlarged(k):
    g, z = game(), tensor(RNG(2).standard_normal((3, 5), np.float32))
    samples = {}
    for stage, alpha in ((k - 1, 1.0), (k, 0.0), (k, 0.25), (k, 1.0)):
        model.grow(g, stage, alpha)
        samples[stage, alpha] = g.G(z).numpy()
    before = double(samples[k - 1, 1.0])
    assert samples[k, 1.0].shape == (3, 1, 2 ** (k + 1), 2 ** (k + 1))
    assert np.allclose(samples[k, 0.0], before, atol=1e-6)  # eq: progressive-growing
    want = 0.75 * before + 0.25 * samples[k, 1.0]
    assert np.allclose(samples[k, 0.25], want, atol=1e-6)  # eq: progressive-growing
    assert not np.allclose(samples[k, 1.0], before, atol=1e-2)


@pytest.mark.parametrize("k", [1, 2])
def test_the_critic_fades_alike(k):
    g, x = game(), images(size=2 ** (k + 1))
    d_outputs = {}
    for alpha in (0.0, 1.0):
        model.grow(g, k, alpha)
        d_outputs[alpha] = g.D(x).numpy()
    model.grow(g, k - 1, 1.0)
    before = g.D(tensor(halve(x.numpy()))).numpy()
    assert np.allclose(d_outputs[0.0], before, atol=1e-6)  # eq: progressive-growing
    assert not np.allclose(d_outputs[1.0], before, atol=1e-3)


def test_real_images_are_as_sharp_as_the_drawn_ones():
    g, x = game(), images()
    for stage, alpha in ((0, 1.0), (1, 0.5), (2, 0.0), (2, 1.0)):
        model.grow(g, stage, alpha)
        want = x.numpy()
        for _ in range(2 - stage):
            want = halve(want)
        want = (1 - alpha) * double(halve(want)) + alpha * want
        found = model.match_resolution(x, g).numpy()
        assert np.allclose(found, want, atol=1e-6)  # eq: progressive-growing
        assert found.shape == g.sample(3, RNG(3)).shape
    odd = model.progressive((1, 28, 28), 5, (6, 5, 4))
    x = model.match_resolution(images(2, 28), odd)
    assert x.shape == odd.sample(2, RNG(3)).shape == (2, 1, 7, 7)


def test_all_stages_take_equally_long():
    ways = [model.progress(t / 600, 3) for t in range(601)]
    stages = [k for k, _ in ways]
    assert [stages.count(k) for k in range(3)] == [200, 200, 201]
    assert all(alpha == 1 for k, alpha in ways if k == 0)
    for k in (1, 2):
        alphas = [alpha for stage, alpha in ways if stage == k]
        assert np.allclose(alphas[:100], np.arange(100) / 100) and min(alphas[100:]) == 1


def test_a_step_of_each_player_at_each_stage():
    for stage in range(3):
        g = game(stage)
        model.grow(g, stage, 0.5 if stage else 1.0)
        x = model.match_resolution(images(4), g)
        for net, loss in ((g.D, lambda g=g, x=x: g.d_loss(x, RNG(4))),
                          (g.G, lambda g=g: g.g_loss(4, RNG(4)))):
            before, params = loss(), net.parameters(stage)
            optim.SGD(params, 1e-3).step(grad(before, params))
            assert loss().item() < before.item()
    with pytest.raises(ValueError, match="divisible by 4, got 6×8"):
        model.progressive((1, 6, 8), 5)
    with pytest.raises(ValueError, match=r"real samples are \(2, 1, 8, 8\)"):
        game(0).d_loss(images(2), RNG(0))
    for stage, alpha in ((5, 1), (-1, 1), (1, 2.0)):
        with pytest.raises(ValueError, match=f"got {stage} and {alpha}"):
            model.grow(g, stage, alpha)
