"""Section "Hybrid approaches": a VAE whose error is measured in a discriminator's features."""

import numpy as np
import pytest

from minigen import grad, gradcheck, nn, optim, tensor
from minigen.dist import Normal
from minigen.models.vae import vae_gan as model
from minigen.tensor import write

RNG = np.random.default_rng


class Known:
    """An rng that returns given arrays as its normal numbers, in turn."""

    def __init__(self, *arrays):
        self.arrays = list(arrays)

    def standard_normal(self, shape, dtype):
        a = self.arrays.pop(0)
        assert a.shape == tuple(shape)
        return a.astype(dtype)


def world():
    """Linear networks: x (N, 3), z (N, 2), D_ℓ(x) = x A (4 numbers), D's logit D_ℓ(x) b."""
    rng = RNG(0)
    A, b, W, V = (rng.normal(size=s) for s in ((3, 4), (4, 1), (2, 3), (3, 4)))
    D = nn.Sequential(*[lambda x: x] * (model.LAYER - 1), lambda x: x @ A, lambda h: h @ b)
    net = model.VAEGAN(lambda x: x @ V / 5, lambda z: z @ W, D, 2, gamma=0.3)
    net.prior = lambda n: Normal(np.zeros((n, 2)), np.zeros((n, 2)))
    x, eps, z_p = rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    return net, (A, b, W, V), x, eps, z_p


def test_the_losses_of_three_players_by_hand():
    net, (A, b, W, V), x, eps, z_p = world()
    found = [loss.item() for loss in net.losses(tensor(x), Known(eps, z_p))]
    likelihood, kl, log_d, fooled = [], [], [], []
    log_sigmoid = lambda a: -np.log1p(np.exp(-a))
    for n in range(5):
        out = x[n] @ V / 5
        mu, logvar = out[:2], out[2:]
        x_tilde, x_p = (mu + np.exp(logvar / 2) * eps[n]) @ W, z_p[n] @ W
        likelihood.append(sum((p - q) ** 2 for p, q in zip(x[n] @ A, x_tilde @ A, strict=True)) / 2)
        kl.append(sum((m * m + np.exp(v) - v - 1) / 2 for m, v in zip(mu, logvar, strict=True)))
        a, a_tilde, a_p = ((y @ A @ b).item() for y in (x[n], x_tilde, x_p))
        log_d.append(log_sigmoid(a) + log_sigmoid(-a_tilde) + log_sigmoid(-a_p))
        fooled.append(log_sigmoid(a_tilde) + log_sigmoid(a_p))
    L_l, encoder = np.mean(likelihood), np.mean(kl) + np.mean(likelihood)
    assert found[0] == pytest.approx(encoder)  # eq: vaegan-feature-likelihood
    for i in (0, 1):
        gradcheck(lambda x, i=i: net.losses(x, Known(eps, z_p))[i], x)
    want = 0.3 * L_l - np.mean(fooled)
    assert found[1] == pytest.approx(want)  # eq: vaegan-feature-likelihood
    assert found[2] == pytest.approx(-np.mean(log_d))


def test_the_error_is_minus_the_normal_log_likelihood_of_the_features():
    net, (A, _, W, V), x, eps, z_p = world()
    encoder, *_ = net.losses(tensor(x), Known(eps, z_p))
    q = net.encode(x)
    h, h_tilde = x @ A, q.sample(Known(eps)).numpy() @ W @ A
    log_p = Normal(h_tilde, np.zeros_like(h)).log_prob(h).numpy().sum(1)
    kl = model.kl_to_prior(q).numpy().mean()
    error = encoder.item() - kl
    constant = 4 * np.log(2 * np.pi) / 2
    assert error == pytest.approx(-log_p.mean() - constant)  # eq: vaegan-feature-likelihood


def test_three_steps_of_one_pass_lower_three_losses():
    net = model.vae_gan((1, 8, 8), 3, 4, rng=RNG(0))
    x = RNG(1).uniform(-1, 1, (6, 1, 8, 8)).astype("f4")
    parts = net.encoder, net.decoder, net.D
    before = net.losses(tensor(x), RNG(2))
    for i, part in enumerate(parts):
        again = model.vae_gan((1, 8, 8), 3, 4, rng=RNG(0))
        params = nn.parameters((again.encoder, again.decoder, again.D)[i])
        optim.SGD(params, 0.01).step(grad(again.losses(tensor(x), RNG(2))[i], params))
        assert again.losses(tensor(x), RNG(2))[i].item() < before[i].item()
        optim.SGD(nn.parameters(part), 0.01).step(grad(before[i], nn.parameters(part)))
    assert net.generate(4, RNG(3)).mean.shape == (4, 1, 8, 8)


def test_the_features_have_a_scale_of_their_own():
    net, x = model.vae_gan((1, 8, 8), 3, 4, rng=RNG(0)), RNG(1).uniform(-1, 1, (6, 1, 8, 8))
    x, found = tensor(x.astype("f4")), []
    for _ in range(2):
        write(net.D[model.LAYER - 2].weight, lambda w: np.multiply(w, 30, out=w))
        found.append([loss.item() for loss in net.losses(x, RNG(2))])
    assert isinstance(net.D[model.LAYER - 1], nn.BatchNorm2d)
    assert found[1] == pytest.approx(found[0], rel=0.01)
