"""Section "GLIDE": diffusion given an image with a hole, which it fills."""

import numpy as np
import pytest
from normal_world import World, recording_unet

from minigen import grad, nn, optim, tensor
from minigen.models.diffusion import inpainting
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.schedule import cosine

RNG = np.random.default_rng
SMALL = {"widths": (8, 8), "D": 16}


def test_what_is_not_hidden_and_where_stands_beside_the_noisy_image():
    seen, embed = [], nn.TimeEmbedding(4, nn.Sinusoidal(4), RNG(0))
    x_t, x_0 = RNG(1).normal(size=(2, 3, 2, 4, 5))
    m = (RNG(2).random((3, 1, 4, 5)) < 0.5).astype(float)
    inpainting.Inpainter(recording_unet(seen), embed)(tensor(x_t), np.array([1, 7, 30]), x_0, m)
    (x, _), = seen
    assert x.shape == (3, 5, 4, 5)
    for n, i, j in np.ndindex(3, 4, 5):
        hidden = m[n, 0, i, j] == 1
        want = [*x_t[n, :, i, j], *(0 if hidden else v for v in x_0[n, :, i, j]), float(hidden)]
        assert x[n, :, i, j].tolist() == want  # eq: glide-inpaint-finetune


def test_at_first_it_says_what_the_plain_model_says():
    plain, net = denoiser((2, 8, 8), **SMALL), inpainting.inpainter((2, 8, 8), **SMALL)
    nn.init([plain, net], RNG(0))
    for p in nn.parameters(plain).values():  # some are initialised with 0
        p.data[...] = RNG(p.size).normal(size=p.shape) / 10
    inpainting.init_from_plain(net, plain)
    x_t, x_0 = (tensor(RNG(k).normal(size=(3, 2, 8, 8)).astype(np.float32)) for k in (1, 2))
    t, m = np.array([1, 40, 999]), inpainting.random_masks(3, (8, 8), RNG(3))
    want = plain(x_t, t).numpy()
    assert np.abs(want).max() > 0.1
    assert np.allclose(net(x_t, t, x_0, m).numpy(), want, atol=1e-6)  # eq: glide-inpaint-finetune
    params = nn.parameters(net)
    opt = optim.SGD(params, 0.1)
    opt.step(grad((net(x_t, t, x_0, m) ** 2).mean(), params))
    assert np.abs(net.unet.first.weight.numpy()[:, 2:]).min() > 0  # the new channels learn
    assert not np.allclose(net(x_t, t, x_0, m).numpy(), net(x_t, t, -x_0, m).numpy())
    assert np.array_equal(plain(x_t, t).numpy(), want)  # no weights are shared


def test_holes_are_rectangles_anywhere():
    m = inpainting.random_masks(3000, (9, 12), RNG(0))
    assert m.shape == (3000, 1, 9, 12) and m.dtype == np.float32
    heights, widths = m.max(3).sum(2)[:, 0], m.max(2).sum(2)[:, 0]
    assert np.array_equal(m.sum((1, 2, 3)), heights * widths) and set(np.unique(m)) == {0, 1}
    assert set(heights) == {3, 4, 5, 6} and set(widths) == {4, 5, 6, 7, 8}
    for one in m[:50, 0]:
        i, j = np.nonzero(one)
        assert one[i.min():i.max() + 1, j.min():j.max() + 1].all()
    assert (m.mean((0, 1)) > 0).all()  # the corners too


def test_a_taught_model_fills_holes_as_the_rest_demands_and_a_plain_one_nearly():
    """The hole given the rest is a normal distribution. Replacing the known pixels misses it: where
    the noise is strong, the hole is filled without a clear view of what surrounds it."""
    n, schedule = 6000, cosine(150)
    world, B = World(schedule), np.eye(4)[[0, 3]]
    m = np.broadcast_to(np.float32([[0, 1], [1, 0]]), (n, 1, 2, 2))
    x_0 = np.broadcast_to(np.float32([[0.3, 9], [9, 0.2]]), (n, 1, 2, 2))
    K, left = world.posterior(B, [0, 0])
    errors = {}
    for name, given in (("inpainter", (x_0, m)), ("unconditional", ())):
        model = DDPM(getattr(world, name), schedule)
        x = inpainting.inpaint(model, x_0, m, RNG(0), *given).numpy()
        assert np.array_equal(x[m == 0], x_0[m == 0])
        hole = x.reshape(n, 4)[:, 1:3]
        errors[name] = (np.abs(hole.mean(0) - (K @ [0.3, 0.2])[1:3]).max(),
                        np.abs(np.cov(hole.T) - left[1:3, 1:3]).max())
    assert errors["inpainter"][0] < 0.01 and errors["inpainter"][1] < 0.002, errors
    assert errors["unconditional"][1] > 0.005, errors
    x_0 = np.where(m == 1, np.float32(-9), x_0)  # hidden pixels have no influence
    filled = inpainting.inpaint(DDPM(world.inpainter, schedule), x_0, m, RNG(0), x_0, m).numpy()
    assert np.array_equal(filled[m == 0], x_0[m == 0])
    assert np.allclose(filled.reshape(n, 4).mean(0)[1:3], (K @ [0.3, 0.2])[1:3], atol=0.01)


@pytest.mark.parametrize("x_0, m, says", [
    (np.full((2, 1, 2, 2), np.nan), np.ones((2, 1, 2, 2)), "x_0 is not finite"),
    (np.zeros((2, 1, 2, 2)), np.full((2, 1, 2, 2), 255), "from 255 to 255, expected"),
    (np.full((1, 1, 2, 2), 200, np.uint8), np.ones((1, 1, 2, 2)), "inpaint: x is uint8"),
    (np.zeros((1, 1, 2, 2)), np.ones((4, 1, 2, 2)), r"masks are \(4, 1, 2, 2\)")])
def test_what_to_fill_must_be_said(x_0, m, says):
    with pytest.raises((ValueError, TypeError), match=says):
        inpainting.inpaint(None, x_0, m, RNG(0))


def test_holes_may_be_booleans():
    x_0, m = RNG(0).random((2, 1, 8, 8), np.float32), inpainting.random_masks(2, (8, 8), RNG(1))
    model = DDPM(lambda x, t: 0.1 * x, cosine(5))
    filled = [inpainting.inpaint(model, x_0, m, RNG(2)).numpy() for m in (m, m == 1)]
    assert np.array_equal(*filled) and filled[1].dtype == np.float32


@pytest.mark.parametrize("x_0, m", [((2, 3, 8, 8), (2, 1, 8, 8)), ((2, 1, 8, 8), (2, 8, 8)),
                                    ((2, 1, 8, 8), (2, 1, 8, 4)), ((1, 1, 8, 8), (2, 1, 8, 8))])
def test_the_holes_must_be_the_images(x_0, m):
    net, x_t = inpainting.inpainter((1, 8, 8), **SMALL), np.zeros((2, 1, 8, 8), np.float32)
    with pytest.raises(ValueError, match=r"expected \(2, 1, 8, 8\) and \(2, 1, 8, 8\)") as e:
        net(tensor(x_t), np.array([1, 1]), np.zeros(x_0, np.float32), np.zeros(m, np.float32))
    assert "\n" not in str(e.value)
