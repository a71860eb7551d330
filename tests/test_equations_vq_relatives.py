"""Section "Vector quantisation": two relatives of the VQ-VAE: VQGAN and VQ-VAE-2."""

import numpy as np
import pytest
from small_worlds import all_of

from minigen import grad, nn, optim, tensor
from minigen.models.vae.gaussian_vae import fixed_variance_normal
from minigen.models.vae.vq_vae import VQVAE, Codebook, Prior
from minigen.models.vae.vq_vae_2 import Codebooks, priors, vq_vae_2
from minigen.models.vae.vqgan import VQGAN, vqgan
from minigen.train import descend

RNG = np.random.default_rng


def softmax(s):
    p = np.exp(s - s.max())
    return p / p.sum()


def codebook(e):
    book = Codebook(*np.shape(e), RNG(0))
    nn.astype(book, np.float64)
    book.weight.data[...] = e
    return book


# ----------------------------------------------------------------------------------------- VQGAN

class Times:
    """Multiplies each channel by a number."""

    def __init__(self, *a):
        self.weight = tensor(np.array(a).reshape(1, -1, 1, 1), True)

    def __call__(self, x):
        return self.weight * x


def log_sigmoid(a):
    return -np.log1p(np.exp(-a))


def discriminator(x):
    """A known nonlinear discriminator: a logit for each column."""
    return (x * x * x - 0.8 * x + 0.3).sum(axis=(1, 2))


def small_vqgan(e, **options):
    """A VQGAN with a known encoder, decoder (two numbers each) and discriminator."""
    vae = VQVAE(nn.Sequential(Times(1.5, 0.8)), nn.Sequential(Times(0.7, -0.4)), codebook(e),
                Prior(len(e), (2, 3), 6, 1, RNG(4)), fixed_variance_normal, beta=0.25)
    nn.astype(vae, np.float64)
    return VQGAN(vae, discriminator, **options)


E, X = RNG(3).normal(size=(4, 2)), RNG(5).normal(size=(6, 2, 2, 3))
Z = X * np.array([1.5, 0.8]).reshape(2, 1, 1)
Z_Q = np.moveaxis(E[np.linalg.norm(Z[:, None] - E[:, :, None, None], axis=2).argmin(1)], -1, 1)


def losses_of(a):
    """The two losses that λ compares, for x̂ = a z_q, where a are the decoder's numbers."""
    x_hat = np.reshape(a, (2, 1, 1)) * Z_Q
    return ((X - x_hat) ** 2).sum() / 6, -log_sigmoid(discriminator(x_hat)).mean()


def grad_norm(i, a, h=1e-5):
    """The norm of the gradient of the i-th of these losses, by finite differences."""
    return np.linalg.norm([(losses_of(a + step)[i] - losses_of(a - step)[i]) / (2 * h)
                           for step in h * np.eye(2)])


@pytest.mark.parametrize("delta", [1e-6, 0.5])
def test_the_two_players_of_vqgan_by_hand(delta):
    model = small_vqgan(E, delta=delta)
    a = np.array([0.7, -0.4])
    q_loss, d_loss, parts = model.losses(tensor(X))
    real, fake = [], []
    for n, j in np.ndindex(6, 3):
        image, made = X[n, :, :, j], a[:, None] * Z_Q[n, :, :, j]
        real.append(np.log(1 / (1 + np.exp(-np.sum(image ** 3 - 0.8 * image + 0.3)))))
        fake.append(np.log(1 - 1 / (1 + np.exp(-np.sum(made ** 3 - 0.8 * made + 0.3)))))
    assert d_loss.item() == pytest.approx(-np.mean(real) - np.mean(fake))  # eq: vqgan-adv-term

    distance, fooled = losses_of(a)
    L_VQ = distance + 1.25 * ((Z - Z_Q) ** 2).sum() / 6
    lam = grad_norm(0, a) / (grad_norm(1, a) + delta)
    assert abs(lam - 1) > 0.1  # or a missing λ would go unnoticed
    assert parts["lam"].item() == pytest.approx(lam, rel=1e-5)
    Q = q_loss.item() - np.log(np.pi) / 2 * X[0].size  # without the constant
    assert Q == pytest.approx(L_VQ + lam * fooled, rel=1e-5)  # eq: vqgan-objective


def test_both_terms_pull_equally_hard_at_the_last_layer():
    model = vqgan((1, 8, 8), 4, 3, 4, RNG(0))
    nn.astype([model.vq_vae, model.D], np.float64)
    x = RNG(1).uniform(-1, 1, (5, 1, 8, 8))
    last, vae = model.vq_vae.decoder[-1].weight, model.vq_vae
    parts = vae.autoencode(tensor(x))[3]
    distance = np.linalg.norm(grad(parts["reconstruction"], last).numpy())
    both = grad(model.losses(tensor(x))[0], last).numpy()
    adversarial = both - grad(parts["reconstruction"], last).numpy()
    assert np.linalg.norm(adversarial) == pytest.approx(distance, rel=1e-3)  # eq: vqgan-objective


def test_the_slide_commits_twice():
    """∂/∂E(x) of β ‖sg[z_q] − E(x)‖² is 2 β (E(x) − z_q); the printed sum has the term twice."""
    def pull(model):
        """∂/∂a of L_VQ without ‖x − x̂‖², where a are the encoder's numbers, E(x) = a x."""
        _, _, L_VQ, parts = model.vq_vae.autoencode(tensor(X))
        return grad(L_VQ - parts["reconstruction"], model.vq_vae.encoder[0].weight).numpy().ravel()
    model, printed = small_vqgan(E), small_vqgan(E)
    model.vq_vae.beta, printed.vq_vae.beta = 1.0, 2.0  # the slide's 𝓛_VQ, and with its second term
    once = (2 * (Z - Z_Q) * X).sum((0, 2, 3)) / 6
    assert np.allclose(pull(model), once)
    assert np.allclose(pull(printed), 2 * once)  # slide error: 5


class Bins:
    """A discriminator of images of one colour: a logit for each of K colours."""

    def __init__(self, colours):
        self.colours, self.logits = np.asarray(colours), tensor(np.zeros(len(colours)), True)

    def __call__(self, x):
        x = x.numpy() if hasattr(x, "numpy") else x
        which = abs(x[:, 0, 0, :1] - self.colours).argmin(1)
        return tensor(np.eye(len(self.colours))[which]) @ self.logits


@pytest.mark.parametrize("words", [[0.2, 0.9], [0.2, 0.6]])
def test_the_best_discriminator_measures_what_quantisation_leaves(words):
    """max_D L_GAN = 2 JSD(p_x, p_x̂) − log 4, least when every image is in the dictionary."""
    colours, p = np.array([0.2, 0.6, 0.9]), np.array([3, 0, 5]) / 8
    x = np.repeat(colours, [3, 0, 5]).reshape(8, 1, 1, 1)
    same = lambda x: x
    vae = VQVAE(same, same, codebook(np.reshape(words, (2, 1))), Prior(2, (1, 1), 4, 1, RNG(0)),
                fixed_variance_normal)
    nn.astype(vae, np.float64)
    x_hat = np.array(words)[abs(x.ravel()[:, None] - words).argmin(1)]
    q = np.array([(x_hat == colour).mean() for colour in colours])
    model = VQGAN(vae, Bins(colours))
    model.adaptive_weight = lambda *losses: 0.0  # there is no decoder to balance
    opt = optim.Adam([model.D.logits], 0.3)
    for _ in range(150):
        d_loss = model.losses(tensor(x))[1]
        opt.step(grad(d_loss, opt.params))
    half = (p + q) / 2
    js = sum(a @ np.log(np.where(a > 0, a, 1) / np.where(a > 0, half, 1)) for a in (p, q)) / 2
    assert -d_loss.item() == pytest.approx(2 * js - np.log(4), abs=2e-3)  # eq: vqgan-adv-term


def test_a_small_vqgan_learns():
    model = vqgan((1, 8, 8), 4, 3, 4, RNG(0))
    x = np.full((16, 1, 8, 8), -1, np.float32)
    x[:8, :, :4], x[8:, :, :, :4] = 1, 1
    vae = model.vq_vae
    vae.codebook.init_from(vae.encoder(tensor(x)), RNG(1))
    opt_q = optim.Adam(nn.parameters([vae.encoder, vae.codebook, vae.decoder]), 1e-2)
    opt_d = optim.Adam(nn.parameters(model.D), 1e-3)
    distances = []
    for _ in range(60):
        distances.append(vae.autoencode(tensor(x))[3]["reconstruction"].item())
        q_loss, d_loss, _ = model.losses(tensor(x))
        descend(opt_q, q_loss)
        descend(opt_d, d_loss)
    constant = np.log(np.pi) / 2 * 64
    assert distances[-1] - constant < (distances[0] - constant) / 2
    assert vae.generate(5, RNG(2)).mean.shape == (5, 1, 8, 8)


# -------------------------------------------------------------------------------------- VQ-VAE-2

TOP, BOTTOM = all_of(2, 1, 2), all_of(2, 2, 4)


@pytest.fixture
def pair():
    """Priors over 2 top words and 8 bottom words, each one of two, far from uniform."""
    both = priors(2, (2, 4), 8, 1, RNG(6))
    for p in nn.parameters(both).values():
        p.data += (0.6 * RNG(7).normal(size=p.shape)).astype("f4")
    return both


def table(pair):
    """The probabilities of all pairs: (tops, bottoms)."""
    every = np.repeat(TOP, len(BOTTOM), 0), np.tile(BOTTOM, (len(TOP), 1, 1))
    return np.exp(pair.log_prob(every).numpy().astype(float)).reshape(len(TOP), len(BOTTOM))


def test_all_pairs_of_grids_together_are_certain(pair):
    p = table(pair)
    assert p.sum() == pytest.approx(1, abs=1e-5) and p.max() > 0.02  # eq: vqvae2-hierarchy


def test_the_coarse_words_come_first_and_the_fine_ones_depend_on_them(pair):
    """p(z_top) p(z_bottom | z_top) word by word, from scores given no later word."""
    p, chain = table(pair), np.ones((len(TOP), len(BOTTOM)))
    for a, top in enumerate(TOP):
        for i in range(2):
            seen = np.where(np.arange(2).reshape(1, 2) < i, top, 0)
            chain[a] *= softmax(pair.top.scores(seen[None]).numpy()[0, :, 0, i])[top[0, i]]
        tops = np.repeat(top[None], len(BOTTOM), 0)
        for i in range(8):
            seen = np.where(np.arange(8).reshape(2, 4) < i, BOTTOM, 0)
            s = pair.bottom.scores(seen, tops).numpy().reshape(-1, 2, 8)[:, :, i]
            chain[a] *= [softmax(row)[k] for row, k in zip(s, BOTTOM.reshape(-1, 8)[:, i],
                                                           strict=True)]
    assert np.allclose(p, chain, rtol=1e-3)  # eq: vqvae2-hierarchy
    given = p / p.sum(1, keepdims=True)
    assert abs(given[0] - given[3]).sum() > 0.5  # the fine words do depend on them


def test_pairs_are_drawn_as_often_as_they_are_probable(pair):
    top, bottom = pair.sample(20_000, RNG(8))
    a, b = top.reshape(-1, 2) @ [2, 1], bottom.reshape(-1, 8) @ 2 ** np.arange(7, -1, -1)
    found = np.bincount(256 * a + b, minlength=1024)
    p = table(pair)
    error = abs(found / 20_000 - p.ravel())
    assert np.all(error < 5 * np.sqrt(p.ravel() / 20_000) + 5e-4)  # eq: vqvae2-hierarchy
    left = found.reshape(4, 2, 128).sum(2) / found.reshape(4, 256).sum(1, keepdims=True)
    want = p.reshape(4, 2, 128).sum(2) / p.sum(1, keepdims=True)
    assert np.allclose(left, want, atol=0.05)  # the first fine word, given the coarse ones


def test_every_grid_gets_its_nearest_words_the_fine_one_beside_the_coarse():
    """E_top averages 2×2 vectors; E_bottom gives what the coarse words leave."""
    e, f = RNG(0).normal(size=(3, 2)), RNG(1).normal(size=(5, 2))
    h = RNG(2).normal(size=(3, 2, 4, 6))
    E_top = lambda h: h.reshape(3, 2, 2, 2, 3, 2).mean(axis=(3, 5))
    books = Codebooks(codebook(e), codebook(f), E_top, lambda h: h[:, 2:] - h[:, :2])
    (top, bottom), z, distance, commitment = books.quantise(tensor(h, True))
    total = 0
    for n, i, j in np.ndindex(3, 4, 6):
        about = h[n, :, i // 2 * 2:i // 2 * 2 + 2, j // 2 * 2:j // 2 * 2 + 2].mean((1, 2))
        coarse = ((about - e) ** 2).sum(1)
        fine = ((h[n, :, i, j] - e[coarse.argmin()] - f) ** 2).sum(1)
        total += (coarse.min() / 4 + fine.min()) / 3
        assert (top[n, i // 2, j // 2], bottom[n, i, j]) == (coarse.argmin(), fine.argmin())
        words = np.concatenate([e[coarse.argmin()], f[fine.argmin()]])
        assert np.allclose(z.numpy()[n, :, i, j], words)
    assert np.allclose(books((top, bottom)).numpy(), z.numpy())
    assert distance.item() == pytest.approx(total) == commitment.item()


def test_a_small_vq_vae_2_learns_and_draws():
    model = vq_vae_2((1, 8, 8), K=2, D=3, rng=RNG(0))
    x = np.zeros((16, 1, 8, 8), np.float32)
    x[:8, :, :4], x[8:, :, :, :4] = 1, 1
    model.codebook.init_from(model.encoder(tensor(x)), RNG(1))
    opt, losses = optim.Adam(nn.parameters(model), 3e-3), []
    for _ in range(60):
        loss, _ = model.loss(x)
        losses.append(loss.item())
        opt.step(grad(loss, opt.params))
    assert losses[-1] < losses[0] / 2
    top, bottom = model.encode(x)
    assert top.shape == (16, 1, 1) and bottom.shape == (16, 2, 2)
    x_given_k, of_k = (p.numpy() for p in model.log_joint(x))
    assert -(x_given_k + of_k).mean() < losses[0] / 2
    assert model.generate(5, RNG(2)).mean.shape == (5, 1, 8, 8)
    with pytest.raises(ValueError, match="divisible by 8, got 8×12"):
        vq_vae_2((1, 8, 12))
