"""GLIDE's network against NumPy, its conditioning, and that samples fit their texts."""

import numpy as np
import pytest

from minigen import grad, nn, optim, tensor
from minigen.models.clip.clip import TextEncoder
from minigen.models.diffusion import clean
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.glide import TextAttention2d, encode_text, text_denoiser
from minigen.models.diffusion.guidance import ClassifierFree
from minigen.models.diffusion.schedule import linear, respaced
from minigen.models.diffusion.threshold import static
from minigen.models.diffusion.unclip import drop_codes, no_code

RNG = np.random.default_rng


def test_places_look_at_places_and_words():
    layer = TextAttention2d(4, 3, heads=2, rng=RNG(0))
    for k, p in enumerate(nn.parameters(layer).values()):
        p.data[...] += 0.3 * RNG((1, k)).normal(size=p.shape)  # so that the norm and biases matter
    x, words = RNG(2).normal(size=(2, 4, 3, 2)), RNG(3).normal(size=(2, 5, 3))
    nn.astype(layer, np.float64)
    W = {key: p.numpy() for key, p in nn.parameters(layer).items()}
    h = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    h = h * W["norm.weight"][:, None, None] + W["norm.bias"][:, None, None]
    expected = x.copy()
    for n in range(2):
        p = h[n].reshape(4, 6).T
        context = np.vstack([p, words[n] @ W["word_proj.weight"].T])
        q, k, v = (a @ w.T + b for a, w, b in zip(
            (p, context, context), np.split(W["attention.in_proj_weight"], 3),
            np.split(W["attention.in_proj_bias"], 3), strict=True))
        heads = []
        for part in (slice(0, 2), slice(2, 4)):
            a = np.exp(q[:, part] @ k[:, part].T / 2**0.5)
            heads.append(a / a.sum(1, keepdims=True) @ v[:, part])
        o = np.hstack(heads) @ W["attention.out_proj.weight"].T + W["attention.out_proj.bias"]
        expected[n] += o.T.reshape(4, 3, 2)
    found = layer(tensor(x), None, tensor(words)).numpy()
    assert np.allclose(found, expected)


def test_words_that_are_not_there_are_0_and_a_whole_text_is_left_out():
    text = TextEncoder(6, 4, 8, D=8, rng=RNG(0))
    words = encode_text(text, np.array([[1, 2, 0, 0], [3, 4, 5, 1]])).numpy()
    assert not words[0, 2:].any() and words[0, :2].all() and words[1].all()
    assert np.allclose(words[0, :2], text.hidden(np.array([[1, 2]]))[0].numpy(), atol=1e-6)
    left = drop_codes(np.ones((20_000, 2, 3)), 0.1, RNG(0)).sum((1, 2))
    assert set(left) == {0, 6} and (left == 0).mean() == pytest.approx(0.1, abs=0.01)


def test_the_network_is_told_the_words_twice_and_refuses_others():
    net = text_denoiser((1, 8, 8), 4, (8, 8), 16, RNG(0))
    seen, h = [], RNG(1).normal(size=(2, 3, 4)).astype(np.float32)
    x, t = tensor(np.zeros((2, 1, 8, 8), np.float32)), np.array([3, 9])
    unet, net.unet = net.unet, lambda *given: seen.append([a.numpy() for a in given])
    net(x, t, tensor(h))
    (_, e, words), = seen
    A, a = net.text_proj.weight.numpy(), net.text_proj.bias.numpy()
    assert np.allclose(e, net.embed(t).numpy() + h.mean(1) @ A.T + a, atol=1e-5)
    assert np.array_equal(words, h)
    net.unet = unet
    with pytest.raises(ValueError, match=r"glide: words are \(2, 4\), expected codes \(N, L, 4\)"):
        net(x, t, tensor(h[:, 0]))


def test_it_learns_and_guidance_draws_what_is_asked_for():
    """Horizontal stripes have the text 1, vertical ones the text 2."""
    upright = np.tile(np.array([-1, 1], np.float32), (1, 8, 4))
    x = np.repeat(np.stack([upright.swapaxes(1, 2), upright]), 8, 0)
    text, s = TextEncoder(3, 2, 8, D=8, rng=RNG(1)), linear(100)
    words = encode_text(text, np.repeat([[1, 0], [2, 0]], 8, 0)).detach()
    net = clean.Clean(text_denoiser((1, 8, 8), 8, (8, 8), 16, RNG(2)), s)
    model, opt = DDPM(net, s), optim.Adam(nn.parameters(net), lr=1e-2)
    losses = []
    for t in range(60):
        rng = RNG((3, t))
        loss = model.loss(x, rng, drop_codes(words, 0.1, rng))
        losses.append(loss.item())
        opt.step(grad(loss, opt.params))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    samples = DDIM(ClassifierFree(net, 2.0, no_code), respaced(s, 10)).decode(
        RNG(4).standard_normal(x.shape, np.float32), words, threshold=static).numpy()
    assert ((samples * x).mean((1, 2, 3)) > 0.5).mean() > 0.8  # by chance, half of them
