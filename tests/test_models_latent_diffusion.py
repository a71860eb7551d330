"""Latent diffusion: both stages' losses from the formulas, its attention against NumPy, and that
samples fit their texts."""

import numpy as np
import pytest

from minigen import dist, grad, nn, optim, tensor
from minigen.dist import Normal
from minigen.models.clip.clip import TextEncoder
from minigen.models.diffusion import clean
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.glide import encode_text
from minigen.models.diffusion.guidance import ClassifierFree
from minigen.models.diffusion.latent_diffusion import (
    Autoencoder,
    LatentDiffusion,
    SpatialTransformer,
    autoencoder,
    latent_denoiser,
)
from minigen.models.diffusion.schedule import linear, respaced
from minigen.models.diffusion.unclip import drop_codes, no_code

RNG = np.random.default_rng


def linear_stage():
    """μ = 3 x and σ = e^{x/2} of each pixel x; D(z) = z / 3."""
    return Autoencoder(lambda x: tensor(np.concatenate([3 * x.numpy(), x.numpy()], 1)),
                       lambda z: z / 3, lam=0.1)


def test_the_first_loss_is_the_squared_error_and_a_little_kl():
    x, stage = tensor(RNG(0).normal(size=(5, 2, 3, 3))), linear_stage()
    eps = RNG(1).standard_normal(x.shape)
    loss, parts = stage.loss(x, RNG(1))
    x_hat = x.numpy() + np.exp(x.numpy() / 2) * eps / 3
    kl = dist.kl(Normal(3 * x, x), Normal(0 * x, 0 * x)).numpy().sum() / 5
    assert parts["squared_error"].item() == pytest.approx(((x_hat - x.numpy()) ** 2).sum() / 5)
    assert parts["kl"].item() == pytest.approx(kl)
    assert loss.item() == pytest.approx(parts["squared_error"].item() + 0.1 * kl)


def test_codes_are_brought_to_deviation_1_and_back():
    x, stage = RNG(0).normal(2, 5, size=(50, 4, 8, 8)), linear_stage()
    q = stage.q(tensor(x))
    stage.rescale(tensor(x), RNG(1))
    z = stage.encode(tensor(x), RNG(1)).numpy()
    assert z.std() == pytest.approx(1, abs=1e-5)
    assert np.allclose(z * stage.scale.item(), q.sample(RNG(1)).numpy(), rtol=1e-5)
    assert np.allclose(stage.decode(z).numpy(), q.sample(RNG(1)).numpy() / 3, rtol=1e-5)
    assert [*nn.state_dict(stage)] == ["scale"] and not nn.parameters(stage)


def test_the_second_loss_is_of_noised_codes_and_leaves_the_first_stage_alone():
    stage, s = autoencoder(3, rng=RNG(0)), linear(40)
    net = latent_denoiser(4, 5, 8, 8, RNG(1))
    net.unet.last.weight.data[...] = 0.1 * RNG(2).normal(size=net.unet.last.weight.shape)
    x = tensor(RNG(3).normal(size=(6, 3, 8, 8)).astype(np.float32))
    words = tensor(RNG(4).normal(size=(6, 2, 5)).astype(np.float32))
    stage.rescale(x, RNG(5))
    model = LatentDiffusion(stage, DDPM(net, s))
    loss = model.loss(x, RNG(6), words)
    rng, q = RNG(6), stage.q(x)
    z = (q.mu.numpy() + np.exp(q.logvar.numpy() / 2)
         * rng.standard_normal(q.mu.shape, np.float32)) / stage.scale.item()
    t = rng.integers(1, 41, 6)
    eps, a = rng.standard_normal(z.shape, np.float32), s.alpha_bar[t][:, None, None, None]
    z_t = (np.sqrt(a) * z + np.sqrt(1 - a) * eps).astype(np.float32)
    assert loss.item() == pytest.approx(
        ((eps - net(tensor(z_t), t, words).numpy()) ** 2).mean(), rel=1e-4)
    assert not any(g.numpy().any() for g in
                   grad(loss, nn.parameters(stage), allow_unused=True).values())


def test_places_look_at_words():
    layer = SpatialTransformer(4, 3, heads=2, rng=RNG(0))
    for k, p in enumerate(nn.parameters(layer).values()):
        p.data[...] += 0.3 * RNG((1, k)).normal(size=p.shape)  # the norms and biases count, too
    x, words = RNG(2).normal(size=(2, 4, 3, 2)), RNG(3).normal(size=(2, 5, 3))
    nn.astype(layer, np.float64)
    W = {key: p.numpy() for key, p in nn.parameters(layer).items()}
    q = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    q = q * W["norm.weight"][:, None, None] + W["norm.bias"][:, None, None]
    expected = x.copy()
    for n in range(2):
        h = words[n] @ W["word_proj.weight"].T
        q_n, k, v = (a @ w.T + b for a, w, b in zip(
            (q[n].reshape(4, 6).T, h, h), np.split(W["cross_attention.in_proj_weight"], 3),
            np.split(W["cross_attention.in_proj_bias"], 3), strict=True))
        heads = []
        for part in (slice(0, 2), slice(2, 4)):
            a = np.exp(q_n[:, part] @ k[:, part].T / 2**0.5)
            heads.append(a / a.sum(1, keepdims=True) @ v[:, part])
        o = (np.hstack(heads) @ W["cross_attention.out_proj.weight"].T
             + W["cross_attention.out_proj.bias"])
        expected[n] += o.T.reshape(4, 3, 2)
    p = tensor(expected.reshape(2, 4, 6).swapaxes(1, 2))
    expected = layer.block(p).numpy().swapaxes(1, 2).reshape(x.shape)
    assert np.allclose(layer(tensor(x), tensor(words)).numpy(), expected)


def test_both_stages_learn_and_draw_what_is_asked_for():
    """Broad horizontal stripes have the text 1, vertical ones the text 2."""
    upright = np.tile(np.repeat(np.array([-1, 1], np.float32), 4), (1, 16, 2))
    x = np.repeat(np.stack([upright.swapaxes(1, 2), upright]), 8, 0)
    text, s = TextEncoder(3, 2, 8, D=8, rng=RNG(1)), linear(100)
    words = encode_text(text, np.repeat([[1, 0], [2, 0]], 8, 0)).detach()
    stage = autoencoder(1, rng=RNG(2))
    net = clean.Clean(latent_denoiser(4, 8, 16, 16, RNG(3)), s)
    model = LatentDiffusion(stage, DDPM(net, s))
    opt = optim.Adam(nn.parameters(stage), lr=1e-2)
    for t in range(60):
        opt.step(grad(stage.loss(tensor(x), RNG((4, t)))[0], opt.params))
    stage.rescale(tensor(x), RNG(5))
    opt = optim.Adam(nn.parameters(net), lr=1e-2)
    for t in range(60):
        rng = RNG((4, t))
        loss = model.loss(tensor(x), rng, drop_codes(words, 0.1, rng))
        opt.step(grad(loss, opt.params))
    rebuilt = stage.decode(stage.encode(tensor(x), RNG(6))).numpy()
    assert np.square(rebuilt - x).mean() < 0.05
    guided = DDIM(ClassifierFree(net, 1.0, no_code), respaced(s, 10))
    samples = LatentDiffusion(stage, guided).generate(
        RNG(7).standard_normal((16, 4, 4, 4), np.float32), words).numpy()
    assert ((samples * x).mean((1, 2, 3)) > 0.5).mean() > 0.8  # by chance, half of them
