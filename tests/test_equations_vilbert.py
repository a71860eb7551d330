"""ViLBERT: what attends to what, what is masked and predicted, and that both streams learn."""

import numpy as np
import pytest

from demos.vilbert import corrupt_word, positions_of_kind, replace_words, sample_positions
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


def detector_logits():
    return RNG(2).normal(size=(N, P, V)) * 2


def moved(a, b):
    return [np.abs(x.numpy() - y.numpy()).max(-1) > 1e-9 for x, y in zip(a, b, strict=True)]


def test_both_streams_see_both():
    model, Z = vilbert(), features()
    before = model.hidden(Z, C)
    other = C.copy()
    other[0, 2] = 8
    v, w = moved(before, model.hidden(Z, other))
    assert v[0].all() and w[0].all() and not v[1:].any() and not w[1:].any()
    other = Z.numpy().copy()
    other[3, 1] *= -1
    v, w = moved(before, model.hidden(tensor(other), C))
    assert v[3].all() and w[3][:5].all() and not v[:3].any() and not w[4:].any()


@pytest.mark.parametrize("stream", ["attend_w", "attend_v"])
def test_co_attention_is_the_only_way_across(stream):
    model, Z = vilbert(), features()
    for layer in model.layers:
        attention = getattr(layer, stream).out_proj
        attention.weight.data[...] = attention.bias.data[...] = 0
    v, w = moved(model.hidden(Z, C), model.hidden(Z, np.roll(C, 1, axis=0)))
    assert v.any() == (stream == "attend_v") and w.any()
    v, w = moved(model.hidden(Z, C), model.hidden(-Z, C))
    assert w.any() == (stream == "attend_w") and v.any()


def test_words_that_are_not_there_are_not_seen():
    longer, shorter = vilbert(), vilbert()
    shorter.position_w.weight = shorter.position_w.weight[:4].detach()
    v, w = longer.hidden(features()[1:3], C[1:3])
    same_v, same_w = shorter.hidden(features()[1:3], C[1:3, :3])
    assert np.allclose(v.numpy(), same_v.numpy(), atol=1e-12)
    assert np.allclose(w.numpy()[0, :3], same_w.numpy()[0, :3], atol=1e-12)


def test_a_word_in_seven_is_hidden_most_of_them_by_the_mask():
    model, c = vilbert(), np.tile(C, (4000, 1))
    masked, mask = model.mask_words(c, RNG(3))
    assert not mask[c == 0].any() and (masked == c)[~mask].all()
    assert mask[c > 0].mean() == pytest.approx(0.15, abs=0.005)
    kinds = masked[mask]
    assert (kinds == model.MASK).mean() == pytest.approx(0.8, abs=0.015)
    same = (kinds == c[mask]).mean()  # the 10% left as they are, and chance hits
    assert same == pytest.approx(0.1 + 0.1 / (V - 1), abs=0.01)
    assert set(kinds) == {*range(1, V), model.MASK}


def test_the_loss_is_the_sum_of_three():
    """The random choices are repeated with the same seed, and each term is computed by hand."""
    model, Z, logits = vilbert(), features(), detector_logits()
    for seed in range(5):
        loss, parts = model.loss(Z, logits, C, RNG(seed))
        rng = RNG(seed)
        match = rng.random(N) < 0.5
        c = np.array([C[n] if match[n] else C[n - 1] for n in range(N)])
        masked, mask_w = model.mask_words(c, rng)
        mask_v = rng.random((N, P)) < 0.15
        zeroed = mask_v & (rng.random((N, P)) < 0.9)
        Z_masked = Z.numpy().copy()
        Z_masked[zeroed] = 0
        v, w = model.hidden(tensor(Z_masked), masked)
        words, regions, alignment = [], [], []
        for n in range(N):
            s, q = model.out_w(w).numpy()[n], model.out_v(v).numpy()[n]
            for t in np.flatnonzero(mask_w[n] & match[n]):
                p = np.exp(s[1 + t])
                words.append(-np.log(p[c[n, t]] / p.sum()))
            for i in np.flatnonzero(mask_v[n] & match[n]):
                for k in range(V):
                    p, guess = 1 / (1 + np.exp(-np.array([logits[n, i, k], q[1 + i, k]])))
                    regions.append(-p * np.log(guess) - (1 - p) * np.log(1 - guess))
            fit = (v.numpy()[n, 0] * w.numpy()[n, 0]) @ model.out_match.weight.numpy()[0]
            p = 1 / (1 + np.exp(-fit - model.out_match.bias.numpy()[0]))
            alignment.append(-np.log(p if match[n] else 1 - p))
        assert parts["words"].item() == pytest.approx(mean(words))  # eq: vilbert-masked
        assert parts["regions"].item() == pytest.approx(mean(regions))  # eq: vilbert-masked
        assert parts["alignment"].item() == pytest.approx(mean(alignment))  # eq: vilbert-alignment
        assert loss.item() == pytest.approx(mean(words) + mean(regions) + mean(alignment))


def mean(terms):
    return np.mean(terms) if terms else 0  # 0 if nothing in the batch is hidden


def test_one_pair_alone_is_refused_and_extremes_are_not():
    model, Z = vilbert(), features()
    with pytest.raises(ValueError, match="1 pair came"):
        model.loss(Z[:1], detector_logits()[:1], C[:1], RNG(0))
    far = np.where(detector_logits() > 0, 900.0, -900.0).astype(np.float32)
    assert np.isfinite(model.loss(Z.numpy(), far, C, RNG(0))[0].item())


def test_what_is_hidden_is_not_seen():
    model, Z, logits = vilbert(), features(), detector_logits()
    rng = RNG(4)
    rng.random(N)
    model.mask_words(C, rng)
    mask_v = rng.random((N, P)) < 0.15
    zeroed = mask_v & (rng.random((N, P)) < 0.9)
    other = Z.numpy().copy()
    other[zeroed] *= -3
    assert zeroed.any()
    assert model.loss(Z, logits, C, RNG(4))[0].item() == \
        model.loss(tensor(other), logits, C, RNG(4))[0].item()


def test_it_learns_to_read_both():
    """Three pictures in which only one region tells which word is in the middle."""
    model = ViLBERT(V, 3, 2, 3, D=16, depth=1, heads=2, rng=RNG(0))
    Z = np.stack([np.stack([np.zeros(3), 4 * row]) for row in np.eye(3)]).astype(np.float32)
    c, logits = np.array([[7, 1, 8], [7, 2, 8], [7, 3, 8]]), np.zeros((3, 2, V), np.float32)
    logits[:, 1] = 8 * np.eye(V)[1:4] - 4
    opt = optim.Adam(nn.parameters(model), 5e-3)
    for t in range(250):
        many = np.tile(([0, 1, 2], [0, 2, 1])[t % 2], 8)  # so each meets both other texts
        descend(opt, *model.loss(tensor(Z[many]), logits[many], c[many], RNG(t)))
    masked = replace_words(c, [1, 1, 1], model.MASK)
    assert model.scores(tensor(Z), masked).numpy()[:, 1].argmax(-1).tolist() == [1, 2, 3]
    fits = np.stack([model.match_logits(*model.hidden(tensor(Z), np.roll(c, k, 0))).numpy()
                     for k in range(3)])
    assert (fits[0] > 0).all() and (fits[1:] < 0).all()
    Z[:, 1] = 0  # a hidden region, predicted from its word
    q = model.out_v(model.hidden(tensor(Z), c)[0]).numpy()[:, 2]
    assert q[:, 1:4].argmax(1).tolist() == [0, 1, 2]


def test_the_demo_hides_words_that_a_picture_can_tell():
    caption = "a small red ring left of a large blue cross on a dark background"
    alone = "a small red ring on the left on a dark background"
    w = scenes.encode([caption, alone])
    assert positions_of_kind(w[0], "relation") == [4] and positions_of_kind(w[1], "relation") == []
    assert positions_of_kind(w[0], "colour") == [2, 8]
    assert positions_of_kind(w[0], "shape") == [3, 9]
    rows, positions = sample_positions(w, "relation", RNG(0))
    assert rows.tolist() == [0] and positions.tolist() == [4]
    for kind, positions in (("relation", [4]), ("colour", [2, 8]), ("shape", [3, 9])):
        for t in positions:
            changed = replace_words(w[:1], [t], corrupt_word(w[0, t], kind, RNG(t)))
            words = scenes.decode(changed)[0].split()
            differs = [a != b for a, b in zip(words, caption.split(), strict=True)]
            assert np.flatnonzero(differs).tolist() == [t]
