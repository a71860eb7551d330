"""Section "Text to image with GANs", stages: StackGAN, StackGAN++, AttnGAN and its DAMSM."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from minigen import grad, gradcheck, nn, optim, tensor
from minigen.models.text_to_image import attngan, stackgan
from minigen.models.text_to_image import damsm as model

RNG = np.random.default_rng


# ------------------------------------------------------------------------------------------ DAMSM

def batch(M=3, N=4, T=5, d=6):
    rng = RNG(0)
    mask = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    return rng.normal(size=(M, N, d)), rng.normal(size=(M, T, d)), mask


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def score(v, e):
    """R of one image's regions and one text's words, by loops, from the paper's equations."""
    s = np.array([[e_i @ v_j for v_j in v] for e_i in e])  # words, regions
    s = np.stack([softmax(column) for column in s.T], 1)
    fit = []
    for i, e_i in enumerate(e):
        alpha = softmax(5 * s[i])
        fit.append(np.exp(5 * cosine(sum(a * v_j for a, v_j in zip(alpha, v, strict=True)), e_i)))
    return np.log(np.sum(fit) ** (1 / 5))


def test_the_match_score_against_loops():
    v, e, mask = batch()
    R = model.match_scores(tensor(v), tensor(e), mask).numpy()
    want = [[score(v[i], e[j][mask[j]]) for j in range(3)] for i in range(3)]
    assert np.allclose(R, want)  # eq: damsm-match-score
    gradcheck(lambda v, e: model.match_scores(v, e, mask), v, e)


def test_an_image_matches_the_words_that_its_regions_show():
    codes = np.eye(6)
    v = codes[None, [0, 1, 2, 2]]
    e = np.stack([codes[[0, 1, 2]], codes[[3, 4, 5]], codes[[0, 3, 4]]])
    R = model.match_scores(tensor(v), tensor(e), np.ones((3, 3), bool)).numpy()
    right, wrong, partly = R[0]
    assert right > partly > wrong  # eq: damsm-match-score


def test_the_posterior_is_over_the_texts_of_the_batch():
    R = RNG(1).normal(size=(4, 4))
    P = model.posterior(tensor(R)).numpy()
    want = np.exp(10 * R - logsumexp(10 * R, 1)[:, None])
    assert np.allclose(P, want) and np.allclose(P.sum(1), 1)  # eq: damsm-posterior
    texts = -np.log(np.diag(P)).sum()
    images = -np.log(np.diag(model.posterior(tensor(R.T)).numpy())).sum()
    found = model.matching_loss(tensor(R)).item()
    assert found == pytest.approx(texts + images)  # eq: damsm-word-losses
    gradcheck(model.matching_loss, R)
    assert texts != pytest.approx(images)


def test_a_word_that_is_not_there_has_no_part_in_the_slope():
    v, e, mask = batch()
    slopes = []
    for nothing in (0.0, 7.0):
        e[~mask] = nothing
        of = [tensor(v, True), tensor(e, True)]
        slopes.append(grad(model.match_scores(*of, mask).sum(), of))
        assert not slopes[-1][1].numpy()[~mask].any()
    for a, b in zip(*slopes, strict=True):
        assert np.allclose(a.numpy(), b.numpy()) and np.isfinite(a.numpy()).all()


def test_a_description_has_the_codes_of_its_words_and_of_the_whole():
    net, c = model.DAMSM(3, 9, 4, d=8, widths=(8, 8), rng=RNG(0)), np.array([[3, 5, 0], [1, 2, 4]])
    e, mask, e_bar = net.embed_text(c)
    assert e.shape == (2, 3, 8) and np.array_equal(mask, c != 0)
    mean = [e.numpy()[n][mask[n]].mean(0) for n in range(2)]
    assert np.allclose(e_bar.numpy(), mean @ net.text.proj.weight.numpy().T, atol=1e-6)
    assert np.allclose(e_bar.numpy(), net.text(c).numpy(), atol=1e-6)
    v, v_bar = net.embed_image(tensor(RNG(1).normal(size=(2, 3, 8, 8)).astype("f4")))
    assert v.shape == (2, 4, 8) and v_bar.shape == (2, 8)


def test_words_and_sentences_count_alike():
    v, e, mask = batch()
    v_bar, e_bar = RNG(2).normal(size=(2, 3, 6))
    R_words = np.array([[score(v[i], e[j][mask[j]]) for j in range(3)] for i in range(3)])
    R_sentences = np.array([[cosine(a, b) for b in e_bar] for a in v_bar])
    want = sum(-np.log(np.diag(softmax(10 * R, axis=axis))).sum()
               for R in (R_words, R_sentences) for axis in (0, 1))
    found = model.damsm(*map(tensor, (v, e)), mask, *map(tensor, (v_bar, e_bar))).item()
    assert found == pytest.approx(want)  # eq: damsm-total
    gradcheck(lambda *of: model.damsm(of[0], of[1], mask, *of[2:]), v, e, v_bar, e_bar)


# --------------------------------------------------------------------------- StackGAN, StackGAN++

def test_the_second_stage_is_given_the_first_ones_image_and_the_code():
    A, B, C, E = RNG(0).normal(size=(4, 3, 3))
    z, c = RNG(1).normal(size=(2, 5, 3))
    x_1, x_2 = stackgan.two_stages(lambda z, c: z @ A + c @ B, lambda x, c: x @ C + c @ E, z, c)
    assert np.allclose(x_1, z @ A + c @ B)  # eq: stackgan-two-stage
    assert np.allclose(x_2, z @ A @ C + c @ (B @ C + E))  # eq: stackgan-two-stage


def logits(x, e):
    """A discriminator that is a known function: logits without and with the sentence."""
    x = tensor(x)
    return x.sum(1, keepdims=True), (x * tensor(e)).sum(1, keepdims=True)


def test_a_judge_sees_the_sentence_with_one_of_its_eyes():
    D = stackgan.StageDiscriminator((3, 8, 8), 4, 8, RNG(0))
    x = RNG(1).normal(size=(2, 3, 8, 8)).astype("f4")
    (a, a_e), (b, b_e) = (D(tensor(x), e) for e in RNG(2).normal(size=(2, 2, 4)))
    assert a.shape == a_e.shape == (2, 1)
    assert np.array_equal(a.numpy(), b.numpy())
    assert not np.isclose(a_e.numpy(), b_e.numpy()).any()


def test_the_losses_of_a_scale():
    x, x_hat, e = RNG(0).normal(size=(3, 7, 4))
    p = lambda a: 1 / (1 + np.exp(-a))
    D, D_e = p(x.sum(1)), p((x * e).sum(1))
    F, F_e = p(x_hat.sum(1)), p((x_hat * e).sum(1))
    want = -sum(np.log(q).mean() for q in (D, 1 - F, D_e, 1 - F_e)) / 2
    found = stackgan.d_loss(logits, x, tensor(x_hat), e).item()
    assert found == pytest.approx(want)  # eq: stackganpp-d-loss
    want = -sum(np.log(q).mean() for q in (F, F_e)) / 2
    assert stackgan.g_loss(logits, x_hat, e).item() == pytest.approx(want)  # eq: stackganpp-g-loss
    gradcheck(lambda x_hat: stackgan.g_loss(logits, x_hat, e), x_hat)
    gradcheck(lambda x: stackgan.d_loss(logits, x, tensor(x_hat), e), x)
    image = tensor(x_hat, True)
    slope = grad(stackgan.d_loss(logits, x, image, e) + image.sum(), image)
    assert np.array_equal(slope.numpy(), np.ones((7, 4)))  # no gradient to the generator


def test_colours_are_the_mean_and_the_covariance_of_an_images_pixels():
    large, small = RNG(0).random((2, 3, 8, 8)), RNG(1).random((2, 3, 4, 4))
    want = []
    for a, b in zip(large, small, strict=True):
        a, b = a.reshape(3, -1), b.reshape(3, -1)
        want.append(2 * ((a.mean(1) - b.mean(1)) ** 2).sum()
                    + 3 * ((np.cov(a, ddof=0) - np.cov(b, ddof=0)) ** 2).sum())
    found = stackgan.colour_consistency(tensor(large), tensor(small), 2.0, 3.0).item()
    assert found == pytest.approx(np.mean(want))  # eq: stackganpp-color
    gradcheck(lambda a, b: stackgan.colour_consistency(a, b, 2.0, 3.0), large, small)
    twice = np.repeat(np.repeat(small, 2, 2), 2, 3)
    assert stackgan.colour_consistency(tensor(twice), tensor(small)).item() == pytest.approx(0)


def test_a_stackgan_draws_twice_around_a_code():
    game = stackgan.stackgan((3, 32, 32), 4, 6, d_c=5, K=4, width=4, rng=RNG(0))
    e, z = (RNG(s).normal(size=(3, n)).astype("f4") for s, n in ((1, 6), (2, 5 + 4)))
    small, large = game.G(tensor(z), tensor(e))
    assert small.shape == (3, 3, 16, 16) and large.shape == (3, 3, 32, 32)
    mu, logvar = (part(tensor(e)).numpy() for part in (game.G.augment.mu, game.G.augment.logvar))
    c = tensor(mu + np.exp(logvar / 2) * z[:, :5])
    nn.train(game.G)
    want = game.G.G_1(tensor(z[:, 5:]), c)
    assert np.allclose(small.numpy(), want.numpy(), atol=1e-6)
    assert np.allclose(large.numpy(), game.G.G_2(want, c).numpy(), atol=1e-5)
    images = game.generate(3, RNG(5), e)
    want = sum(stackgan.g_loss(D, x, tensor(e)).item() for D, x in zip(game.D, images, strict=True))
    want += (np.exp(logvar) + mu ** 2 - 1 - logvar).mean() / 2
    assert game.g_loss(3, RNG(5), e).item() == pytest.approx(want, rel=1e-5)


# ---------------------------------------------------------------------------------------- AttnGAN

def game(damsm=lambda x, *text: (x * x).mean(), lam=0.5):
    return attngan.attngan((3, 32, 32), 4, 6, damsm, lam, rng=RNG(0))


def sentences(n=3, T=5, d=6):
    rng = RNG(1)
    mask = np.arange(T) < np.array([[2], [5], [3]])
    return rng.normal(size=(n, T, d)).astype("f4"), mask, rng.normal(size=(n, d)).astype("f4")


def test_a_place_sees_the_words_that_fit_it():
    attention = attngan.Attention(6, 4, RNG(0))
    e, mask, _ = sentences()
    h = RNG(2).normal(size=(3, 4, 2, 3)).astype("f4")
    c, W = attention(tensor(h), tensor(e), mask).numpy(), attention.proj.weight.numpy()
    for n, i, j in np.ndindex(3, 2, 3):
        words = [W @ e[n, t] for t in range(5) if mask[n, t]]
        beta = softmax([w @ h[n, :, i, j] for w in words])
        want = sum(b * w for b, w in zip(beta, words, strict=True))
        assert np.allclose(c[n, :, i, j], want, atol=1e-5)


def test_each_stage_draws_from_its_own_state():
    G, (e, mask, e_bar) = game().G, sentences()
    z = RNG(3).normal(size=(3, 32 + 4)).astype("f4")
    small, large = G(tensor(z), e, mask, tensor(e_bar))
    assert small.shape == (3, 3, 16, 16) and large.shape == (3, 3, 32, 32)
    mu, logvar = (e_bar @ part.weight.numpy().T + part.bias.numpy() for part in
                  (G.augment.mu, G.augment.logvar))
    c = mu + np.exp(logvar / 2) * z[:, :32]
    h_0 = G.F_0(tensor(np.concatenate([c, z[:, 32:]], 1)))
    want = np.tanh(G.G[0][0](h_0).numpy())
    assert np.allclose(small.numpy(), want, atol=1e-6)  # eq: attngan-stage-images
    h_1 = G.F[0](tensor(np.concatenate([h_0.numpy(), G.F_attn[0](h_0, e, mask).numpy()], 1)))
    want = np.tanh(G.G[1][0](h_1).numpy())
    assert np.allclose(large.numpy(), want, atol=1e-5)  # eq: attngan-stage-images
    changed = e.copy()
    changed[0, 3] += 9  # a padding word
    again = G(tensor(z), changed, mask, tensor(e_bar))[1].numpy()
    assert np.allclose(again[0], large.numpy()[0], atol=1e-5)


def test_the_loss_adds_the_stages_and_the_match():
    text = sentences()
    x = RNG(4).uniform(-1, 1, (3, 3, 32, 32)).astype("f4")
    both, alone = game(), game(lam=0.0)
    images = both.generate(3, RNG(5), *text)
    stages = [stackgan.g_loss(D, image, tensor(text[-1])).item()
              for D, image in zip(both.D, images, strict=True)]
    p = both.G.augment(tensor(text[-1]))
    match, mu, logvar = (images[-1].numpy() ** 2).mean(), p.mu.numpy(), p.logvar.numpy()
    stages.append((np.exp(logvar) + mu ** 2 - 1 - logvar).mean() / 2)
    params, square = nn.parameters(both.G), images[-1] * images[-1]
    want = grad(both.adversarial_loss(images, text[-1]) + 0.5 * square.mean(), params)
    for key, g in grad(both.g_loss(3, RNG(5), *text), params).items():
        assert np.allclose(g.numpy(), want[key].numpy(), atol=1e-6), key  # eq: attngan-total-loss
    found = both.g_loss(3, RNG(5), *text).item()
    assert found == pytest.approx(sum(stages) + 0.5 * match, rel=1e-5)  # eq: attngan-total-loss
    found = alone.g_loss(3, RNG(5), *text).item()
    assert found == pytest.approx(sum(stages), rel=1e-5)  # eq: attngan-total-loss
    before, images = both.d_loss(x, RNG(6), *text), both.generate(3, RNG(6), *text)
    small = x.reshape(3, 3, 16, 2, 16, 2).mean((3, 5))
    other, want = np.roll(text[-1], 1, axis=0), 0
    for D, real, image in zip(both.D, map(tensor, (small, x)), images, strict=True):
        no = D(real, tensor(other))[1].numpy()
        want += stackgan.d_loss(D, real, image, tensor(text[-1])).item()
        want += np.log(1 + np.exp(no)).mean() / 2
    assert before.item() == pytest.approx(want, rel=1e-5)
    params = nn.parameters(both.D)
    optim.SGD(params, lr=0.05).step(grad(before, params))
    assert both.d_loss(x, RNG(6), *text).item() < before.item()


@pytest.mark.parametrize("wrong, says", [
    (lambda: model.matching_loss(tensor(np.zeros((1, 1)))), "N at least 2"),
    (lambda: attngan.attngan((3, 28, 28), 4, 6, None), "28×28, expected 32×32"),
    (lambda: stackgan.stackgan((3, 28, 28), 4, 6), "28×28, expected 32×32"),
    (lambda: game().d_loss(np.zeros((3, 3, 48, 48), "f4"), RNG(0), *sentences()),
     r"are \(3, 3, 48, 48\), G draws \(3, 3, 32, 32\)"),
])
def test_bad_input_is_one_clear_line(wrong, says):
    with pytest.raises(ValueError, match=says) as e:
        wrong()
    assert "\n" not in str(e.value)
