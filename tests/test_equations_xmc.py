"""XMC-GAN's loss is checked by a second route, and makes the generator heed its sentences."""

import numpy as np
import pytest

from minigen import gradcheck, nn, optim, tensor
from minigen.models.gan.gan import algorithm_1, fully_connected
from minigen.models.text_to_image.xmc_gan import sentence_loss, xmc_gan

RNG = np.random.default_rng


def by_hand(x, s, tau):
    """The formula, pair by pair."""
    cos = lambda a, b: (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    losses = [np.log(sum(np.exp((cos(x[i], s[j]) - cos(x[i], s[i])) / tau) for j in range(len(s))))
              for i in range(len(x))]
    return np.mean(losses)


def test_the_contrastive_loss_of_images_and_sentences():
    x, s = RNG(0).normal(size=(5, 3)), 2 * RNG(1).normal(size=(5, 3))
    for tau in (0.1, 1.0):
        loss = sentence_loss(tensor(x), tensor(s), tau).item()
        assert loss == pytest.approx(by_hand(x, s, tau))  # eq: xmc-contrastive
    with pytest.raises(ValueError, match=r"\(3, 5\), expected \(N, N\)"):
        sentence_loss(tensor(x[:3]), tensor(s), 1.0)
    assert sentence_loss(tensor(x), tensor(x), 0.01).item() < 0.01
    gradcheck(lambda x: sentence_loss(x, tensor(s), 0.5), x)


def test_the_loss_stands_beside_that_of_the_gan():
    game, rng = xmc_gan((1, 16, 16), 4, 3, width=2, rng=RNG(0)), RNG(1)
    x, s = (rng.normal(size=(6, *shape)).astype(np.float32) for shape in ((1, 16, 16), (3,)))
    fake = game.generate(6, RNG(2), s)
    sigma = lambda a: 1 / (1 + np.exp(-a.numpy()))
    D = lambda x: sigma(game.D(x, s))
    codes = lambda x: game.E(x).numpy()
    V = np.mean(np.log(D(tensor(x)))) + np.mean(np.log(1 - D(fake)))
    d_loss = game.d_loss(tensor(x), RNG(2), s).item()
    real_loss = by_hand(codes(tensor(x)), s, 0.1)
    assert d_loss == pytest.approx(-V + real_loss, rel=1e-4)  # eq: xmc-contrastive
    g_loss, fake_loss = game.g_loss(6, RNG(2), s).item(), by_hand(codes(fake), s, 0.1)
    want = -np.mean(np.log(D(fake))) + fake_loss
    assert g_loss == pytest.approx(want, rel=1e-4)  # eq: xmc-contrastive


class Deaf:
    """A discriminator that ignores the sentence."""

    def __init__(self, net):
        self.net = net

    def __call__(self, x, s):
        return self.net(x)


@pytest.mark.parametrize("lam, heeds", [(0.0, False), (1.0, True)])
def test_the_loss_makes_the_generator_heed_the_sentence(lam, heeds):
    """Four images with a bright corner and a sentence each; D judges the images alone."""
    corners = np.full((4, 1, 8, 8), -0.5, np.float32)
    for k, (i, j) in enumerate(((0, 0), (0, 4), (4, 0), (4, 4))):
        corners[k, :, i:i + 4, j:j + 4] = 0.5
    sentences = RNG(1).normal(size=(4, 5)).astype(np.float32)
    game = xmc_gan((1, 8, 8), 4, 5, width=8, rng=RNG(2))
    game.D, game.lam = Deaf(fully_connected((1, 8, 8), 4, 64, rng=RNG(10)).D), lam

    def minibatch(i):
        k = RNG((2, i)).permutation(np.arange(16) % 4)
        return tensor(corners[k]), sentences[k]

    parts = ({"D": game.D, "E": game.E}, game.G)
    opts = [optim.Adam(nn.parameters(part), lr=2e-3, betas=(0.5, 0.999)) for part in parts]
    step = algorithm_1(game, *opts, minibatch)
    for t in range(300):
        step(t, RNG((3, t)))
    k = np.arange(40) % 4
    drawn = game.sample(40, RNG(4), sentences[k]).numpy()
    right = (((drawn[:, None] - corners) ** 2).sum((2, 3, 4)).argmin(1) == k).mean()
    assert right > 0.9 if heeds else right < 0.5
