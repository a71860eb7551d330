"""Section "DALL·E 2": its equations are checked by a second route, in worlds where all is known."""

import numpy as np
import pytest
from normal_world import alpha_bar_of, recording_unet
from scipy import stats
from scipy.linalg import expm
from test_equations_guidance import PI, log_p, mixture, noise_of, numerical_grad, points

from minigen import grad, nn, optim, tensor
from minigen.models.clip.clip import CLIP, ImageEncoder, TextEncoder
from minigen.models.diffusion import unclip
from minigen.models.diffusion.clean import Clean
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.exact import Mixture
from minigen.models.diffusion.guidance import ClassifierFree
from minigen.models.diffusion.schedule import cosine, linear

__all__ = ["mixture"]  # a fixture
RNG = np.random.default_rng


class Table:
    """A sampler from tables: `draw(rng, *given)` returns one sample for one row of `given`."""

    def __init__(self, draw):
        self.draw = draw

    def sample(self, n, shape, rng, *given):
        rows = zip(*(a.numpy() for a in given), strict=True)
        return tensor(np.array([self.draw(rng, *row) for row in rows]).reshape(n, *shape))


def test_two_stages_draw_what_one_would():
    """Six images, each with one of three codes, and two texts have a joint table P(x, y). Sums of
    its entries are the tables of the prior and the decoder."""
    code_of, P = np.array([0, 0, 0, 1, 1, 2]), RNG(0).random((6, 2)) ** 2
    P /= P.sum()
    of_code = np.array([P[code_of == k].sum(0) for k in range(3)])  # P(z, y)

    class Clip:
        def g(self, y):
            return tensor(np.eye(3)[y])

    def prior(rng, g):
        p = of_code[:, g.argmax()]
        return 3 ** 0.5 * np.eye(3)[rng.choice(3, p=p / p.sum())]

    def decoder(rng, z, g):
        assert sorted(z) == pytest.approx([0, 0, 1])
        p = np.where(code_of == z.argmax(), P[:, g.argmax()], 0)
        return rng.choice(6, p=p / p.sum())

    model = unclip.UnCLIP(Clip(), Table(prior), Table(decoder), (1, 1, 1))
    y = np.arange(30_000) % 2
    x, z = (a.numpy() for a in model.sample(y, RNG(1)))
    x = x.ravel()
    assert np.allclose(z, np.eye(3)[code_of[x]])  # eq: dalle2-factorisation
    for k in range(2):
        found, whole = np.bincount(x[y == k], minlength=6), P[:, k] / P[:, k].sum()
        assert stats.chisquare(found, whole * 15_000).pvalue > 0.01  # eq: dalle2-factorisation


class World:
    """Images (1, 2, 2) whose upper row is their code, on the unit circle, and whose lower row is
    normal, with mean B g, which depends on the text, and variance s²."""

    angle, s2 = np.array([0.3, 1.2]), 0.2
    codes = np.array([[0.6, 0.8], [-0.8, 0.6]])
    share = np.array([[0.2, 0.8], [0.7, 0.3]])  # P(z | y), a row for each text
    B = np.array([[0.5, -1.0], [0.25, 0.5]])

    def __init__(self, T):
        self.schedule = cosine(T)
        self.alpha_bar = alpha_bar_of(self.schedule)
        self.priors = [Mixture(share, 2 ** 0.5 * self.codes, [1e-4] * 2, self.schedule)
                       for share in self.share]

    def f(self, x):
        return tensor(x)[:, 0, 0]

    def g(self, y):
        return tensor(np.stack([np.cos(self.angle[y]), np.sin(self.angle[y])], 1))

    def prior(self, z_t, t, g):
        first = np.isclose(g.numpy(), self.g(np.array([0])).numpy()).all(1)
        return tensor(np.where(first[:, None], *(p(z_t, t).numpy() for p in self.priors)))

    def decoder(self, x_t, t, z, g):
        a, x_t = self.alpha_bar[t][:, None], x_t.numpy()[:, 0]
        upper = (x_t[:, 0] - a**0.5 * z.numpy()) / (1 - a)**0.5
        residual = x_t[:, 1] - a**0.5 * g.numpy() @ self.B.T
        lower = (1 - a)**0.5 * residual / (a * self.s2 + 1 - a)
        return tensor(np.stack([upper, lower], 1)[:, None].astype(x_t.dtype))

    def gain(self):
        """How much of x_T's deviation from its mean is left in the image: the product of the
        sampler's steps, which are linear here."""
        out = 1.0
        for before, a in zip(self.alpha_bar[-2::-1], self.alpha_bar[:0:-1], strict=True):
            step = (before * a)**0.5 * self.s2 + ((1 - before) * (1 - a))**0.5
            out *= step / (a * self.s2 + 1 - a)
        return out

    def model(self):
        return unclip.UnCLIP(self, DDPM(self.prior, self.schedule),
                             DDIM(self.decoder, self.schedule), (1, 2, 2))


@pytest.fixture(scope="module")
def world():
    return World(60)


def test_the_prior_and_the_decoder_of_a_perfect_model_draw_images_of_the_text(world):
    n = 6000
    y = np.arange(n) % 2
    x, z = (a.numpy() for a in world.model().sample(y, RNG(0)))
    assert np.allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    assert np.allclose(x[:, 0, 0], z, atol=1e-5)  # eq: dalle2-factorisation
    for k in range(2):
        near = z[y == k] @ world.codes.T
        assert near.max(1).min() > 0.99
        share = (near.argmax(1) == 0).mean()
        assert share == pytest.approx(world.share[k, 0], abs=0.03)  # eq: dalle2-factorisation
        lower = x[y == k, 0, 1]
        mean = world.B @ [np.cos(world.angle[k]), np.sin(world.angle[k])]
        assert np.allclose(lower.mean(0), mean, atol=0.03)  # eq: dalle2-factorisation
        assert np.allclose(np.cov(lower.T), world.s2 * np.eye(2), atol=0.02)
        of_code = [lower[near.argmax(1) == c].mean(0) for c in range(2)]  # independent of the code
        assert np.allclose(*of_code, atol=0.06)


# ------------------------------------------------------------------------------ what z and x_T keep

def test_variations_have_one_code_and_differ_in_the_rest(world):
    z = world.codes[:1]
    x = world.model().variations(z, 4000, RNG(0)).numpy()
    assert x.shape == (4000, 1, 2, 2)
    assert np.allclose(world.f(x).numpy(), z, atol=1e-5)  # eq: dalle2-variations
    x_T = RNG(0).standard_normal((4000, 1, 2, 2), np.float32)
    expected = world.gain() * x_T[:, 0, 1]
    assert np.allclose(x[:, 0, 1], expected, atol=1e-5)  # eq: dalle2-variations
    assert x[:, 0, 1].std(0) == pytest.approx(world.s2 ** 0.5, rel=0.05)


def arc(z_1, z_2, lam):
    """The arc between points of the circle, as complex numbers: z₁ (z₂ / z₁)^λ."""
    z = complex(*z_1) * (complex(*z_2) / complex(*z_1)) ** np.asarray(lam)
    return np.stack([z.real, z.imag], 1)


def test_an_interpolation_moves_the_code_alone(world):
    z_1, z_2, x_T = world.codes[:1], np.array([[0.0, -1.0]]), RNG(1).normal(size=(1, 1, 2, 2))
    x = world.model().interpolation(z_1, z_2, x_T, 5).numpy()
    path = arc(z_1[0], z_2[0], [0, 0.25, 0.5, 0.75, 1])
    assert np.allclose(world.f(x).numpy(), path, atol=1e-6)  # eq: dalle2-interpolation
    rest = world.gain() * x_T[:, 0, 1]
    assert np.allclose(x[:, 0, 1], rest, atol=1e-6)  # eq: dalle2-interpolation


@pytest.mark.parametrize("d", [2, 3, 16])
def test_the_way_between_codes_is_an_arc_of_constant_speed(d):
    z_1, z_2 = (z / np.linalg.norm(z) for z in RNG(d).normal(size=(2, 1, d)))
    z = unclip.slerp(z_1, z_2, np.linspace(0, 1, 9))
    total = np.arccos((z_1 * z_2).sum())
    assert np.allclose(z[[0, -1]], [z_1[0], z_2[0]])  # eq: dalle2-interpolation
    assert np.allclose(np.linalg.norm(z, axis=1), 1)  # eq: dalle2-interpolation
    steps = np.arccos((z[1:] * z[:-1]).sum(1))
    assert np.allclose(steps, total / 8, atol=1e-7)  # eq: dalle2-interpolation
    turn = expm(0.3 * total / np.sin(total) * (z_2.T @ z_1 - z_1.T @ z_2))  # a rotation
    assert np.allclose(unclip.slerp(z_1, z_2, [0.3]), z_1 @ turn.T)  # eq: dalle2-interpolation


def test_the_way_from_a_code_to_itself_stays_there_and_opposite_codes_are_refused():
    z = np.array([[0.6, -0.8]], np.float32)
    path = unclip.slerp(z, z, [0, 0.3, 1])
    assert np.allclose(path, z) and path.dtype == np.float32
    with pytest.raises(ValueError, match="the codes are opposite"):
        unclip.slerp(z, -z, [0.5])


def test_a_text_diff_by_hand():
    """z points east and the texts' difference north, whatever component east they share."""
    z, g_0, g_1 = np.array([[1.0, 0]]), np.array([[0.8, -0.6]]), np.array([[0.8, 0.6]])
    found = unclip.text_diff_slerp(z, g_0, g_1, [0, 1 / 3, 1 / 2, 1])
    expected = [[1, 0], [3**0.5 / 2, 0.5], [0.5**0.5, 0.5**0.5], [0, 1]]
    assert np.allclose(found, expected)  # eq: dalle2-text-diff
    back = unclip.text_diff_slerp(z, g_1, g_0, [1 / 2])
    assert np.allclose(back, [[0.5**0.5, -0.5**0.5]])  # eq: dalle2-text-diff
    g = np.concatenate([g_0, g_1])  # two pairs of texts, each with its own turn
    assert np.allclose(unclip.text_diff_slerp(z, g, g[::-1], [1 / 3, 1 / 2]), [expected[1], *back])


def test_a_text_diff_is_the_slides_sum_brought_back_to_length_1():
    z, g_0, g_1 = (z / np.linalg.norm(z) for z in RNG(4).normal(size=(3, 1, 8)))
    d = g_1 - g_0
    omega = np.arccos((z * d).sum() / np.linalg.norm(d))
    for theta in (0.1, 0.25, 0.5):
        lam = np.sin(theta * omega) / np.sin((1 - theta) * omega) / np.linalg.norm(d)
        edited = z + lam * (g_1 - g_0)
        found = unclip.text_diff_slerp(z, g_0, g_1, [theta])
        assert np.allclose(found, edited / np.linalg.norm(edited))  # eq: dalle2-text-diff


def test_an_image_is_turned_along_a_text_diff_and_keeps_the_rest(world):
    x = np.array([[[[0.6, 0.8], [0.3, -0.4]]]])
    model, c = world.model(), np.array([[0], [1]])
    z, x_T = model.encode(x)
    assert np.allclose(z.numpy(), [[0.6, 0.8]])
    assert np.allclose(model.decode(z, x_T).numpy(), x, atol=1e-3)  # three iterations
    edited = model.text_diff(z, x_T, c[0], c[1], [0, 0.2, 0.4]).numpy()
    d = np.exp(1j * world.angle[1]) - np.exp(1j * world.angle[0])
    path = arc([0.6, 0.8], [(d / abs(d)).real, (d / abs(d)).imag], [0, 0.2, 0.4])
    assert np.allclose(world.f(edited).numpy(), path, atol=1e-5)  # eq: dalle2-text-diff
    assert np.allclose(edited[:, 0, 1], x[:, 0, 1], atol=1e-3)  # eq: dalle2-text-diff


# ---------------------------------------------------------------------------------------- networks

def test_the_decoder_is_told_both_codes_with_the_time():
    seen, embed = [], nn.TimeEmbedding(4, nn.Sinusoidal(4), RNG(0))
    net = unclip.CodeDenoiser(recording_unet(seen), embed, 3, 4, RNG(1))
    z, g, t = *RNG(2).normal(size=(2, 2, 3)).astype(np.float32), np.array([1, 9])
    net(tensor(np.zeros((2, 1, 4, 4), np.float32)), t, tensor(z), tensor(g))
    parts = [layer.linear for layer in (net.image, net.text)]
    (A, a), (B, b) = ((layer.weight.numpy(), layer.bias.numpy()) for layer in parts)
    code_emb = 3**0.5 * (z @ A.T + g @ B.T) + a + b
    assert np.allclose(seen[0][1], embed(t).numpy() + code_emb, atol=1e-5)


def test_the_prior_gives_the_code_and_is_taught_by_its_distance():
    s = linear(40)
    net = unclip.CodePrior(3, D=8, layers=1, heads=2, rng=RNG(0))
    z, g = (a.astype(np.float32) for a in RNG(1).normal(size=(2, 50, 3)))
    loss = DDPM(Clean(net, s, gamma=1), s).loss(z, RNG(2), tensor(g))
    draws = RNG(2)
    t, eps = draws.integers(1, 41, 50), draws.standard_normal(z.shape, np.float32)
    a = alpha_bar_of(s)[t][:, None].astype(np.float32)
    z_t = a**0.5 * z + (1 - a)**0.5 * eps
    z_hat = net(tensor(z_t), t, tensor(g)).numpy()
    assert loss.item() == pytest.approx(((z - z_hat)**2).mean(), rel=1e-4)
    for changed in ((z_t + 1, t, g), (z_t, t[::-1].copy(), g), (z_t, t, g[::-1].copy())):
        other = net(tensor(changed[0]), changed[1], tensor(changed[2])).numpy()
        assert np.abs(other - z_hat).max() > 1e-3


@pytest.mark.parametrize("w", [0.0, 1.5])
def test_guidance_follows_the_sharpened_density(mixture, w):
    s, x, k, t = mixture.schedule, points(), 1, 9
    net = lambda x_t, t, g: mixture(x_t, t, np.where(g.any(1), g.argmax(1), 3))

    def log_sharpened(x):
        log_c = log_p(x, t, s, k) + np.log(PI[k]) - log_p(x, t, s)
        return log_p(x, t, s, k) + w * log_c

    eps = ClassifierFree(net, w, unclip.no_code)(x, t, np.tile(np.eye(3)[k], (5, 1))).numpy()
    expected = noise_of(numerical_grad(log_sharpened, x), t, s)
    assert np.allclose(eps, expected, atol=1e-6)  # eq: classifier-free-guidance
    left = unclip.drop_codes(np.ones((20_000, 3)), 0.1, RNG(0))
    assert set(left.sum(1)) == {0, 3} and (left[:, 0] == 0).mean() == pytest.approx(0.1, abs=0.01)


def test_both_networks_learn_and_the_prior_finds_the_code_of_the_text():
    upright = np.tile(np.array([-1, 1], np.float32), (1, 8, 4))
    x = np.repeat(np.stack([upright.swapaxes(1, 2), upright]), 16, 0)
    y, s = np.repeat([[1], [2]], 16, 0), linear(50)
    clip = CLIP(ImageEncoder((1, 8, 8), 4, (4, 8), RNG(0)), TextEncoder(3, 1, 4, 8, 1, 2, RNG(1)))
    model = unclip.UnCLIP(
        clip, DDPM(Clean(unclip.CodePrior(4, D=16, layers=1, heads=2, rng=RNG(2)), s, gamma=1), s),
        DDIM(Clean(unclip.code_denoiser((1, 8, 8), 4, (8, 8), 16, RNG(3)), s), s), (1, 8, 8))
    opt = optim.Adam(nn.parameters([model.prior.net, model.decoder.net]), lr=1e-2)
    log = []
    for t in range(80):
        loss, parts = model.loss(x, RNG((4, t)), y)
        assert loss.item() == pytest.approx(sum(p.item() for p in parts.values()))
        log.append([parts["prior"].item(), parts["decoder"].item()])
        opt.step(grad(loss, opt.params))
    first, last = np.mean(log[:5], 0), np.mean(log[-5:], 0)
    assert (last < 0.5 * first).all()
    z = model.sample_code(clip.g(y), RNG(5)).numpy()
    f = clip.f(x).numpy()
    assert ((z * f).sum(1) > (z * f[::-1]).sum(1)).mean() > 0.9
    images, _ = model.sample(y[:3], RNG(6))
    assert images.shape == (3, 1, 8, 8)


def test_what_does_not_fit_is_refused(world):
    net = unclip.code_denoiser((1, 4, 4), 3, (8,), 8)
    x, z = tensor(np.zeros((2, 1, 4, 4), np.float32)), tensor(np.zeros((2, 3), np.float32))
    for wrong in (np.zeros((2, 4), np.float32), np.zeros(3, np.float32)):
        with pytest.raises(ValueError, match=r"unclip: codes are .*, expected \(N, 3\)"):
            net(x, np.array([1, 1]), z, tensor(wrong))
    model = world.model()
    for z, x_T in (((3, 2), (2, 1, 2, 2)), ((2,), (2, 1, 2, 2)), ((1, 2), (1, 1, 3, 2))):
        with pytest.raises(ValueError, match=r"codes z .*, expected \(N, d\) and \(N, 1, 2, 2\)"):
            model.decode(np.zeros(z), np.zeros(x_T))
    with pytest.raises(ValueError, match="the two texts have one code"):
        model.text_diff(world.codes[:1], np.zeros((1, 1, 2, 2)), [0], [0], [0.5])
