"""StarGAN: the losses of both players. Each equation is checked by a second route."""

import itertools

import numpy as np
import pytest

from demos.stargan import translated
from minigen import grad, nn, stack, tensor
from minigen.models.image_to_image import stargan as model

RNG = np.random.default_rng
W = RNG(0).uniform(0.5, 1.5, (1, 1, 4, 4))  # D_src's weights


def images(seed, n=3):
    return RNG(seed).uniform(-1, 1, (n, 1, 4, 4))


def draw(seed, n=3):
    """Domains of two attributes."""
    return RNG(seed).integers(0, 2, (n, 2)).astype(float)


def known_d(x):
    """D_src(x) = ½ Σ_ij w_ij x_ij²; the logits of D_cls are two sums over x."""
    cls = stack([x[:, 0, 0].sum(axis=1), x[:, 0, :, 1].sum(axis=1)], axis=1)
    return (0.5 * W * x * x).sum(axis=(1, 2, 3)), cls


class KnownG:
    """G(x, c) = a x + b + c₁ x/2 + c₂/4: with c = 0 and a = 1, b = 0, the identity."""

    def __init__(self, a=0.7, b=0.2):
        self.a, self.b = tensor(np.array(a), True), tensor(np.array(b), True)

    def __call__(self, x, c):
        c = np.asarray(c)[:, :, None, None, None]
        return self.a * x + self.b + 0.5 * c[:, 0] * x + 0.25 * c[:, 1]


def made_by(x, c, a=0.7, b=0.2):
    """KnownG in NumPy."""
    return np.stack([a * x_n + b + 0.5 * c_n[0] * x_n + 0.25 * c_n[1]
                     for x_n, c_n in zip(x, c, strict=True)])


def d_src(x):
    """The mean of D_src over images, by counting."""
    return np.mean([sum(0.5 * W[0, 0, i, j] * x_n[0, i, j] ** 2
                        for i, j in np.ndindex(4, 4)) for x_n in x])


def nats(x, c):
    """−log D_cls(c | x), averaged over images: each attribute is right with the probability p."""
    total = 0
    for x_n, c_n in zip(x, c, strict=True):
        for a, k in zip((x_n[0, 0].sum(), x_n[0, :, 1].sum()), c_n, strict=True):
            p = 1 / (1 + np.exp(-a))
            total -= np.log(p if k else 1 - p)
    return total / len(x)


def test_the_critic_measures_a_distance_and_its_slope_is_penalised():
    x, c, c_prime = images(1), draw(2), draw(3)
    G_x = made_by(x, c)
    eps = RNG(4).random((3, 1, 1, 1))
    slopes = W * (eps * x + (1 - eps) * G_x)  # of ½ Σ w x̂², at x̂
    penalty = np.mean([(np.sqrt((s ** 2).sum()) - 1) ** 2 for s in slopes])
    game = model.StarGAN(KnownG(), known_d, lam_cls=0.0, lam_gp=3.0)
    loss, parts = game.d_loss(tensor(x), c_prime, game.G(tensor(x), c), RNG(4))
    distance = d_src(x) - d_src(G_x)
    assert parts["distance"].item() == pytest.approx(distance)  # eq: stargan-adversarial
    assert parts["penalty"].item() == pytest.approx(penalty)
    assert loss.item() == pytest.approx(-(distance - 3 * penalty))  # eq: stargan-adversarial


def test_the_probabilities_of_all_domains_sum_to_one():
    logits = RNG(5).normal(0, 2, (1, 4))
    p = 1 / (1 + np.exp(-logits[0]))
    total = 0
    for c in itertools.product((0.0, 1.0), repeat=4):
        loss = model.classification_loss(tensor(logits), np.array([c])).item()
        want = np.prod([p_k if k else 1 - p_k for p_k, k in zip(p, c, strict=True)])
        assert np.exp(-loss) == pytest.approx(want)  # eq: stargan-classification
        total += np.exp(-loss)
    assert total == pytest.approx(1)  # eq: stargan-classification


def test_the_classification_loss_is_a_mean_over_images():
    x, c = images(6), draw(7)
    loss = model.classification_loss(known_d(tensor(x))[1], c).item()
    assert loss == pytest.approx(nats(x, c))  # eq: stargan-classification
    alone = [model.classification_loss(known_d(tensor(x[n:n + 1]))[1], c[n:n + 1]).item()
             for n in range(3)]
    assert loss == pytest.approx(np.mean(alone))  # eq: stargan-classification


def test_the_reconstruction_is_made_by_the_same_generator_from_the_domain_of_the_image():
    x, c, c_prime = images(8), draw(9), draw(10)
    game = model.StarGAN(KnownG(), known_d)
    G_x = game.G(tensor(x), c)
    _, parts = game.g_loss(tensor(x), c_prime, c, G_x)
    back = made_by(made_by(x, c), c_prime)
    want = np.mean(np.abs(back - x))
    assert parts["L_rec"].item() == pytest.approx(want)  # eq: stargan-reconstruction
    # nothing is lost where the way back undoes the way there
    there = model.StarGAN(KnownG(1.0, 0.0), known_d)
    c = np.zeros((3, 2))
    _, parts = there.g_loss(tensor(x), c, c, there.G(tensor(x), c))
    assert parts["L_rec"].item() == pytest.approx(0)


def test_both_players_minimise_their_sums():
    x, c, c_prime = images(11), draw(12), draw(13)
    game = model.StarGAN(KnownG(), known_d, lam_cls=1.7, lam_rec=5.0, lam_gp=0.0)
    G_x = game.G(tensor(x), c)
    made = made_by(x, c)
    L_D, _ = game.d_loss(tensor(x), c_prime, G_x, RNG(14))
    want = d_src(made) - d_src(x) + 1.7 * nats(x, c_prime)
    assert L_D.item() == pytest.approx(want)  # eq: stargan-objective
    L_G, parts = game.g_loss(tensor(x), c_prime, c, G_x)
    assert parts["L_cls_f"].item() == pytest.approx(nats(made, c))

    def loss(a, b):
        made = made_by(x, c, a, b)
        rec = np.abs(made_by(made, c_prime, a, b) - x).mean()
        return -d_src(made) + 1.7 * nats(made, c) + 5 * rec

    assert L_G.item() == pytest.approx(loss(0.7, 0.2))  # eq: stargan-objective
    h = 1e-6  # G is used twice, and has a gradient from both uses
    want = [(loss(0.7 + h, 0.2) - loss(0.7 - h, 0.2)) / (2 * h),
            (loss(0.7, 0.2 + h) - loss(0.7, 0.2 - h)) / (2 * h)]
    found = grad(L_G, [game.G.a, game.G.b])
    assert [g.item() for g in found] == pytest.approx(want, rel=1e-4)  # eq: stargan-objective


def test_the_weights_are_the_papers():
    game = model.stargan((3, 16, 16), 2, 4, rng=RNG(15))
    assert (game.lam_cls, game.lam_rec, game.lam_gp) == (1, 10, 10)
    assert model.stargan((3, 16, 16), 2, 4, lam_rec=0.0, rng=RNG(15)).lam_rec == 0


def test_the_players_do_not_move_each_other():
    game = model.stargan((1, 16, 16), 2, 4, rng=RNG(16))
    x, c, c_prime = (a.astype("f4") for a in (RNG(17).random((3, 1, 16, 16)), draw(18), draw(19)))
    G_x = game.G(tensor(x), c)
    L_D, _ = game.d_loss(tensor(x), c_prime, G_x, RNG(20))
    L_G, _ = game.g_loss(tensor(x), c_prime, c, G_x)
    slopes = grad(L_D, nn.parameters(game), allow_unused=True)
    assert {key[0] for key, g in slopes.items() if (g.numpy() != 0).any()} == {"D"}
    assert all((g.numpy() != 0).any() for g in grad(L_D, nn.parameters(game.D)).values())
    assert all((g.numpy() != 0).any() for g in grad(L_G, nn.parameters(game.G)).values())


def test_translations_are_compared_as_images():
    x, c = images(21, 150), draw(22, 150)
    want = made_by(x, c, 1.5)
    assert (want > 1).any() and (want < -1).any()
    found = translated(model.StarGAN(KnownG(1.5), known_d), x, c)
    assert np.allclose(found, np.clip(want, -1, 1))
