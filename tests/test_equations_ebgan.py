"""EBGAN and BEGAN: autoencoders as discriminators. Energies, losses, equilibria of all players on
few states, and the control of BEGAN's balance, each by a second route."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance
from small_worlds import Table

from minigen import grad, nn, tensor
from minigen.models.gan import began, ebgan

RNG = np.random.default_rng
SHAPE = (2, 8, 8)
M = 3.0


class EnergyTable(Table):
    """A D on few states, whose energies are a table and whose codes count the states backwards."""

    def encode(self, x):
        return len(self.values) - 1 - x

    def energy(self, x, S):
        return self(self.encode(S))


def playing(game, x_fake):
    """The game with a generator that returns `x_fake`, whatever the noise."""
    game.G, game.codes = (lambda z: tensor(x_fake)), (lambda n, rng: None)
    return game


def in_double(D):
    nn.init(D, RNG(0))
    nn.astype(D, np.float64)
    return D


def images(seed, n=5):
    return RNG(seed).uniform(-1, 1, (n, *SHAPE))


# ------------------------------------------------------------------------------------------ EBGAN

@pytest.fixture
def energy():
    """EBGAN's D on small images, in float64."""
    return in_double(ebgan.autoencoder(SHAPE, 3, 4))


def test_the_energy_is_the_length_of_the_reconstruction_error(energy):
    x = images(1)
    y = energy.decoder(energy.encoder(x)).numpy()
    by_hand = [np.sqrt(sum((a - b) ** 2 for a, b in zip(u.flat, v.flat, strict=True)))
               for u, v in zip(x, y, strict=True)]
    assert np.allclose(energy(x).numpy(), by_hand)  # eq: ebgan-energy


def test_the_players_losses_by_their_formulas():
    d = np.array([0.5, 2.0, 4.5, 1.0])
    x, x_fake = np.array([0, 0, 1, 3]), np.array([1, 2, 2, 3])
    game = playing(ebgan.EBGAN(None, EnergyTable(d), 1, M, lam_pt=0), x_fake)
    expected = np.mean([d[a] + max(0, M - d[b]) for a, b in zip(x, x_fake, strict=True)])
    assert game.d_loss(x, None).item() == pytest.approx(expected)  # eq: ebgan-d-loss
    assert game.g_loss(4, None).item() == pytest.approx(d[x_fake].mean())  # eq: ebgan-g-loss
    # state 2 is beyond the margin: D is pushed no further, G is pulled back from there
    slope = grad(game.d_loss(x, None), game.D.values).numpy()
    assert np.allclose(slope, [2 / 4, 1 / 4 - 1 / 4, 0, 1 / 4 - 1 / 4])
    assert np.allclose(grad(game.g_loss(4, None), game.D.values).numpy(), [0, 1 / 4, 2 / 4, 1 / 4])


def test_the_pulling_away_term_is_the_mean_squared_cosine_of_pairs(energy):
    S = RNG(2).normal(size=(6, 4))
    cosines = [1 - distance.cosine(S[i], S[j]) for i, j in itertools.permutations(range(6), 2)]
    by_hand = np.mean(np.square(cosines))
    assert ebgan.pulling_away(S).item() == pytest.approx(by_hand)  # eq: ebgan-pulling-away
    assert ebgan.pulling_away(np.diag([1.0, 2, 3])).item() == pytest.approx(0)
    assert ebgan.pulling_away(np.outer([1.0, -2, 3], [1, 2])).item() == pytest.approx(1)
    # in G's loss, on the codes of generated images; D's is without it
    x_fake = images(3)
    plain, pt = (playing(ebgan.EBGAN(None, energy, 1, M, lam), x_fake) for lam in (0, 0.7))
    term = ebgan.pulling_away(energy.encode(x_fake)).item()
    assert pt.g_loss(5, None).item() == pytest.approx(plain.g_loss(5, None).item() + 0.7 * term)
    assert pt.d_loss(images(4), None).item() == plain.d_loss(images(4), None).item()


# All distributions of G over three states, in fifths, as five samples each; all tables of energies.
P_DATA = np.array([2, 2, 1]) / 5
SAMPLES = [np.array(s) for s in itertools.combinations_with_replacement(range(3), 5)]
P_G = np.array([np.bincount(s, minlength=3) / 5 for s in SAMPLES])
TABLES = np.array([*itertools.product([0, M / 2, M, 1.5 * M], repeat=3)])


@pytest.fixture(scope="module")
def payoffs():
    """V (what D minimises) and U (what G minimises) for every G and D."""
    x = np.array([0, 0, 1, 1, 2])

    def losses(samples, d):
        game = playing(ebgan.EBGAN(None, EnergyTable(d), 1, M, lam_pt=0), samples)
        return game.d_loss(x, None).item(), game.g_loss(5, None).item()

    return np.moveaxis([[losses(s, d) for d in TABLES] for s in SAMPLES], -1, 0)


def test_in_every_equilibrium_g_has_the_datas_distribution_and_v_is_the_margin(payoffs):
    """Theorems 1 and 2. Payoffs are linear in p_G, and in each energy between 0, m and above: on
    these grids the best replies are those among all distributions and energies."""
    V, U = payoffs
    nash = (V <= V.min(1, keepdims=True) + 1e-9) & (U <= U.min(0, keepdims=True) + 1e-9)
    g, d = nash.nonzero()
    assert len(g) and np.allclose(V[nash], M)  # eq: ebgan-equilibrium
    assert np.allclose(P_G[g], P_DATA)
    # D gives all states one energy, which is at most m
    assert np.unique(TABLES[d], axis=0).tolist() == [[e] * 3 for e in (0, M / 2, M)]


def test_the_best_energies_for_a_fixed_generator(payoffs):
    """Lemma 1, for every G: m where G is more frequent than the data, 0 where it is less."""
    for p_g, v in zip(P_G, payoffs[0], strict=True):
        best = np.where(p_g > P_DATA, M, 0)
        assert (TABLES[v <= v.min() + 1e-9] == best)[:, p_g != P_DATA].all()
        apart = abs(p_g - P_DATA).sum() / 2  # total variation
        assert v.min() == pytest.approx(M - M * apart)  # eq: ebgan-equilibrium


# ------------------------------------------------------------------------------------------ BEGAN

@pytest.fixture
def pixel_loss():
    """BEGAN's D on small images, in float64."""
    return in_double(began.autoencoder(SHAPE, 3, 4, kind=began.PixelLoss))


@pytest.mark.parametrize("eta", [1, 2])
def test_the_loss_is_the_mean_error_of_pixels(pixel_loss, eta):
    pixel_loss.eta, v = eta, images(5)
    y = pixel_loss.decoder(pixel_loss.encoder(v)).numpy()
    by_hand = [np.mean([abs(a - b) ** eta for a, b in zip(*pair, strict=True)])
               for pair in zip(v.reshape(5, -1), y.reshape(5, -1), strict=True)]
    assert np.allclose(pixel_loss(v).numpy(), by_hand)  # eq: began-loss


def began_game(D, x_fake, **options):
    return playing(began.BEGAN(None, D, 1, **options), x_fake)


def test_the_losses_of_began_by_their_formulas():
    d, x, x_fake = np.array([0.5, 2.0, 4.5]), np.array([0, 0, 1, 2]), np.array([1, 2, 2, 2])
    game = began_game(Table(d), x_fake)
    for k in (0, 0.3, 1):
        game.k = tensor(np.float64(k))
        loss, parts = game.d_loss(x, None)
        expected = d[x].mean() - k * d[x_fake].mean()
        assert loss.item() == pytest.approx(expected)  # eq: began-objective
        assert parts["real"].item() == pytest.approx(d[x].mean())  # eq: began-objective
    assert game.g_loss(4, None).item() == pytest.approx(d[x_fake].mean())  # eq: began-objective


def test_d_maximises_a_lower_bound_of_the_distance_between_losses(pixel_loss):
    """W₁ by sorting: the i-th smallest loss of one batch is moved to the i-th of the other. The
    bound is attained where one batch has the larger loss at every rank."""
    attained = []
    for seed, scale in itertools.product(range(4), (0.0, 0.5, 1, 2)):
        x, x_fake = images(seed, 8), scale * images(seed + 10, 8)
        game = began_game(pixel_loss, x_fake)
        game.k = tensor(np.float64(1))
        real, fake = (np.sort(pixel_loss(v).numpy()) for v in (x, x_fake))
        apart, w1 = game.d_loss(x, None)[0].item(), abs(real - fake).mean()
        assert apart == pytest.approx(real.mean() - fake.mean())  # eq: began-lower-bound
        assert abs(apart) <= w1 + 1e-12  # eq: began-lower-bound
        assert w1 == pytest.approx(stats.wasserstein_distance(real, fake))
        one_way = (real >= fake).all() or (real <= fake).all()
        assert (abs(apart) > w1 - 1e-12) == one_way  # eq: began-lower-bound
        attained.append(one_way)
    assert any(attained) and not all(attained)


def test_k_by_the_formula_and_within_its_limits():
    game = began.BEGAN(None, None, 1, gamma=0.4, lam_k=0.1)
    k = 0
    for real, fake in RNG(6).uniform(0, 4, (40, 2)):
        k = np.clip(k + 0.1 * (0.4 * real - fake), 0, 1)
        numbers = game.balance(real, fake)
        assert numbers["k"] == pytest.approx(k, abs=1e-6)  # eq: began-balance
        assert game.k.item() == pytest.approx(k, abs=1e-6)  # eq: began-balance
        M = max((1 + 0.4) * real - fake, (1 - 0.4) * real + fake)
        assert numbers["M"] == pytest.approx(M)  # eq: began-convergence
    for real, limit in ((100, 1), (0, 0)):
        game.balance(real, 30)
        assert game.k.item() == limit  # eq: began-balance


def test_the_control_holds_the_ratio_of_losses_at_gamma():
    """A world whose generator answers at once: the more D attends to telling images apart (k), the
    larger the loss of generated ones."""
    for gamma in (0.3, 0.7):
        game, real = began.BEGAN(None, None, 1, gamma=gamma, lam_k=0.05), 2.0
        for _ in range(400):
            fake = 0.1 + 1.8 * game.k.item()
            M = game.balance(real, fake)["M"]
        assert fake / real == pytest.approx(gamma, abs=1e-3)  # eq: began-balance
        assert M == pytest.approx(real, abs=1e-3)  # eq: began-convergence
