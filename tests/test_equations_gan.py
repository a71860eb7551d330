"""Section "GAN": each equation is checked by a second route, on networks that are tables or linear,
with both gradients and Algorithm 1 written out in NumPy."""

import numpy as np
import pytest
from scipy import stats
from small_worlds import Table

from minigen import grad, nn, optim, tensor
from minigen.models.gan import equilibrium, gan

RNG = np.random.default_rng
GAMES = (gan.GAN, gan.NonSaturatingGAN)


def sigma(a):
    return 1 / (1 + np.exp(-a))


@pytest.fixture
def linear():
    """G(z) = W z + b from one dimension to two, and D(x) = σ(v·x + c), in float64."""
    G, D = nn.Linear(1, 2, rng=RNG(0)), nn.Linear(2, 1, rng=RNG(1))
    for net in (G, D):
        nn.astype(net, np.float64)
    return G, D


def test_samples_are_the_generators_image_of_the_prior(linear):
    G, D = linear
    game = gan.GAN(G, D, 1)
    x = game.sample(200_000, RNG(2))
    W, b = G.weight.numpy(), G.bias.numpy()
    assert not x.requires_grad
    assert np.allclose(x.numpy().mean(0), b, atol=0.01)  # eq: gan-pushforward
    assert np.allclose(np.cov(x.numpy().T), W @ W.T, atol=0.01)
    z = RNG(3).standard_normal((5, 1))
    assert np.allclose(game.generate(5, RNG(3)).numpy(), z @ W.T + b)
    assert np.allclose(game.codes(100_000, RNG(3)).numpy().var(), 1, atol=0.02)


def test_the_value_is_two_mean_log_probabilities(linear):
    G, D = linear
    x, z = RNG(4).normal(size=(6, 2)), RNG(5).standard_normal((6, 1))
    v, c = D.weight.numpy()[0], D.bias.numpy()
    real = stats.bernoulli(sigma(x @ v + c)).logpmf(1)
    fake = stats.bernoulli(sigma((z @ G.weight.numpy().T + G.bias.numpy()) @ v + c)).logpmf(0)
    value = gan.GAN(G, D, 1).value(x, RNG(5)).item()
    assert value == pytest.approx(real.mean() + fake.mean())  # eq: gan-value


@pytest.mark.parametrize("kind", GAMES)
def test_the_value_of_a_discriminator_that_is_sure_stays_finite(kind):
    game = kind(lambda z: z, lambda x: 1e4 * x, 1)
    game.codes = lambda n, rng: tensor(np.array([[1.0], [-1.0]]))
    x = np.array([[1.0], [-1.0]])
    assert game.value(x, RNG(0)).item() == pytest.approx(-1e4)
    assert np.isfinite(game.g_loss(2, RNG(0)).item())


# -------------------------------------------------------------------------------------- optima

P_DATA, P_G = np.array([0.5, 0.2, 0.2, 0.1]), np.array([0.1, 0.4, 0.1, 0.4])


@pytest.mark.parametrize("kind", GAMES)
def test_the_discriminators_loss_leads_to_the_best_discriminator(kind):
    """On 10 real and 10 generated samples, whose four possible values have known frequencies."""
    x_real, x_fake = (np.repeat(np.arange(4), np.rint(10 * p).astype(int))
                      for p in (P_DATA, P_G))
    D = Table(np.zeros(4))
    game = kind(lambda z: tensor(x_fake), D, 1)
    game.codes = lambda n, rng: None
    for _ in range(2000):
        optim.SGD(nn.parameters(D), lr=2).step(grad(game.d_loss(x_real, None), nn.parameters(D)))
    best = P_DATA / (P_DATA + P_G)
    assert np.allclose(sigma(D.values.numpy()), best, atol=1e-6)  # eq: gan-d-argmax
    value = game.value(x_real, None).item()
    assert value == pytest.approx(equilibrium.value(P_DATA, P_G, best))
    assert game.d_loss(x_real, None).item() == pytest.approx(-value)


def test_the_generators_loss_leads_to_where_the_discriminator_is_most_deceived():
    """Against a fixed D, G = argmin V puts every sample where D is largest."""
    x = tensor(np.zeros((3, 1)), True)
    game = gan.GAN(lambda z: x, lambda x: 2 - (x - 1.5) ** 2, 1)
    game.codes = lambda n, rng: None
    for _ in range(300):
        optim.SGD([x], lr=1).step(grad(game.g_loss(3, None), [x]))
    assert np.allclose(x.numpy(), 1.5)  # eq: gan-g-argmin
    # V differs from this loss only by the real samples' term, so its slope in G is the same
    real = np.log(sigma(2.0 - 1.5 ** 2))
    assert game.value(np.zeros((3, 1)), None).item() - real == pytest.approx(
        game.g_loss(3, None).item())


# ------------------------------------------------------------------------------------- training

class ByHand:
    """The linear players again, in NumPy: each player's gradient from the chain rule."""

    def __init__(self, G, D):
        self.G = {k: t.numpy().copy() for k, t in nn.parameters(G).items()}
        self.D = {k: t.numpy().copy() for k, t in nn.parameters(D).items()}

    def generate(self, z):
        return z @ self.G["weight"].T + self.G["bias"]

    def probability(self, x):
        return sigma(x @ self.D["weight"][0] + self.D["bias"])[:, None]

    def d_ascent(self, x, z):
        """The gradient of 1/m Σ log D(x) + log(1 − D(G(z))) with respect to D's parameters."""
        fake = self.generate(z)
        up, down = 1 - self.probability(x), self.probability(fake)
        return {"weight": (up * x - down * fake).mean(0)[None], "bias": (up - down).mean(0)}

    def _by_g(self, z, slope):
        return {"weight": (slope * self.D["weight"]).T @ z / len(z),
                "bias": (slope * self.D["weight"]).mean(0)}

    def g_descent(self, z):
        """The gradient of 1/m Σ log(1 − D(G(z))) with respect to G's parameters."""
        return self._by_g(z, -self.probability(self.generate(z)))

    def g_ascent(self, z):
        """The gradient of 1/m Σ log D(G(z)) with respect to G's parameters."""
        return self._by_g(z, 1 - self.probability(self.generate(z)))


def same(ours, theirs):
    return all(np.allclose(t.numpy() if hasattr(t, "numpy") else t, theirs[key], rtol=1e-9)
               for key, t in ours.items())


def test_both_players_gradients_by_the_chain_rule(linear):
    G, D = linear
    hand, x = ByHand(G, D), RNG(10).normal(size=(7, 2))
    z = RNG(11).standard_normal((7, 1))
    loss, slack = gan.GAN(G, D, 1), gan.NonSaturatingGAN(G, D, 1)
    descent = {k: -g for k, g in hand.d_ascent(x, z).items()}
    for game in (loss, slack):
        g = grad(game.d_loss(x, RNG(11)), nn.parameters(D))
        assert same(g, descent)  # eq: gan-d-minibatch-grad
    g = grad(loss.g_loss(7, RNG(11)), nn.parameters(G))
    assert same(g, hand.g_descent(z))  # eq: gan-g-minibatch-grad
    g = grad(slack.g_loss(7, RNG(11)), nn.parameters(G))
    assert same(g, {k: -v for k, v in hand.g_ascent(z).items()})  # eq: gan-g-minibatch-grad-ns
    fake = hand.probability(hand.generate(z))
    assert slack.g_loss(7, RNG(11)).item() == pytest.approx(
        -np.log(fake).mean())  # eq: gan-non-saturating


def test_bad_samples_have_a_slope_only_in_the_second_objective():
    a = np.array([-9.0, -3, 0, 2, 6])
    first, second = gan.logit_grads(tensor(a))
    D = Table(a)
    for slope, kind in ((first, gan.GAN), (second, gan.NonSaturatingGAN)):
        game = kind(lambda z: tensor(np.arange(5)), D, 1)
        game.codes = lambda n, rng: None
        g = grad(game.g_loss(5, None), D.values).numpy() * 5
        sign = 1 if kind is gan.GAN else -1  # the first is descended, the second ascended
        assert np.allclose(sign * g, slope.numpy())  # eq: gan-saturation-gradient
    h = 1e-6
    for slope, f in ((first, lambda a: np.log1p(-sigma(a))), (second, lambda a: np.log(sigma(a)))):
        assert np.allclose(slope.numpy(), (f(a + h) - f(a - h)) / (2 * h), atol=1e-8)
    assert abs(first.numpy()[0]) < 2e-4 and second.numpy()[0] > 0.999


def data(i):
    """Minibatch i of real data."""
    return (RNG((12, i)).normal(size=(5, 2)) + [2, 0],)


@pytest.mark.parametrize("kind", GAMES)
@pytest.mark.parametrize("k", [3, 1])
def test_algorithm_1_is_k_steps_of_the_discriminator_and_one_of_the_generator(linear, kind, k):
    G, D = linear
    hand = ByHand(G, D)
    step = gan.algorithm_1(kind(G, D, 1), optim.SGD(nn.parameters(D), 0.3),
                           optim.SGD(nn.parameters(G), 0.2), data, k)
    for t in range(4):
        numbers = step(t, RNG((13, t)))
        rng = RNG((13, t))
        for i in range(k):
            z, (x,) = rng.standard_normal((5, 1)), data(k * t + i)
            V = np.log(hand.probability(x)) + np.log(1 - hand.probability(hand.generate(z)))
            for key, g in hand.d_ascent(x, z).items():
                hand.D[key] += 0.3 * g
        z = rng.standard_normal((5, 1))
        p = hand.probability(hand.generate(z))
        loss = np.log(1 - p) if kind is gan.GAN else -np.log(p)
        for key, g in (hand.g_descent(z) if kind is gan.GAN else hand.g_ascent(z)).items():
            hand.G[key] += 0.2 * (-g if kind is gan.GAN else g)
        assert numbers == pytest.approx({"d_loss": -V.mean(), "g_loss": loss.mean()})
    assert same(nn.parameters(D), hand.D) and same(
        nn.parameters(G), hand.G)  # eq: gan-algorithm-1, gan-algorithm-improved


def test_adam_takes_one_real_and_one_drawn_minibatch_a_step(linear):
    G, D = linear
    hand, settings = ByHand(G, D), {"lr": 0.05, "betas": (0.5, 0.999)}
    step = gan.algorithm_1(gan.NonSaturatingGAN(G, D, 1), optim.Adam(nn.parameters(D), **settings),
                           optim.Adam(nn.parameters(G), **settings), data)
    moments = {}

    def adam(name, params, gradients, t):
        for key, g in gradients.items():
            m, v = moments.get((name, key), (0, 0))
            moments[name, key] = m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g * g
            params[key] += 0.05 * (m / (1 - 0.5 ** t)) / (np.sqrt(v / (1 - 0.999 ** t)) + 1e-8)

    for t in range(5):
        numbers, rng = step(t, RNG((14, t))), RNG((14, t))
        z, (x,) = rng.standard_normal((5, 1)), data(t)
        V = np.log(hand.probability(x)) + np.log(1 - hand.probability(hand.generate(z)))
        adam("D", hand.D, hand.d_ascent(x, z), t + 1)
        adam("G", hand.G, hand.g_ascent(rng.standard_normal((5, 1))), t + 1)
        assert numbers["d_loss"] == pytest.approx(-V.mean())  # eq: gan-two-minibatch-adam
    assert same(nn.parameters(D), hand.D) and same(nn.parameters(G), hand.G)


def test_no_step_computes_the_other_networks_gradients(linear, monkeypatch):
    """Each loss is differentiated only by its own player's parameters; D's gives G no gradient."""
    G, D = linear
    game = gan.GAN(G, D, 1)
    with pytest.raises(ValueError, match="y does not depend on it"):
        grad(game.d_loss(np.zeros((4, 2)), RNG(0)), nn.parameters(G))
    asked = []
    monkeypatch.setattr("minigen.train.grad", lambda y, wrt: asked.append(wrt) or grad(y, wrt))
    players = [optim.SGD(nn.parameters(net), 0.1) for net in (D, G)]
    gan.algorithm_1(game, *players, data)(0, RNG(0))
    assert asked == [player.params for player in players]


def test_bad_input_is_one_clear_line(linear):
    game = gan.GAN(*linear, 1)
    with pytest.raises(ValueError, match="k is 0, but D takes at least one step"):
        gan.algorithm_1(game, None, None, data, 0)
    with pytest.raises(ValueError, match=r"real samples are \(4, 3\), G draws \(4, 2\)"):
        game.d_loss(np.zeros((4, 3)), RNG(0))
