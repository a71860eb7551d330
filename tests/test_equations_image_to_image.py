"""Section "Image to image": pix2pix and CycleGAN. Each equation is checked by a second route."""

import numpy as np
import pytest

from minigen import grad, gradcheck, nn, optim, tensor
from minigen.models.gan.dcgan import adam
from minigen.models.gan.gan import leaky
from minigen.models.image_to_image import cyclegan, pix2pix

RNG = np.random.default_rng


def images(seed, n=3, shape=(1, 4, 4)):
    return RNG(seed).uniform(-1, 1, (n, *shape))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


class Linear:
    """a x + b, a translator whose inverse is known."""

    def __init__(self, a, b):
        self.a, self.b = tensor(np.array(a), True), tensor(np.array(b), True)

    def __call__(self, x):
        return self.a * x + self.b


# --------------------------------------------------------------------------------------- pix2pix

def discriminator(x, y):
    """A known discriminator of pairs: a logit for each column."""
    return (2 * x * y - 0.5 * y + 0.3 * x).sum(axis=2)


def test_the_pairs_are_judged_patch_by_patch():
    x, y = images(0), images(1)
    G = Linear(-0.7, 0.2)
    model = pix2pix.Pix2Pix(G, discriminator, lam=3.0)
    terms = []
    for n in range(3):
        for j in range(4):
            real = sum(2 * x[n, 0, i, j] * y[n, 0, i, j] - 0.5 * y[n, 0, i, j]
                       + 0.3 * x[n, 0, i, j] for i in range(4))
            made = [-0.7 * x[n, 0, i, j] + 0.2 for i in range(4)]
            fake = sum(2 * x[n, 0, i, j] * made[i] - 0.5 * made[i] + 0.3 * x[n, 0, i, j]
                       for i in range(4))
            terms.append((np.log(sigmoid(real)), np.log(1 - sigmoid(fake)), np.log(sigmoid(fake))))
    real, fake, adversarial = np.mean(terms, axis=0)
    G_x = G(tensor(x))
    value = model.value(x, y, G_x)
    assert value.item() == pytest.approx(real + fake)  # eq: pix2pix-pair-d
    assert model.d_loss(x, y, G_x).item() == pytest.approx(-real - fake)
    away = np.mean(np.abs(y - (-0.7 * x + 0.2)))
    loss = model.g_loss(x, y, G_x)
    assert loss.item() == pytest.approx(-adversarial + 3 * away)  # eq: pix2pix-l1
    assert not value.requires_grad and len(grad(loss, [G.a, G.b])) == 2  # D's loss stops at G_x


def test_the_discriminator_sees_both_images():
    net = pix2pix.patch_discriminator(3, 4, RNG(0))
    D = pix2pix.PairDiscriminator(net)
    x, y = (a.astype(np.float32) for a in (images(2, 2, (1, 16, 16)), images(3, 2, (2, 16, 16))))
    both = np.empty((2, 3, 16, 16), np.float32)
    both[:, 0], both[:, 1], both[:, 2] = x[:, 0], y[:, 0], y[:, 1]
    assert np.allclose(D(x, y).numpy(), net(both).numpy())
    assert D(x, y).shape == (2, 1, 3, 3)


def test_a_logit_is_of_a_patch_of_22_by_22_pixels():
    D = pix2pix.patch_discriminator(1, 2, RNG(0))
    nn.eval(D)
    x = tensor(images(4, 1, (1, 64, 64)).astype(np.float32), True)
    seen = np.argwhere(grad(D(x)[0, 0, 7, 7], x).numpy()[0, 0])
    assert (np.ptp(seen, axis=0) + 1).tolist() == [22, 22]


MODES = np.array([[0.8, -0.8, -0.8], [-0.8, 0.8, -0.8], [-0.8, -0.8, 0.8]])  # red, green, blue
P = np.array([0.42, 0.34, 0.24])
N = 100  # pairs with the same input, whose outputs have the frequencies P
OUTPUTS = np.repeat(MODES, np.rint(N * P).astype(int), axis=0)[:, :, None, None]
INPUTS = np.ones((N, 1, 1, 1))


class Same:
    """A generator whose output is g, whatever x is."""

    def __init__(self, g):
        self.g = tensor(np.array(g, float), True)

    def __call__(self, x):
        return self.g.reshape(1, 3, 1, 1) * tensor(np.ones((len(x), 1, 1, 1)))


def median():
    """The point whose mean distance ‖·‖₁ to the outputs is least."""
    return np.median(OUTPUTS[:, :, 0, 0], axis=0)


def test_the_l1_term_alone_leads_to_the_median_which_may_be_no_mode():
    G = Same([0.1, 0.3, -0.2])
    model = pix2pix.Pix2Pix(G, lambda x, y: 0 * y, lam=1.0)  # D is undecided
    for t in range(300):
        opt = optim.SGD([G.g], 0.5 * (1 - t / 300))
        opt.step([grad(model.g_loss(INPUTS, OUTPUTS, G(INPUTS)), G.g)])
    assert np.allclose(G.g.numpy(), median(), atol=0.02)  # eq: pix2pix-l1
    assert (median() == -0.8).all()  # black, although no output is black
    assert model.g_loss(INPUTS, OUTPUTS, G(INPUTS)).item() == pytest.approx(
        np.log(2) + P @ np.abs(MODES - median()).mean(1), abs=0.01)  # eq: pix2pix-l1


class Table:
    """A discriminator with a free logit for each of a few outputs, the rows of (points, 3)."""

    def __init__(self, points):
        self.points, self.logits = points, tensor(np.zeros(len(points)), True)

    def __call__(self, x, y):
        which = (y.numpy() if hasattr(y, "numpy") else y)[:, None, :, 0, 0] == self.points
        return tensor(which.all(2).astype(float)) @ self.logits


def test_the_game_prefers_the_most_probable_mode_to_the_median():
    """argmin_G max_D over five candidates; the max by ascent, and from D* = p / (p + q)."""
    points = np.concatenate([MODES, [median(), P @ MODES]])
    away = [P @ np.abs(MODES - g).mean(1) for g in points]
    game = []
    for k, g in enumerate(points):
        G, D = Same(g), Table(points)
        model = pix2pix.Pix2Pix(G, D)
        opt = optim.Adam([D.logits], 0.5)
        for _ in range(60):
            opt.step([grad(model.d_loss(INPUTS, OUTPUTS, G(INPUTS)), D.logits)])
        value = model.value(INPUTS, OUTPUTS, G(INPUTS)).item()
        p = P[k] if k < 3 else 0.0
        best = p * np.log(p / (p + 1)) + np.log(1 / (p + 1)) if p else 0.0
        assert value == pytest.approx(best, abs=2e-3)  # eq: pix2pix-pair-d
        game.append(value)
    for lam, want in ((0.0, 0), (5.0, 0), (50.0, 3)):
        best = np.argmin(np.array(game) + lam * np.array(away))
        assert best == want  # eq: pix2pix-single-mode


def test_a_generator_without_noise_learns_one_mode():
    G = Same([-0.5, -0.5, -0.5])
    net = nn.Sequential(nn.Linear(4, 32, rng=RNG(2)), leaky, nn.Linear(32, 32, rng=RNG(2)), leaky,
                        nn.Linear(32, 1, rng=RNG(2)))
    nn.astype(net, np.float64)
    D = pix2pix.PairDiscriminator(nn.Sequential(lambda x: x.reshape(len(x), 4), net))
    model = pix2pix.Pix2Pix(G, D, lam=1.0)
    opt_d, opt_g = adam(nn.parameters(model.D), 5e-3), adam([G.g], 2e-2)
    for t in range(200):
        opt_g.lr = 2e-2 * (1 - t / 200)
        G_x = G(INPUTS)
        opt_d.step(grad(model.d_loss(INPUTS, OUTPUTS, G_x), opt_d.params))
        opt_g.step(grad(model.g_loss(INPUTS, OUTPUTS, G_x), opt_g.params))
    made = model.translate(INPUTS).numpy()[:, :, 0, 0]
    away = np.linalg.norm(made - MODES[0], axis=1)
    assert away.max() < 0.25 < np.linalg.norm(median() - MODES[0])  # eq: pix2pix-single-mode
    assert np.ptp(made, axis=0).max() == 0  # eq: pix2pix-single-mode
    assert OUTPUTS.std(0).min() > 0.6  # samples of P(y | x) do differ


# -------------------------------------------------------------------------------------- CycleGAN

def scores(w):
    """A discriminator with a score for each row."""
    return lambda y: (w * y).sum(axis=3)


def test_the_objective_of_two_translators_by_hand():
    x, y = images(5), images(6)
    (a, b), (c, d) = (0.9, 0.1), (1.3, -0.2)
    G, F = Linear(a, b), Linear(c, d)
    model = cyclegan.CycleGAN(G, F, scores(0.7), scores(-1.2), lam=4.0)
    made = G(tensor(x)), F(tensor(y))
    cycle_x, cycle_y = np.mean(abs(c * (a * x + b) + d - x)), np.mean(abs(a * (c * y + d) + b - y))
    cycle = model.cycle_loss(x, y, *made).item()
    assert cycle == pytest.approx(cycle_x + cycle_y)  # eq: cycle-consistency
    adversarial, d_terms = [], []
    for n, i in np.ndindex(3, 4):
        fake_y, fake_x = (-1.2 * sum(a * x[n, 0, i, j] + b for j in range(4)),
                          0.7 * sum(c * y[n, 0, i, j] + d for j in range(4)))
        real_y, real_x = -1.2 * y[n, 0, i].sum(), 0.7 * x[n, 0, i].sum()
        adversarial.append((fake_y - 1) ** 2 + (fake_x - 1) ** 2)
        d_terms.append((real_y - 1) ** 2 + fake_y ** 2 + (real_x - 1) ** 2 + fake_x ** 2)
    loss = model.g_loss(x, y, *made)
    want = np.mean(adversarial) + 4 * (cycle_x + cycle_y)
    assert loss.item() == pytest.approx(want)  # eq: cycle-loss

    def of(a, b, c, d):
        G, F = lambda x: a * x + b, lambda y: c * y + d
        return cyclegan.CycleGAN(G, F, scores(0.7), scores(-1.2), 4.0).g_loss(x, y, G(x), F(y))
    gradcheck(of, *map(np.array, (a, b, c, d)))
    assert model.d_loss(x, y, *made).item() == pytest.approx(np.mean(d_terms))
    assert not model.d_loss(x, y, *made).requires_grad  # it stops before G and F


def test_there_and_back_is_where_one_was_if_each_is_the_others_inverse():
    x, y = images(7), images(8)
    G, F = Linear(-2.0, 0.5), Linear(-0.5, 0.25)
    model = cyclegan.CycleGAN(G, F, None, None)
    assert model.cycle_loss(x, y, G(x), F(y)).item() == pytest.approx(0)  # eq: cycle-consistency
    G_x, FG_x, F_y, GF_y = (made.numpy() for made in model.translate(x, y))
    assert np.allclose(G_x, -2 * x + 0.5) and np.allclose(F_y, 0.25 - 0.5 * y)
    assert np.allclose(FG_x, x) and np.allclose(GF_y, y)  # eq: cycle-consistency


def test_without_pairs_the_cycle_makes_translators_inverse():
    """G maps X to Y; F starts as a wrong inverse, and only the cycle loss corrects it."""
    x, y = images(9, 20), images(10, 20)
    G, F = Linear(1.6, -0.3), Linear(-1.0, 0.4)
    model = cyclegan.CycleGAN(G, F, lambda x: 0 * x, lambda y: 0 * y)
    for t in range(300):
        opt = optim.SGD([F.a, F.b], 0.02 * (1 - t / 300))
        opt.step(grad(model.g_loss(x, y, G(x), F(y)), [F.a, F.b]))
    assert F.a.item() == pytest.approx(1 / 1.6, abs=0.02)  # eq: cycle-loss
    assert F.b.item() == pytest.approx(0.3 / 1.6, abs=0.02)  # eq: cycle-loss
