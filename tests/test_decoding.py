"""The decoding rules, each checked by enumeration, by frequencies or from the definition."""

from itertools import combinations

import numpy as np
import pytest
from small_worlds import all_of

from minigen import nn
from minigen.models.autoregressive import decoding
from minigen.models.autoregressive.decoding import (
    beam_search,
    generate,
    greedy,
    sample,
    temperature,
    top_n,
    top_p,
)
from minigen.models.autoregressive.rnn import RNN

RNG = np.random.default_rng


def probs(s):
    """softmax, written out."""
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def frequencies(s, n=200_000):
    drawn = sample(np.tile(s, (n, 1)), RNG(0))
    return np.array([(drawn == w).mean() for w in range(len(s))])


def entropy(p):
    return -(p * np.log(p)).sum()


def rnn(V=4, d_h=8, seed=0, sharpness=3.0):
    """A small network with sharp distributions, so that greedy choices go wrong."""
    model = RNN(V, d_h)
    nn.init(model, RNG(seed))
    nn.astype(model, np.float64)
    model.out.weight.data *= sharpness
    model.state.weight.data *= sharpness
    return model


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.5])
def test_temperature(tau):
    s = RNG(0).normal(size=(3, 6))
    by_hand = [[np.exp(w / tau) / sum(np.exp(v / tau) for v in row) for w in row] for row in s]
    assert np.allclose(probs(temperature(s, tau)), by_hand)  # eq: temperature-softmax
    warmer, plain = entropy(probs(temperature(s[0], 1.5))), entropy(probs(s[0]))
    assert warmer > plain  # τ > 1 flattens
    each = temperature(s, np.array([[0.5], [1.0], [2.0]]))
    assert np.allclose(each, s / np.array([[0.5], [1.0], [2.0]]))


def test_greedy_takes_the_most_probable():
    s = RNG(1).normal(size=(50, 7))
    best = [max(range(7), key=lambda w: probs(row)[w]) for row in s]
    assert (greedy(s) == best).all()  # eq: greedy-decode


def test_sampling_has_the_models_frequencies():
    s = RNG(2).normal(size=5)
    s[3] = -np.inf
    assert np.allclose(frequencies(s), probs(s), atol=0.005)  # eq: basic-sampling
    assert frequencies(s)[3] == 0


@pytest.mark.parametrize("n", [1, 3, 6])
def test_top_n_renormalises_the_n_most_probable(n):
    s = RNG(3).normal(size=6)
    p = probs(s)
    p[np.argsort(p)[:6 - n]] = 0  # all but the n largest
    assert np.allclose(probs(top_n(s, n)), p / p.sum())  # eq: top-n-sampling
    assert np.allclose(frequencies(top_n(s, n)), p / p.sum(), atol=0.005)
    assert np.isfinite(top_n(np.zeros(6), n)).sum() == n  # even if all are equal


@pytest.mark.parametrize("p", [0.05, 0.5, 0.8, 0.95, 1.0])
def test_top_p_is_the_smallest_set_with_that_mass(p):
    for seed in range(20):
        s = 2 * RNG(seed).normal(size=6)
        P = probs(s)
        enough = [c for size in range(1, 7) for c in combinations(range(6), size)
                  if P[list(c)].sum() >= p - 1e-12]
        fewest = [c for c in enough if len(c) == len(enough[0])]
        best = list(max(fewest, key=lambda c: P[list(c)].sum()))
        expected = np.zeros(6)
        expected[best] = P[best] / P[best].sum()
        assert np.allclose(probs(top_p(s, p)), expected)  # eq: top-p-sampling


def test_top_p_of_1_leaves_out_nothing_that_has_a_probability():
    for s in (np.array([0.0, -40.0]), 5 * RNG(0).normal(size=16384)):
        assert np.isfinite(top_p(s, 1)).all()
    assert np.isfinite(top_p(np.array([0.0, -np.inf, 1.0]), 1)).sum() == 2


def test_scores_may_be_any_numbers():
    assert np.isfinite(top_n(np.array([0, 3, 1], np.uint8), 1)).tolist() == [False, True, False]


def test_a_beam_keeps_no_sequence_without_probability():
    step = lambda state, w: (np.where(np.arange(3) == w[:, None], 0.0, -np.inf), state)
    found, score = decoding.beam_search(step, np.zeros(1), 2, 4, 5)
    assert found.tolist() == [[2, 2, 2, 2]] and score.tolist() == [0.0]


def test_top_p_of_almost_nothing_keeps_the_most_probable():
    assert np.isfinite(top_p(np.array([0.0, 1.0, 0.5]), 1e-10)).tolist() == [False, True, False]


def test_top_p_is_a_share_of_probability_not_of_words():
    # one of ten words has 91% of the probability: that word alone has half of the mass
    s = np.log([0.91] + [0.01] * 9)
    kept = np.isfinite(top_p(s, 0.5)).sum()
    half_of_the_words = np.isfinite(top_n(s, 5)).sum()
    assert kept == 1 and half_of_the_words == 5  # slide error: 14
    assert frequencies(top_p(s, 0.5))[0] == 1


def test_rules_work_row_by_row_and_together():
    s = RNG(4).normal(size=(4, 3, 8))
    for rule in (lambda s: top_n(s, 3), lambda s: top_p(s, 0.7), lambda s: temperature(s, 0.3)):
        rows = np.array([[rule(s[i, j]) for j in range(3)] for i in range(4)])
        assert np.array_equal(rule(s), rows)
    both = top_p(temperature(s, 0.5), 0.6)
    assert sample(both, RNG(0)).shape == (4, 3) and (greedy(both) == greedy(s)).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_beam_as_wide_as_all_sequences_finds_the_best_of_them(seed):
    V, T = 4, 5
    model = rnn(V, seed=seed)
    every = all_of(V, T)
    log_p = model.log_prob(every).numpy()
    order = np.argsort(-log_p)
    found, score = model.most_probable(T, k=V ** T)
    assert (found == every[order]).all() and np.allclose(score, log_p[order])  # eq: beam-search
    for k in (1, 2, 3):  # for any width, scores are log-probabilities, in order
        found, score = model.most_probable(T, k)
        assert np.allclose(model.log_prob(found).numpy(), score) and (np.diff(score) <= 0).all()
        assert score[0] <= log_p.max() + 1e-12
    by_steps = model.sample(1, T, RNG(0), choose=greedy)
    assert (model.most_probable(T, 1)[0] == by_steps).all()  # a beam of one is greedy


def test_a_wider_beam_can_find_what_greedy_misses():
    """P(a) = 0.6, but after a both words are equally probable; after b one is almost certain."""
    first, after = np.log([0.6, 0.4]), np.log([[0.5, 0.5], [0.001, 0.999]])

    def step(state, w):
        t, last = state
        return np.where((t == 0)[:, None], first, after[w * (t > 0)]), (t + 1, w)

    start = (np.zeros(1, int), np.zeros(1, int))
    assert beam_search(step, start, 0, 2, k=1)[0].tolist() == [[0, 0]]
    found, log_p = beam_search(step, start, 0, 2, k=2)
    assert found[0].tolist() == [1, 1] and np.isclose(np.exp(log_p[0]), 0.4 * 0.999)
    drawn = generate(step, (np.zeros(3, int), np.zeros(3, int)), np.zeros(3, int), 2, greedy, None)
    assert drawn.tolist() == [[0, 0]] * 3


def test_sequences_are_drawn_as_often_as_they_are_probable():
    model = rnn(3, sharpness=1.0)
    drawn = model.sample(100_000, 3, RNG(5))
    counts = np.bincount(drawn @ [9, 3, 1], minlength=27) / len(drawn)
    every = all_of(3, 3)
    assert np.allclose(counts, np.exp(model.log_prob(every).numpy()), atol=0.006)


@pytest.mark.parametrize("weights", [(5, 4, 1), (5, 3, 2), (6, 3, 1), (1,) * 10, (4, 3, 2, 1)])
def test_top_p_keeps_no_more_than_what_sums_to_p(weights):
    """The most probable words sum to exactly p, except for rounding."""
    P = np.array(weights) / sum(weights)
    for kept in range(1, len(P)):
        assert np.isfinite(top_p(np.log(P), sum(weights[:kept]) / sum(weights))).sum() == kept


@pytest.mark.parametrize("call, says", [
    (lambda s: temperature(s, 0), "tau must be positive, got 0"),
    (lambda s: top_n(s, 9), r"n must lie in 1…4, got 9"),
    (lambda s: top_p(s, 1.5), r"p must lie in \(0, 1\], got 1.5"),
    (lambda s: sample(s + np.nan, RNG(0)), "NaN, or −∞ for all values"),
    (lambda s: sample(np.stack([s, s - np.inf]), RNG(0)), "NaN, or −∞ for all values"),
    (lambda s: greedy(np.stack([s, s + np.nan])), "greedy: scores are NaN"),
    (lambda s: decoding.beam_search(None, None, 0, 3, 0), "k must be at least 1, got 0"),
    (lambda s: beam_search(lambda state, w: (s[None] + np.nan, state), s[:1], 0, 3, 2),
     "beam_search: scores are NaN"),
    (lambda s: rnn().sample(2, 0, RNG(0)), "T must be at least 1, got 0"),
])
def test_wrong_settings_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call(np.zeros(4))
