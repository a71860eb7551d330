"""SRResNet and SRGAN: the pixel shuffle, the losses of both players, and why the sharper image has
the lower PSNR."""

import json

import numpy as np
import pytest
import scipy.stats
from small_worlds import all_of

import minigen
from demos import srgan as demo
from demos.srgan import bicubic
from minigen import avg_pool2d, grad, mse_loss, nn, optim, sum, tensor, train
from minigen.models.image_to_image import perception
from minigen.models.image_to_image import srgan as model

RNG = np.random.default_rng


def images(n=4, size=8, seed=0):
    return RNG(seed).uniform(-1, 1, (n, 3, size, size)).astype("f4")


# The networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [1, 2, 3])
def test_channels_become_parts_of_pixels(r):
    N, C, H, W = 2, 3, 4, 5
    x = RNG(1).random((N, C * r * r, H, W))
    y = minigen.pixel_shuffle(x, r).numpy()
    assert y.shape == (N, C, r * H, r * W)
    for c, row, column in np.ndindex(C, r * H, r * W):
        k = c * r * r + row % r * r + column % r
        assert np.array_equal(y[:, c, row, column], x[:, k, row // r, column // r]
                              )  # eq: pixel-shuffle
    assert np.array_equal(minigen.pixel_unshuffle(y, r).numpy(), x)


def test_a_convolution_and_a_shuffle_are_a_transposed_convolution():
    # of stride r and filters r×r: each part of a pixel is computed with weights of its own
    x, w = RNG(2).random((2, 3, 4, 5)), RNG(3).random((3, 2, 2, 2))  # w: (C, K, R, S)
    parts = w.transpose(1, 2, 3, 0).reshape(8, 3, 1, 1)
    y = minigen.pixel_shuffle(minigen.conv2d(x, parts), 2)
    want = minigen.conv_transpose2d(x, w, stride=2).numpy()
    assert np.allclose(y.numpy(), want)  # eq: pixel-shuffle


@pytest.mark.parametrize(("call", "message"), [
    (lambda: minigen.pixel_shuffle(np.ones((1, 6, 2, 2)), 2),
     r"x is \(1, 6, 2, 2\), expected a multiple of 2² channels"),
    (lambda: minigen.pixel_shuffle(np.ones((4, 2, 2)), 2), r"expected images \(N, C, H, W\)"),
    (lambda: minigen.pixel_unshuffle(np.ones((1, 6, 2, 3)), 2), "expected sides divisible by 2"),
    (lambda: model.srresnet(3, 6), "enlarged by 2, 4, 8, …, got 6"),
    (lambda: model.srresnet(3, 1), "got 1"),
    (lambda: model.srresnet(3, 2.5), "got 2.5"),
    (lambda: game().g_loss(tensor(images()), tensor(images(4, 16))),
     r"real samples are \(4, 3, 8, 8\), G draws \(4, 3, 16, 16\)"),
    (lambda: game().d_loss(tensor(images()), tensor(images(4, 16))), "build G and D for the shape"),
])
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_negative_values_have_a_learnt_slope_per_channel():
    act, h = model.PReLU(2), RNG(4).standard_normal((3, 2, 4, 5), np.float32)
    assert np.allclose(act(tensor(h)).numpy(), np.where(h > 0, h, 0.25 * h))
    nn.initializers.values(act.a.weight, np.float32([[[0.5]], [[-1]]]))
    y = act(tensor(h))
    assert np.allclose(y.numpy(), np.where(h > 0, h, h * [[[0.5]], [[-1]]]))
    slope = grad(sum(y), act.a.weight).numpy().ravel()
    assert np.allclose(slope, np.minimum(h, 0).sum((0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_generator_enlarges_by_the_factor(factor):
    G = model.srresnet(3, factor, 8, 2, RNG(5))
    assert G(tensor(images(2, 6))).shape == (2, 3, 6 * factor, 6 * factor)
    assert np.abs(G(tensor(1000 * images(2, 6))).numpy()).max() <= 1
    slope = grad(sum(G(tensor(images(2, 6)))), nn.parameters(G))
    assert all((g.numpy() != 0).any() for g in slope.values())
    assert len(model.srresnet(3, float(factor), 8, 2, RNG(5))) == len(G)


def test_the_trunk_has_short_and_long_skips_around_batch_norms():
    G, h = model.srresnet(3, 4, 8, 2, RNG(16)), tensor(RNG(17).random((2, 8, 4, 5), np.float32))
    trunk = G[2]
    *blocks, _, last_norm = trunk
    inside = [block[i] for block in blocks for i in (1, 4)]
    assert len(blocks) == 2 and all(isinstance(f, nn.BatchNorm2d) for f in (*inside, last_norm))
    acts = [f for f in G if isinstance(f, model.PReLU)]
    assert len(acts) == 3  # one at first, one after each doubling
    assert (blocks[0](h).numpy() != h.numpy()).any()
    for norm in (*(block[4] for block in blocks), last_norm):
        nn.initializers.constant(norm.weight, 0)
    assert np.array_equal(blocks[0](h).numpy(), h.numpy())
    assert np.array_equal(trunk(h).numpy(), h.numpy())


def test_phi_is_the_end_of_the_second_block_before_its_pooling():
    net, x = model.classifier((3, 8, 12), 5, 4, RNG(14)), RNG(15).random((2, 3, 8, 12), np.float32)
    phi = net[:model.PHI](tensor(x))
    assert phi.shape == (2, 8, 4, 6) and phi.numpy().min() == 0
    logits = net(tensor(x)).numpy()
    assert logits.shape == (2, 5) and np.array_equal(net[model.PHI:](phi).numpy(), logits)


def test_blocks_add_to_what_they_are_given():
    x, W = RNG(6).random((2, 3)), RNG(7).random((3, 3))
    assert np.allclose(model.Residual(lambda h: h @ W)(tensor(x)).numpy(), x + x @ W)


# The losses --------------------------------------------------------------------------------------


def game():
    phi = nn.Sequential(nn.Conv2d(3, 5, 3, rng=RNG(8)), minigen.relu)
    return model.srgan(3, 2, phi, 8, 1, RNG(9))


def test_the_content_loss_is_a_quadratic_form_if_features_are_linear():
    W, x, x_hat = (a.astype(float) for a in (RNG(10).random((192, 7)), images(), images(seed=1)))
    net = model.SRGAN(None, None, lambda x: x.flatten(1) @ W)
    error = (x - x_hat).reshape(4, -1)
    form = lambda a: np.einsum("ni,ij,nj->", a, W @ W.T, a)
    want = form(error) / form(x.reshape(4, -1))
    found = net.content_loss(tensor(x), tensor(x_hat)).item()
    assert np.isclose(found, want / 10)  # eq: srgan-content-loss
    moved = x_hat + 0.1 * np.linalg.svd(W)[0][:, -1].reshape(3, 8, 8)  # which W does not see
    again = net.content_loss(tensor(x), tensor(moved)).item()
    assert np.isclose(again, found)  # eq: srgan-content-loss


def test_the_perceptual_loss_adds_a_thousandth_of_minus_log_d():
    net, x, x_hat = game(), tensor(images()), tensor(images(seed=1))
    p = 1 / (1 + np.exp(-net.D(x_hat).numpy().astype(float)))
    loss, parts = net.g_loss(x, x_hat)
    want = -np.log(p).mean()
    assert np.isclose(parts["L_Gen"].item(), want)  # eq: srgan-perceptual-loss
    L_X = net.content_loss(x, x_hat).item()
    assert parts["L_X"].item() == L_X
    assert np.isclose(loss.item(), L_X + want / 1000)  # eq: srgan-perceptual-loss


def test_the_loss_of_d_is_least_where_d_is_the_share_of_real_images():
    # four images of one pixel, real and enlarged in these numbers
    real, fake = np.array([5, 1, 3, 3]), np.array([1, 4, 3, 4])
    pixels = lambda counts: tensor(np.repeat(np.arange(4.0), counts).reshape(-1, 1, 1, 1))
    logits = tensor(np.log(real / fake), requires_grad=True)
    net = model.SRGAN(None, lambda x: logits[x.data.astype(int).ravel()], None)
    loss = net.d_loss(pixels(real), tensor(np.repeat(np.arange(4.0), fake).reshape(-1, 1, 1, 1)))
    p, q = real / 12, fake / 12
    js = (scipy.stats.entropy(p, (p + q) / 2) + scipy.stats.entropy(q, (p + q) / 2)) / 2
    assert np.isclose(loss.item(), 2 * np.log(2) - 2 * js)  # eq: srgan-game
    assert np.allclose(grad(loss, logits).numpy(), 0, atol=1e-12)  # eq: srgan-game


def test_neither_player_moves_the_other_and_the_classifier_stays():
    net = game()
    x = tensor(images())
    G_y = net.G(avg_pool2d(x, 2))
    d_loss = net.d_loss(x, G_y)
    slopes = grad(d_loss, nn.parameters(net), allow_unused=True)
    assert {key[0] for key, g in slopes.items() if (g.numpy() != 0).any()} == {"D"}
    before = {key: p.numpy().copy() for key, p in nn.parameters(net).items()}
    train.descend(optim.Adam(nn.parameters(net.D)), d_loss)
    train.descend(optim.Adam(nn.parameters(net.G)), net.g_loss(x, G_y)[0])
    for key, p in nn.parameters(net).items():
        assert (p.numpy() != before[key]).any() == (not key.startswith("phi")), key


def test_it_learns_to_restore_what_it_has_seen():
    G, x = model.srresnet(3, 2, 8, 1, RNG(11)), tensor(0.5 * images(2))
    opt, y = optim.Adam(nn.parameters(G), 1e-2), avg_pool2d(x, 2)
    losses = [train.descend(opt, mse_loss(G(y), x))["loss"] for _ in range(60)]
    assert losses[-1] < 0.5 * np.square(y.numpy().repeat(2, 2).repeat(2, 3) - x.numpy()).mean()


# Error and perception ----------------------------------------------------------------------------


def world():
    """All binary images of 2×3 pixels, their probabilities, and the means of their rows."""
    x = all_of(2, 2, 3).astype(float)
    return RNG(12).dirichlet(np.ones(len(x))), x.reshape(len(x), 6), x.mean(2)


def test_the_mean_of_possible_images_has_the_least_error():
    p, x, y = world()
    found = perception.mean_image(p, x, y)
    # by least squares: a restoration is a table with a row for each y
    _, row = np.unique(y, axis=0, return_inverse=True)
    weight = np.sqrt(p)[:, None]
    table = np.linalg.lstsq(weight * np.eye(16)[row.ravel()], weight * x, rcond=None)[0]
    assert np.allclose(found, table[row.ravel()])  # eq: restoration-mean
    least = perception.least_error(p, x, y)
    variances = [np.cov(x[y_k], rowvar=False, aweights=p[y_k], ddof=0).trace() * p[y_k].sum()
                 for y_k in (row.ravel() == np.arange(16)[:, None]) if y_k.sum() > 1]
    assert np.isclose(least, np.sum(variances))
    for seed in range(20):
        other = found + 0.1 * RNG(seed).standard_normal((16, 6))[row.ravel()]
        assert p @ np.square(x - other).sum(1) > least


def test_a_sample_has_twice_the_error_and_the_distribution_of_images():
    p, x, y = world()
    q = perception.posterior(p, y)
    assert np.allclose(p @ q, p)  # samples are distributed like images: nothing tells them apart
    found = perception.sample_error(p, x, y)
    assert np.isclose(found, 2 * perception.least_error(p, x, y))  # eq: restoration-sample
    n, rng = 20_000, RNG(13)
    i = rng.choice(len(x), n, p=p)
    k = [rng.choice(len(x), p=q[at]) for at in i]
    errors = np.square(x[i] - x[k]).sum(1)
    assert abs(errors.mean() - found) < 4 * errors.std() / n**0.5  # eq: restoration-sample
    assert np.array_equal(y[i], y[k])


def test_the_mean_of_strokes_is_no_stroke():
    # in a row of four pixels one is white; halved, two of them cannot be told apart
    x = np.eye(4)
    y = x.reshape(4, 2, 2).mean(2)
    p = np.full(4, 0.25)
    assert np.array_equal(perception.mean_image(p, x, y), np.kron(np.eye(2), np.full((2, 2), 0.5)))
    psnr = lambda error: -10 * np.log10(error / 4)
    lost = psnr(perception.least_error(p, x, y)) - psnr(perception.sample_error(p, x, y))
    assert np.isclose(lost, 3.0103, atol=1e-4)  # eq: restoration-sample


# The demo ----------------------------------------------------------------------------------------


def test_bicubic_interpolation_has_the_weights_of_keys():
    def kernel(t, a=-0.5):  # Keys 1981
        t = abs(t)
        if t < 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0

    y = images(2)
    found = bicubic(tensor(y), 2)
    for row, column in ((6, 7), (8, 5), (4, 11)):
        at = [[(i, kernel((place + 0.5) / 2 - 0.5 - i)) for i in range(8)]
              for place in (row, column)]
        want = np.sum([u * v * y[:, :, i, j] for i, u in at[0] for j, v in at[1]], 0)
        assert np.allclose(found[:, :, row, column], want, atol=1e-5)


def test_a_single_step_is_of_srgan_which_starts_from_srresnet(tmp_path, monkeypatch):
    losses = []
    monkeypatch.setattr(train, "descend", lambda *_, name="loss", **__: losses.append(name) or {})
    demo.main(["--quick", "--steps", "1", "--out", str(tmp_path)])
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert losses == ["d_loss", "g_loss"]
    # nothing was learnt, except for the averages of batch norms
    assert abs(numbers["psnr_srgan"] - numbers["psnr_srresnet"]) < 0.01
