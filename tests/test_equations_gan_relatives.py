"""Section "GAN", its relatives: DCGAN, conditional GAN, LSGAN, WGAN and WGAN-GP. Each equation is
checked by a second route."""

import numpy as np
import pytest
from scipy import optimize, stats
from small_worlds import Table

from minigen import grad, nn, optim, tensor
from minigen.models.gan import cgan, dcgan, gan, lsgan, wgan, wgan_gp

RNG = np.random.default_rng


def playing(kind, x_fake, D, **options):
    """A game whose generator returns `x_fake`, whatever the noise."""
    game = kind(lambda z: tensor(x_fake), D, 1, **options)
    game.codes = lambda n, rng: None
    return game


# ---------------------------------------------------------------------------------------- DCGAN

def kinds(net):
    """The name of each layer, followed by the shape of its filters if it has any."""
    return [(layer.__name__ if hasattr(layer, "__name__") else type(layer).__name__,
             *(layer.weight.shape if hasattr(layer, "options") else ())) for layer in net]


def test_dcgan_follows_the_guidelines():
    G, D = dcgan.generator(9, (3, 32, 32), 6, RNG(0)), dcgan.discriminator((3, 32, 32), 6, RNG(1))
    assert kinds(G) == [
        ("<lambda>",),
        ("ConvTranspose2d", 9, 24, 4, 4), ("BatchNorm2d",), ("relu",),
        ("ConvTranspose2d", 24, 12, 4, 4), ("BatchNorm2d",), ("relu",),
        ("ConvTranspose2d", 12, 6, 4, 4), ("BatchNorm2d",), ("relu",),
        ("ConvTranspose2d", 6, 3, 4, 4), ("tanh",)]  # eq: dcgan-guidelines
    assert kinds(D) == [
        ("Conv2d", 6, 3, 4, 4), ("leaky",),
        ("Conv2d", 12, 6, 4, 4), ("BatchNorm2d",), ("leaky",),
        ("Conv2d", 24, 12, 4, 4), ("BatchNorm2d",), ("leaky",),
        ("Conv2d", 1, 24, 4, 4), ("<lambda>",)]  # eq: dcgan-guidelines
    # every layer that changes the resolution is a strided convolution
    sizes, x = [], tensor(RNG(2).standard_normal((4, 9), np.float32))
    for layer in G:
        x = layer(x)
        sizes.append(x.shape[2:])
    assert sizes == [(1, 1), *[(4, 4)] * 3, *[(8, 8)] * 3, *[(16, 16)] * 3, *[(32, 32)] * 2]
    assert abs(x.numpy()).max() < 1 and D(x).shape == (4, 1)
    assert gan.leaky(tensor([-5.0, 5.0])).numpy().tolist() == [-1, 5]
    weights = np.concatenate([w.ravel() for net in (G, D) for w in nn.state_dict(net).values()
                              if w.ndim == 4])
    assert weights.std() == pytest.approx(0.02, rel=0.02) and abs(weights.mean()) < 1e-3


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 12)])
def test_dcgan_plays_on_images_of_several_sizes(shape):
    game = dcgan.dcgan(shape, 5, 4, RNG(0))
    x = game.sample(3, RNG(1))
    assert x.shape == (3, *shape)
    assert np.isfinite(game.d_loss(x, RNG(2)).item())
    assert game.g_loss(3, RNG(2)).item() == pytest.approx(np.log(2), abs=0.2)  # D starts undecided


def test_dcgans_adam_has_its_momentum_lowered():
    """The slide prints α = 0.9, β = 0.5; Adam is written out for both readings."""
    gradients = RNG(3).normal(size=(6, 4))

    def by_hand(beta1, beta2):
        p, m, v = np.ones(4), 0, 0
        for t, g in enumerate(gradients, 1):
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
            p -= 2e-4 * (m / (1 - beta1 ** t)) / (np.sqrt(v / (1 - beta2 ** t)) + 1e-8)
        return p

    p = tensor(np.ones(4), True)
    opt = dcgan.adam([p])
    for g in gradients:
        opt.step([tensor(g)])
    assert np.allclose(p.numpy(), by_hand(0.5, 0.999), rtol=1e-12)  # eq: dcgan-adam
    assert abs(p.numpy() - by_hand(0.9, 0.5)).max() > 1e-5  # slide error: 11


def test_a_size_that_does_not_fit_is_refused():
    for build in (dcgan.generator, lambda d_z, shape: dcgan.discriminator(shape)):
        with pytest.raises(ValueError, match="divisible by 4 and at least 8, got 30×28"):
            build(5, (1, 30, 28))


# ------------------------------------------------------------------------------------ conditional

def test_the_label_goes_into_both_networks():
    game = cgan.conditional((1, 8, 8), 3, 4, 4, RNG(4))
    x, y = RNG(5).random((5, 1, 8, 8), np.float32), np.array([0, 1, 2, 3, 1])
    z = RNG(6).standard_normal((5, 3), np.float32)
    planes = np.zeros((5, 4, 8, 8), np.float32)
    planes[np.arange(5), y] = 1
    x_fake = game.G.net(np.concatenate([z, np.eye(4, dtype=np.float32)[y]], 1)).numpy()
    assert np.allclose(game.generate(5, RNG(6), y).numpy(), x_fake)
    p = [1 / (1 + np.exp(-game.D.net(np.concatenate([images, planes], 1)).numpy()))
         for images in (x, x_fake)]
    V = np.log(p[0]).mean() + np.log(1 - p[1]).mean()
    assert game.value(x, RNG(6), y).item() == pytest.approx(V, rel=1e-5)  # eq: cgan-conditioning
    assert game.g_loss(5, RNG(6), y).item() == pytest.approx(-np.log(p[1]).mean(), rel=1e-5)
    with pytest.raises(IndexError, match="0…3, got 0…4"):
        game.d_loss(x, RNG(6), np.arange(5))
    one_hot = np.eye(4, dtype=np.float32)[y]
    assert np.allclose(game.generate(5, RNG(6), one_hot).numpy(), x_fake)
    with pytest.raises(ValueError, match=r"y \(4, 5\), expected \(5,\) or \(5, 4\)"):
        game.sample(5, RNG(6), one_hot.T)


# ------------------------------------------------------------------------------------------ LSGAN

P_DATA, P_G = np.array([0.5, 0.2, 0.2, 0.1]), np.array([0.1, 0.4, 0.1, 0.4])
X_DATA, X_G = (np.repeat(np.arange(4), np.rint(10 * p).astype(int)) for p in (P_DATA, P_G))


def test_the_least_squares_players_by_their_formulas():
    D = Table(np.array([0.3, -1.2, 2.0, 0.7]))
    game, d = playing(lsgan.LSGAN, X_G, D, a=-0.5, b=1.5, c=0.25), D.values.numpy()
    expected = 0.5 * (P_DATA @ (d - 1.5) ** 2) + 0.5 * (P_G @ (d + 0.5) ** 2)
    assert game.d_loss(X_DATA, None).item() == pytest.approx(expected)  # eq: lsgan-loss
    expected = 0.5 * (P_G @ (d - 0.25) ** 2)
    assert game.g_loss(10, None).item() == pytest.approx(expected)  # eq: lsgan-loss


def test_least_squares_minimise_a_chi_square_divergence():
    """With b − a = 2 and b − c = 1, at D's optimum, found by gradient descent on its loss."""
    D = Table(np.zeros(4))
    game = playing(lsgan.LSGAN, X_G, D, a=-1.0, c=0.0)
    for _ in range(400):
        optim.SGD([D.values], 2).step([grad(game.d_loss(X_DATA, None), D.values)])
    best, both = D.values.numpy(), P_DATA + P_G
    assert np.allclose(best, (P_DATA - P_G) / both)  # (b p_data + a p_g) / (p_data + p_g)
    # G's loss plus the same term on the data, which G cannot change
    both_terms = game.g_loss(10, None).item() + 0.5 * P_DATA @ best ** 2
    assert 2 * both_terms == pytest.approx(((2 * P_G - both) ** 2 / both).sum())


# ------------------------------------------------------------------------------------------- WGAN

def test_the_best_critic_measures_the_wasserstein_distance():
    """The critic is a table: the best function of slope at most 1, found by linear programming."""
    x = np.array([0.0, 1, 3, 3.5])
    slope = np.diff(np.eye(4), axis=0) / np.diff(x)[:, None]
    best = optimize.linprog(P_G - P_DATA, A_ub=np.concatenate([slope, -slope]), b_ub=np.ones(6),
                            bounds=(-9, 9)).x
    game = playing(wgan.WGAN, X_G, Table(best))
    w1 = stats.wasserstein_distance(x, x, P_DATA, P_G)
    assert game.distance(X_DATA, None).item() == pytest.approx(w1)  # eq: wgan-critic
    climb = grad(game.distance(X_DATA, None), game.D.values).numpy()
    assert np.allclose(climb, P_DATA - P_G)  # eq: wgan-critic
    assert game.d_loss(X_DATA, None).item() == pytest.approx(-w1)
    assert game.g_loss(10, None).item() == pytest.approx(-P_G @ best)


def test_the_critics_weights_are_clipped_after_each_step():
    start, gradients = RNG(7).normal(size=5) * 0.01, RNG(8).normal(size=(4, 5))
    p, by_hand, v = tensor(start, True), start.copy(), 0
    opt = wgan.ClippedRMSprop([p], lr=3e-3, c=0.02)
    for g in gradients:
        opt.step([tensor(g)])
        v = 0.99 * v + 0.01 * g * g
        by_hand = np.clip(by_hand - 3e-3 * g / (np.sqrt(v) + 1e-8), -0.02, 0.02)
    assert np.allclose(p.numpy(), by_hand) and (abs(by_hand) == 0.02).any()


# ---------------------------------------------------------------------------------------- WGAN-GP

@pytest.fixture
def conv_critic():
    D = wgan_gp.critic((2, 8, 8), 3, RNG(9))
    nn.astype(D, np.float64)
    return D, RNG(10).normal(size=(4, 2, 8, 8))


def test_the_penalty_is_the_slopes_mean_squared_distance_from_one(conv_critic):
    """The slope by finite differences, pixel by pixel."""
    D, x = conv_critic
    slopes = np.zeros(x.shape)
    for at in np.ndindex(x.shape[1:]):
        h = np.zeros(x.shape[1:])
        h[at] = 1e-4
        slopes[:, *at] = (D(x + h).numpy() - D(x - h).numpy())[:, 0] / 2e-4
    norms = np.sqrt((slopes ** 2).sum((1, 2, 3)))
    expected = ((norms - 1) ** 2).mean()
    assert wgan_gp.penalty(D, x).item() == pytest.approx(expected)  # eq: wgan-gp-penalty
    # each sample has its own norm, so a batch's penalty is the mean over its samples
    alone = [wgan_gp.penalty(D, x[i:i + 1]).item() for i in range(4)]
    assert np.allclose(alone, (norms - 1) ** 2)


def test_the_penaltys_gradient_goes_twice_through_the_convolutions(conv_critic):
    D, x = conv_critic
    g = grad(wgan_gp.penalty(D, x), nn.parameters(D), allow_unused=True)
    start = nn.state_dict(D)
    for key, value in start.items():
        direction, ends = RNG(11).normal(size=value.shape), []
        for h in (1e-5, -1e-5):
            nn.load_state_dict(D, start | {key: value + h * direction})
            ends.append(wgan_gp.penalty(D, x).item())
        slope = (ends[0] - ends[1]) / 2e-5
        assert (g[key].numpy() * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-8), key


def test_the_critics_loss_is_distance_and_penalty(conv_critic):
    D, x = conv_critic
    x_fake = RNG(12).normal(size=x.shape)
    game = playing(wgan_gp.WGANGP, x_fake, D, lam=3.0)
    eps = RNG(13).random((4, 1, 1, 1))
    x_hat = wgan_gp.random_interpolates(x, tensor(x_fake), RNG(13)).numpy()
    assert np.allclose(x_hat, eps * x + (1 - eps) * x_fake)  # eq: wgan-gp-penalty
    assert 0 < eps.min() < eps.max() < 1
    distance = D(x).numpy().mean() - D(x_fake).numpy().mean()
    expected = -distance + 3 * wgan_gp.penalty(D, x_hat).item()
    assert game.d_loss(x, RNG(13)).item() == pytest.approx(expected)
    assert game.distance(x, None).item() == pytest.approx(distance)
    assert game.g_loss(4, None).item() == pytest.approx(-D(x_fake).numpy().mean())
