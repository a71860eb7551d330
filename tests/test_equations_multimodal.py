"""Section "Large multimodal models": a language model, and the images it is shown."""

import numpy as np
import pytest
from small_worlds import all_of

from minigen import nn, optim, tensor
from minigen.models.autoregressive import decoding
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.multimodal.llava import Encoder, llava
from minigen.train import descend

RNG = np.random.default_rng
V, T, D = 4, 3, 8


def language_model(seed=0, sharpness=4.0):
    """A small language model in float64 with sharply peaked predictions."""
    lm = LanguageModel(V, T, D, depth=2, heads=2, rng=RNG(seed))
    nn.astype(lm, np.float64)
    lm.out.weight.data *= sharpness
    return lm


def prefix(n, P=2):
    return tensor(RNG(7).normal(size=(n, P, D)))


def every_text():
    """All texts of at most T words: integers (N, T)."""
    texts = all_of(V, T)
    return texts[((texts[:, :-1] > 0) | (texts[:, 1:] == 0)).all(1)]


def softmax(s):
    p = np.exp(s - s.max())
    return p / p.sum()


@pytest.mark.parametrize("given", [[], [prefix(1)]])
def test_a_text_is_as_probable_as_its_words_one_by_one(given):
    lm = language_model()
    for text in every_text():
        p, read = 1.0, [0]
        for word in text:  # each given only what precedes it
            p *= softmax(lm.scores(np.array([read]), *given).numpy()[0, -1])[word]
            read.append(word)
            if word == 0:
                break
        loss = lm.loss(text[None], *given).item()
        assert loss == pytest.approx(-np.log(p))  # eq: lm-ar-loss
        log_p = lm.log_prob(text[None], *given).numpy()
        assert log_p == pytest.approx(np.log(p))  # eq: lm-ar-loss


@pytest.mark.parametrize("given", [[], [prefix(1)]])
def test_all_texts_together_are_certain(given):
    lm, texts = language_model(), every_text()
    assert len(texts) == 1 + 3 + 9 + 27
    p = np.exp([lm.log_prob(text[None], *given).item() for text in texts])
    assert p.sum() == pytest.approx(1) and p.max() > 0.05  # eq: lm-ar-loss


def test_the_loss_is_a_mean_over_texts():
    lm, texts, x = language_model(), every_text(), prefix(40)
    log_p = lm.log_prob(texts, x).numpy()
    one_by_one = [lm.log_prob(texts[n:n + 1], x[n:n + 1]).item() for n in range(40)]
    assert np.allclose(log_p, one_by_one)
    assert lm.loss(texts, x).item() == pytest.approx(-np.mean(one_by_one))


def test_a_word_sees_the_prefix_and_what_stands_before_it():
    lm, w, x = language_model(), np.array([[0, 2, 3]]), prefix(1)
    s = lm.scores(w, x).numpy()[0]
    for t in range(T):
        for word in set(range(V)) - {w[0, t]}:
            other = w.copy()
            other[0, t] = word
            moved = np.abs(lm.scores(other, x).numpy()[0] - s).max(1)
            assert (moved[:t] == 0).all() and (moved[t:] > 1e-4).all()
    for p in range(2):
        other = x.numpy().copy()
        other[0, p] *= -1
        assert (np.abs(lm.scores(w, tensor(other)).numpy()[0] - s).max(1) > 1e-4).all()


def test_words_may_stand_in_the_prefix():
    lm, w = language_model(), np.array([[0, 2, 1], [0, 3, 1]])
    by_hand = [[lm.embed.weight.numpy()[w[n, t]] + lm.position.weight.numpy()[t] for t in range(3)]
               for n in range(2)]
    assert np.allclose(lm.embed_tokens(w).numpy(), by_hand)


def test_texts_are_drawn_with_their_probabilities_and_end_once():
    lm, n, x = language_model(), 20_000, prefix(1)
    drawn = lm.sample(n, RNG(1), tensor(np.repeat(x.numpy(), n, 0)))
    texts = every_text()
    share = np.array([(drawn == text).all(1).mean() for text in texts])
    p = np.exp(lm.log_prob(texts, tensor(np.repeat(x.numpy(), len(texts), 0))).numpy())
    assert share.sum() == 1 and np.allclose(share, p, atol=0.012)


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_most_probable_text(seed):
    lm, texts, x = language_model(seed), every_text(), prefix(1)
    log_p = lm.log_prob(texts, tensor(np.repeat(x.numpy(), len(texts), 0))).numpy()
    found, score = lm.beam_search(len(texts), x)
    assert (found == texts[np.argsort(-log_p)]).all() and np.allclose(score, np.sort(log_p)[::-1])
    assert len(lm.beam_search(4 ** T, x)[0]) == len(texts)  # the others have probability 0
    assert (lm.beam_search(1, x)[0] == lm.sample(1, None, x, choose=decoding.greedy)).all()


# The cache of what has been read ------------------------------------------------------------------

WORDS = np.array([[0, 2, 3], [0, 1, 0], [0, 3, 3]])


@pytest.mark.parametrize("given", [[], [prefix(3)], [prefix(3), prefix(3, 1)]])
@pytest.mark.parametrize("cuts", [(1, 2), (2,), ()])
def test_a_text_read_in_parts_has_the_scores_of_the_whole(given, cuts):
    lm = language_model()
    whole, (state, first) = lm.scores(WORDS, *given).numpy(), lm.start(3, *given)
    assert (first == WORDS[:, 0]).all() and len(state) == 1 + len(lm.blocks)
    for part in np.split(WORDS, cuts, axis=1):
        s, state = lm.extend(state, part)
        assert np.allclose(s, whole[:, state[0].shape[1] - 1], rtol=0, atol=1e-12)
        assert all(a.shape == (3, sum(x.shape[1] for x in given) + state[0].shape[1], 2 * D)
                   and not a.requires_grad for a in state[1:])
    assert (state[0] == WORDS).all() and np.abs(whole[0] - whole[1]).max() > 0.1


def test_a_state_stays_as_it_is_and_its_rows_can_be_chosen():
    lm, rows = language_model(), [2, 0, 0, 1]
    state, w = lm.start(3, prefix(3))
    _, state = lm.extend(state, WORDS[:, :2])
    first = lm.extend(state, WORDS[:, 2:])[0]
    other = lm.extend(state, 1 - WORDS[:, 2:] % 2)[0]
    assert (lm.extend(state, WORDS[:, 2:])[0] == first).all() and (first != other).any()
    chosen = lm.extend(tuple(a[rows] for a in state), WORDS[rows, 2:])[0]
    assert np.allclose(chosen, first[rows], rtol=0, atol=1e-12)


def test_a_word_costs_one_place():
    lm, places = language_model(), []
    for block in lm.blocks:
        block.norm_1 = lambda h, norm=block.norm_1: places.append(h.shape[1]) or norm(h)
    lm.sample(5, RNG(0), prefix(5))
    assert places == [2, 2, *[1, 1] * T]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_narrow_beam_finds_what_it_finds_without_keeping_anything(k):
    lm, x = language_model(1), prefix(1)

    def step(words, w):  # rereads the whole text
        words = np.column_stack([words, w])
        s = lm.scores(words, tensor(np.repeat(x.numpy(), len(words), 0))).numpy()[:, -1]
        s[(words[:, 1:] == 0).any(1), 1:] = -np.inf
        return s, words

    texts, log_p = decoding.beam_search(step, np.empty((1, 0), int), 0, T, k)
    found, score = lm.beam_search(k, x)
    assert (found == texts).all() and np.allclose(score, log_p)


@pytest.mark.parity
def test_the_transformer_equals_pytorchs():
    torch = pytest.importorskip("torch")
    lm = language_model()
    h = prefix(3, 5)
    twin = torch.nn.TransformerEncoderLayer(D, 2, 4 * D, 0.0, "gelu", batch_first=True,
                                            norm_first=True).double()
    names = {"norm_1": "norm1", "norm_2": "norm2", "mlp.0": "linear1", "mlp.2": "linear2",
             "attention": "self_attn"}
    for block in lm.blocks:
        state = {}
        for key, value in nn.state_dict(block).items():
            ours = next(name for name in names if key.startswith(f"{name}."))
            state[key.replace(ours, names[ours])] = torch.from_numpy(value)
        twin.load_state_dict(state)
        causal = torch.nn.Transformer.generate_square_subsequent_mask(5).double()
        theirs = twin(torch.from_numpy(h.numpy()), causal).detach().numpy()
        assert np.allclose(block(h, is_causal=True).numpy(), theirs, atol=1e-10)


@pytest.mark.parametrize("texts, message", [
    ([[1, 2]], r"texts are \(1, 2\), expected \(N, 3\)"),
    ([[1, 0, 2]], "a word stands after the end"),
    ([[1, 2, 4]], r"indices must lie in 0…3, got 1…4"),
])
def test_bad_texts_are_refused(texts, message):
    with pytest.raises((ValueError, IndexError), match=message):
        language_model().log_prob(np.array(texts))


def test_no_word_stands_beyond_the_last_place():
    lm = language_model()
    _, state = lm.extend(lm.start(2)[0], np.zeros((2, 2), int))
    for call in (lambda: lm.scores(np.zeros((2, 4), int)),
                 lambda: lm.extend(state, np.zeros((2, 2), int))):
        with pytest.raises(ValueError, match="4 words came, expected at most 3"):
            call()


# Pictures -----------------------------------------------------------------------------------------


def small_llava(n=3, size=16):
    """A small LLaVA, with images and texts for it."""
    model = llava((3, size, size), V, T, D, RNG(0))
    x = RNG(1).uniform(-1, 1, (n, 3, size, size)).astype(np.float32)
    return model, x, np.array([[2, 1, 0], [3, 0, 0], [1, 2, 3]])[:n]


def test_a_matrix_turns_features_into_words():
    model, x, _ = small_llava()
    Z = model.encoder.body(tensor(x)).numpy()  # (3, 64, 4, 4)
    W = model.W.weight.numpy()
    H = model.prefix(x).numpy()
    assert H.shape == (3, 4, D) and W.shape == (D, 4 * 64 + 4)
    for n, p, i in np.ndindex(H.shape):
        top, left = 2 * (p // 2), 2 * (p % 2)
        z = [*Z[n, :, top:top + 2, left:left + 2].ravel(), *np.eye(4)[p]]
        by_hand = np.sum([W[i, j] * z[j] for j in range(260)])
        assert H[n, p, i] == pytest.approx(by_hand, abs=1e-5)  # eq: llava-two-stage


def test_the_loss_is_that_of_words_after_the_vectors():
    model, x, w = small_llava()
    H = model.prefix(x).detach()
    assert model.loss(w, x).item() == pytest.approx(model.lm.loss(w, H).item())
    assert model.loss(w, x).item() != pytest.approx(model.lm.loss(w).item(), rel=1e-3)


@pytest.mark.parametrize("stage, learns", [(1, {"W"}), (2, {"W", "lm"})])
def test_each_stage_changes_its_parts_and_no_bit_of_the_others(stage, learns):
    model, x, w = small_llava()
    before = nn.state_dict(model)
    opt = optim.Adam(model.trained(stage), 1e-3)
    losses = [descend(opt, model.loss(w, x))["loss"] for _ in range(10)]
    after = nn.state_dict(model)
    moved = {key for key in after if not np.array_equal(after[key], before[key])}
    assert moved == {key for key in after
                     if key.partition(".")[0] in learns}  # eq: llava-two-stage
    assert {key.partition(".")[0] for key in after} == {"encoder", "lm", "W"}
    assert losses[-1] < losses[0]


def test_what_it_says_depends_on_the_picture():
    model, x, w = small_llava()
    opt = optim.Adam(model.trained(2), 2e-2)
    for _ in range(40):
        descend(opt, model.loss(w, x))
    assert (model.describe(x) == w).all() and (model.describe(x[::-1].copy()) == w[::-1]).all()
    assert model.log_prob(w, x).numpy().min() > np.log(0.5)


def test_the_encoder_learns_which_words_occur():
    encoder, x = Encoder(V, rng=RNG(0)), small_llava()[1]
    s = encoder.scores(tensor(x)).numpy().astype(float)  # (3, 4, V)
    w = np.array([[2, 1, 0], [3, 3, 0], [1, 2, 3]])
    terms = []
    for n, v in np.ndindex(3, V):
        p = 1 / (1 + np.exp(-s[n, :, v].max()))
        terms.append(-np.log(p if v in w[n] else 1 - p))
    assert encoder.loss(tensor(x), w).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_an_object_is_found_where_all_its_words_fit():
    encoder, x, objects = Encoder(V), small_llava()[1], np.array([[1, 2], [0, 3], [2, 3]])
    s = RNG(2).normal(-0.5, 1, (3, 4, V))
    encoder.scores = lambda x: tensor(s)
    by_hand = [[any(all(s[n, p, v] > 0 for v in pair) for p in range(4)) for pair in objects]
               for n in range(3)]
    found = encoder.detects(x, objects)
    assert np.array_equal(found, by_hand) and 0 < found.mean() < 1


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 20, 16)])
def test_pictures_of_another_kind_are_refused(shape):
    with pytest.raises(ValueError, match="expected 3 channels, and a height"):
        llava(shape, V, T)


def test_other_stages_and_numbers_of_captions_are_refused():
    model, x, w = small_llava()
    with pytest.raises(ValueError, match="stage must be 1 or 2, got 3"):
        model.trained(3)
    with pytest.raises(TypeError, match="LLaVA: x is uint8"):
        model.prefix(np.zeros(x.shape, np.uint8))
    with pytest.raises(ValueError, match="3 images came with 2 captions"):
        model.encoder.loss(tensor(x), w[:2])
    with pytest.raises(IndexError, match="must lie in 0…"):
        model.encoder.loss(tensor(x), w - 1)
