"""ViLBERT: what attends to what, what is masked and predicted, and that both streams learn."""

import numpy as np
import pytest

from demos.vilbert import another, asked, put, those
from minigen import nn, optim, tensor
from minigen.data import scenes
from minigen.models.multimodal.vilbert import ViLBERT
from minigen.train import descend

RNG = np.random.default_rng
V, T, P, d, N = 9, 5, 4, 6, 6
C = np.array([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0], [8, 1, 2, 0, 0], [3, 3, 4, 1, 0], [5, 0, 0, 0, 0],
              [2, 6, 8, 7, 4]])


def vilbert():
    model = ViLBERT(V, T, P, d, D=8, depth=2, heads=2, rng=RNG(0))
    nn.astype(model, np.float64)
    return model


def features():
    return tensor(RNG(1).normal(size=(N, P, d)))


def logits():
    return RNG(2).normal(size=(N, P, V)) * 2


def moved(a, b):
    return [np.abs(x.numpy() - y.numpy()).max(-1) > 1e-9 for x, y in zip(a, b, strict=True)]


def test_both_streams_see_both():
    model, Z = vilbert(), features()
    before = model.read(Z, C)
    other = C.copy()
    other[0, 2] = 8
    v, w = moved(before, model.read(Z, other))
    assert v[0].all() and w[0].all() and not v[1:].any() and not w[1:].any()
    other = Z.numpy().copy()
    other[3, 1] *= -1
    v, w = moved(before, model.read(tensor(other), C))
    assert v[3].all() and w[3][:5].all() and not v[:3].any() and not w[4:].any()


@pytest.mark.parametrize("stream", ["ask_w", "ask_v"])
def test_co_attention_is_the_only_way_across(stream):
    model, Z = vilbert(), features()
    for layer in model.layers:
        attention = getattr(layer, stream).out_proj
        attention.weight.data[...] = attention.bias.data[...] = 0
    v, w = moved(model.read(Z, C), model.read(Z, np.roll(C, 1, axis=0)))
    assert v.any() == (stream == "ask_v") and w.any()
    v, w = moved(model.read(Z, C), model.read(-Z, C))
    assert w.any() == (stream == "ask_w") and v.any()


def test_words_that_are_not_there_are_not_seen():
    longer, shorter = vilbert(), vilbert()
    shorter.place.weight = shorter.place.weight[:4].detach()
    v, w = longer.read(features()[1:3], C[1:3])
    same_v, same_w = shorter.read(features()[1:3], C[1:3, :3])
    assert np.allclose(v.numpy(), same_v.numpy(), atol=1e-12)
    assert np.allclose(w.numpy()[0, :3], same_w.numpy()[0, :3], atol=1e-12)


def test_a_word_in_seven_is_hidden_most_of_them_by_the_mask():
    model, c = vilbert(), np.tile(C, (4000, 1))
    shown, hidden = model.hide_words(c, RNG(3))
    assert not hidden[c == 0].any() and (shown == c)[~hidden].all()
    assert hidden[c > 0].mean() == pytest.approx(0.15, abs=0.005)
    kinds = shown[hidden]
    assert (kinds == model.MASK).mean() == pytest.approx(0.8, abs=0.015)
    same = (kinds == c[hidden]).mean()  # the 10% left as they are, and chance hits
    assert same == pytest.approx(0.1 + 0.1 / (V - 1), abs=0.01)
    assert set(kinds) == {*range(1, V), model.MASK}


def test_the_loss_is_the_sum_of_three():
    """The random choices are repeated with the same seed, and each term is computed by hand."""
    model, Z, found = vilbert(), features(), logits()
    for seed in range(5):
        loss, parts = model.loss(Z, found, C, RNG(seed))
        rng = RNG(seed)
        belong = rng.random(N) < 0.5
        c = np.array([C[n] if belong[n] else C[n - 1] for n in range(N)])
        shown, hidden = model.hide_words(c, rng)
        unseen = rng.random((N, P)) < 0.15
        blank = unseen & (rng.random((N, P)) < 0.9)
        left = Z.numpy().copy()
        left[blank] = 0
        v, w = model.read(tensor(left), shown)
        words, regions, alignment = [], [], []
        for n in range(N):
            s, q = model.word(w).numpy()[n], model.fits(v).numpy()[n]
            for t in np.flatnonzero(hidden[n] & belong[n]):
                p = np.exp(s[1 + t])
                words.append(-np.log(p[c[n, t]] / p.sum()))
            for i in np.flatnonzero(unseen[n] & belong[n]):
                for k in range(V):
                    p, guess = 1 / (1 + np.exp(-np.array([found[n, i, k], q[1 + i, k]])))
                    regions.append(-p * np.log(guess) - (1 - p) * np.log(1 - guess))
            fit = (v.numpy()[n, 0] * w.numpy()[n, 0]) @ model.aligned.weight.numpy()[0]
            p = 1 / (1 + np.exp(-fit - model.aligned.bias.numpy()[0]))
            alignment.append(-np.log(p if belong[n] else 1 - p))
        assert parts["words"].item() == pytest.approx(mean(words))  # eq: vilbert-masked
        assert parts["regions"].item() == pytest.approx(mean(regions))  # eq: vilbert-masked
        assert parts["alignment"].item() == pytest.approx(mean(alignment))  # eq: vilbert-alignment
        assert loss.item() == pytest.approx(mean(words) + mean(regions) + mean(alignment))


def mean(terms):
    return np.mean(terms) if terms else 0  # 0 if nothing in the batch is hidden


def test_one_pair_alone_is_refused_and_extremes_are_not():
    model, Z = vilbert(), features()
    with pytest.raises(ValueError, match="1 pair came"):
        model.loss(Z[:1], logits()[:1], C[:1], RNG(0))
    far = np.where(logits() > 0, 900.0, -900.0).astype(np.float32)
    assert np.isfinite(model.loss(Z.numpy(), far, C, RNG(0))[0].item())


def test_what_is_hidden_is_not_seen():
    model, Z, found = vilbert(), features(), logits()
    rng = RNG(4)
    rng.random(N)
    model.hide_words(C, rng)
    unseen = rng.random((N, P)) < 0.15
    blank = unseen & (rng.random((N, P)) < 0.9)
    other = Z.numpy().copy()
    other[blank] *= -3
    assert blank.any()
    assert model.loss(Z, found, C, RNG(4))[0].item() == \
        model.loss(tensor(other), found, C, RNG(4))[0].item()


def test_it_learns_to_read_both():
    """Three pictures in which only one region tells which word is in the middle."""
    model = ViLBERT(V, 3, 2, 3, D=16, depth=1, heads=2, rng=RNG(0))
    Z = np.stack([np.stack([np.zeros(3), 4 * row]) for row in np.eye(3)]).astype(np.float32)
    c, found = np.array([[7, 1, 8], [7, 2, 8], [7, 3, 8]]), np.zeros((3, 2, V), np.float32)
    found[:, 1] = 8 * np.eye(V)[1:4] - 4
    opt = optim.Adam(nn.parameters(model), 5e-3)
    for t in range(250):
        many = np.tile(([0, 1, 2], [0, 2, 1])[t % 2], 8)  # so each meets both other texts
        descend(opt, *model.loss(tensor(Z[many]), found[many], c[many], RNG(t)))
    hidden = put(c, [1, 1, 1], model.MASK)
    assert model.scores(tensor(Z), hidden).numpy()[:, 1].argmax(-1).tolist() == [1, 2, 3]
    fits = np.stack([model.matches(*model.read(tensor(Z), np.roll(c, k, 0))).numpy()
                     for k in range(3)])
    assert (fits[0] > 0).all() and (fits[1:] < 0).all()
    Z[:, 1] = 0  # a hidden region, predicted from its word
    q = model.fits(model.read(tensor(Z), c)[0]).numpy()[:, 2]
    assert q[:, 1:4].argmax(1).tolist() == [0, 1, 2]


def test_the_demo_hides_words_that_a_picture_can_tell():
    caption = "a small red ring left of a large blue cross on a dark background"
    alone = "a small red ring on the left on a dark background"
    w = scenes.encode([caption, alone])
    assert those(w[0], "relation") == [4] and those(w[1], "relation") == []
    assert those(w[0], "colour") == [2, 8] and those(w[0], "shape") == [3, 9]
    rows, places = asked(w, "relation", RNG(0))
    assert rows.tolist() == [0] and places.tolist() == [4]
    for kind, places in (("relation", [4]), ("colour", [2, 8]), ("shape", [3, 9])):
        for t in places:
            changed = scenes.decode(put(w[:1], [t], another(w[0, t], kind, RNG(t))))[0].split()
            differs = [a != b for a, b in zip(changed, caption.split(), strict=True)]
            assert np.flatnonzero(differs).tolist() == [t]
