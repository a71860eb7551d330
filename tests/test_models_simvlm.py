"""SimVLM: what attends to what, what the loss counts, and that it learns."""

import numpy as np
import pytest

from minigen import nn, optim
from minigen.models.multimodal.git import PrefixLanguageModel
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.multimodal.llava import Encoder
from minigen.models.multimodal.simvlm import SimVLM
from minigen.train import descend

RNG = np.random.default_rng
V, T, D, IMG, P, d = 6, 7, 8, 5, 4, 32
PAIR = np.array([[IMG, 1, 2, IMG, 3, 4, 0], [IMG, 2, 2, 1, IMG, 4, 0]])


def images(n):
    return RNG(1).normal(size=(n, 3, 16, 16)).astype(np.float32)


def moved(f, a, b):
    """Which rows of f differ between a and b."""
    return np.abs(f(a) - f(b)).max(-1) > 1e-5


def simvlm():
    lm = PrefixLanguageModel(V, T, D, depth=2, heads=2, rng=RNG(0))
    return SimVLM(Encoder(3, (8, 8, d // 4), RNG(5)), lm, P, d, RNG(7))


@pytest.mark.parametrize("s", [0, 1, 4])
def test_a_prefix_is_read_as_a_whole(s):
    """In the first block a word changes its own and later places; in the prefix, all of that."""
    model, x, w = simvlm(), images(2), np.pad(PAIR[:, :-1], ((0, 0), (1, 0)))
    first, known = model.lm.blocks[0], []
    model.lm.blocks = [lambda h, seen: known.append(first(h, seen).numpy()) or h]

    def after(w):
        model.lm.hidden(w, model.prefix(x), s)
        return known[-1]

    for t in range(T):
        other = w.copy()
        other[:, t] = 1 + w[:, t] % (V - 1)
        place = np.arange(P + T)
        assert (moved(after, w, other) == ((place >= P + t) | ((t < s) & (place < P + s)))).all()


def test_what_follows_the_prefix_costs_what_its_words_do():
    model, x = simvlm(), images(2)
    w = np.array([[IMG, 1, 2, 3, 0, 0, 0], [IMG, 2, 4, 1, 2, 3, 4]])
    begin = np.pad(w[:, :-1], ((0, 0), (1, 0)))
    s, by_hand = np.array([0, 3]), []
    for n, end in enumerate((5, 7)):
        log_p = []
        for t in range(max(s[n], 1), end + 1):  # w_t, given the words before
            score = model.scores(begin[n:n + 1, :t], x[n:n + 1], s[n:n + 1]).numpy()[0, -1]
            log_p.append(score[w[n, t - 1]] - np.log(np.exp(score).sum()))
        by_hand.append(-np.sum(log_p))
    assert model.loss(w, x, s).item() == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert model.loss(w, x).item() == pytest.approx(-model.log_prob(w, x).numpy().mean(), rel=1e-5)


def test_an_image_read_as_a_whole_is_read_so_when_it_writes():
    model, x = simvlm(), images(2)
    whole, (state, _) = model.scores(PAIR, x).numpy(), model.start(2, x)
    for part in np.split(PAIR, (1, 4), axis=1):
        s, state = model.extend(state, part)
        assert np.allclose(s, whole[:, state[0].shape[1] - 1], atol=1e-5)
    causal = model.lm.out(LanguageModel.hidden(model.lm, PAIR, model.prefix(x))).numpy()
    assert not np.allclose(causal, whole, atol=1e-3)


def test_all_of_it_learns_and_images_are_told_apart():
    model, x, w = simvlm(), images(2), PAIR * [1, 1, 1, 0, 0, 0, 0]
    before, opt = nn.state_dict(model), optim.Adam(model.trained(), 1e-2)
    losses = [descend(opt, model.loss(w, x, RNG(t).integers(0, 4, 2)))["loss"] for t in range(60)]
    after = nn.state_dict(model)
    same = {key for key in after if np.array_equal(after[key], before[key])}
    assert same == {"encoder.head.weight", "encoder.head.bias"}
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) / 3
    assert (model.describe(x) == w).all() and (model.describe(x[::-1].copy()) == w[::-1]).all()
