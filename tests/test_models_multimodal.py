"""GIT, BLIP-2 and Flamingo: what attends to what, what is frozen, and that the rest learns."""

import numpy as np
import pytest

from demos.captioning import encode, named, sentences
from minigen import nn, optim, tensor
from minigen.data import scenes
from minigen.data.esperanto import ESPERANTO, esperanto
from minigen.models.clip.clip import contrastive_loss
from minigen.models.multimodal.blip2 import BLIP2, QFormer, hard_negatives
from minigen.models.multimodal.flamingo import Flamingo, Resampler
from minigen.models.multimodal.git import GIT, PrefixLanguageModel
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.multimodal.llava import Encoder
from minigen.train import descend

RNG = np.random.default_rng
V, T, D, IMG, P, d = 6, 7, 8, 5, 4, 32
PAIR = np.array([[IMG, 1, 2, IMG, 3, 4, 0], [IMG, 2, 2, 1, IMG, 4, 0]])  # two images in each


def encoder():
    return Encoder(3, (8, 8, d // 4), RNG(5))


def images(*lead):
    return RNG(1).normal(size=(*lead, 3, 16, 16)).astype(np.float32)


def language_model():
    return LanguageModel(V, T, D, depth=2, heads=2, rng=RNG(0))


def flamingo(open_gates=True):
    model = Flamingo(encoder(), language_model(), IMG, P, d, M=3, depth=2, heads=2, rng=RNG(2))
    for layer in model.cross_attentions if open_gates else ():
        layer.gate_1.alpha.weight.data[...] = layer.gate_2.alpha.weight.data[...] = 0.7
    return model


def q_former(V=V, T=3):
    return QFormer(V, T, P, d, M=3, D=D, depth=2, heads=2, E=4, rng=RNG(3))


def moved(f, a, b):
    """Which rows of f differ between a and b."""
    return np.abs(f(a) - f(b)).max(-1) > 1e-5


# Flamingo -----------------------------------------------------------------------------------------


def test_with_its_gates_shut_flamingo_is_its_language_model_bit_for_bit():
    model, x = flamingo(open_gates=False), images(2, 2)
    assert np.array_equal(model.scores(PAIR, x).numpy(), model.lm.scores(PAIR).numpy())
    assert np.array_equal(model.complete(PAIR * [1, 1, 1, 1, 0, 0, 0], x),
                          model.lm.complete(PAIR * [1, 1, 1, 1, 0, 0, 0]))
    for layer in model.cross_attentions:  # each gate alone lets something through
        for gate in (layer.gate_1, layer.gate_2):
            gate.alpha.weight.data[...] = 0.1
            assert not np.allclose(model.scores(PAIR, x).numpy(), model.lm.scores(PAIR).numpy())
            gate.alpha.weight.data[...] = 0


def test_a_word_looks_at_the_image_before_it_alone():
    """The tokens that each image changes in the first gated block, before tokens mix."""
    model, w = flamingo(), np.pad(PAIR[:, :-1], ((0, 0), (1, 0)))  # w_0 precedes any image
    h = model.lm.embed_tokens(w)

    def shown(x):
        r = model.embed_images(x)
        return model.cross_attentions[0](h, r, model.mask(w, r)).numpy()

    x = images(2, 2)
    for k, words in enumerate(([[0, 1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0, 0]],
                               [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1]])):
        other = x.copy()
        other[:, k] *= -1
        assert np.array_equal(moved(shown, x, other), np.array(words, bool))


def test_an_earlier_image_is_heard_of_through_words():
    model, x = flamingo(), images(2, 2)
    first, second = x.copy(), x.copy()
    first[:, 0] *= -1
    second[:, 1] *= -1
    scores = lambda x: model.scores(PAIR, x).numpy()
    assert moved(scores, x, first).all()
    assert np.array_equal(moved(scores, x, second), [[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1]])


def test_a_closed_gate_hides_the_images():
    model, x = flamingo(), images(2, 2)
    for layer in model.cross_attentions:
        layer.gate_1.alpha.weight.data[...] = 0
    assert np.array_equal(model.scores(PAIR, x).numpy(), model.scores(PAIR, -x).numpy())


@pytest.mark.parametrize("cuts", [(1, 2, 3, 4, 5, 6), (4,), ()])
def test_a_text_with_images_read_in_parts_has_the_scores_of_the_whole(cuts):
    model, x = flamingo(), images(2, 2)
    whole, (state, _) = model.scores(PAIR, x).numpy(), model.start(2, x)
    for part in np.split(PAIR, cuts, axis=1):
        s, state = model.extend(state, part)
        assert np.allclose(s, whole[:, state[0].shape[1] - 1], atol=1e-5)


def test_texts_go_on_after_what_is_given():
    model, x = flamingo(), images(2, 2)
    prompt = np.array([[IMG, 1, 0, 0, 0, 0, 0], [IMG, 2, 2, 1, IMG, 0, 0]])
    model.lm.out.bias.data[IMG] = -100  # never writes an image token
    texts = model.complete(prompt, x)
    for n, length in enumerate((2, 5)):
        read = [0, *prompt[n, :length]]
        while len(read) <= T:  # each word from a separate pass
            s = model.scores(np.array([read[:T]]), x[n:n + 1]).numpy()[0, -1]
            read.append(0 if 0 in read[1:] else s.argmax())
        assert texts[n].tolist() == read[1:]


def test_the_resampler_gives_as_many_vectors_of_any_number_of_places():
    for places in (2, 9):
        resampler = Resampler(places, d, D, M=3, heads=2, rng=RNG(0))
        Z = RNG(1).normal(size=(5, places, d)).astype(np.float32)
        r = resampler(tensor(Z)).numpy()
        assert r.shape == (5, 3, D)
        for p in range(places):  # all vectors depend on all places of their own image
            other = Z.copy()
            other[0, p] *= -1
            change = np.abs(resampler(tensor(other)).numpy() - r).max(-1)
            assert (change[0] > 1e-5).all() and not change[1:].any()


def test_a_text_with_more_signs_than_images_is_refused():
    with pytest.raises(ValueError, match="has the image token 2 times, but came with 1 image"):
        flamingo().scores(PAIR, images(2, 1))


# BLIP-2 -------------------------------------------------------------------------------------------


TEXTS = np.array([[1, 2, 3], [4, 1, 0], [2, 0, 0]])


def features(n=3):
    return tensor(RNG(4).normal(size=(n, P, d)).astype(np.float32))


SEES = {  # for each mask: do queries attend to words, words to queries, words to later words?
    "itm_mask": (True, True, True), "itc_mask": (False, False, True),
    "itg_mask": (False, True, False)}


@pytest.mark.parametrize("kind", SEES)
def test_each_loss_has_its_own_view(kind):
    q, Z = q_former(), features()
    c = np.array([[V, 1, 2, 3], [V, 4, 1, 2], [V, 2, 3, 4]])
    queries_words, words_queries, later = SEES[kind]

    def read(given):
        Z, c = given
        return np.concatenate([a.numpy() for a in q.hidden(Z, c, getattr(q, kind)(c))], axis=1)

    for t in range(4):
        other = c.copy()
        other[:, t] = [0 if kind == "itg_mask" else 5, 5, 5]
        change = moved(read, (Z, c), (Z, other))
        assert (change[:, :3] == queries_words).all()
        assert (change[:, 3:3 + t] == later).all() and change[:, 3 + t:].all()
    before, change = read((Z, c)), moved(read, (Z, c), (-Z, c))
    assert change[:, :3].all() and (change[:, 3:] == words_queries).all()
    q.query_branch.queries.weight.data[2] *= -1  # and queries attend to queries
    assert (np.abs(read((Z, c)) - before)[:, :3].max(-1) > 1e-5).all()


@pytest.mark.parametrize("kind", ["itm_mask", "itc_mask"])
def test_words_that_are_not_there_are_not_seen(kind):
    q, Z = q_former(), features()
    w, longer = q.with_cls(TEXTS[2:, :1]), q.with_cls(TEXTS[2:])
    short, long = (q.hidden(Z[2:], w, getattr(q, kind)(w)) for w in (w, longer))
    assert np.allclose(short[0].numpy(), long[0].numpy(), atol=1e-5)
    assert np.allclose(short[1].numpy(), long[1].numpy()[:, :2], atol=1e-5)


def test_queries_alone_are_those_that_write():
    q, Z = q_former(), features()
    with_text, _ = q.hidden(Z, TEXTS, q.itg_mask(TEXTS))
    assert np.allclose(q.queries(Z).numpy(), with_text.numpy(), atol=1e-5)


def test_an_image_fits_a_text_as_its_best_query_does():
    q, Z = q_former(), features()
    w = q.with_cls(TEXTS)
    a, b = (part.numpy() for part in q.hidden(Z, w, q.itc_mask(w)))
    u, v = (a @ layer.weight.numpy().T + layer.bias.numpy()
            for a, layer in ((a, q.u), (b[:, 0], q.v)))
    s = q.itc_scores(Z, TEXTS).numpy()
    for i, j in np.ndindex(3, 3):
        cos = [u[i, m] @ v[j] / np.linalg.norm(u[i, m]) / np.linalg.norm(v[j]) for m in range(3)]
        assert s[i, j] == pytest.approx(max(cos) / 0.07, rel=1e-4)


def test_hard_negatives_are_others_in_proportion_to_how_well_they_fit():
    s = np.log(np.array([[9.0, 1, 3], [2, 7, 2], [1, 0, 5]]) + 1e-30)
    s[0, 0] = 500  # however well its own pair fits
    drawn = np.stack([hard_negatives(s, RNG((0, n))) for n in range(4000)])
    share = np.array([(drawn == j).mean(0) for j in range(3)]).T
    assert np.allclose(share, [[0, 0.25, 0.75], [0.5, 0, 0.5], [1, 0, 0]], atol=0.03)


def test_stage_1_is_the_sum_of_three_losses():
    q, Z = q_former(), features()
    loss, parts = q.loss_1(Z, TEXTS, RNG(1))
    rng, s = RNG(1), q.itc_scores(Z, TEXTS)
    text, image = hard_negatives(s.numpy(), rng), hard_negatives(s.numpy().T, rng)
    assert (text != image).any()
    assert parts["itc"].item() == pytest.approx(contrastive_loss(s).item() / 2)
    terms = []
    for n in range(3):
        for k, c, target in ((n, n, 1), (n, text[n], 0), (image[n], n, 0)):
            logit = q.itm_logits(Z[k:k + 1], TEXTS[c:c + 1]).item()
            terms.append(-np.log(1 / (1 + np.exp(-logit if target else logit))))
    assert parts["itm"].item() == pytest.approx(np.mean(terms), rel=1e-4)
    log_p = []
    for n in range(3):
        words = [0, *TEXTS[n]]
        end = words.index(0, 1) if 0 in words[1:] else 3
        for t in range(1, end + 1):
            p = np.exp(q.scores(np.array([words[:t]]), Z[n:n + 1]).numpy()[0, -1])
            log_p.append(np.log(p[words[t]] / p.sum()))
    assert parts["itg"].item() == pytest.approx(-np.mean(log_p), rel=1e-4)
    assert loss.item() == pytest.approx(sum(part.item() for part in parts.values()))


def blip2():
    return BLIP2(encoder(), q_former(), language_model(), RNG(6))


# All of them --------------------------------------------------------------------------------------


def git():
    lm = PrefixLanguageModel(V, T, D, depth=2, heads=2, rng=RNG(0))
    return GIT(encoder(), lm, P, d, RNG(7))


TRAINED = {
    "git": (git, (), {"W", "norm", "position", "lm", "encoder.body"}),
    "flamingo": (lambda: flamingo(open_gates=False), (), {"resampler", "cross_attentions"}),
    "blip2, stage 1": (blip2, (1,), {"q_former"}),
    "blip2, stage 2": (blip2, (2,), {"W", "q_former.shared", "q_former.query_branch"}),
}


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_frozen_does_not_move_and_the_rest_learns(name):
    build, stage, learns = TRAINED[name]
    model, w = build(), np.array([[IMG, 1, 2, 0, 0, 0, 0], [IMG, 3, 4, 1, 0, 0, 0]])
    x = images(2, 1) if name == "flamingo" else images(2)
    if stage == (2,):  # a frozen model can use only what it has learnt to use
        opt = optim.Adam(nn.parameters(model.lm), 1e-2)
        for _ in range(60):
            descend(opt, model.lm.loss(w, model.lm.embed_tokens(w)))
    before = nn.state_dict(model)
    opt = optim.Adam(model.trained(*stage), 1e-2)
    losses = []
    for t in range(40):
        loss = model.loss(w, x) if stage != (1,) else model.q_former.loss_1(
            model.features(x), w[:, 1:4], RNG(t))[0]
        losses.append(descend(opt, loss)["loss"])
    after = nn.state_dict(model)
    changed = {key for key in after if not np.array_equal(after[key], before[key])}
    allowed = {key for key in after if key.startswith(tuple(f"{part}." for part in learns))}
    assert changed <= allowed and len(changed) > 0.8 * len(allowed)
    assert all(any(key.startswith(f"{part}.") for key in changed) for part in learns)
    assert losses[-1] < losses[0] / 2
    if stage != (1,):  # it tells two images apart
        prompt = w * [1, 0, 0, 0, 0, 0, 0]
        assert np.array_equal(model.complete(prompt, x), w)
        assert np.array_equal(model.complete(prompt, x[::-1].copy()), w[::-1])


def test_other_stages_are_refused():
    with pytest.raises(ValueError, match="stage must be 1 or 2, got 3"):
        blip2().trained(3)


def test_esperanto_says_what_english_does():
    drawn = scenes.load(n_train=1, n_test=300).test_scenes
    english = sorted(set().union(*map(scenes.true_captions, drawn)))
    translated = [esperanto(text) for text in english]
    assert len(set(translated)) == len(english) > 600  # distinct texts remain distinct
    words = {word for text in translated for word in text.split()}
    assert words == set(" ".join(ESPERANTO.values()).split())
    assert esperanto("a small red ring left of a large blue cross on a dark background") == \
        "malgranda ruĝa ringo maldekstre de granda blua kruco sur malhela fono"
    assert sentences(encode(english, translated), 2) == translated
    assert (named(translated) == named(english)).all() and (named(translated).sum(1) > 0).all()
