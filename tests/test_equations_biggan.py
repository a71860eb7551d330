"""BigGAN: the losses, both conditions, self-attention and truncation."""

import numpy as np
import pytest
import scipy.stats

from demos.biggan import quality
from minigen import grad, nn, tensor
from minigen.data import load
from minigen.models.gan import biggan as model
from minigen.models.gan import sagan

RNG = np.random.default_rng
Y = np.arange(6) % 4


def game(shape=(1, 8, 8), seed=0):
    return model.biggan(shape, 4, 3, 8, RNG(seed))


def images(n=6, shape=(1, 8, 8), seed=1):
    return tensor(RNG(seed).uniform(-1, 1, (n, *shape)).astype("f4"))


# The losses --------------------------------------------------------------------------------------


def table_game(logits):
    """Samples are integers, and D looks them up in a table."""
    look = lambda x, y: logits[np.asarray(x.data, int), y]
    return sagan.SAGAN(lambda z, y: tensor(np.round(np.abs(z.numpy()[:, 0]))), look, 1)


def test_the_discriminator_learns_only_within_its_margin():
    logits = tensor(RNG(30).normal(0, 2, (9, 4)), requires_grad=True)
    net, x = table_game(logits), tensor(np.array([0.0, 1, 2, 0, 1, 1]))
    fake = net.sample(6, RNG(14), Y).numpy().astype(int)
    real = np.array([logits.numpy()[int(i), k] for i, k in zip(x.numpy(), Y, strict=True)])
    drawn = np.array([logits.numpy()[i, k] for i, k in zip(fake, Y, strict=True)])
    want = np.mean([max(0, 1 - a) for a in real]) + np.mean([max(0, 1 + a) for a in drawn])
    loss = net.d_loss(x, RNG(14), Y)
    assert np.isclose(loss.item(), want)  # eq: hinge-gan
    assert np.isclose(net.g_loss(6, RNG(14), Y).item(), -drawn.mean())  # eq: hinge-gan
    slope = np.zeros((9, 4))
    np.add.at(slope, (x.numpy().astype(int), Y), -1.0 / 6 * (real < 1))
    np.add.at(slope, (fake, Y), (drawn > -1) / 6)
    assert np.allclose(grad(loss, logits).numpy(), slope)  # eq: hinge-gan
    assert (real > 1).any() and (drawn < -1).any()


def test_the_best_discriminator_measures_the_total_variation():
    # three values, of which the data and G have these shares in twelfths
    p, q = np.array([6, 2, 4]) / 12, np.array([1, 8, 3]) / 12
    values = np.repeat(np.arange(3.0), (6, 2, 4))
    drawn = np.repeat(np.arange(3.0), (1, 8, 3))
    losses = {}
    for logits in np.stack(np.meshgrid(*[np.linspace(-1.5, 1.5, 13)] * 3), -1).reshape(-1, 3):
        net = sagan.SAGAN(None, lambda x, y, a=logits: tensor(a[x.data.astype(int)]), 1)
        net.fake_batch = lambda x, rng, y: tensor(drawn)
        losses[tuple(logits)] = net.d_loss(tensor(values), None, None).item()
    best = min(losses, key=losses.get)
    assert np.isclose(losses[best], 2 - np.abs(p - q).sum())  # eq: hinge-gan
    assert np.array_equal(best, np.sign(p - q))  # eq: hinge-gan


def test_the_regulariser_is_the_sum_over_pairs_of_filters():
    net = game().G
    weights = [part.weight for _, part in nn.walk(net) if isinstance(part, nn.Conv2d)]
    assert len(weights) == 3 + 4 + 1
    want = np.sum([(a.astype(float) * b).sum() ** 2 for w in weights
                   for i, a in enumerate(w.numpy()) for j, b in enumerate(w.numpy()) if i != j])
    found = model.non_orthogonality(net).item()
    assert np.isclose(found, want, rtol=1e-5)  # eq: orthogonal-regularisation
    for w in weights:
        K, n = w.flatten(1).shape
        Q = np.linalg.qr(RNG(15).random((n, n)))[0] * np.arange(1, n + 1)[:, None]  # rows
        nn.initializers.values(w, (Q[:K] if K <= n else np.zeros((K, n))).reshape(w.shape))
    assert model.non_orthogonality(net).item() < 1e-6  # eq: orthogonal-regularisation


def test_the_generators_loss_adds_the_regulariser():
    net = game()
    plain = sagan.SAGAN(net.G, net.D, net.d_z)
    nn.eval(net)
    loss, without = (one.g_loss(6, RNG(16), Y).item() for one in (net, plain))
    R = model.non_orthogonality(net.G).item()
    assert R > 1 and np.isclose(loss - without, 1e-4 * R, rtol=1e-3)  # eq: hinge-gan


def test_power_iterations_are_saved_with_the_weights():
    first, again = game(), game(seed=1)
    first.D(images(), Y)
    nn.load_state_dict(again.D, nn.state_dict(first.D))
    with nn.evaluation(first.D), nn.evaluation(again.D):
        assert np.array_equal(first.D(images(), Y).numpy(), again.D(images(), Y).numpy())
    kinds = {key.rpartition(".")[2] for key in nn.buffers(first.D)}
    assert kinds == {"u"} and not any(key.endswith("u") for key in nn.parameters(first))


# The conditions ----------------------------------------------------------------------------------


def test_the_projection_compares_features_with_the_class():
    D, x = game().D, images(2)
    nn.eval(D)
    phi = D.phi(x).numpy().astype(float)
    e, w = (part.normalised().numpy().astype(float) for part in (D.embed, D.w))
    bias = D.w.layer.bias.item()
    for k in range(4):
        found = D(x, np.full(2, k)).numpy()
        want = [np.dot(w[0], a) + bias + np.dot(e[k], a) for a in phi]
        assert found.shape == (2,)
        assert np.allclose(found, want, rtol=1e-5)  # eq: projection-discriminator


def test_differences_between_classes_are_those_of_a_classifier_on_the_features():
    # log p(y|x) = e_y·φ(x) − log Z(x), so log p(1|x) − log p(0|x) does not depend on w
    D, x = game().D, images(3)
    nn.eval(D)
    phi = D.phi(x).numpy().astype(float)
    p = np.exp(phi @ D.embed.normalised().numpy().astype(float).T)
    p /= p.sum(1, keepdims=True)
    found = D(x, np.ones(3, int)).numpy() - D(x, np.zeros(3, int)).numpy()
    want = np.log(p[:, 1] / p[:, 0])
    assert np.allclose(found, want, rtol=1e-4)  # eq: projection-discriminator


def test_the_condition_sets_the_mean_and_scale_of_each_channel():
    norm, rng = model.ConditionalBatchNorm(4, 3, RNG(17)), RNG(18)
    h, c = rng.normal(2, 3, (5, 4, 6, 6)).astype("f4"), rng.standard_normal(3, np.float32)
    nn.astype(norm, np.float64)
    out = norm(tensor(h.astype(float)), tensor(np.tile(c, (5, 1)).astype(float))).numpy()
    A, B = norm.gain.weight.numpy(), norm.bias.weight.numpy()
    assert np.allclose(out.mean((0, 2, 3)), B @ c)  # eq: conditional-batch-norm
    scale = np.abs(1 + A @ c)
    assert np.allclose(out.std((0, 2, 3)), scale, rtol=1e-4)  # eq: conditional-batch-norm
    # each image has the condition of its own
    other = np.tile(c, (5, 1)).astype(float)
    other[2] += 1
    moved = norm(tensor(h.astype(float)), tensor(other)).numpy()
    assert (moved != out).any((1, 2, 3)).tolist() == [False, False, True, False, False]


def test_self_attention_adds_what_each_position_finds():
    layer, h = sagan.SelfAttention(8, RNG(19)), RNG(20).standard_normal((2, 8, 4, 6))
    nn.astype(layer, np.float64)
    assert np.array_equal(layer(tensor(h)).numpy(), h)  # eq: self-attention-gan
    nn.initializers.constant(layer.gamma.weight, 0.7)
    nn.eval(layer)
    f, g, v = (a(tensor(h)).numpy() for a in (layer.f, layer.g, layer.v))
    assert f.shape[1] == 1 and v.shape[1] == 4
    largest = lambda a: [a[:, i:i + 2, j:j + 2].max((1, 2)) for i in (0, 2) for j in (0, 2, 4)]
    found = np.empty((2, 4, 4, 6))
    for n, i, j in np.ndindex(2, 4, 6):
        keys, values = largest(g[n]), largest(v[n])
        score = np.array([np.exp(f[n, :, i, j] @ key) for key in keys])
        found[n, :, i, j] = np.sum([s * a for s, a in zip(score, values, strict=True)], 0
                                   ) / score.sum()
    want = h + 0.7 * layer.o(tensor(found)).numpy()
    assert np.allclose(layer(tensor(h)).numpy(), want)  # eq: self-attention-gan


# Truncation --------------------------------------------------------------------------------------


class Impatient:
    """A generator that does not draw for ever."""

    def __init__(self, seed):
        self.rng, self.draws = RNG(seed), 0

    def standard_normal(self, shape, dtype):
        self.draws += 1
        assert self.draws < 200
        return self.rng.standard_normal(shape, dtype)


@pytest.mark.parametrize("tau", [np.inf, 2, 1, 0.3])
def test_truncated_codes_are_normal_between_the_thresholds(tau):
    net = game()
    z = net.codes(20_000, Impatient(21), tau).numpy()
    assert z.shape == (20_000, 6) and z.dtype == np.float32
    assert np.abs(z).max() <= tau  # eq: truncation-trick
    p = scipy.stats.kstest(z.ravel(), scipy.stats.truncnorm(-tau, tau).cdf).pvalue
    assert p > 0.01  # eq: truncation-trick
    first = net.codes(20_000, RNG(21)).numpy()
    near = np.abs(first) <= tau
    assert np.array_equal(z[near], first[near])  # eq: truncation-trick
    assert near.all() or (z[~near] != first[~near]).all()


def test_each_truncation_has_statistics_of_its_own():
    net, spread = game(), {}
    G, norm = net.G, net.G.blocks[0].norm_1.norm
    nn.eval(net)
    for tau in (np.inf, 0.1):
        model.standing_statistics(net, tau, RNG(22), passes=30, batch=8)
        assert not any(part.training for _, part in nn.walk(net) if hasattr(part, "training"))
        rng, means, variances = RNG(22), [], []
        for _ in range(30):
            z = net.codes(8, rng, tau)
            rng.integers(4, size=8)  # the classes
            h = G.first(z[:, :3]).reshape(8, *G.small).numpy()  # here γ is 0 in the attention
            means.append(h.mean((0, 2, 3)))
            variances.append(h.var((0, 2, 3), ddof=1))
        assert np.allclose(norm.running_mean.numpy(), np.mean(means, 0), atol=1e-5)
        assert np.allclose(norm.running_var.numpy(), np.mean(variances, 0), rtol=1e-4)
        spread[tau] = norm.running_var.numpy().copy()
    assert (spread[0.1] < spread[np.inf]).all() and norm.momentum == 0.1


# The demo ----------------------------------------------------------------------------------------


def test_images_are_scored_by_class():
    data = load("glyphs", n_train=200, n_test=200)
    x, y = data.test_x / np.float32(255), data.test_y
    numbers = quality(x, y, data)
    assert numbers["drawn_as_asked"] > 0.95
    wrong = quality(x, (y + 1) % 10, data)
    assert wrong["drawn_as_asked"] < 0.05
    mean = np.stack([x[y == k].mean(0) for k in range(10)])[y]
    assert np.isclose(numbers["variety"], np.mean(
        [np.sqrt(np.square(x - mean)[y == k].mean(0)).mean() for k in range(10)]), rtol=1e-4)
    assert quality(mean, y, data)["variety"] < 1e-6 < numbers["variety"]
