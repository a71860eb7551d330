"""Section "Text to image with GANs": joint embeddings, matching pairs, interpolated sentences."""

import numpy as np
import pytest

from minigen import grad, gradcheck, nn, optim, tensor
from minigen.data import in_batches, scenes, signed
from minigen.models.clip.clip import ImageEncoder, TextEncoder
from minigen.models.text_to_image import gan_cls
from minigen.models.text_to_image import joint_embedding as sje

RNG = np.random.default_rng


# -------------------------------------------------------------------------------- joint embedding

def codes(n=40, classes=4, d=5):
    """Classes, and codes of images and of texts."""
    rng = RNG(0)
    y = rng.permutation(np.arange(n) % classes)
    return y, rng.normal(size=(n, d)), rng.normal(size=(n, d))


def best(code, others, y, classes):
    """The class whose members in `others` fit `code` best on average, by loops."""
    means = [np.mean([sum(a * b for a, b in zip(code, o, strict=True))
                      for o, label in zip(others, y, strict=True) if label == k])
             for k in range(classes)]
    return int(np.argmax(means))


def test_a_class_is_the_one_whose_examples_fit_best():
    y, v, t = codes()
    f_v, f_t = sje.image_class(v, t, y, 4), sje.text_class(t, v, y, 4)
    assert f_v.tolist() == [best(c, t, y, 4) for c in v]  # eq: sje-image-classifier
    assert f_t.tolist() == [best(c, v, y, 4) for c in t]  # eq: sje-text-classifier
    assert len(set(f_v)) == 4 and not np.array_equal(f_v, f_t)
    with pytest.raises(ValueError, match="class 3 of 5 has no example"):
        sje.image_class(v, t, np.where(y == 3, 4, y), 5)
    with pytest.raises(IndexError, match="must lie in 0…3, got -1"):
        sje.image_class(v, t, y - 1, 4)


def test_mistakes_of_both_are_counted():
    y = np.array([0, 1, 2, 3])
    for f_v, f_t, want in (
            ([0, 1, 2, 3], [0, 1, 2, 3], 0), ([0, 1, 2, 0], [0, 1, 2, 3], 1 / 4),
            ([0, 1, 2, 3], [1, 1, 0, 3], 2 / 4), ([1, 2, 3, 0], [1, 2, 3, 0], 2)):
        assert sje.zero_one_loss(y, np.array(f_v), np.array(f_t)) == want  # eq: sje-loss


def test_the_hinge_bounds_the_mistakes_and_is_worth_going_down():
    y, v, t = codes()
    F = sje.compatibility(v, t, y, 4)
    want = np.mean([sum(max(0, 1 + s - row[label]) for k, s in enumerate(row) if k != label)
                    for row, label in zip(F, y, strict=True)])
    found = sje.hinge(tensor(F), y).item()
    assert found == pytest.approx(want)
    assert found > (F.argmax(1) != y).mean()
    gradcheck(lambda F: sje.hinge(F, y), F)
    W, phi = tensor(np.eye(5) / 10, True), np.eye(4, 5)[y] + RNG(1).normal(0, 0.3, v.shape)
    opt = optim.Adam([W], lr=0.05)
    predictions = lambda: sje.image_class(phi @ W.numpy(), t, y, 4)
    before = (predictions() != y).mean()
    for _ in range(150):
        opt.step([grad(sje.hinge(sje.compatibility(phi @ W, tensor(t), y, 4), y), W)])
    assert (predictions() != y).mean() < before / 2


def test_a_joint_embedding_learns_scenes():
    """A class is the set of a scene's colours, out of six: 41 classes. With the maximum in place of
    the sum over classes, all codes collapse into one, and three of four answers are wrong."""
    data = scenes.load(n_train=600, n_test=1)
    x, c = signed(data.train_x[:, :, ::4, ::4]), scenes.encode(data.train_captions)
    named = [[hue in caption for hue in scenes.COLOURS] for caption in data.train_captions]
    y = np.unique(named, axis=0, return_inverse=True)[1].ravel()
    model = sje.JointEmbedding(
        ImageEncoder((3, 8, 8), 16, (16, 32), RNG(1)),
        TextEncoder(len(scenes.VOCABULARY), scenes.LONGEST, 16, D=16, layers=1, rng=RNG(2)))
    opt = optim.Adam(nn.parameters(model), 3e-3)
    for t in range(200):
        i = RNG((4, t)).integers(0, 600, 32)
        opt.step(grad(model.loss(tensor(x[i]), c[i], y[i]), opt.params))
    v, t = in_batches(model.image, x), in_batches(model.text, c)
    K = y.max() + 1
    assert sje.zero_one_loss(y, sje.image_class(v, t, y, K), sje.text_class(t, v, y, K)) < 1


# ------------------------------------------------------------------------------ GAN-CLS, GAN-INT

def logit(x, t):
    """A discriminator that is a known function."""
    return (tensor(x) * tensor(t)).sum(1) + 0.3 * tensor(x)[:, 0]


def log_sigmoid(a):
    return -np.log1p(np.exp(-a))


def world(n=6):
    rng = RNG(0)
    game = gan_cls.GANCLS(lambda z, t: z * tensor(t), logit, 3)
    z = rng.normal(size=(2 * n, 3))
    calls = iter(range(100))
    game.codes = lambda n, rng: tensor(z[:n] if next(calls) % 2 == 0 else z[n:2 * n])
    return game, rng.normal(size=(n, 3)), rng.normal(size=(n, 3)), z


def test_the_discriminator_is_shown_three_kinds_of_pairs():
    game, x, t, z = world()
    D = lambda x, t: sum(a * b for a, b in zip(x, t, strict=True)) + 0.3 * x[0]
    yes = np.mean([log_sigmoid(D(x[i], t[i])) for i in range(6)])
    mismatch = np.mean([log_sigmoid(-D(x[i], t[i - 1])) for i in range(6)])
    fake = np.mean([log_sigmoid(-D(z[i] * t[i], t[i])) for i in range(6)])
    loss = game.d_loss(x, None, t).item()
    assert loss == pytest.approx(-yes - (mismatch + fake) / 2)  # eq: gan-cls-triples


def test_the_best_discriminator_of_pairs_is_the_posterior_of_three_kinds():
    """On tables: real pairs p(x, t), mismatched m = p(x) p(t), generated q(x, t);
    D* = p / (p + ½ (m + q))."""
    rng = RNG(1)
    p, q = (a / a.sum() for a in rng.random((2, 3, 3)))
    mixed = np.outer(p.sum(1), p.sum(0))
    a = tensor(np.zeros((3, 3)), True)
    opt = optim.Adam([a], lr=0.1)
    for _ in range(400):
        yes, no = -(1 + (-a).exp()).log(), -(1 + a.exp()).log()
        opt.step([grad(-(p * yes + (mixed * no + q * no) / 2).sum(), a)])
    D = 1 / (1 + np.exp(-a.numpy()))
    assert np.allclose(D, p / (p + (mixed + q) / 2), atol=1e-3)


def test_the_generator_draws_for_sentences_in_between_too():
    game, x, t, z = world()
    D = lambda x, t: sum(a * b for a, b in zip(x, t, strict=True)) + 0.3 * x[0]
    half = [(t[i] + t[i - 1]) / 2 for i in range(6)]
    matching = np.mean([log_sigmoid(D(z[i] * t[i], t[i])) for i in range(6)])
    interpolated = np.mean([log_sigmoid(D(z[6 + i] * half[i], half[i])) for i in range(6)])
    assert game.g_loss(6, None, t).item() == pytest.approx(-matching - interpolated)  # eq: gan-int
    gradcheck(lambda t: game.g_loss(6, None, t), t)
    game.beta = 1.0
    game.codes = lambda n, rng: tensor(z[:n])
    assert game.g_loss(6, None, t).item() == pytest.approx(-2 * matching)  # eq: gan-int


def test_a_step_of_each_player_lowers_its_loss():
    game = gan_cls.gan_cls((3, 8, 8), 4, 5, 4, RNG(0))
    x, t = (RNG(1).uniform(-1, 1, shape).astype("f4") for shape in ((6, 3, 8, 8), (6, 5)))
    for net, loss in ((game.D, lambda: game.d_loss(x, RNG(2), t)),
                      (game.G, lambda: game.g_loss(6, RNG(2), t))):
        params = nn.parameters(net)
        before = loss()
        opt = optim.SGD(params, lr=0.05)
        opt.step(grad(before, params))
        assert loss().item() < before.item()
    assert game.sample(6, RNG(3), t).shape == (6, 3, 8, 8)
    with pytest.raises(ValueError, match="a single pair"):
        gan_cls.mismatched(t[:1])
    with pytest.raises(TypeError, match="must be of floats, got uint8"):
        game.d_loss(x.astype(np.uint8), RNG(2), t)
