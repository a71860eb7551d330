"""Section "Vector quantisation": DALL-E, one sequence of text and image."""

from types import SimpleNamespace

import numpy as np
import pytest
from small_worlds import all_of

from minigen import grad, nn, optim, tensor
from minigen.models.autoregressive import decoding
from minigen.models.text_to_image.dalle import DALLE, image_tokenizer
from minigen.models.vae.vq_vae import Codebook, vq_vae

RNG = np.random.default_rng


def dalle(V=3, T=2, K=2, size=(2, 2), seed=0):
    """A small DALL-E in float64 with sharply peaked predictions."""
    vae = SimpleNamespace(prior=SimpleNamespace(K=K, size=size))
    model = DALLE(vae, V, T, D=8, depth=2, heads=2, rng=RNG(seed))
    nn.astype(model.transformer, np.float64)
    model.transformer.out.weight.data *= 4
    model.transformer.embed.weight.data *= 5
    return model


def every(model):
    """Every text with every grid: (N, T), (N, h, w)."""
    t, z = all_of(model.V, model.T), all_of(model.K, *model.size)
    return np.repeat(t, len(z), 0), np.tile(z, (len(t), 1, 1))


def test_text_and_image_are_one_sequence_token_by_token():
    model = dalle()
    t, z = every(model)
    tokens = [t[:, 0], t[:, 1], *(3 + z[:, i, j] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))]
    log_p, read = [], [0 * t[:, 0]]
    for token in tokens:
        s = model.transformer.scores(np.stack(read, 1)).numpy()[:, -1]  # given the tokens so far
        possible = range(3) if len(read) <= 2 else range(3, 5)
        chosen = np.array([s[n, k] for n, k in enumerate(token)])
        log_p.append(chosen - np.log(sum(np.exp(s[:, k]) for k in possible)))
        read.append(token)
    found = model.log_prob(t, z).numpy()
    assert np.allclose(found, sum(log_p))  # eq: dalle-joint-sequence
    loss = -np.mean(log_p[:2]) / 8 - 7 * np.mean(log_p[2:]) / 8
    assert model.loss(t, z).item() == pytest.approx(loss)


def test_all_texts_with_all_images_are_certain():
    p = np.exp(dalle().log_prob(*every(dalle())).numpy())
    assert len(p) == 9 * 16
    assert p.sum() == pytest.approx(1) and p.max() > 0.03  # eq: dalle-joint-sequence


def test_images_of_a_text_are_drawn_as_often_as_they_are_probable_given_it():
    model, n = dalle(), 4000
    p = np.exp(model.log_prob(*every(model)).numpy()).reshape(9, 16)
    for t in (1, 5):
        given = p[t] / p[t].sum()
        z = model.sample(np.repeat(all_of(3, 2)[t:t + 1], n, 0), RNG(t))
        apart = abs(np.bincount(z.reshape(n, 4) @ [8, 4, 2, 1], minlength=16) / n - given)
        assert np.all(apart < 5 * np.sqrt(given / n) + 1e-3)  # eq: dalle-joint-sequence
    first, second = (p[t] / p[t].sum() for t in (1, 5))
    assert abs(first - second).sum() > 0.2  # different texts, different images
    greedy = model.sample(all_of(3, 2), None, choose=decoding.greedy)
    assert greedy.shape == (9, 2, 2) and set(greedy.ravel()) <= {0, 1}


def test_a_grid_drawn_token_by_token_is_as_probable_as_the_whole():
    """Compares the probabilities that `sample` draws from with log p(t, z) − log p(t)."""
    model = dalle()
    t, z = every(model)
    log_p, log_q = model.log_prob(t, z).numpy(), []

    def choose(s, rng):  # no sampling: picks z's tokens, records their log-probability
        k = model.V + z.reshape(len(z), 4)[:, len(log_q)]
        log_q.append(s[np.arange(len(s)), k] - np.log(np.exp(s).sum(1)))
        return k

    assert (model.sample(t, None, choose) == z).all()
    joint = log_p.reshape(9, 16)
    given = joint - np.log(np.exp(joint).sum(1, keepdims=True))
    assert np.allclose(sum(log_q), given.ravel())  # eq: dalle-joint-sequence


def test_an_image_is_32_by_32_tokens_of_8192():
    """The paper's sizes: 256 text tokens out of 16,384, then 1,024 image tokens."""
    vae = vq_vae((1, 128, 128), K=2, D=4, rng=RNG(0))
    vae.codebook, vae.prior = Codebook(8192, 4, RNG(1)), SimpleNamespace(K=8192, size=(32, 32))
    model = DALLE(vae, D=2, depth=1, heads=1)
    x = RNG(2).random((1, 1, 128, 128)).astype("f4")
    vae.codebook.init_from(vae.encoder(tensor(x)), RNG(3))
    z = vae.encode(x)
    assert z.shape == (1, 32, 32) and 0 <= z.min() and 4096 < z.max() < 8192
    t = RNG(4).integers(0, 16384, (1, 256))
    s = model.sequence(t, z)
    assert s.shape == (1, 256 + 1024) and np.array_equal(s[:, :256], t)
    for i, j in np.ndindex(32, 32):
        token = s[0, 256 + 32 * i + j] - 16384  # 0 … 8191, on the slides 1 … 8192
        assert token == z[0, i, j]  # eq: dalle-token-grid
    assert model.transformer.position.weight.shape == (1280, 2)
    assert model.transformer.embed.weight.shape == (16384 + 8192, 2)


def test_a_place_in_an_image_is_its_row_and_its_column():
    model = dalle(size=(2, 3))
    by_hand = [*model.transformer.position.text.weight.numpy()]
    for i, j in np.ndindex(2, 3):
        row, column = model.transformer.position.row, model.transformer.position.column
        by_hand.append(row.weight.numpy()[i] + column.weight.numpy()[j])
    assert np.array_equal(model.transformer.position.weight.numpy(), by_hand)
    learnt = {key.partition(".")[2] for key in nn.parameters(model.transformer)
              if "position" in key}
    assert learnt == {"text.weight", "row.weight", "column.weight"}


def test_a_language_of_images_is_learnt():
    vae, x = image_tokenizer((3, 8, 12), K=8, D=4, rng=RNG(0)), RNG(1).uniform(-1, 1, (8, 3, 8, 12))
    x = np.sign(x[:, :, :1, :1] * np.ones_like(x)).astype(np.float32)  # one of eight colours each
    vae.codebook.init_from(vae.encoder(tensor(x)), RNG(2))
    opt, errors = optim.Adam(nn.parameters([vae.encoder, vae.codebook, vae.decoder]), 3e-3), []
    for _ in range(120):
        k, x_hat, loss, _ = vae.autoencode(x)
        opt.step(grad(loss, opt.params))
        errors.append(np.square(x_hat.numpy() - x).mean())
    assert k.shape == (8, 2, 3) and errors[-1] < 0.02 * errors[0]
    assert np.array_equal(vae.decode(vae.encode(x)).mean.numpy().shape, x.shape)


def test_a_small_dalle_learns_what_images_a_text_has():
    vae = vq_vae((1, 4, 8), K=3, D=2, rng=RNG(0))
    model = DALLE(vae, V=4, T=2, D=16, heads=2, rng=RNG(1))
    t = np.array([[1, 2], [3, 0]] * 8)
    z = np.where(t[:, :1] == 1, [0, 2], [1, 1]).reshape(16, 1, 2)
    opt = optim.Adam(nn.parameters(model.transformer), 1e-2)
    for _ in range(40):
        loss = model.loss(t, z)
        opt.step(grad(loss, opt.params))
    assert (model.sample(t, RNG(2)) == z).mean() > 0.9
    greedy = model.generate(t[:2], None, choose=decoding.greedy)
    assert np.array_equal(greedy.mean.numpy(), vae.decode(z[:2]).mean.numpy())


@pytest.mark.parametrize("t, z, error, message", [
    ([[1, 3]], [[[0, 0], [0, 0]]], IndexError, "a text: indices must lie in 0…2, got 1…3"),
    ([[1, 2, 0]], [[[0, 0], [0, 0]]], ValueError, r"texts are \(1, 3\), expected \(N, 2\)"),
    ([[1, 2]], [[[0, 2], [0, 0]]], IndexError, "a grid: indices must lie in 0…1, got 0…2"),
    ([[1, 2]], [[0, 0, 0, 0]], ValueError, r"grids are \(1, 4\), expected \(1, 2, 2\)"),
])
def test_what_is_no_text_or_no_grid_is_refused_in_one_line(t, z, error, message):
    with pytest.raises(error, match=message) as refused:
        dalle().log_prob(np.array(t), np.array(z))
    assert "\n" not in str(refused.value)
