"""SinGAN: the pyramid and its networks, the losses, and the uses of a trained pyramid. Where the
networks are replaced by simple functions, images can be computed by hand."""

import numpy as np
import pytest
from PIL import Image
from scipy.signal import convolve2d, correlate2d

from minigen import grad, nn, tensor
from minigen.models.gan import singan
from minigen.models.gan.singan import SinGAN, shrink

RNG = np.random.default_rng
SIZES = [(22, 30), (17, 24), (14, 19), (11, 15)]


def build(seed=0, width=4):
    """A pyramid of four scales, in double precision, with different σ."""
    x = RNG(seed).uniform(-1, 1, (2, 22, 30))
    model = SinGAN(x, smallest=11, factor=1.26, width=width, rng=RNG(1))
    nn.astype(model, np.float64)
    nn.initializers.values(model.sigma, [0.1, 0.2, 0.3, 1])
    return model


def stub(model, *psi):
    """The same model, with these functions as ψ_0, ψ_1, …"""
    model.psi = list(psi)
    return model


def constants(*values):
    """Networks whose outputs are constant images."""
    return [lambda h, b=b: 0 * h + b for b in values]


def bilinear(x, size):
    """Images enlarged by Pillow."""
    H, W = size
    one = lambda a: np.asarray(Image.fromarray(a.astype("f4")).resize((W, H), Image.BILINEAR))
    return np.array([[one(channel) for channel in image] for image in x])


# The networks ------------------------------------------------------------------------------------


def test_the_scales_are_means_over_areas():
    model = build()
    assert model.N == 3 and np.isclose(model.r, 2 ** (1 / 3))
    assert [x.shape for x in model.x] == [(1, 2, *size) for size in SIZES]
    x = model.x[0].numpy()
    for small, (H, W) in zip(model.x, SIZES, strict=True):
        fine = x.repeat(H, 2).repeat(W, 3)  # in which every new pixel is a block
        want = fine.reshape(1, 2, H, 22, W, 30).mean((3, 5))
        assert np.allclose(small.numpy(), want, atol=1e-6)
    assert SinGAN(x[0], smallest=22, width=2, rng=RNG(1)).N == 0


def test_psi_is_added_to_what_it_reads_together_with_the_noise():
    model, up = build(), RNG(2).uniform(-1, 1, (1, 2, 12, 13))
    z = RNG(3).standard_normal(up.shape)
    h = np.pad(z + up, ((0, 0), (0, 0), (5, 5), (5, 5)))[0]
    convs = [layer for layer in model.psi[1] if isinstance(layer, nn.Conv2d)]
    for k, layer in enumerate(convs):
        w = layer.weight.numpy()
        h = np.array([np.sum([correlate2d(a, b, "valid") for a, b in zip(h, f, strict=True)], 0)
                      for f in w])
        if k < 4:
            h = h - h.mean((1, 2), keepdims=True)
            h /= np.sqrt((h ** 2).mean((1, 2), keepdims=True) + 1e-5)
            h = np.where(h > 0, h, 0.2 * h)
    want = up + np.tanh(h + layer.bias.numpy()[:, None, None])
    found = model.G(1, lambda n, shape: tensor(z), tensor(up)).numpy()
    assert len(convs) == 5 and np.allclose(found, want)  # eq: singan-residual


@pytest.mark.parametrize("network", ["D", "psi"])
def test_a_number_depends_on_eleven_by_eleven_pixels(network):
    layers = getattr(build(), network)[0]  # without instance norm, which sees the whole image
    plain = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.GroupNorm)))
    x = tensor(RNG(4).standard_normal((1, 2, 20, 20)), requires_grad=True)
    y = plain(x)
    assert y.shape == ((1, 1, 20, 20) if network == "D" else x.shape)
    rows, columns = np.nonzero(grad(y[0, 0, 9, 8], x).numpy()[0].any(0))
    assert (*rows[[0, -1]], *np.sort(columns)[[0, -1]]) == (4, 14, 3, 13)


def test_d_scores_the_patch_around_each_pixel_of_the_image_with_mirrored_edges():
    x = RNG(21).standard_normal((2, 2, 11, 14))
    h = np.pad(x, ((0, 0), (0, 0), (5, 5), (5, 5)), "reflect")
    convs = [layer for layer in build().D[0] if isinstance(layer, nn.Conv2d)]
    for k, layer in enumerate(convs):
        w, b = layer.weight.numpy(), layer.bias.numpy()
        h = np.array([[np.sum([correlate2d(a, c, "valid") for a, c in zip(image, f, strict=True)],
                              0) for f in w] for image in h]) + b[:, None, None]
        h = np.where(h > 0, h, 0.2 * h) if k < 4 else h
    assert len(convs) == 5 and np.allclose(build().D[0](tensor(x)).numpy(), h)


# Samples -----------------------------------------------------------------------------------------


def test_a_sample_is_drawn_from_the_coarsest_scale_to_the_finest():
    # ψ_n(h) = a_n h: on constant images, x̃_n = (1 + a_n) x̃_{n+1} + a_n z_n
    a, z = (0.3, -0.2, 0.5, 0.7), (1.0, 2.0, -1.0, 0.4)
    model = stub(build(), *(lambda h, k=k: k * h for k in a))
    noise = lambda n, shape: tensor(np.full(shape, z[n]))
    want = 0
    for n in (3, 2, 1, 0):
        below = model.below(n, 2, noise)
        assert below.shape == (2, 2, *SIZES[n])
        assert np.allclose(below.numpy(), want)  # eq: singan-pyramid
        want = (1 + a[n]) * want + a[n] * z[n]
    assert np.allclose(model.G(0, noise, below).numpy(), want)


def test_larger_scales_start_from_enlarged_images():
    model = stub(build(), *constants(0, 0, 0), lambda h: h)
    x = RNG(5).standard_normal((2, 1, 11, 15)).repeat(2, 1)
    want = bilinear(bilinear(bilinear(x, SIZES[2]), SIZES[1]), SIZES[0])
    assert np.allclose(model.sample(2, RNG(5)).numpy(), want, atol=1e-5)  # eq: singan-pyramid
    wide = model.sample(1, RNG(5), (22, 60)).numpy()
    x = RNG(5).standard_normal((1, 1, 11, 30)).repeat(2, 1)
    for size in ((14, 38), (17, 48), (22, 60)):
        x = bilinear(x, size)
    assert np.allclose(wide, x, atol=1e-5)  # eq: singan-pyramid


def test_noise_has_the_standard_deviation_of_its_scale():
    noise = build().white(RNG(6))
    for n, sigma in enumerate((0.1, 0.2, 0.3, 1)):
        z = noise(n, (4, 2, 50, 50)).numpy()
        assert z.shape == (4, 1 if n == 3 else 2, 50, 50)  # at scale N the same in all channels
        assert abs(z.mean()) < 5 * sigma / 100 and np.isclose(z.std(), sigma, rtol=0.02)


# Training ----------------------------------------------------------------------------------------


def reconstruction(model, b):
    """The squared errors of constant reconstructions: z* = 2 through ψ_N(h) = h, then ψ_n = b_n."""
    values = [2, 2 + b[2], 2 + b[2] + b[1], 2 + b[2] + b[1] + b[0]][::-1]
    return [np.square(v - x.numpy()).mean() for v, x in zip(values, model.x, strict=True)]


def test_fixed_noise_gives_the_image():
    b = (0.3, -1.0, 0.6)
    model = stub(build(), *constants(*b), lambda h: h)
    nn.initializers.constant(model.z_star, 2)
    want = reconstruction(model, b)
    for n in range(4):
        for seed in (0, 1):  # no other noise enters
            L_rec = model.g_loss(n, 1, RNG(seed))[1]["L_rec"].item()
            assert np.isclose(L_rec, want[n])  # eq: singan-reconstruction
    assert np.allclose(model.reconstruct().numpy(), 1.9)  # eq: singan-reconstruction
    model = stub(build(), *[lambda h: h] * 4)  # x↑ + (0 + x↑) = 2 x↑
    want = 2 * bilinear(model.z_star.numpy(), SIZES[2])
    assert np.allclose(model.below(1, 1, model.fixed).numpy(), bilinear(want, SIZES[1]),
                       atol=1e-5)  # eq: singan-reconstruction


def test_the_noise_is_as_strong_as_what_is_missing():
    b = (0.3, -1.0, 0.6)
    model = stub(build(), *constants(*b), lambda h: h)
    nn.initializers.constant(model.z_star, 2)
    for n, up in ((2, 2.0), (1, 2.6), (0, 1.6)):
        missing = np.sqrt(np.square(up - model.x[n].numpy()).mean())
        model.begin(n)
        assert np.isclose(model.sigma.numpy()[n], missing / 10)  # eq: singan-noise-level


def test_a_scale_starts_with_the_weights_of_the_one_before():
    model = build()
    before = nn.state_dict(model)
    model.begin(3)
    assert all(np.array_equal(a, before[key]) for key, a in nn.state_dict(model).items())
    model.begin(1)
    for key, a in nn.state_dict(model).items():
        source = key.replace(".1.", ".2.", 1) if key.startswith(("psi.1.", "D.1.")) else key
        assert key == "sigma" or np.array_equal(a, before[source]), key


def test_the_loss_of_d_is_distance_and_penalty():
    model = build()
    for n, m in ((3, 2), (1, 3)):
        x, D = model.x[n].numpy(), model.D[n]
        fake = model.fake(n, m, RNG(7)).numpy()
        rng = RNG(7)  # the same noise, then ε
        model.fake(n, m, rng)
        eps = rng.random((m, 1, 1, 1))
        x_hat = eps * fake + (1 - eps) * x
        slopes = np.zeros(x_hat.shape)
        for at in np.ndindex(x_hat.shape[1:]):
            h = np.zeros(x_hat.shape[1:])
            h[at] = 1e-5
            slopes[:, *at] = (D(tensor(x_hat + h)) - D(tensor(x_hat - h))).numpy().sum((1, 2, 3))
        norms = np.sqrt(np.square(slopes / 2e-5).sum(1))
        want = 0.1 * np.square(norms - 1).mean() + D(tensor(fake)).numpy().mean()
        want -= D(tensor(x)).numpy().mean()
        assert np.isclose(model.d_loss(n, m, RNG(7)).item(), want)  # eq: singan-objective


def test_the_penalty_of_a_linear_critic():
    # D correlates with a filter w: a pixel's slope is the sum of the parts of w that reach it
    w = RNG(8).standard_normal((1, 2, 3, 3))
    net = nn.Conv2d(2, 1, 3, bias=False, rng=RNG(0))
    nn.astype(net, np.float64)
    nn.initializers.values(net.weight, w)
    slopes = [convolve2d(np.ones((5, 6)), f) for f in w[0]]
    want = np.square(np.hypot(*slopes) - 1).mean()
    found = singan.penalty(net, RNG(9).standard_normal((3, 2, 7, 8)))
    assert np.isclose(found.item(), want)  # eq: singan-objective
    slope = grad(found, net.weight).numpy()[0, 1, 2, 0]
    h, ends = np.zeros(w.shape), []
    h[0, 1, 2, 0] = 1e-6
    for sign in (1, -1):
        nn.initializers.values(net.weight, w + sign * h)
        ends.append(singan.penalty(net, np.zeros((1, 2, 7, 8))).item())
    assert np.isclose(slope, (ends[0] - ends[1]) / 2e-6)  # eq: singan-objective


def test_the_loss_of_g_is_its_score_and_ten_times_the_reconstruction():
    model = build()
    for n in range(4):
        loss, parts = model.g_loss(n, 3, RNG(10))
        score = model.D[n](model.fake(n, 3, RNG(10))).numpy()
        assert np.isclose(loss.item(), 10 * parts["L_rec"].item() - np.mean(score)
                          )  # eq: singan-objective


# Uses --------------------------------------------------------------------------------------------


def test_any_image_can_be_drawn_from_any_scale_on():
    b = (0.3, -1.0, 0.6)
    model = stub(build(), *constants(*b), None)
    x = RNG(11).standard_normal((2, 2, 44, 60))
    for n in range(3):
        small = shrink(x, [(35, 48), (28, 38), (22, 30)][n])
        for size in ((28, 38), (35, 48), (44, 60))[2 - n:]:
            small = bilinear(small, size)
        found = model.inject(x, n, RNG(0)).numpy()
        assert np.allclose(found, small + np.sum(b[:n + 1]), atol=1e-5)  # eq: singan-injection
    noisy = stub(model, lambda h: h, *constants(0, 0, 0)).inject(0 * x, 1, RNG(12)).numpy()
    assert np.isclose(noisy.std(), 0.1, rtol=0.05)  # eq: singan-injection


def test_an_image_is_enlarged_by_r_each_time():
    model = stub(build(), *constants(0.5, 0, 0, 0))
    x = RNG(13).standard_normal((2, 2, 22, 30))
    found = model.enlarge(tensor(x), 2, RNG(0)).numpy()
    want = bilinear(bilinear(x, (28, 38)) + 0.5, (35, 48)) + 0.5
    assert np.allclose(found, want, atol=1e-5)  # eq: singan-super-resolution
    noisy = stub(model, lambda h: h).enlarge(tensor(0 * x), 1, RNG(14)).numpy()
    assert np.isclose(noisy.std(), 0.1, rtol=0.05)  # eq: singan-super-resolution
