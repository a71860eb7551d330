"""SDEdit and ILVR on normally distributed images, with a perfect network."""

import numpy as np
import pytest
from normal_world import alpha_bar_of

from minigen import tensor
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.editing import ILVR, low_pass, sdedit
from minigen.models.diffusion.exact import Mixture
from minigen.models.diffusion.schedule import linear
from minigen.models.diffusion.threshold import static

RNG = np.random.default_rng
S = linear(200)
MU, VAR = 0.5, 0.04


def perfect(cls=DDPM, *args):
    """A perfect DDPM of 1×4×4 images with independent pixels from N(0.5, 0.04)."""
    mixture = Mixture([1.0], [[MU] * 16], [VAR], S)
    net = lambda x, t: mixture(x.reshape(len(x), 16), t).reshape(x.shape)
    return cls(net, S, *args)


@pytest.mark.parametrize("t_0", [8, 20, 60, 200])
def test_a_drawing_becomes_an_image_and_remains_as_far_as_the_noise_lets_it(t_0):
    """x_0 given x_{t_0} is normal with a mean between MU and x_{t_0} / √ᾱ, and a variance that does
    not depend on x_{t_0}, which itself is normal around √ᾱ y."""
    y, n = np.full((1, 1, 4, 4), -0.7), 4000
    x = sdedit(perfect(), np.repeat(y, n, 0), t_0, RNG(0)).numpy()
    a = alpha_bar_of(S)[t_0]
    kept = a * VAR / (a * VAR + 1 - a)  # fraction of the way from MU to the drawing
    mean = MU + kept * (-0.7 - MU)
    var = VAR * (1 - a) / (a * VAR + 1 - a) + kept**2 * (1 - a) / a
    assert x.shape == (n, 1, 4, 4)
    assert x.mean() == pytest.approx(mean, abs=0.02) and x.var() == pytest.approx(var, rel=0.06)


def test_a_drawing_with_noise_is_where_the_chain_begins():
    model, y = perfect(), RNG(1).normal(size=(3, 1, 4, 4))
    x = sdedit(model, y, 30, RNG(2), threshold=static).numpy()
    rng, t = RNG(2), 30
    by_hand = model.q(y, t).sample(rng)
    for t in range(30, 0, -1):
        p = model.p(by_hand, t, threshold=static)
        by_hand = p.sample(rng) if t > 1 else p.mean
    assert np.array_equal(x, by_hand.numpy())


@pytest.mark.parametrize("t_0", [0, 201, 2.5])
def test_a_start_that_is_none_is_refused(t_0):
    with pytest.raises((ValueError, TypeError)):
        sdedit(perfect(), np.zeros((1, 1, 4, 4)), t_0, RNG(0))


def test_low_frequencies_are_means_of_squares():
    x = RNG(0).normal(size=(2, 3, 4, 8))
    y = low_pass(tensor(x), 2).numpy()
    for n, c, i, j in np.ndindex(x.shape):
        square = x[n, c, i // 2 * 2:i // 2 * 2 + 2, j // 2 * 2:j // 2 * 2 + 2]
        assert y[n, c, i, j] == pytest.approx(square.mean())
    assert np.allclose(low_pass(tensor(y), 2).numpy(), y)
    with pytest.raises(ValueError, match=r"n = 3 does not divide .* of images \(2, 3, 4, 8\)"):
        low_pass(tensor(x), 3)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_samples_are_like_the_reference_from_afar_and_as_they_like_beside(n):
    """What φ leaves free has the variance of the data; what φ fixes is that of y."""
    y = np.repeat(RNG(1).normal(MU, 0.6, (1, 1, 4, 4)), 3000, 0).astype(np.float32)
    model = perfect(ILVR, y, n)
    x = model.sample(3000, (1, 4, 4), RNG(0)).numpy()
    assert np.allclose(low_pass(tensor(x), n).numpy(), low_pass(tensor(y), n).numpy(), atol=1e-5)
    free = x - low_pass(tensor(x), n).numpy()
    assert free.var() == pytest.approx(VAR * (1 - 1 / n**2), rel=0.06, abs=1e-6)
    assert abs(free.mean(0)).max() < 0.02


def test_references_that_do_not_fit_are_refused():
    y = np.zeros((2, 1, 4, 4), np.float32)
    with pytest.raises(ValueError, match="n = 3 does not divide both sides"):
        perfect(ILVR, y, 3)
    with pytest.raises(ValueError, match=r"x_t are \(1, 1, 4, 4\), the references \(2, 1, 4, 4\)"):
        perfect(ILVR, y, 2).sample(1, (1, 4, 4), RNG(0))


def test_a_step_of_ilvr_exchanges_low_frequencies():
    y, x_t = RNG(1).normal(size=(2, 3, 1, 4, 4))
    model, plain = perfect(ILVR, y, 2), perfect()
    for t in (1, 2, 150):
        got, rng = model.step(x_t, t, RNG(t), threshold=static).numpy(), RNG(t)
        drawn = plain.step(x_t, t, rng, threshold=static).numpy()
        noisy = plain.q(y, t - 1).sample(rng).numpy() if t > 1 else y
        for block in np.ndindex(2, 2):
            i, j = (slice(2 * k, 2 * k + 2) for k in block)
            mean = lambda a, i=i, j=j: a[..., i, j].mean((2, 3), keepdims=True)
            assert np.allclose(got[..., i, j], drawn[..., i, j] - mean(drawn) + mean(noisy))
