"""Section "f-GAN": ten divergences, each by four routes, and the bound that a critic maximises.

For each divergence, D_f = ∫ q f(p / q) is compared with its explicit integral, f* with the supremum
that defines it, and the bound at the best T = f′(p / q) with D_f, by quadrature and by sampling.
"""

import numpy as np
import pytest

from minigen import dist, grad, nn, optim, sum, tensor
from minigen.models.gan import divergences, gan, normal_fit
from minigen.models.gan.divergences import DIVERGENCES, conjugate, js_weighted
from minigen.models.gan.fgan import FGAN, NonSaturatingFGAN

RNG = np.random.default_rng
MU_P, SIGMA_P, MU_Q, SIGMA_Q = 0.3, 1.0, -0.2, 1.05
X = np.linspace(-12, 12, 8001)
DX = X[1] - X[0]


def normal(x, mu, sigma):
    return np.exp(-((x - mu) / sigma) ** 2 / 2) / (sigma * np.sqrt(2 * np.pi))


def p(x):
    return normal(x, MU_P, SIGMA_P)


def q(x):
    return normal(x, MU_Q, SIGMA_Q)


def integral(values):
    return np.asarray(values).sum() * DX


def numpy(t):
    return tensor(t).numpy()


def best(d, u):
    """T = f′(u), by autograd."""
    u = tensor(u, requires_grad=True)
    return grad(sum(d.f(u)), u).numpy()


def check(name, printed, d=None):
    """All routes for one divergence; `printed(p, q)` is its integrand, written in NumPy."""
    d = d or DIVERGENCES[name]
    # the conjugate: the supremum over a grid of u, fine enough for six digits, with u = 1 on it
    u = np.exp(np.linspace(-12, 12, 40_001))
    if name == "pearson-chi2":
        u = np.concatenate([-u[::-1], u])
    t = numpy(d.g(np.linspace(-2.5, 2.5, 21)))
    np.testing.assert_allclose(numpy(d.f_star(t)), conjugate(d.f, t, u).numpy(), 1e-5, 1e-6)

    # D_f by its definition, and the integral that the slide's table gives or should give
    exact = integral(printed(p(X), q(X)))
    assert integral(q(X) * numpy(d.f(p(X) / q(X)))) == pytest.approx(exact, rel=1e-9)
    assert d.between(p(X), q(X), DX).item() == pytest.approx(exact, rel=1e-9)

    # the bound is reached by T = f′(p / q), which lies where f* is finite
    T = best(d, p(X) / q(X))
    low, high = d.domain
    assert low <= T.min() and T.max() <= high
    assert integral(p(X) * T - q(X) * numpy(d.f_star(T))) == pytest.approx(exact, rel=1e-6)

    # and from samples
    x_p, x_q = RNG(1).normal(MU_P, SIGMA_P, 400_000), RNG(2).normal(MU_Q, SIGMA_Q, 400_000)
    T_p = best(d, p(x_p) / q(x_p))
    f_q = numpy(d.f_star(best(d, p(x_q) / q(x_q))))
    error = np.sqrt((T_p.var() + f_q.var()) / 400_000)
    assert abs(T_p.mean() - f_q.mean() - exact) < 4 * error < 0.03

    # the output activation maps the real numbers one-to-one into the domain of f*
    v = np.linspace(-15, 15, 61)
    t = numpy(d.g(v))
    assert (np.diff(t) > 0).all() and low <= t.min() and t.max() <= high
    near = np.abs(v) <= 8
    np.testing.assert_allclose(numpy(d.f_star_g(v[near])), numpy(d.f_star(t[near])), 1e-6, 1e-9)
    far = tensor(np.array([-40, 40], np.float32))
    assert np.isfinite(numpy(d.f_star_g(far))).all() and np.isfinite(numpy(d.g(far))).all()


def test_total_variation():
    check("total-variation", lambda p, q: np.abs(p - q) / 2)  # eq: fgan-tv


def test_kl():
    check("kl", lambda p, q: p * np.log(p / q))  # eq: fgan-kl


def test_reverse_kl():
    check("reverse-kl", lambda p, q: q * np.log(q / p))  # eq: fgan-reverse-kl


def test_pearson():
    check("pearson-chi2", lambda p, q: (p - q) ** 2 / q)  # eq: fgan-pearson-chi2


def test_neyman():
    check("neyman-chi2", lambda p, q: (p - q) ** 2 / p)  # eq: fgan-neyman-chi2


def test_hellinger():
    check("hellinger", lambda p, q: (np.sqrt(p) - np.sqrt(q)) ** 2)  # eq: fgan-hellinger


def test_jeffrey():
    check("jeffrey", lambda p, q: (p - q) * np.log(p / q))  # eq: fgan-jeffrey


def test_jensen_shannon():
    def twice(p, q):
        return p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))
    check("js", twice)  # eq: fgan-js


def test_weighted_jensen_shannon():
    def weighted(pi):
        return lambda p, q: (pi * p * np.log(p / (pi * p + (1 - pi) * q))
                             + (1 - pi) * q * np.log(q / (pi * p + (1 - pi) * q)))
    check("js-weighted", weighted(0.3))  # eq: fgan-js-weighted
    check("js-weighted", weighted(0.8), js_weighted(0.8))
    # with π = ½ it is half of `js`
    half = js_weighted(0.5).between(p(X), q(X), DX).item()
    assert half == pytest.approx(DIVERGENCES["js"].between(p(X), q(X), DX).item() / 2)
    with pytest.raises(ValueError, match="weight of p is 1, it must be between 0 and 1"):
        js_weighted(1)


def test_gan():
    def printed(p, q):  # −log 4 = −log 4 ∫ q
        return (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))) - np.log(4) * q
    check("gan", printed)  # eq: fgan-gan


def test_conjugate_is_the_supremum():
    """For a quadratic, whose conjugate is known, and for the table's own f and f* of KL."""
    u, t = np.linspace(-30, 30, 60_001), np.linspace(-3, 3, 7)
    found = conjugate(lambda u: 0.5 * (u - 2) ** 2, t, u).numpy()
    np.testing.assert_allclose(found, t ** 2 / 2 + 2 * t, atol=1e-6)  # eq: fgan-conjugate
    found = conjugate(DIVERGENCES["kl"].f, t, np.linspace(1e-4, 10, 100_000)).numpy()
    np.testing.assert_allclose(found, np.exp(t - 1), rtol=1e-5)


# ------------------------------------------------------------------------------------- the bound

def test_the_bound_against_the_exact_divergence():
    """For `kl`, T = 1 + log(p / q) + c gives E_P[T] − E_Q[e^(T − 1)] = KL + 1 + c − e^c, whose
    maximum, at c = 0, is KL."""
    x_p, x_q = RNG(3).normal(MU_P, SIGMA_P, 400_000), RNG(4).normal(MU_Q, SIGMA_Q, 400_000)
    exact = dist.kl(dist.Normal(np.float64(MU_P), np.float64(2 * np.log(SIGMA_P))),
                    dist.Normal(np.float64(MU_Q), np.float64(2 * np.log(SIGMA_Q)))).item()

    def V(x, c):
        return 1 + np.log(p(x) / q(x)) + c

    for c in (0, 0.7, -1.2):
        found = DIVERGENCES["kl"].bound(tensor(V(x_p, c)), tensor(V(x_q, c))).item()
        expected = exact + 1 + c - np.exp(c)
        assert found == pytest.approx(expected, abs=0.01)  # eq: fgan-variational-bound


@pytest.mark.parametrize("name", DIVERGENCES)
def test_any_other_critic_is_below(name):
    """By quadrature, for critics V(x) near the best one and far from it."""
    d = DIVERGENCES[name]
    exact = d.between(p(X), q(X), DX).item()
    for V in (np.zeros_like(X), 0.3 * X, np.sin(X), -X, 1 + 0.2 * np.cos(3 * X)):
        bound = integral(p(X) * numpy(d.g(V)) - q(X) * numpy(d.f_star_g(V)))
        assert bound < exact + 1e-9


def players(kind, *divergence):
    model = kind(nn.Linear(2, 3, rng=RNG(0)), nn.Linear(3, 1, rng=RNG(1)), 2, *divergence)
    nn.astype(model, np.float64)
    return model


def test_the_divergence_called_gan_is_the_first_gan():
    x = RNG(5).normal(size=(16, 3))
    ours, first = players(FGAN, "gan"), players(gan.GAN)
    for loss in ("value", "d_loss"):
        a, b = (getattr(m, loss)(x, RNG(6)).item() for m in (ours, first))
        assert a == pytest.approx(b, rel=1e-12)
    assert ours.g_loss(16, RNG(6)).item() == pytest.approx(first.g_loss(16, RNG(6)).item())
    ours, first = players(NonSaturatingFGAN, "gan"), players(gan.NonSaturatingGAN)
    assert ours.g_loss(16, RNG(6)).item() == pytest.approx(first.g_loss(16, RNG(6)).item())


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_value_and_both_generators_losses_by_hand(name):
    d, model = DIVERGENCES[name], players(FGAN, name)
    x = RNG(7).normal(size=(8, 3))
    z = RNG(8).standard_normal((8, 2))
    v_real, v_fake = (model.D(s).numpy() for s in (x, model.G(z).numpy()))
    f_star = numpy(d.f_star(d.g(v_fake))).mean()
    assert model.value(x, RNG(8)).item() == pytest.approx(numpy(d.g(v_real)).mean() - f_star)
    assert model.g_loss(8, RNG(8)).item() == pytest.approx(-f_star)
    other = players(NonSaturatingFGAN, name).g_loss(8, RNG(8)).item()
    assert other == pytest.approx(-numpy(d.g(v_fake)).mean())
    gradients = grad(model.g_loss(8, RNG(8)), nn.parameters(model.G))
    assert all((g.numpy() != 0).any() for g in gradients.values())


def test_an_unknown_divergence_is_named():
    with pytest.raises(ValueError, match="no divergence 'kll' .*reverse-kl"):
        players(FGAN, "kll")


# ----------------------------------------------------------------- a normal fitted to a mixture

def test_the_mixture_and_the_moments_that_kl_matches():
    """argmin KL(p ‖ N(μ, σ²)) has the mean and the variance of p."""
    x = normal_fit.sample(400_000, RNG(9))
    assert x.shape == (400_000, 1) and x.dtype == np.float32
    grid, dx = normal_fit.GRID, normal_fit.GRID[1] - normal_fit.GRID[0]
    density = numpy(normal_fit.mixture(grid))
    assert density.sum() * dx == pytest.approx(1)
    mu, sigma, least = normal_fit.fit(DIVERGENCES["kl"])
    assert mu == pytest.approx((grid * density).sum() * dx, abs=1e-3)
    assert (x.mean(), x.std()) == pytest.approx((mu, sigma), abs=0.01)
    assert least == pytest.approx(normal_fit.divergence(DIVERGENCES["kl"], mu, sigma))


def test_each_divergence_has_its_own_best_normal():
    fits = {name: normal_fit.fit(d) for name, d in DIVERGENCES.items()}
    for name, (mu, sigma, least) in fits.items():
        around = [normal_fit.divergence(DIVERGENCES[name], mu + a, sigma + b)
                  for a in (-0.02, 0, 0.02) for b in (-0.02, 0, 0.02)]
        assert min(around) == pytest.approx(least, abs=1e-6)
    assert fits["gan"][:2] == pytest.approx(fits["js"][:2], abs=1e-3)  # D_f differs by log 4
    assert fits["pearson-chi2"][0] < fits["kl"][0] < fits["js"][0] < fits["reverse-kl"][0]
    assert fits["reverse-kl"][0] < fits["neyman-chi2"][0]


def test_the_game_finds_the_normal_that_the_integral_names():
    game = normal_fit.build_fgan("reverse-kl", d_h=16)
    nn.init(game, RNG(10))
    normal_fit.init_standard_normal(game)
    assert normal_fit.fitted_parameters(game) == (0, 1)
    opt_d, opt_g = (optim.Adam(nn.parameters(net), lr, betas=(0.5, 0.999))
                    for net, lr in ((game.D, 5e-3), (game.G, 5e-3)))
    for t in range(400):
        rng, opt_g.lr = RNG((11, t)), 5e-3 * optim.cosine(t, 400, floor=0.05)
        loss = normal_fit.d_loss(game, tensor(normal_fit.sample(256, rng)), rng)
        opt_d.step(grad(loss, opt_d.params))
        opt_g.step(grad(game.g_loss(256, rng), opt_g.params))
    assert normal_fit.fitted_parameters(game) == pytest.approx((0.086, 1.092), abs=0.06)


def test_only_a_bounded_critic_is_kept_from_being_sure():
    x = RNG(12).normal(size=(64, 1))
    for name in DIVERGENCES:
        game = normal_fit.build_fgan(name, d_h=8)
        nn.init(game, RNG(13))
        nn.astype(game, np.float64)
        v = [t.numpy() for t in game.discriminate(x, RNG(14))]
        more = 0.01 * (np.mean(v[0] ** 2) + np.mean(v[1] ** 2)) if name == "total-variation" else 0
        expected = game.d_loss(x, RNG(14)).item() + more
        assert normal_fit.d_loss(game, x, RNG(14)).item() == pytest.approx(expected, rel=1e-9)


# ------------------------------------------------------------------- what the slide's table prints

def test_pearsons_and_neymans_integrals_are_exchanged_on_the_slide():
    P, Q = p(X), q(X)
    printed_pearson, printed_neyman = integral((Q - P) ** 2 / P), integral((P - Q) ** 2 / Q)
    pearson, neyman = (integral(Q * numpy(DIVERGENCES[name].f(P / Q)))
                       for name in ("pearson-chi2", "neyman-chi2"))
    assert abs(pearson - neyman) > 0.02
    assert (printed_pearson, printed_neyman) == pytest.approx((neyman, pearson))  # slide error: 6


def test_the_slides_jensen_shannon_integral_is_half_of_what_its_generator_gives():
    P, Q = p(X), q(X)
    printed = integral(P * np.log(2 * P / (P + Q)) + Q * np.log(2 * Q / (P + Q))) / 2
    true = integral(Q * numpy(DIVERGENCES["js"].f(P / Q)))
    assert true == pytest.approx(2 * printed) and printed > 0.01  # slide error: 7


def test_the_slides_total_variation_without_its_bars_is_zero():
    printed = integral(p(X) - q(X)) / 2  # the slide's ½ ∫ p(x) − q(x) dx: 0 for all p, q
    true = integral(q(X) * numpy(DIVERGENCES["total-variation"].f(p(X) / q(X))))
    assert printed == pytest.approx(0, abs=1e-12) and true > 0.1  # slide error: 8
    # and the printed generator, ½ u − 1, would give ½ ∫ p − ∫ q = −½
    assert integral(q(X) * (0.5 * p(X) / q(X) - 1)) == pytest.approx(-0.5)


def test_jeffreys_conjugate_against_newtons_method():
    """The supremum that defines it is found by Newton's method on f′(u) = t."""
    for t in (-30.0, -1.0, 0.0, 2.0, 20.0):
        v = 0.0  # u = e^v: f′(u) = v + 1 − e^−v
        for _ in range(200):
            v -= (v + 1 - np.exp(-v) - t) / (1 + np.exp(-v))
        u = np.exp(v)
        expected = u * t - (u - 1) * np.log(u)
        assert divergences.jeffrey_conjugate(tensor(np.array(t))).item() == pytest.approx(expected)
