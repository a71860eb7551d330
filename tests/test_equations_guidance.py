"""Section "Diffusion", guidance and thresholding: each equation is checked by a second route.

For a mixture of normal distributions every density is known, and with it the outputs of a perfect
network and a perfect classifier; the score is taken by finite differences of the log-density.
"""

import numpy as np
import pytest

import minigen
from minigen import data, grad, nn, no_grad, optim, tensor
from minigen.models.diffusion.conditional import conditional
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.exact import Mixture
from minigen.models.diffusion.forward import Forward
from minigen.models.diffusion.guidance import (
    ClassifierFree,
    ClassifierGuided,
    classifier_grad,
    drop_labels,
    no_label,
)
from minigen.models.diffusion.noisy_classifier import NoisyClassifier
from minigen.models.diffusion.schedule import linear, respaced
from minigen.models.diffusion.threshold import dynamic, static

RNG = np.random.default_rng
PI, MU = (0.2, 0.5, 0.3), ((-1.0, 0.5), (0.8, 0.9), (0.1, -1.1))
VAR = (0.3, 0.1, 0.2)


@pytest.fixture
def mixture():
    return Mixture(PI, MU, VAR, linear(40))


def points(n=5):
    return RNG(0).normal(size=(n, 2))


def log_p(x, t, schedule, c=None):
    """log p(x_t), or log p(x_t | c), written out in NumPy."""
    a = schedule.alpha_bar[t]
    parts = []
    for k, (pi, mu, var) in enumerate(zip(PI, MU, VAR, strict=True)):
        v = a * var + 1 - a
        log_n = -((x - np.sqrt(a) * np.array(mu)) ** 2).sum(1) / (2 * v) - np.log(2 * np.pi * v)
        if c is None:
            parts.append(np.log(pi) + log_n)
        elif c == k:
            parts.append(log_n)
    return np.logaddexp.reduce(parts)


def numerical_grad(f, x, h=1e-5):
    """∇f by central differences; f gives one number for each row of x."""
    columns = [(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(x.shape[1])]
    return np.stack(columns, 1)


def noise_of(score, t, schedule):
    return -np.sqrt(1 - schedule.alpha_bar[t]) * score


@pytest.mark.parametrize("t", [1, 7, 40])
def test_the_exact_noise_is_the_slope_of_the_density(mixture, t):
    s, x = mixture.schedule, points()
    expected = noise_of(numerical_grad(lambda x: log_p(x, t, s), x), t, s)
    assert np.allclose(mixture(x, t).numpy(), expected, atol=1e-6)
    assert np.allclose(mixture(x, t, np.full(5, 3)).numpy(), expected, atol=1e-6)
    given = noise_of(numerical_grad(lambda x: log_p(x, t, s, 1), x), t, s)
    assert np.allclose(mixture(x, t, np.full(5, 1)).numpy(), given, atol=1e-6)
    assert np.allclose(mixture.log_prob(x, t).numpy(), log_p(x, t, s))


def test_the_exact_noise_is_the_mean_of_the_noise_in_x_t(mixture):
    """E[ε | x_t] by simulation: ε·f(x_t) and ε*(x_t)·f(x_t) have the same mean for any f."""
    x_0, _ = mixture.sample(200_000, RNG(1))
    eps, t = RNG(2).standard_normal(x_0.shape), 12
    x_t = DDPM(mixture, mixture.schedule).q_sample(x_0, t, eps).numpy()
    eps_star = mixture(x_t, t).numpy()
    for f in (x_t, np.sin(3 * x_t), x_t > 0.5):
        assert np.allclose((eps * f).mean(0), (eps_star * f).mean(0), atol=0.01)


@pytest.mark.parametrize("w", [0.0, 0.7, 4.0])
@pytest.mark.parametrize("t", [3, 25])
def test_classifier_free_guidance_follows_the_sharpened_density(mixture, t, w):
    """ε̃ is −√(1 − ᾱ) ∇ log of p(x_t | c) p(c | x_t)^w."""
    s, x, c = mixture.schedule, points(), 0

    def log_sharpened(x):
        log_c_given_x = log_p(x, t, s, c) + np.log(PI[c]) - log_p(x, t, s)
        return log_p(x, t, s, c) + w * log_c_given_x

    eps = ClassifierFree(mixture, w, no_label(3))(x, t, np.full(5, c)).numpy()
    expected = noise_of(numerical_grad(log_sharpened, x), t, s)
    assert np.allclose(eps, expected, atol=1e-6)  # eq: classifier-free-guidance


@pytest.mark.parametrize("omega", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("t", [3, 25])
def test_classifier_guidance_adds_the_classifiers_slope_to_the_score(mixture, t, omega):
    s, x = mixture.schedule, points()
    y = np.array([0, 1, 2, 1, 0])
    net = ClassifierGuided(mixture, mixture.log_joint, s, omega)
    with no_grad():  # as samplers call it
        eps = net(x, t, y).numpy()

    def f(x):
        log_c = np.stack([log_p(x, t, s, c) + np.log(PI[c]) for c in range(3)], 1)
        return log_p(x, t, s) + omega * (log_c[np.arange(5), y] - log_p(x, t, s))

    expected = noise_of(numerical_grad(f, x), t, s)
    assert np.allclose(eps, expected, atol=1e-6)  # eq: classifier-guidance


def test_the_two_kinds_of_guidance_agree_on_perfect_networks(mixture):
    x, t, y = points(), 9, np.array([0, 1, 2, 1, 0])
    free = ClassifierFree(mixture, 1.5, no_label(3))(x, t, y).numpy()
    by_classifier = ClassifierGuided(mixture, mixture.log_joint, mixture.schedule, 2.5)(x, t, y)
    assert np.allclose(free, by_classifier.numpy())


def test_guided_samples_are_surer_of_their_class_and_closer_together(mixture):
    s, y = respaced(mixture.schedule, 40), np.full(2000, 0)
    spread, sure = [], []
    for w in (0.0, 1.0, 4.0):
        net = ClassifierFree(mixture, w, no_label(3))
        x = DDIM(net, s).decode(RNG(3).standard_normal((2000, 2)), y).numpy()
        r = minigen.softmax(mixture.log_joint(x, 1), 1).numpy()
        sure.append(r[:, 0].mean())
        spread.append(x.std(0).mean())
    assert sure[0] < sure[1] < sure[2] and spread[0] > spread[1] > spread[2]
    assert spread[0] == pytest.approx(0.3 ** 0.5, abs=0.04)  # w = 0 leaves p(x | c) as it is


def test_labels_are_left_out_at_the_rate_asked_for():
    y = RNG(4).integers(0, 10, 20_000)
    dropped = drop_labels(y, 10, RNG(5))
    assert (dropped == 10).mean() == pytest.approx(0.1, abs=0.01)
    assert (dropped[dropped < 10] == y[dropped < 10]).all()
    assert (drop_labels(y, 10, RNG(5), p=0.0) == y).all()


# ---------------------------------------------------------------------------------- thresholding

def test_static_thresholding():
    x = tensor(np.array([[-3.0, -0.4, 0.2, 1.7]]))
    assert static(x).numpy().tolist() == [[-1.0, -0.4, 0.2, 1.0]]  # eq: static-thresholding


def test_dynamic_thresholding_against_percentiles_by_hand():
    """Eleven values that are their own percentiles: the 90th of 0, 1 … 10 is 9, image by image."""
    values = np.arange(11.0) * (-1) ** np.arange(11)  # |x| = 0, 1 … 10
    x = np.stack([values, values / 20, values * 3])
    expected = np.stack([values.clip(-9, 9) / 9, values / 20, (values * 3).clip(-27, 27) / 27])
    out = dynamic(0.9)(x).numpy()
    assert np.allclose(out, expected)  # eq: dynamic-thresholding
    assert np.array_equal(out[1], x[1])  # within [−1, 1] nothing changes
    assert np.allclose(dynamic(1)(tensor(x)).numpy()[0], values / 10)


def test_both_thresholds_bring_x0_home_and_dynamic_clips_less():
    x = tensor(2 * RNG(6).normal(size=(4, 1, 28, 28)).astype(np.float32))
    a, b = static(x).numpy(), dynamic(0.99)(x).numpy()
    assert a.dtype == b.dtype == np.float32 and a.shape == b.shape == x.shape
    assert max(np.abs(a).max(), np.abs(b).max()) <= 1
    assert (np.abs(a) == 1).mean() == pytest.approx(0.617, abs=0.02)  # P(|N(0, 1)| > ½)
    assert (np.abs(b) > 1 - 1e-6).mean() == pytest.approx(0.01, abs=0.003)


def test_a_threshold_keeps_x_t_and_corrects_the_noise(mixture):
    """With the corrected ε, x̂_0 is the thresholded image and x_t is still √ᾱ x̂_0 + √(1 − ᾱ) ε."""
    model, x, t = DDPM(ClassifierFree(mixture, 20.0, no_label(3)), mixture.schedule), points(), 20
    y = np.zeros(5, int)
    free = model.predict_x0(x, t, model.eps(x, t, y)).numpy()
    eps = model.eps(x, t, y, threshold=static)
    x_0 = model.predict_x0(x, t, eps).numpy()
    assert np.abs(free).max() > 1.5
    assert np.allclose(x_0, free.clip(-1, 1))
    assert np.allclose(model.q_sample(x_0, t, eps).numpy(), x)


# ---------------------------------------------------------------------------------- networks

def test_the_label_reaches_the_network_and_null_is_one_of_its_own():
    net = conditional((1, 8, 8), 3, widths=(8, 8), D=16, rng=RNG(7))
    model = DDPM(net, linear(50))
    x = RNG(8).normal(size=(4, 1, 8, 8)).astype(np.float32)
    opt = optim.Adam(nn.parameters(net), lr=1e-2)
    for t in range(3):  # the last convolution starts at 0
        loss = model.loss(x, RNG((0, t)), np.array([0, 1, 2, 3]))
        opt.step(grad(loss, opt.params))
    same = np.repeat(x[:1], 4, 0)
    out = net(same, np.full(4, 20), np.arange(4)).numpy()
    assert len({row.tobytes() for row in out}) == 4
    assert model.sample(2, (1, 8, 8), RNG(9), np.array([0, 2])).shape == (2, 1, 8, 8)


def test_the_noisy_classifier_learns_and_its_slope_leads_to_the_class():
    """Two classes, horizontal and vertical stripes: the slope of log p(vertical) points from the
    first to the second."""
    upright = np.tile(np.array([-0.5, 0.5], np.float32), (1, 8, 4))
    x = np.repeat(np.stack([upright.swapaxes(1, 2), upright]), 32, 0)
    y, model = np.repeat([0, 1], 32), Forward(linear(50))
    net = NoisyClassifier((1, 8, 8), 2, widths=(8, 8), D=16, rng=RNG(11))
    opt, losses = optim.Adam(nn.parameters(net), lr=1e-2), []
    for t in range(40):
        loss = net.loss(model, x, y, RNG((1, t)))
        losses.append(loss.item())
        opt.step(grad(loss, opt.params))
    assert np.mean(losses[-5:]) < 0.45 < losses[0]
    x_t = model.q_sample(x, 10, RNG(12).normal(size=x.shape).astype(np.float32))
    g = classifier_grad(net, x_t, np.full(64, 10), np.ones(64, int)).numpy()
    assert ((g * (upright - upright.swapaxes(1, 2))).sum((1, 2, 3)) > 0).mean() > 0.9


# ---------------------------------------------------------------------------------- bad input

@pytest.mark.parametrize("wrong, says", [
    (lambda m: ClassifierFree(m, -0.5, no_label(3)), "a weight is a number from 0"),
    (lambda m: ClassifierFree(m, float("nan"), no_label(3)), "a weight is a number from 0"),
    (lambda m: ClassifierGuided(m, m.log_joint, m.schedule, -1), "a weight is a number from 0"),
    (lambda m: ClassifierFree(m, 2.0, no_label(3))(points(), 3, np.array([0, 1, 2, 3, 0])),
     "from 0 to 2, got 3"),
    (lambda m: ClassifierGuided(m, m.log_joint, m.schedule, 1.0)(points(), 3, np.full(5, -1)),
     "from 0 to 2, got -1"),
    (lambda m: drop_labels(np.array([0.5]), 3, RNG(0)), "labels are integers"),
    (lambda m: drop_labels(np.array([7]), 3, RNG(0)), "from 0 to 2, got 7"),
    (lambda m: drop_labels(2, 3, RNG(0)), r"integers \(N,\) .* got int64 \(\)"),
    (lambda m: drop_labels([], 3, RNG(0)), r"got float64 \(0,\)"),
    (lambda m: ClassifierGuided(m, m.log_joint, m.schedule, 1.0)(points()[:1], 3, [0, 1]),
     "1 images came with 2 labels"),
    (lambda m: DDIM(m, respaced(m.schedule, 9)).schedule.at(m.schedule.beta, 1, points()),
     "41 numbers came for a schedule of 9 steps, expected 10"),
    (lambda m: DDIM(m, m.schedule, eta=1.0).bound(points(), RNG(0), draws=0), "got 0"),
    (lambda m: dynamic(0.0), r"in \(0, 1\], got 0"),
    (lambda m: dynamic(99.5), r"write 0.995"),
    (lambda m: DDIM(m, m.schedule, eta=1.5), "η goes from 0"),
    (lambda m: DDIM(m, m.schedule, eta=-0.1), "η goes from 0"),
    (lambda m: respaced(m.schedule, 41), "expected 1 to 40 steps"),
    (lambda m: m(points(), -1), "t must be integers from 1 to T = 40, got -1"),
    (lambda m: m(points(), 3, np.full(5, 7)), "from 0 to 3, got 7"),
])
def test_bad_input_is_one_clear_line(mixture, wrong, says):
    with pytest.raises(ValueError, match=says) as e:
        wrong(mixture)
    assert "\n" not in str(e.value)


def test_bytes_are_no_images_for_a_diffusion(mixture):
    with pytest.raises(TypeError, match="images are uint8, expected floats"):
        DDIM(mixture, mixture.schedule).q_sample(np.ones((2, 2), np.uint8), 3, np.zeros((2, 2)))


def test_data_in_and_out_of_the_models_range():
    assert data.unsigned(static(tensor([[-2.0, 0.0, 2.0]]))).tolist() == [[0.0, 0.5, 1.0]]
