"""Section "Diffusion", other samplers and other views: DDIM, learnt variances, the signal-to-noise
ratio. Each equation is checked by a second route."""

import numpy as np
import pytest
from normal_world import alpha_bar_of
from scipy import stats

from minigen import data, dist, grad, nn, optim, tensor
from minigen.models.diffusion import clean, ddim, improved_ddpm, snr, velocity
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.exact import Mixture
from minigen.models.diffusion.forward import Forward
from minigen.models.diffusion.schedule import Schedule, cosine, linear, respaced
from minigen.models.diffusion.super_resolution import power

RNG = np.random.default_rng
BETA = np.array([0.02, 0.1, 0.3, 0.25, 0.5])
A = alpha_bar_of(Schedule(BETA))


# ---------------------------------------------------------------------------------- DDIM

@pytest.mark.parametrize("t", [1, 2, 4, 5])
def test_with_eta_1_a_ddim_step_is_the_ddpms_posterior(t):
    model = ddim.DDIM(None, Schedule(BETA), eta=1)
    x_t, x_0 = RNG(0).normal(size=(2, 6, 3))
    q, posterior = model.q_eta(x_t, x_0, t), model.q_posterior(x_t, x_0, t)
    assert np.allclose(q.mu.numpy(), posterior.mu.numpy(), atol=1e-12)  # eq: ddim-step
    assert np.allclose(q.sigma.numpy(), posterior.sigma.numpy(), atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_every_eta_has_the_marginals_of_the_forward_process(eta):
    """If x_t ~ q(x_t | x_0), x_{t−1} ~ q_η has mean √ᾱ_{t−1} x_0 and variance 1 − ᾱ_{t−1}, here
    computed from the coefficients of x_0 and x_t, which are read off the function."""
    model = ddim.DDIM(None, Schedule(BETA), eta)
    for t in (1, 2, 3, 5):
        one, zero = np.ones((1, 1)), np.zeros((1, 1))
        on_x_0 = model.q_eta(zero, one, t).mu.item()
        on_x_t = model.q_eta(one, zero, t).mu.item()
        sigma = model.q_eta(one, one, t).sigma.item()
        assert on_x_0 + on_x_t * A[t] ** 0.5 == pytest.approx(A[t - 1] ** 0.5)  # eq: ddim-step
        variance = on_x_t ** 2 * (1 - A[t]) + sigma ** 2
        assert variance == pytest.approx(1 - A[t - 1], abs=1e-12)  # eq: ddim-step
        expected = eta ** 2 * (1 - A[t - 1]) / (1 - A[t]) * BETA[t - 1]
        assert sigma ** 2 == pytest.approx(expected)


@pytest.fixture(scope="module")
def normal():
    """Data N(m, s²) and a fine schedule, for which the best prediction of ε is known."""
    return Mixture([1.0], [[0.7]], [0.3], linear(1000))


def test_without_noise_the_way_back_is_a_monotone_map_to_the_data(normal):
    """For normal data the differential equation has a solution that maps quantiles to quantiles."""
    x_T = stats.norm.ppf((np.arange(50) + 0.5) / 50)[:, None]
    a = normal.schedule.alpha_bar[-1]
    start = (x_T - a ** 0.5 * 0.7) / (a * 0.3 + 1 - a) ** 0.5  # p(x_T) is nearly N(0, 1)
    expected = 0.7 + 0.3 ** 0.5 * start
    x_0 = ddim.DDIM(normal, normal.schedule).decode(x_T).numpy()
    assert np.allclose(x_0, expected, atol=5e-3)  # eq: ddim-step
    # fifty steps come close, and keep the order of the points
    few = ddim.DDIM(normal, respaced(normal.schedule, 50)).decode(x_T).numpy()
    assert np.allclose(few, expected, atol=0.1) and (np.diff(few[:, 0]) > 0).all()


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_samples_have_the_datas_moments_whatever_eta(normal, eta):
    model = ddim.DDIM(normal, respaced(normal.schedule, 500), eta)
    x = model.sample(8000, (1,), RNG(1)).numpy()
    assert x.mean() == pytest.approx(0.7, abs=0.02)
    assert x.var() == pytest.approx(0.3, abs=0.02)


def test_encoding_is_the_inverse_of_decoding():
    mixture = Mixture([0.4, 0.6], [[-0.9, 0.2], [0.8, -0.3]], [0.05, 0.1], linear(1000))
    x_0, _ = mixture.sample(300, RNG(2))
    model = ddim.DDIM(mixture, respaced(mixture.schedule, 50))

    def error(model, iterations):
        return np.abs(model.decode(model.encode(x_0, iterations=iterations)).numpy() - x_0).max()

    assert error(model, 40) < 1e-5 < 1e-4 < error(model, 1) < 0.5
    large = ddim.DDIM(mixture, respaced(mixture.schedule, 25))
    assert error(large, 400) > 0.1  # no number of iterations helps: see `encode`'s docstring
    with pytest.raises(ValueError, match="at least one iteration, got 0"):
        model.encode(x_0, iterations=0)


def test_ddim_starts_and_ends_like_ddpm_and_keeps_the_way():
    net = denoiser((1, 8, 8), widths=(8, 8), D=16, rng=RNG(3))
    model, rng = ddim.DDIM(net, respaced(linear(100), 7)), RNG(4)
    path = dict(model.chain(dist.noise(rng, nn.like(net), (2, 1, 8, 8)), rng))
    assert [*path] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert np.array_equal(path[0].numpy(), model.sample(2, (1, 8, 8), RNG(4)).numpy())
    again = model.decode(path[7])  # η = 0: the start decides everything
    assert np.allclose(again.numpy(), path[0].numpy(), atol=1e-5)


# ---------------------------------------------------------------------------------- variances

class FixedNet:
    """A network with fixed outputs: ε and 2v − 1."""

    def __init__(self, eps, v):
        self.both = np.concatenate([eps, 2 * v - 1], 1)

    def __call__(self, x_t, t):
        return tensor(self.both)


def test_learnt_variances_lie_between_the_bounds_on_a_log_scale():
    s, v = Schedule(BETA), RNG(5).random((5, 1, 2, 2))
    eps, x_t = RNG(6).normal(size=(2, 5, 1, 2, 2))
    model = improved_ddpm.ImprovedDDPM(FixedNet(eps, v), s)
    t = np.array([1, 2, 3, 4, 5])
    p = model.p(x_t, t)
    tilde = (1 - A[t - 1]) / (1 - A[t]) * BETA[t - 1]
    tilde[0] = tilde[1]
    tilde, beta = tilde.reshape(-1, 1, 1, 1), BETA.reshape(-1, 1, 1, 1)
    expected = beta ** v * tilde ** (1 - v)
    assert np.allclose(p.sigma.numpy() ** 2, expected)  # eq: ddpm-learned-sigma
    assert np.allclose(p.mu.numpy(), DDPM(lambda *_: tensor(eps), s).p(x_t, t).mu.numpy())
    assert np.allclose(model.eps(x_t, t).numpy(), eps)


def test_the_hybrid_loss_from_its_terms():
    """The bound's Σ over t is estimated as T · the mean of its terms at random t, each of them here
    written out with SciPy's densities."""
    s, rng = Schedule(BETA), RNG(7)
    x_0 = data.signed(rng.integers(0, 256, (40, 1, 2, 2)).astype(np.uint8)).astype(np.float64)
    eps_hat, v = rng.normal(size=x_0.shape), rng.random(x_0.shape)
    model = improved_ddpm.ImprovedDDPM(FixedNet(eps_hat, v), s, lam=0.25)
    loss, parts = model.loss(x_0, RNG(8))
    draws = RNG(8)
    t, eps = draws.integers(1, 6, 40), draws.standard_normal(x_0.shape)
    simple, bits = [], []
    for n in range(40):
        k, a, b = t[n], A[t[n]], BETA[t[n] - 1]
        before = A[k - 1]
        x_t = a ** 0.5 * x_0[n] + (1 - a) ** 0.5 * eps[n]
        mu = (x_t - b / (1 - a) ** 0.5 * eps_hat[n]) / (1 - b) ** 0.5
        tilde = (1 - before) / (1 - a) * b if k > 1 else (1 - A[1]) / (1 - A[2]) * BETA[1]
        var = np.exp(v[n] * np.log(b) + (1 - v[n]) * np.log(tilde))
        if k == 1:
            low = np.where(x_0[n] < -0.999, -np.inf, x_0[n] - 1 / 255)
            high = np.where(x_0[n] > 0.999, np.inf, x_0[n] + 1 / 255)
            cdf = stats.norm(mu, var ** 0.5).cdf
            term = -np.log(cdf(high) - cdf(low))
        else:
            q = (before ** 0.5 * b * x_0[n] + (1 - b) ** 0.5 * (1 - before) * x_t) / (1 - a)
            term = 0.5 * (np.log(var / tilde) + (tilde + (q - mu) ** 2) / var - 1)
        simple.append(((eps[n] - eps_hat[n]) ** 2).mean())
        bits.append(5 * term.mean() / np.log(2))
    assert parts["simple"].item() == pytest.approx(np.mean(simple))
    assert parts["vlb_bits"].item() == pytest.approx(np.mean(bits))
    expected = np.mean(simple) + 0.25 * np.mean(bits)
    assert loss.item() == pytest.approx(expected)  # eq: ddpm-learned-sigma


def test_the_bound_teaches_the_variances_and_leaves_the_mean_alone():
    net = denoiser((1, 8, 8), widths=(8, 8), D=16, outputs=2, rng=RNG(9))
    x = np.sign(RNG(10).normal(size=(4, 1, 8, 8))).astype(np.float32)
    with_, without = (improved_ddpm.ImprovedDDPM(net, linear(50), lam) for lam in (1.0, 0.0))
    last = {"weight": net.unet.last.weight}
    g, g_0 = (grad(m.loss(x, RNG(11))[0], last)["weight"].numpy() for m in (with_, without))
    assert np.allclose(g[:1], g_0[:1], atol=1e-6) and np.abs(g_0[:1]).max() > 1e-3
    assert np.abs(g_0[1:]).max() == 0 and np.abs(g[1:]).max() > 1e-3


def test_learnt_variances_find_the_best_ones():
    """For data N(0, s²) the best σ_t² is the variance of x_{t−1} given x_t, in closed form."""
    s2, schedule = 0.25, Schedule(np.full(6, 0.3))
    a, before, beta = schedule.alpha_bar[3], schedule.alpha_bar[2], 0.3
    v = tensor(np.zeros((1, 1, 1, 1)), requires_grad=True)
    exact = Mixture([1.0], [[0.0]], [s2], schedule)
    model = improved_ddpm.ImprovedDDPM(None, schedule)
    model.outputs = lambda x_t, t: (exact(x_t.reshape(-1, 1), t).reshape(x_t.shape),
                                    v + 0 * tensor(x_t))
    x_0 = s2 ** 0.5 * RNG(12).normal(size=(20_000, 1, 1, 1))
    x_t = model.q_sample(x_0, 3, RNG(13).normal(size=x_0.shape))
    opt = optim.Adam({"v": v}, lr=0.05)
    for _ in range(150):
        kl = dist.kl(model.q_posterior(x_t, x_0, 3), model.p(x_t, 3)).mean()
        opt.step(grad(kl, {"v": v}))
    # x_{t−1} and x_t are jointly normal: var(x_{t−1} | x_t)
    var_before, var = before * s2 + 1 - before, a * s2 + 1 - a
    best = var_before - (1 - beta) * var_before ** 2 / var
    assert np.exp(v.item()) == pytest.approx(best, rel=0.02)


# ---------------------------------------------------------------------------------- velocity

def test_a_network_of_the_velocity_gives_the_noise_and_its_loss():
    s, rng = Schedule(BETA), RNG(24)
    x_0, wrong = rng.normal(size=(2, 30, 3))
    draws = RNG(25)
    t, eps = draws.integers(1, 6, 30), draws.standard_normal(x_0.shape)
    a, b = A[t][:, None] ** 0.5, (1 - A[t][:, None]) ** 0.5
    x_t, v = a * x_0 + b * eps, a * eps - b * x_0
    assert np.allclose(velocity.Velocity(lambda *_: tensor(v), s)(tensor(x_t), t).numpy(), eps)
    model = DDPM(velocity.Velocity(lambda *_: tensor(v + wrong), s), s)
    assert np.allclose(model.predict_x0(x_t, t, model.eps(x_t, t)).numpy(), x_0 - b * wrong)
    loss = model.loss(x_0, RNG(25))
    assert loss.item() == pytest.approx((wrong ** 2).mean())
    model = DDPM(velocity.Velocity(lambda *_: tensor(v + wrong), s, p=1), s)
    assert model.loss(x_0, RNG(25), norm=power(1)).item() == pytest.approx(np.abs(wrong).mean())


def test_a_network_of_the_image_gives_the_noise_and_its_loss():
    s, rng = Schedule(BETA), RNG(26)
    x_0, wrong = rng.normal(size=(2, 30, 3))
    draws = RNG(27)
    t, eps = draws.integers(1, 6, 30), draws.standard_normal(x_0.shape)
    a, b = A[t][:, None] ** 0.5, (1 - A[t][:, None]) ** 0.5
    x_t = a * x_0 + b * eps
    assert np.allclose(clean.Clean(lambda *_: tensor(x_0), s)(tensor(x_t), t).numpy(), eps)
    model = DDPM(clean.Clean(lambda *_: tensor(x_0 + wrong), s), s)
    assert np.allclose(model.predict_x0(x_t, t, model.eps(x_t, t)).numpy(), x_0 + wrong)
    for gamma in (1, 1.5, 10):
        net = clean.Clean(lambda *_: tensor(x_0 + wrong), s, gamma)
        loss = DDPM(net, s).loss(x_0, RNG(27))
        w = np.array([min(1 / (1 - A[k]), gamma) for k in t])
        assert loss.item() == pytest.approx((w * (wrong ** 2).mean(1)).mean())
    with pytest.raises(ValueError, match=r"gives \(30, 1\) for images x_t \(30, 3\)"):
        clean.Clean(lambda *_: tensor(x_0[:, :1]), s)(tensor(x_t), t)


# ---------------------------------------------------------------------------------- SNR

def test_the_bounds_terms_are_differences_of_the_signal_to_noise_ratio():
    s = Schedule(BETA)
    x_0, x_hat, eps = RNG(14).normal(size=(3, 50, 4))
    model = DDPM(None, s, sigma2=s.beta_tilde)
    for t in (2, 3, 5):
        x_t = model.q_sample(x_0, t, eps)
        kl = dist.kl(model.q_posterior(x_t, x_0, t), model.q_posterior(x_t, x_hat, t)).numpy()
        weight = snr.vlb_weight(s)[t]
        assert np.allclose(kl, weight * (x_0 - x_hat) ** 2)  # eq: ddpm-snr
        assert weight == pytest.approx((A[t - 1] / (1 - A[t - 1]) - A[t] / (1 - A[t])) / 2)
        eps_hat = (x_t.numpy() - A[t] ** 0.5 * x_hat) / (1 - A[t]) ** 0.5
        assert np.allclose(kl, snr.eps_weight(s)[t] * (eps - eps_hat) ** 2)
        alpha, beta = 1 - BETA[t - 1], BETA[t - 1]
        paper = beta ** 2 / (2 * s.beta_tilde[t] * alpha * (1 - A[t]))  # Ho et al., equation (12)
        assert snr.eps_weight(s)[t] == pytest.approx(paper)


def test_signal_and_noise_by_simulation():
    s = Schedule(BETA)
    x_0, eps = 1.5 * np.sign(RNG(15).normal(size=(2, 100_000)))
    x_t = Forward(s).q_sample(x_0, 3, eps / 1.5).numpy()
    signal = (x_t * x_0).mean() / 1.5 ** 2 * x_0
    measured = (signal ** 2).mean() / 1.5 ** 2 / ((x_t - signal) ** 2).mean()
    assert s.snr[3] == pytest.approx(measured, rel=0.02)  # eq: ddpm-snr
    assert np.allclose(1 / (1 + 1 / s.snr[1:]), A[1:])
    assert s.snr[0] == np.inf


def test_the_schedule_of_least_variance_gives_every_t_the_same_share():
    """For data N(0, s²): E‖x − x̂‖² = s² / (1 + s² SNR), ½ ∫ dSNR of it = ½ log(1 + s² SNR), so in
    the best schedule log(1 + s² SNR(t)) falls linearly in t."""
    s2, T = 0.4, 20
    grid = np.geomspace(0.01, 100, 20_000)
    best = snr.least_variance(grid, s2 / (1 + s2 * grid), T)
    expected = np.linspace(np.log1p(s2 * 100), np.log1p(s2 * 0.01), T)
    assert np.allclose(np.log1p(s2 * best), expected, atol=1e-6)  # eq: ddpm-snr
    with pytest.raises(ValueError, match="turn both arrays around"):
        snr.least_variance(grid[::-1], s2 / (1 + s2 * grid[::-1]), T)
    shares = -np.diff(np.log1p(s2 * best)) / 2
    assert shares.std() < 1e-6 * shares.mean()
    plain = -np.diff(np.log1p(s2 * cosine(T).snr[1:])) / 2
    assert plain.std() > 0.2 * plain.mean()  # the cosine schedule's shares are unequal


def test_models_of_the_mean_and_the_variance_are_listed_with_their_parameters():
    net = denoiser((1, 8, 8), widths=(8, 8), D=16, outputs=2, rng=RNG(20))
    model = improved_ddpm.ImprovedDDPM(net, linear(25))
    assert len(nn.parameters(model)) == len(nn.parameters(net))
    assert model.sample(2, (1, 8, 8), RNG(21)).shape == (2, 1, 8, 8)
    bound, _ = model.bound(np.ones((2, 1, 8, 8), np.float32), RNG(22))
    assert np.isfinite(bound.numpy()).all()
