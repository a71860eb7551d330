"""Section "Diffusion", by frequency: what noise drowns first. Each equation is checked by a second
route."""

import numpy as np
import pytest

from minigen import data
from minigen.models.diffusion import frequency
from minigen.models.diffusion.forward import Forward
from minigen.models.diffusion.schedule import linear

RNG = np.random.default_rng


def test_the_transform_of_x_t():
    s = linear(1000)
    x_0, eps = RNG(16).normal(size=(2, 3, 1, 8, 6))
    for t in (1, 300, 1000):
        x_t = Forward(s).q_sample(x_0, t, eps).numpy()
        F_t = frequency.fourier_q_sample(frequency.fourier(x_0), s.alpha_bar[t],
                                         frequency.fourier(eps))
        assert np.allclose(F_t, np.fft.fft2(x_t) / 48 ** 0.5)  # eq: ddpm-fourier


def waves():
    """3 cos(2π·2·x/16) + 0.5 cos(2π·6·x/16), 16×16: amplitude A has |F|² = (A/2)²·256 at ±f, so the
    mean over a ring is twice that, divided by the ring's number of entries."""
    u = np.arange(16) * 2 * np.pi / 16
    return np.broadcast_to(3 * np.cos(2 * u) + 0.5 * np.cos(6 * u), (1, 1, 16, 16))


def test_radial_spectra_by_hand():
    r = frequency.radius(16, 16)
    P = frequency.radial_spectrum(waves())
    assert P[2] == pytest.approx(2 * 1.5 ** 2 * 256 / (r == 2).sum())
    assert P[6] == pytest.approx(2 * 0.25 ** 2 * 256 / (r == 6).sum())
    assert np.abs(np.delete(P, [2, 6])).max() < 1e-12
    white = frequency.radial_spectrum(RNG(17).normal(size=(500, 1, 16, 16)))
    assert np.allclose(white, 1, atol=0.06)
    x = RNG(18).normal(size=(2, 3, 16, 12))
    assert np.allclose(frequency.band_pass(x, 0, 3) + frequency.band_pass(x, 3, 99), x)
    x = RNG(19).integers(0, 256, (2, 1, 8, 8), np.uint8)
    assert np.allclose(frequency.band_pass(x, 0, 3) + frequency.band_pass(x, 3, 99), x, atol=1e-3)
    assert np.allclose(frequency.band_pass(waves(), 1, 4)[0, 0, 0],
                       3 * np.cos(np.arange(16) * 4 * np.pi / 16))


def test_when_a_frequency_drowns_by_hand_and_by_simulation():
    """It drowns when ᾱ_t P < 1 − ᾱ_t, that is, ᾱ_t < 1 / (1 + P)."""
    s, P = linear(200), np.array([100.0, 4.0, 0.1, 0.0])
    expected = [int(np.argmax(s.alpha_bar < 1 / (1 + p))) for p in P]
    assert frequency.crossover_step(P, s).tolist() == expected  # eq: ddpm-frequency-regimes
    assert expected[0] > expected[1] > expected[2] > expected[3] == 1
    assert frequency.crossover_step([1e12], s).tolist() == [201]
    t, x_0 = 40, np.repeat(waves(), 4000, 0)
    x_t = Forward(s).q_sample(x_0, t, RNG(19).normal(size=x_0.shape)).numpy()
    power, P = frequency.radial_spectrum(x_t), frequency.radial_spectrum(waves())
    a = s.alpha_bar[t]
    assert np.allclose(power, a * P + 1 - a, rtol=0.03)
    # the best linear estimate of F(x_0) at the horizontal frequency 2, by least squares
    F_0, F_t = (np.fft.fft2(x, norm="ortho")[:, 0, 0, 2] for x in (x_0, x_t))
    # P is a mean over the ring; here the power of this one frequency counts
    gain = (F_0 * F_t.conj()).sum().real / (np.abs(F_t) ** 2).sum() * a ** 0.5
    assert frequency.wiener(np.abs(F_0[0]) ** 2, a) == pytest.approx(gain, rel=0.01)
    assert frequency.wiener(2.0, 1.0) == 1 and frequency.wiener(2.0, 0.0) == 0


def test_fine_detail_of_drawn_digits_drowns_first():
    x = data.signed(data.load("glyphs", n_train=200, n_test=1).train_x)
    P = frequency.radial_spectrum(x)[1:]
    t = frequency.crossover_step(P, linear(1000))
    assert (np.diff(t) <= 0).all()  # eq: ddpm-frequency-regimes
    assert t[0] > 400 and t[-1] < 120
