"""The metrics by which models are compared: each formula is checked by a second route."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

import minigen
from minigen import metrics, tensor

RNG = np.random.default_rng


# Scores of sets of images ------------------------------------------------------------------------


def test_inception_score_is_the_exponential_of_a_mutual_information():
    # I(x; y) = H(y) − H(y|x), whereas the definition averages KL(p(y|x) ‖ p(y))
    p = RNG(0).dirichlet(np.full(7, 0.3), 200)
    information = scipy.stats.entropy(p.mean(0)) - scipy.stats.entropy(p, axis=1).mean()
    assert metrics.inception_score(p) == pytest.approx(math.exp(information))  # eq: inception-score
    assert 1.5 < metrics.inception_score(p) < 7


def test_inception_score_between_its_extremes():
    assert metrics.inception_score(np.eye(10)[np.arange(50) % 10]) == pytest.approx(10)
    assert metrics.inception_score(np.eye(10)[np.full(50, 3)]) == pytest.approx(1)  # one mode
    assert metrics.inception_score(np.full((50, 10), 0.1)) == pytest.approx(1)  # unsure
    for k in (2, 5):
        assert metrics.inception_score(np.eye(10)[np.arange(50) % k]) == pytest.approx(k)
    assert np.array_equal(metrics.class_shares(np.eye(4)[[0, 0, 2, 1]]), [0.5, 0.25, 0.25, 0])


def test_frechet_distance_against_the_root_of_the_product():
    rng = RNG(1)
    a = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))
    b = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    direct = np.linalg.norm(a.mean(0) - b.mean(0)) ** 2 + np.trace(cov_a + cov_b - 2 * root.real)
    assert metrics.frechet_distance(a, b) == pytest.approx(direct, rel=1e-9)  # eq: fid
    assert metrics.frechet_distance(b, a) == pytest.approx(direct, rel=1e-9)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_diagonal_normals_is_that_of_their_deviations():
    # (Σ_a Σ_b)^½ = diag(s_a s_b): the distance is ‖μ_a − μ_b‖² + ‖s_a − s_b‖²
    rng = RNG(2)
    mu_a, mu_b, s_a, s_b = rng.normal(size=4), rng.normal(size=4), rng.random(4), rng.random(4)
    z = rng.normal(size=(2000, 4))
    z = np.linalg.qr(z - z.mean(0))[0] * math.sqrt(1999)  # mean 0 and covariance 1, exactly
    closed = ((mu_a - mu_b) ** 2).sum() + ((s_a - s_b) ** 2).sum()
    found = metrics.frechet_distance(mu_a + s_a * z, mu_b + s_b * z[::-1])
    assert found == pytest.approx(closed)
    drawn = (mu + s * rng.normal(size=(100_000, 4)) for mu, s in ((mu_a, s_a), (mu_b, s_b)))
    assert metrics.frechet_distance(*drawn) == pytest.approx(closed, rel=0.02)


def scene(n, mu, sigma, rng):
    """Noise images with 3×3 objects at various places, whose pixels are drawn from a normal."""
    x = rng.normal(0, 9, (n, 2, 8, 8))
    boxes = []
    for i in range(n):
        for top in (0, 4):
            left = rng.integers(0, 6)
            x[i, :, top:top + 3, left:left + 3] = rng.normal(mu, sigma, (2, 3, 3))
            boxes.append((i, top, left, top + 3, left + 3))
    return x, boxes


def test_scenefid_sees_the_objects_and_nothing_else():
    real, made = scene(40, 0.0, 1.0, RNG(0)), scene(40, 0.7, 1.5, RNG(1))
    crops = [np.stack([x[n, :, t:b, l:r].ravel() for n, t, l, b, r in boxes])
             for x, boxes in (real, made)]
    covs = [np.cov(c.T) for c in crops]
    want = ((crops[0].mean(0) - crops[1].mean(0)) ** 2).sum() + np.trace(
        covs[0] + covs[1] - 2 * scipy.linalg.sqrtm(covs[0] @ covs[1]).real)
    found = metrics.scene_fid(lambda x: x.reshape(len(x), -1), real, made, 3)
    assert found == pytest.approx(want, rel=1e-6)  # eq: scenefid
    other = real[0] + 5  # another background
    for n, t, l, b, r in real[1]:
        other[n, :, t:b, l:r] = real[0][n, :, t:b, l:r]
    same = metrics.scene_fid(lambda x: x.reshape(len(x), -1), real, (other, real[1]), 3)
    assert same == pytest.approx(0, abs=1e-9)  # eq: scenefid


def test_objects_are_cut_out_and_brought_to_one_size():
    x = np.zeros((2, 1, 6, 6), np.float32)
    x[1, 0, 1:3, 2:6] = 7
    crops = metrics.crop_boxes(x, [(1, 1, 2, 3, 6), (0, 0, 0, 6, 6)], 5)
    assert crops.shape == (2, 1, 5, 5) and (crops[0] == 7).all() and (crops[1] == 0).all()
    for box in ((2, 0, 0, 1, 1), (0, 3, 0, 3, 2), (0, 0, 0, 7, 2)):
        with pytest.raises(ValueError, match="is not inside images"):
            metrics.crop_boxes(x, [box], 5)


def test_words_in_use_and_their_perplexity():
    k = RNG(2).choice(7, p=[0, 0.5, 0.25, 0.125, 0.125, 0, 0], size=(50, 40, 40))
    used, perplexity = metrics.codebook_usage(k, 7)
    assert used == 4 and perplexity == pytest.approx(2 ** 1.75, rel=5e-3)  # 1.75 bits
    assert metrics.codebook_usage(np.arange(12).reshape(3, 4), 20) == (12, pytest.approx(12))
    assert metrics.codebook_usage(np.full((2, 2), 5), 9) == (1, 1.0)


def test_frechet_distance_of_few_images_is_finite():
    # with fewer images than features, covariances are singular; only the images' span matters
    rng = RNG(3)
    a, b = rng.normal(size=(5, 64)), 1 + rng.normal(size=(8, 64))
    basis = np.linalg.qr(np.concatenate([a, b]).T)[0]
    d = metrics.frechet_distance(a, b)
    assert d == pytest.approx(metrics.frechet_distance(a @ basis, b @ basis)) and d > 64
    zeros = np.zeros((4, 64))
    assert metrics.frechet_distance(a, zeros) == pytest.approx(
        (a.mean(0) ** 2).sum() + a.var(0, ddof=1).sum())


def test_nearest_takes_bytes_and_floats():
    with pytest.raises(TypeError, match="images are int64, expected uint8 or floats"):
        metrics.nearest(np.ones((2, 4), int), np.ones((2, 4)))


def test_nearest_finds_the_same_image_beside_one_that_is_off_by_a_bit():
    for seed in range(20):
        x = RNG(seed).integers(100, 256, (1, 1, 28, 28)).astype(np.uint8)
        other = x.copy()
        other[0, 0, seed, seed] ^= 1
        distance, index = metrics.nearest(x, np.concatenate([other, x]))
        assert (distance, index) == (0, 1) and distance.dtype == np.float32


def test_nearest_against_brute_force():
    rng = RNG(4)
    x, y = (rng.integers(0, 256, (n, 1, 5, 5), np.uint8) for n in (30, 250))
    x[3] = y[77]
    distance, index = metrics.nearest(x, y, block=100)
    every = np.array([[np.linalg.norm((a.astype(float) - b) / 255) for b in y] for a in x])
    assert np.allclose(distance, every.min(1), atol=1e-6)  # eq: nearest-neighbour-check
    assert np.array_equal(index, every.argmin(1)) and index[3] == 77 and distance[3] == 0
    assert np.array_equal(metrics.nearest(x / np.float32(255), y)[1], index)
    with pytest.raises(ValueError, match=r"images are \(30, 1, 5, 4\), training images"):
        metrics.nearest(x[..., 1:], y)


def test_sharpness_is_the_mean_step_to_the_neighbour():
    rows, columns = np.indices((5, 7))
    assert metrics.sharpness((3 * rows - 4 * columns)[None, None] / 2) == pytest.approx(1.75)
    assert metrics.sharpness(np.ones((2, 3, 4, 4))) == 0
    assert metrics.sharpness(np.array([[[[0, 10], [5, 0]]]], np.uint8)) == 7.5
    for shape in ((3, 4, 4), (3, 1, 1, 4), (0, 1, 4, 4)):
        with pytest.raises(ValueError, match=r"sharpness: images are .*, expected \(N, C, H, W\)"):
            metrics.sharpness(np.ones(shape))


def test_patches_are_the_squares_of_an_image():
    x = RNG(20).random((2, 3, 4, 6))
    want = [x[n, :, i:i + 2, j:j + 2].ravel() for n in range(2) for i in (0, 2) for j in (0, 2, 4)]
    assert np.array_equal(metrics.patches(x, 2), want)
    want = [x[n, :, i:i + 2, j:j + 2].ravel() for n in range(2) for i in (0, 1, 2)
            for j in range(5)]
    assert np.array_equal(metrics.patches(x, 2, 1), want)
    for side, step in ((4, 4), (2, 3), (5, 1)):
        with pytest.raises(ValueError, match=rf"expected sides of {side} \+ k · {step}"):
            metrics.patches(x, side, step)
    with pytest.raises(ValueError, match=r"patches: images are \(3, 4, 6\), expected \(N, C"):
        metrics.patches(x[0], 2)


# Scores of pairs of images -----------------------------------------------------------------------


def test_psnr_of_a_known_error():
    rng = RNG(5)
    x, sign = rng.random((3, 2, 6, 6)), rng.choice([-1, 1], (3, 2, 6, 6))
    off = np.array([0.1, 0.01, 0.001])[:, None, None, None]  # 20, 40 and 60 dB at peak 1
    assert metrics.psnr(x, x + off * sign, 1) == pytest.approx(40)  # eq: psnr
    # a tenfold error costs 20 dB; as bytes, with peak 255, the result is the same
    assert metrics.psnr(255 * x, 255 * (x + off * sign), 255) == pytest.approx(40)
    assert metrics.psnr(x, x + 10 * off * sign, 1) == pytest.approx(20)
    assert metrics.psnr(x, x, 1) == math.inf


def test_ssim_against_a_loop_over_windows():
    rng = RNG(6)
    x = rng.random((2, 3, 14, 13))
    y = 0.7 * x + 0.2 * rng.random(x.shape) + 0.1
    r = np.arange(11) - 5
    w = np.exp(-(r[:, None] ** 2 + r ** 2) / (2 * 1.5 ** 2))
    w /= w.sum()
    c1, c2 = 0.01 ** 2, 0.03 ** 2
    values = []
    for a, b in zip(x.reshape(-1, 14, 13), y.reshape(-1, 14, 13), strict=True):
        for i in range(4):
            for j in range(3):
                a_, b_ = a[i:i + 11, j:j + 11], b[i:i + 11, j:j + 11]
                mu_a, mu_b = (w * a_).sum(), (w * b_).sum()
                cov = (w * (a_ - mu_a) * (b_ - mu_b)).sum()
                var_a, var_b = (w * (a_ - mu_a) ** 2).sum(), (w * (b_ - mu_b) ** 2).sum()
                luminance = (2 * mu_a * mu_b + c1) / (mu_a ** 2 + mu_b ** 2 + c1)
                values.append(luminance * (2 * cov + c2) / (var_a + var_b + c2))
    assert metrics.ssim(x, y, 1) == pytest.approx(np.mean(values), rel=1e-9)  # eq: ssim
    assert metrics.ssim(255 * x, 255 * y, 255) == pytest.approx(np.mean(values), rel=1e-9)
    assert metrics.ssim(x, x, 1) == pytest.approx(1)
    # flat images differ only in their means
    flat = np.full((1, 1, 11, 11), 0.2)
    expected = (2 * 0.2 * 0.6 + c1) / (0.2 ** 2 + 0.6 ** 2 + c1)
    assert metrics.ssim(flat, flat + 0.4, 1) == pytest.approx(expected)


# Likelihoods -------------------------------------------------------------------------------------


class Pixels:
    """Independent pixels with levels 0 to 3, whose probabilities depend on a label."""

    p = tensor(np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]], np.float32))

    def log_prob(self, x, y):
        """log p(x | y): (N,)."""
        return minigen.log(self.p[y[:, None], x.reshape(len(x), -1)]).sum(1)


def test_nll_of_images_drawn_from_the_model_is_its_entropy():
    rng = RNG(7)
    y = rng.integers(0, 2, 3000)
    x = np.stack([rng.choice(4, (1, 4, 4), p=p / p.sum())
                  for p in Pixels.p.numpy().astype(float)[y]]).astype(np.uint8)
    nats = metrics.nll(Pixels(), x, y, batch=700)
    by_hand = -np.mean([sum(math.log(Pixels.p.numpy()[k, v]) for v in image.ravel())
                        for image, k in zip(x, y, strict=True)])
    assert nats == pytest.approx(by_hand, rel=1e-5)
    entropy = scipy.stats.entropy(Pixels.p.numpy()[y], axis=1).mean() * 16
    assert nats == pytest.approx(entropy, rel=0.02)


class Sums:
    """A model with known bounds: multiples of a, the sum of an image times its y."""

    def elbo(self, x, rng, y):
        a = x.sum((1, 2, 3)) * y
        return a - 2 * a, a, 2 * a

    def log_prob(self, x, rng, y, K):
        return -K * x.sum((1, 2, 3)) * y


def test_bounds_on_the_likelihood_are_means_over_all_images():
    x, y = RNG(8).random((7, 1, 2, 2)), np.arange(7.0)
    a = np.mean([image.sum() * k for image, k in zip(x, y, strict=True)])
    assert metrics.neg_elbo(Sums(), x, y, batch=3) == pytest.approx((a, -a, 2 * a))
    assert metrics.iw_nll(Sums(), x, y, K=4, batch=3) == pytest.approx(4 * a)


def test_bits_per_dim_of_fair_levels_is_their_number_of_bits():
    # 256 equally likely levels: 8 bits for each value, however many there are
    nats = -3 * 4 * 4 * math.log(1 / 256)
    assert metrics.bits_per_dim(nats, 3 * 4 * 4) == pytest.approx(8)  # eq: bits-per-dim
    assert metrics.bits_per_dim(math.log(2), 1) == pytest.approx(1)


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("call, message", [
    (lambda: metrics.inception_score(np.zeros(10)), r"expected one row .* got \(10,\)"),
    (lambda: metrics.inception_score(RNG(0).normal(size=(4, 10))), "must be probabilities"),
    (lambda: metrics.inception_score(np.full((4, 10), np.nan)), "not finite"),
    (lambda: metrics.frechet_distance(np.ones((1, 3)), np.ones((4, 3))), "at least 2"),
    (lambda: metrics.frechet_distance(np.ones((5, 3)), np.ones((4, 2))), r"\(5, 3\) and \(4, 2\)"),
    (lambda: metrics.codebook_usage([0, 5], 3), "expected integers from 0 to 2, got 0 to 5"),
    (lambda: metrics.codebook_usage([-1], 3), "expected integers from 0 to 2, got -1 to -1"),
    (lambda: metrics.codebook_usage([], 3), "codebook_usage: expected integers from 0 to 2, got n"),
    (lambda: metrics.nearest(np.ones((0, 1, 4, 4)), np.ones((2, 1, 4, 4))), "one or more of both"),
    (lambda: metrics.psnr(np.ones((1, 1, 4, 4)), np.ones((1, 1, 4, 5)), 1), "one shape"),
    (lambda: metrics.ssim(np.ones((1, 1, 8, 8)), np.ones((1, 1, 8, 8)), 1), "smaller than the"),
])
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
