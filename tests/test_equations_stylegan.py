"""StyleGAN: styles, noise, style mixing, truncation and the penalty R₁."""

import numpy as np
import pytest

from minigen import grad, mean, nn, no_grad, optim, tanh, tensor
from minigen.models.gan import stylegan as model
from minigen.models.gan.gan import algorithm_1
from minigen.models.gan.r1 import r1

RNG = np.random.default_rng


def game(seed=0):
    return model.stylegan((1, 8, 8), 5, 6, (6, 5, 4), RNG(seed))


def images(n=4):
    return RNG(1).uniform(-1, 1, (n, 1, 8, 8)).astype("f4")


def test_adain_gives_channels_the_scale_and_mean_of_the_style():
    rng = RNG(2)
    h, y_s, y_b = rng.standard_normal((3, 4, 5, 6)), rng.uniform(0.5, 2, (3, 4)), rng.random((3, 4))
    out = model.adain(h, y_s, y_b).numpy()
    assert np.allclose(out.mean((2, 3)), y_b)  # eq: adain
    assert np.allclose(out.std((2, 3)), y_s, rtol=1e-4)  # eq: adain
    # what the channels' means and scales were does not count
    other = model.adain(7 * h + rng.random((3, 4, 1, 1)), y_s, y_b).numpy()
    assert np.allclose(out, other, atol=1e-4)


def test_a_layers_style_is_an_affine_function_of_w():
    layer, rng = model.StyledConv(3, 4, 6, RNG(3)), RNG(4)
    h, w = rng.standard_normal((2, 3, 5, 5), np.float32), rng.standard_normal((2, 6), np.float32)
    out = layer(tensor(h), tensor(w), RNG(0)).numpy()
    y = w @ layer.affine.weight.numpy().T + layer.affine.bias.numpy()
    assert np.allclose(out.mean((2, 3)), y[:, 4:], atol=1e-5)  # eq: adain
    assert np.allclose(out.std((2, 3)), np.abs(1 + y[:, :4]), atol=1e-3)  # eq: adain


def test_all_channels_have_the_same_noise_each_at_its_own_strength():
    noise, h = model.PixelNoise(3), RNG(5).standard_normal((20, 3, 30, 30), np.float32)
    assert np.array_equal(noise(tensor(h), RNG(6)).numpy(), h)  # at first there is none
    strength = np.array([0.5, 2, -1], np.float32)
    nn.initializers.values(noise.scale.weight, strength[:, None, None])
    added = (noise(tensor(h), RNG(6)).numpy() - h) / strength[:, None, None]
    assert np.allclose(added, added[:, :1], atol=1e-5)  # eq: stylegan-noise
    n = added[:, 0].size
    assert abs(added[:, 0].mean()) < 4 / n**0.5  # eq: stylegan-noise
    assert abs(added[:, 0].var() - 1) < 4 * (2 / n) ** 0.5  # eq: stylegan-noise


def test_mixed_styles_are_the_first_ones_up_to_a_layer():
    first, second = RNG(7).random((2, 3, 6, 4))
    layers = [0, 2, 6]
    want = [[first[n, i] if i < layers[n] else second[n, i] for i in range(6)] for n in range(3)]
    mixed = model.mix(tensor(first), tensor(second), np.array(layers)).numpy()
    assert np.array_equal(mixed, want)  # eq: style-mixing
    alike = model.mix(tensor(first), tensor(second), 2).numpy()
    assert np.array_equal(alike[1], want[1]) and np.array_equal(alike[:, 2:], second[:, 2:])


def test_a_style_reaches_the_image_by_its_own_layers():
    G = game().G
    w_1, w_2 = (G.styles(tensor(RNG(i).standard_normal((2, 5), np.float32))) for i in (8, 9))
    w = tensor(model.mix(w_1, w_2, 4).numpy(), requires_grad=True)
    x = G.g(w, RNG(0))
    slope = grad(mean(x * x), w).numpy()
    assert (np.abs(slope).max((0, 2)) > 0).all()
    for layer in range(6):  # by a loop over the layers, each told its style
        h = tensor(np.tile(G.g.constant.weight.numpy().reshape(G.g.size), (2, 1, 1, 1)))
        rng = RNG(0)
        for i, conv in enumerate(G.g.layers):
            if i in (2, 4):
                h = tensor(np.repeat(np.repeat(h.numpy(), 2, 2), 2, 3))
            h = conv(h, (w_1 if i < layer else w_2)[:, i], rng)
        want = np.tanh(G.g.image(h).numpy())
        found = G.g(model.mix(w_1, w_2, layer), RNG(0)).numpy()
        assert np.allclose(found, want, atol=1e-6)  # eq: style-mixing


def test_training_mixes_a_share_of_the_images():
    g, n = game(), 400
    w = []
    g.G.g = lambda styles, rng: w.append(styles.numpy())
    g.G.g.layers = [None] * 6
    g.generate(n, RNG(10))
    changes = [(np.diff(styles, axis=0) != 0).any(1).sum() for styles in w[0]]
    mixed = np.mean(np.array(changes) == 1)
    assert set(changes) == {0, 1} and abs(mixed - 0.9) < 4 * (0.09 / n) ** 0.5


def test_truncation_draws_styles_towards_their_mean():
    g = game()
    with no_grad():
        w = g.G.styles(g.codes(7, RNG(11)))
        centre = model.mean_style(g, RNG(12)).numpy()
    for psi in (0, 0.3, 1):
        less = model.truncate(w, tensor(centre), psi).numpy()
        away = np.linalg.norm(less - centre, axis=2)
        wide = np.linalg.norm(w.numpy() - centre, axis=2)
        assert np.allclose(away, psi * wide, atol=1e-5)  # eq: stylegan-truncation
        along = ((less - centre) * (w.numpy() - centre)).sum(2)
        assert np.allclose(along, psi * wide**2, atol=1e-5)  # eq: stylegan-truncation
    many = g.G.f(g.codes(4000, RNG(13))).numpy()
    spread = many.std(0) * (1 / 4000 + 1 / model.MEAN_OF) ** 0.5
    assert (np.abs(many.mean(0) - centre) < 5 * spread).all()  # eq: stylegan-truncation


def test_codes_are_scaled_before_they_become_styles():
    f, z = game().G.f, RNG(14).standard_normal((3, 5), np.float32)
    assert np.allclose(f(tensor(z)).numpy(), f(tensor(3 * z)).numpy(), atol=1e-5)
    wide = model.Mapping(64, 64, rng=RNG(15))(RNG(16).standard_normal((500, 64), np.float32))
    assert 0.5 < wide.numpy().std() < 1.5  # as wide as codes are: the first weights keep variances


def test_r1_is_the_mean_square_of_the_slope_at_the_data():
    x, H = RNG(17).random((5, 3)), RNG(18).random((3, 3))
    D = lambda x: ((x @ (H + H.T)) * x).sum(1) / 2
    want = (((x @ (H + H.T)) ** 2).sum(1)).mean()
    assert np.isclose(r1(D, x).item(), want)  # eq: r1-penalty


def test_the_loss_of_d_has_the_penalty_and_its_gradient():
    g, x = game(), images()
    value = lambda: g.value(x, RNG(19)).item()
    loss = g.d_loss(x, RNG(19))
    assert np.isclose(loss.item(), -value() + 0.5 * r1(g.D, x).item())  # eq: r1-penalty
    g.gamma = 4.0
    assert np.isclose(g.d_loss(x, RNG(19)).item(),
                      -value() + 2 * r1(g.D, x).item())  # eq: r1-penalty


def test_r1_is_differentiated_by_the_parameters_of_d():
    x, W = RNG(20).random((5, 3)), RNG(21).random((3, 2))
    of = lambda W: r1(lambda x: tanh(x @ W).sum(1), x)
    W_t = tensor(W, requires_grad=True)
    slope = grad(of(W_t), W_t).numpy()
    for at in np.ndindex(W.shape):
        step = np.zeros_like(W)
        step[at] = 1e-6
        central = (of(tensor(W + step)).item() - of(tensor(W - step)).item()) / 2e-6
        assert np.isclose(slope[at], central, rtol=1e-6, atol=1e-8)


def test_d_sees_how_much_a_batch_varies():
    h = RNG(22).standard_normal((6, 3, 2, 2))
    out = model.minibatch_std(tensor(h)).numpy()
    deviations = [np.sqrt(np.mean((h[:, c, i, j] - h[:, c, i, j].mean()) ** 2))
                  for c in range(3) for i in range(2) for j in range(2)]
    assert np.array_equal(out[:, :3], h)
    assert np.allclose(out[:, 3], np.mean(deviations))  # eq: minibatch-std
    alike = np.repeat(h[:1], 6, axis=0)
    assert np.allclose(model.minibatch_std(tensor(alike)).numpy()[:, 3], 1e-4)  # eq: minibatch-std
    D, x = game().D, images()
    one = np.concatenate([D(tensor(x[i:i + 1])).numpy() for i in range(4)])
    assert not np.allclose(D(tensor(x)).numpy(), one, atol=1e-6)


def test_both_players_learn():
    g = game()
    opts = [optim.Adam(nn.parameters(net), 1e-3) for net in (g.D, g.G)]
    before = {k: p.numpy().copy() for k, p in nn.parameters(g).items()}
    step = algorithm_1(g, *opts, lambda i: (images(),))
    for t in range(2):
        numbers = step(t, RNG(t))
    assert all(np.isfinite(v) for v in numbers.values())
    assert all((p.numpy() != before[k]).any() for k, p in nn.parameters(g).items())
    with pytest.raises(ValueError, match="divisible by 4 and at least 8, got 6×8"):
        model.stylegan((1, 6, 8), 5)
