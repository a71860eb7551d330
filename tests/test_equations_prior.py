"""Section "Deep image prior": the most probable image, and a network in place of a prior."""

import numpy as np
import pytest

from minigen import grad, metrics, nn, optim, relu, tensor
from minigen.models.prior import deep_image_prior as dip
from minigen.models.prior import map as restoration

RNG = np.random.default_rng
SIGMA = 0.3


def images(n=6):
    """Candidate images, a noisy version of one of them, and the prior probabilities."""
    x = 0.5 + 0.2 * RNG(0).random((n, 2, 3, 4))  # similar, so that p matters
    p = RNG(1).dirichlet(np.ones(n))
    return x, restoration.degrade(x[2], SIGMA, RNG(2)), p


def bayes(x, x_hat, p):
    """p(x | x̂) by Bayes' rule, with the normal density written out."""
    likelihood = np.exp(-((x_hat - x) ** 2) / (2 * SIGMA**2)) / np.sqrt(2 * np.pi * SIGMA**2)
    joint = likelihood.prod((1, 2, 3)) * p
    return joint / joint.sum()


def test_what_is_given_is_an_image_with_normal_noise():
    x = RNG(0).random((3, 40, 50)).astype(np.float32)
    noise = restoration.degrade(x, np.float64(SIGMA), RNG(1)) - x
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(SIGMA, rel=0.02)  # eq: dip-degradation
    assert abs(noise.mean()) < 0.01 and abs(np.corrcoef(noise.ravel(), x.ravel())[0, 1]) < 0.05


def test_the_most_probable_image():
    x, x_hat, p = images()
    log_likelihoods = restoration.log_likelihood(x_hat, x, SIGMA)
    for prior in RNG(3).dirichlet(np.ones(6), 200):
        best = restoration.map_estimate(x, log_likelihoods, np.log(prior))
        assert np.array_equal(best, x[bayes(x, x_hat, prior).argmax()])  # eq: dip-map
    for sure in range(len(x)):  # a prior that is certain
        prior = np.where(np.arange(len(x)) == sure, 0.0, -1e9)
        assert np.array_equal(restoration.map_estimate(x, log_likelihoods, prior), x[sure])


def test_if_all_images_are_equally_probable_nothing_is_restored():
    x, x_hat, _ = images()
    x = np.concatenate([x, x_hat[None]])
    log_likelihoods = restoration.log_likelihood(x_hat, x, SIGMA)
    prior = restoration.flat(x)
    assert np.array_equal(restoration.map_estimate(x, log_likelihoods, prior), x_hat)
    assert np.ptp(prior) == 0 and prior.shape == (7,)
    assert np.exp(prior).sum() == pytest.approx(1)  # eq: dip-flat-prior
    posterior = np.exp(log_likelihoods + prior)
    equal = bayes(x, x_hat, np.full(7, 1 / 7))
    assert np.allclose(posterior / posterior.sum(), equal)  # eq: dip-flat-prior


def test_the_most_probable_image_has_the_least_energy():
    x, x_hat, p = images()
    E = restoration.neg_log(restoration.log_likelihood(x_hat, x, SIGMA))
    R = restoration.neg_log(np.log(p))
    assert np.allclose(np.exp(-R), p)  # eq: dip-neg-log
    posterior = bayes(x, x_hat, p)
    assert np.allclose(E + R - (E + R).min(), -np.log(posterior / posterior.max()))
    for p in RNG(3).dirichlet(np.ones(6), 200):
        best = restoration.min_energy(x, E, restoration.neg_log(np.log(p)))
        assert np.array_equal(best, x[bayes(x, x_hat, p).argmax()])  # eq: dip-energy
    R = np.where(np.arange(6) == 4, -1e6, 0)
    assert np.array_equal(restoration.min_energy(x, E, R), x[4])  # eq: dip-energy


def test_the_squared_distance_is_the_normal_likelihood_up_to_a_line():
    x, x_hat, _ = images()
    E = restoration.neg_log(restoration.log_likelihood(x_hat, x, SIGMA))
    constant = x[0].size * np.log(2 * np.pi * SIGMA**2) / 2
    distance = restoration.distance(x, x_hat)
    assert np.allclose(distance / (2 * SIGMA**2) + constant, E)  # eq: dip-gaussian-data-term


def test_an_image_is_what_the_network_makes_of_fixed_noise():
    prior = dip.DeepImagePrior((3, 16, 24), (8, 8), 5, RNG(0))
    z = prior.z.numpy().copy()
    assert z.shape == (1, 5, 16, 24) and np.abs(z).max() < 1
    assert z.std() == pytest.approx(3**-0.5, rel=0.05)  # eq: dip-init
    assert abs(z.mean()) < 0.05  # eq: dip-init

    class Upper:  # an rng that returns the third quartile
        uniform = staticmethod(lambda low, high, size: np.full(size, low + 0.75 * (high - low)))
    again = dip.DeepImagePrior((3, 16, 24), (8, 8), 5, RNG(0))
    again.net = None
    again.init(Upper())
    assert (again.z.numpy() == 0.5).all()  # eq: dip-init
    x = prior().numpy()
    assert x.shape == (1, 3, 16, 24) and 0 < x.min() < x.max() < 1
    assert np.array_equal(x, prior.net(tensor(z)).numpy())  # eq: dip-parametrisation
    assert not np.array_equal(x, prior.net(tensor(z[..., ::-1].copy())).numpy())
    opt = optim.Adam(nn.parameters(prior), lr=0.01)
    for _ in dip.restore(prior, lambda x: dip.denoising(x, 0.5), opt, 2):
        pass
    assert np.array_equal(prior.z.numpy(), z)  # eq: dip-parametrisation


def test_the_energies_against_loops():
    x, x_hat = RNG(0).random((2, 1, 2, 4, 6))
    m = (RNG(1).random((1, 2, 4, 6)) < 0.5).astype(float)
    places = list(np.ndindex(x.shape))
    want = np.sum([(x[i] - x_hat[i]) ** 2 for i in places])
    assert dip.denoising(tensor(x), x_hat).item() == pytest.approx(want)  # eq: dip-denoise
    want = np.sum([(x[i] - x_hat[i]) ** 2 for i in places if m[i]])
    assert dip.inpainting(tensor(x), x_hat, m).item() == pytest.approx(want)  # eq: dip-inpaint
    small = RNG(2).random((1, 2, 2, 3))
    want = np.sum([(x[0, c, 2 * i:2 * i + 2, 2 * j:2 * j + 2].mean() - small[0, c, i, j]) ** 2
                   for c in range(2) for i in range(2) for j in range(3)])
    energy = dip.super_resolution(tensor(x), small).item()
    assert energy == pytest.approx(want)  # eq: dip-super-resolution
    phi = nn.Conv2d(2, 3, 3, rng=RNG(3))
    features = lambda a: relu(phi(tensor(a.astype(np.float32)))).numpy()
    want = ((features(x) - features(x_hat)) ** 2).sum()
    energy = dip.feature_inversion(*(tensor(a.astype(np.float32)) for a in (x, x_hat)),
                                   lambda a: relu(phi(a))).item()
    assert energy == pytest.approx(want, rel=1e-4)  # eq: dip-feature-inversion


def little(target, steps, opt=None, seed=0):
    """A small prior fitted to an image (C, 16, 16), with the images and energies along the way."""
    prior = dip.DeepImagePrior(target.shape, (16, 16), 8, RNG(seed))
    opt = (opt or (lambda p: optim.Adam(p, lr=0.01)))(nn.parameters(prior))
    walk = [(x.numpy(), e.item()) for x, e in dip.restore(
        prior, lambda x: dip.denoising(x, target[None]), opt, steps)]
    return prior, [x for x, _ in walk], np.array([e for _, e in walk])


def picture():
    """A bright disc on a brightness ramp: (1, 16, 16)."""
    i, j = np.mgrid[:16, :16]
    return (0.2 + 0.02 * j + 0.5 * ((i - 7) ** 2 + (j - 6) ** 2 < 20))[None].astype(np.float32)


def test_a_step_goes_down_the_gradient():
    target, alpha = picture(), 1e-3
    before = dip.DeepImagePrior(target.shape, (16, 16), 8, RNG(0))
    E = lambda prior: ((prior() - target) ** 2).sum()
    grads = grad(E(before), nn.parameters(before))
    after, x, e = little(target, 1, lambda p: optim.SGD(p, alpha))
    assert e[0] == pytest.approx(E(before).item(), rel=1e-5)  # eq: dip-objective
    assert np.allclose(x[0], before().numpy())
    for name, theta in nn.parameters(before).items():
        updated = nn.parameters(after)[name].numpy()
        want = theta.numpy() - alpha * grads[name].numpy()
        assert np.allclose(updated, want, atol=1e-6)  # eq: dip-gd-step
    assert E(after).item() < E(before).item()  # eq: dip-gd-step


def test_the_descent_must_end_before_the_noise_is_learnt():
    clean = picture()
    given = restoration.degrade(clean, 0.1, RNG(5))
    _, x, e = little(given, 700)
    assert len(x) == 700  # eq: dip-early-stopping
    near = np.array([metrics.psnr(y, clean[None], 1) for y in x])
    best = near.argmax()
    start = metrics.psnr(given[None], clean[None], 1)
    assert near[best] > start + 2 and near[best] > near[-20:].mean() + 2  # eq: dip-early-stopping
    assert 20 < best < 500 and e[-20:].mean() < 0.3 * e[best]  # it goes on to fit x̂


def test_a_picture_taken_with_a_flash_gives_the_outlines_of_a_dark_one():
    flash = np.concatenate([picture(), 1 - picture(), picture() ** 2])
    dark = flash * np.linspace(0.9, 0.4, 16) * np.array([0.9, 0.7, 0.5])[:, None, None]
    given = restoration.degrade(dark, 0.1, RNG(5)).astype(np.float32)
    best = {}
    for name, z in (("flash", flash), ("noise", RNG(1).uniform(-1, 1, flash.shape))):
        prior = dip.FlashPrior(z.astype(np.float32), (16, 16), RNG(0))
        opt = optim.Adam(nn.parameters(prior), lr=0.01)
        walk = dip.restore(prior, lambda x: dip.denoising(x, given[None]), opt, 180)
        best[name] = max(metrics.psnr(x, dark[None], 1) for x, _ in walk)
    assert best["flash"] > best["noise"] + 1.5  # eq: dip-flash-noflash
    assert best["noise"] > metrics.psnr(given[None], dark[None], 1) + 1
    x = prior().numpy()
    assert np.array_equal(x, prior.net(tensor(prior.x_flash)).numpy())  # eq: dip-flash-noflash


def test_half_of_the_pixels_are_dropped():
    m = dip.pixel_drop((3, 60, 50), RNG(0))
    assert set(np.unique(m)) == {0, 1} and (m[0] == m[1]).all() and (m[0] == m[2]).all()
    assert m.mean() == pytest.approx(0.5, abs=0.03)  # eq: dip-pixel-drop
    dropped = 1 - dip.pixel_drop((1, 60, 50), RNG(0), 0.8).mean()
    assert dropped == pytest.approx(0.8, abs=0.03)  # eq: dip-pixel-drop


def test_an_image_is_easier_than_noise():
    clean = picture()
    shown = dip.impedance(clean, 0.1, RNG(0))
    assert np.array_equal(shown["image"], clean)
    assert (shown["noisy"] - clean).std() == pytest.approx(0.1, rel=0.15)
    assert np.array_equal(np.sort(shown["shuffled"], None), np.sort(clean, None))
    assert 0 <= shown["noise"].min() < 0.05 and 0.95 < shown["noise"].max() < 1
    assert abs(np.corrcoef(shown["noise"].ravel(), clean.ravel())[0, 1]) < 0.2
    e = {name: little(x, 21)[2][-1] for name, x in shown.items()}  # early on; any can be learnt
    assert 2 * e["image"] < e["noisy"] < e["shuffled"] / 2  # eq: dip-impedance
    assert e["shuffled"] < e["noise"]  # eq: dip-impedance


def test_pixels_change_places_with_all_their_channels():
    x = RNG(0).random((3, 4, 4))
    pixels = dip.impedance(x, 0.1, RNG(1))["shuffled"].reshape(3, -1).T
    assert sorted(map(tuple, pixels)) == sorted(map(tuple, x.reshape(3, -1).T))
    assert not np.array_equal(pixels, x.reshape(3, -1).T)


def test_a_side_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="by 8, and not both 8, got 28×28"):
        dip.DeepImagePrior((1, 28, 28))
    with pytest.raises(ValueError, match="by 8, and not both 8, got 8×8"):
        dip.DeepImagePrior((1, 8, 8))
    assert dip.DeepImagePrior((1, 8, 16))().shape == (1, 1, 8, 16)
    for side in (5, 64):
        with pytest.raises(ValueError, match="smaller by one whole factor"):
            dip.super_resolution(np.zeros((1, 1, 32, 32)), np.zeros((1, 1, side, side)))
    with pytest.raises(ValueError, match="must lie in \\[0, 1\\], got 50"):
        dip.pixel_drop((1, 8, 8), RNG(0), 50)
    with pytest.raises(TypeError, match="images are uint8"):
        restoration.degrade(np.ones((1, 8, 8), np.uint8), 10, RNG(0))
