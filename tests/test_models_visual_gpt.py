"""VisualGPT: its gates, what depends on what, and that it learns."""

import numpy as np

from minigen import grad, nn, optim, tensor
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.multimodal.llava import Encoder
from minigen.models.multimodal.visual_gpt import TAU, SRAUCrossAttention, VisualGPT
from minigen.train import descend

RNG = np.random.default_rng
V, T, D, P, d = 6, 7, 8, 4, 32
WORDS = np.array([[5, 1, 2, 3, 0, 0, 0], [5, 2, 2, 1, 4, 4, 0]])


def images(n):
    return RNG(1).normal(size=(n, 3, 16, 16)).astype(np.float32)


def visual_gpt():
    lm = LanguageModel(V, T, D, depth=2, heads=2, rng=RNG(0))
    return VisualGPT(Encoder(3, (8, 8, d // 4), RNG(5)), lm, P, d, 2, RNG(7))


def test_gates_are_the_shares_of_language_and_image():
    """For single numbers: at most one gate is closed, and then the other is nearly open."""
    attend = SRAUCrossAttention(1, 1, RNG(0))
    attend.norm = lambda h: h
    attend.attention = lambda h, *_: tensor(np.full(h.shape, 10, h.dtype))  # what is attended to
    for h in np.linspace(-4, 4, 41):
        H = tensor(np.full((1, 1, 1), h), True)
        y = attend(H, None)
        share = 1 / (1 + np.exp(-h))
        keeps, takes = 1 - share if 1 - share > TAU else 0, share if share > TAU else 0
        np.testing.assert_allclose(y.item(), keeps * h + takes * 10)  # eq: visual-gpt-srau
        assert (takes == 0) == (h < -np.log(4)) and (keeps == 0) == (h > np.log(4))
        slope = share * (1 - share) * ((10 if takes else 0) - (h if keeps else 0)) + keeps
        np.testing.assert_allclose(grad(y.sum(), [H])[0].item(), slope)
        assert keeps and takes or slope > 0.1  # which can open the other gate again


def test_words_look_at_the_image_between_each_other_and_their_mlp():
    model, x = visual_gpt(), images(2)
    (block, _), attend = model.lm.blocks, model.cross_attentions[0]
    model.lm.blocks, model.cross_attentions = [block], [attend]
    a = block.norm_1(model.lm.embed_tokens(WORDS))
    H = model.lm.embed_tokens(WORDS) + block.attention(a, a, a, is_causal=True)
    h = attend(H, model.embed_images(x))
    h = h + block.mlp(block.norm_2(h))
    np.testing.assert_allclose(model.scores(WORDS, x).numpy(),
                               model.lm.out(model.lm.norm(h)).numpy(), atol=1e-5)


def test_words_see_the_image_and_those_before_them():
    model, x = visual_gpt(), images(2)
    s = model.scores(WORDS, x).numpy()
    assert (np.abs(model.scores(WORDS, x[::-1].copy()).numpy() - s).max(-1) > 1e-4).all()
    for t in range(T):
        other = WORDS.copy()
        other[:, t] = 1 + WORDS[:, t] % (V - 1)
        moved = np.abs(model.scores(other, x).numpy() - s).max(-1) > 1e-6
        assert (moved == (np.arange(T) >= t)).all()


def test_what_is_kept_of_words_is_what_they_were():
    model, x = visual_gpt(), images(2)
    whole, (state, _) = model.scores(WORDS, x).numpy(), model.start(2, x)
    for part in np.split(WORDS, (1, 4), axis=1):
        s, state = model.extend(state, part)
        np.testing.assert_allclose(s, whole[:, state[0].shape[1] - 1], atol=1e-5)


def test_it_learns_to_tell_images_apart_and_the_encoder_stays():
    model, x = visual_gpt(), images(2)
    before, opt = nn.state_dict(model), optim.Adam(model.trained(), 1e-2)
    for _ in range(150):
        descend(opt, model.loss(WORDS, x), {})
    after = nn.state_dict(model)
    same = {key for key in after if np.array_equal(after[key], before[key])}
    assert same == {key for key in after if key.startswith("encoder.")}
    assert (model.describe(x) == WORDS).all()
