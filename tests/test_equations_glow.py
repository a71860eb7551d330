"""Normalising flows: each layer's log-determinant against its Jacobian, and its inverse."""

import numpy as np
import pytest

from minigen import grad, nn, optim, tensor, train
from minigen.models.flow import glow as model
from minigen.nn import initializers, invertible

RNG = np.random.default_rng


def random(layer, seed, std=0.3):
    """The layer in float64, all its parameters random: no coupling is the identity."""
    rng = RNG(seed)
    for t in nn.parameters(layer).values():
        initializers.normal(t, std, rng)
    nn.astype(layer, np.float64)
    return layer


def jacobian(f, x):
    """∂f/∂x (D, D) of one image x (1, ...), row by row."""
    x = tensor(x, requires_grad=True)
    y = f(x).flatten()
    return np.stack([grad(y[i], x).numpy().ravel() for i in range(y.size)])


def log_det(f, x):
    return np.linalg.slogdet(jacobian(f, x))[1]


def log_det_of(layer, h):
    return log_det(lambda h: layer(h)[0], h)


LAYERS = {"actnorm": lambda: invertible.ActNorm(5),
          "conv": lambda: invertible.InvertibleConv(5, RNG(0)),
          "coupling": lambda: invertible.AffineCoupling(5, 7, rng=RNG(0)),
          "global coupling": lambda: invertible.AffineCoupling(5, 7, 1, RNG(0))}


@pytest.mark.parametrize("name", LAYERS)
def test_the_log_determinant_of_a_layer_is_that_of_its_jacobian(name):
    layer, h = random(LAYERS[name](), 1), RNG(2).standard_normal((1, 5, 2, 3))
    want = log_det_of(layer, h)
    got = layer(tensor(h))[1].numpy()
    assert abs(want) > 0.1
    assert np.allclose(got, want)  # eq: flow-actnorm, flow-conv, flow-coupling


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_inverted(name):
    layer, h = random(LAYERS[name](), 3), RNG(4).standard_normal((3, 5, 2, 3))
    out = layer(tensor(h))[0]
    assert not np.allclose(out.numpy(), h, atol=0.1)
    assert np.allclose(layer.inverse(out).numpy(), h)  # eq: flow-actnorm, flow-conv, flow-coupling


def test_w_is_first_a_rotation_and_has_the_determinant_of_s():
    conv = invertible.InvertibleConv(6, RNG(5))
    assert np.allclose(conv.weight().numpy() @ conv.weight().numpy().T, np.eye(6), atol=1e-6)
    random(conv, 6)
    W, P, L, U = (t.numpy() for t in (conv.weight(), conv.P, conv.L, conv.U))
    s = conv.sign.numpy() * np.exp(conv.log_s.numpy())
    L, U = np.tril(L, -1) + np.eye(6), np.triu(U, 1) + np.diag(s)
    assert sorted(map(tuple, P)) == sorted(map(tuple, np.eye(6)))
    assert np.allclose(W, P @ L @ U)  # eq: flow-conv
    h = RNG(7).standard_normal((1, 6, 2, 2))
    mixed = np.einsum("dc,ncij->ndij", W, h)
    assert np.allclose(conv(tensor(h))[0].numpy(), mixed)  # eq: flow-conv


def test_a_rotation_keeps_volumes_and_is_not_learnt():
    layer, h = invertible.Rotation(6, RNG(31)), RNG(32).standard_normal((2, 6, 3, 2))
    nn.astype(layer, np.float64)
    out, log_det = layer(tensor(h))
    assert np.allclose(out.numpy(), np.einsum("dc,ncij->ndij", layer.R.numpy(), h))
    assert log_det == 0 and np.isclose(log_det_of(layer, h[:1]), 0, atol=1e-6)
    assert not np.allclose(out.numpy(), h, atol=0.1) and not nn.parameters(layer)
    assert np.allclose(layer.inverse(out).numpy(), h, atol=1e-6)


def test_a_coupling_changes_one_half_given_the_other():
    layer = random(invertible.AffineCoupling(5, 7, rng=RNG(0)), 8)
    h = RNG(9).standard_normal((1, 5, 3, 3))
    J = jacobian(lambda h: layer(h)[0], h)
    n = 3 * 9  # numbers in h_a
    assert np.array_equal(J[:n], np.eye(45)[:n])  # eq: flow-coupling
    s = np.diag(J)[n:]
    assert np.array_equal(J[n:, n:], np.diag(s)) and (s > 0).all()  # eq: flow-coupling
    assert np.abs(np.log(s)).max() < invertible.BOUND and np.abs(J[n:, :n]).max() > 0.1
    first, h = invertible.AffineCoupling(5, 7, rng=RNG(0)), h.astype(np.float32)
    assert np.array_equal(first(tensor(h))[0].numpy(), h)  # initially the identity


def test_the_network_of_a_coupling_is_that_of_the_paper():
    """Convolutions of 3×3, 1×1 and 3×3 pixels with ReLUs between them."""
    layer = random(invertible.AffineCoupling(5, 7, rng=RNG(0)), 29)
    first, second, last = layer.net
    assert [conv.weight.shape[2:] for conv in layer.net] == [(3, 3), (1, 1), (3, 3)]
    h = RNG(30).standard_normal((2, 3, 4, 4))
    hidden = np.maximum(first(tensor(h)).numpy(), 0)
    hidden = np.einsum("kc,ncij->nkij", second.weight.numpy()[:, :, 0, 0], hidden)
    hidden = np.maximum(hidden + second.bias.numpy()[:, None, None], 0)
    raw, t = np.split(last(tensor(hidden)).numpy(), 2, axis=1)
    log_s, shift = layer.scale_and_shift(tensor(h))
    assert np.allclose(shift.numpy(), t) and (hidden == 0).any()
    assert np.allclose(log_s.numpy(), invertible.BOUND * np.tanh(raw / invertible.BOUND))


def flow(shape=(2, 4, 4), L=2, seed=10):
    return random(model.glow(shape, 2, L, 5, RNG(0)), seed, std=0.1)


@pytest.mark.parametrize("shape, L", [((1, 3, 2), 0), ((1, 4, 6), 1), ((1, 4, 4), 2),
                                      ((2, 8, 8), 3)])
def test_the_density_is_that_of_the_latents_times_the_change_of_volume(shape, L):
    net, x = flow(shape, L), RNG(11).random((1, *shape))
    z, _ = net.encode(x)
    D = z.size
    want = log_det(lambda x: net.encode(x)[0], x) - (
        np.square(z.numpy()).sum() + D * np.log(2 * np.pi)) / 2
    assert np.allclose(net.log_prob(x).numpy(), want)  # eq: flow-likelihood
    assert np.isclose(net.loss(x).item(), -want / D)  # eq: flow-likelihood


def test_latents_and_images_correspond_one_to_one():
    net = flow((2, 8, 8), 3)
    x = RNG(12).random((4, 2, 8, 8))
    z, log_det = net.encode(x)
    assert z.shape == (4, 128) and log_det.shape == (4,)
    assert np.allclose(net.decode(z).numpy(), x)  # eq: flow-likelihood
    z = RNG(13).standard_normal((3, 128))
    assert np.allclose(net.encode(net.decode(z))[0].numpy(), z)  # eq: flow-likelihood
    assert np.allclose(net.sample(3, RNG(13)).numpy(), net.decode(z).numpy())


def test_each_level_hands_over_half_of_what_is_left():
    """The latents of a level do not depend on the levels after it, the others do."""
    for level, n in ((1, 16), (2, 24)):
        net, x = flow(), RNG(14).random((1, 2, 4, 4))
        before = net.encode(x)[0].numpy()
        random(net.levels[level], 15)
        after = net.encode(x)[0].numpy()
        assert np.array_equal(before[:, :n], after[:, :n])
        assert (before[:, n:] != after[:, n:]).all()


def test_the_last_level_sees_all_that_is_left():
    """A single pixel of the image changes every latent of the global level."""
    net, x = flow((1, 8, 8), 1), RNG(33).random((1, 1, 8, 8))
    other = x.copy()
    other[0, 0, 0, 0] = 1 - other[0, 0, 0, 0]
    a, b = (net.encode(x)[0].numpy() for x in (x, other))
    assert (a[:, 32:] != b[:, 32:]).all() and (a[:, :32] == b[:, :32]).any()


def test_pixels_become_logits(monkeypatch):
    layer, x = invertible.Logit(), RNG(17).random((3, 2, 4, 4))
    with monkeypatch.context() as patch:
        patch.setattr(invertible, "ALPHA", 0.1)
        h, log_det = layer(tensor(x))
        p = 0.1 + 0.8 * x
        assert np.allclose(h.numpy(), np.log(p / (1 - p)))  # eq: flow-logit
        slopes = 0.8 / (p * (1 - p))
        assert np.allclose(log_det.numpy(), np.log(slopes).sum((1, 2, 3)))  # eq: flow-logit
        assert np.allclose(layer.inverse(h).numpy(), x)  # eq: flow-logit
    ends = np.array([0, 1], np.float32).reshape(1, 1, 1, 2)
    h, log_det = layer(tensor(ends))
    assert np.allclose(h.numpy().ravel(), [-13.8155, 13.8155], rtol=1e-4)
    assert np.allclose(log_det.numpy(), 2 * 13.8155, rtol=1e-4)


def test_actnorm_normalises_the_first_batch():
    net = model.glow((1, 8, 8), 2, 2, 5, RNG(18))
    x = RNG(19).random((50, 1, 8, 8), np.float32)
    net.fit_actnorm(x)
    outputs = []
    net.encode(x, lambda layer, h: outputs.append(layer(h)[0].numpy())
               if isinstance(layer, invertible.ActNorm) else None)
    assert len(outputs) == 6
    for h in outputs:
        assert np.allclose(h.mean((0, 2, 3)), 0, atol=1e-5)  # eq: flow-actnorm
        assert np.allclose(h.std((0, 2, 3)), 1, atol=1e-4)  # eq: flow-actnorm


@pytest.mark.parametrize(("call", "message"), [
    (lambda: model.glow((1, 28, 28), 1, 3, 4), "cannot be halved 3 times: use fewer levels"),
    (lambda: flow().encode(np.zeros((1, 2, 4, 4), np.uint8)), r"\(1, 2, 4, 4\) uint8, expected fl"),
    (lambda: flow().log_prob(np.full((1, 2, 8, 8), 0.5)), r"expected .* of shape \(N, 2, 4, 4\)"),
    (lambda: flow().decode(np.zeros((3, 31))), r"latents are \(3, 31\), expected \(N, 32\)"),
    # a single image: at the last level there is one pixel, and so one number per channel
    (lambda: flow().fit_actnorm(RNG(21).random((1, 2, 4, 4))), "ActNorm: a channel .* is constant"),
])
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_images_are_possible():
    assert flow().sample(0, RNG(22)).shape == (0, 2, 4, 4)


def test_couplings_of_later_levels_have_more_channels():
    couplings = [layer for level in flow((1, 8, 8), 3).levels for layer in level[2::3]]
    shapes = [layer.net[0].weight.shape for layer in couplings[::2]]
    assert shapes == [(5, 2, 3, 3), (10, 4, 3, 3), (20, 8, 3, 3), (40, 4, 1, 1)]
    assert len(couplings) == 8


def test_it_learns_a_density():
    """Pixels that are equal, two by two: log p rises beyond that of independent pixels."""
    rng = RNG(20)
    net = model.glow((1, 4, 4), 2, 1, 8, rng)
    opt = optim.Adam(nn.parameters(net), lr=1e-2)

    def batch(n):
        coarse = rng.uniform(0.2, 0.8, (n, 1, 4, 2))
        x = np.repeat(coarse, 2, axis=3) + rng.normal(0, 0.01, (n, 1, 4, 4))
        return x.astype(np.float32)

    net.fit_actnorm(batch(100))
    for _ in range(150):
        train.descend(opt, net.loss(batch(64)), max_norm=1.0)
    independent = -16 * np.log(0.6)
    assert net.log_prob(batch(200)).numpy().mean() > independent + 12
    samples = net.sample(200, rng).numpy()
    assert np.abs(samples[..., ::2] - samples[..., 1::2]).mean() < 0.05
