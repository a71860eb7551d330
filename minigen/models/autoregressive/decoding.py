"""Decoding: choosing the next value w from an autoregressive model's scores s (its logits).

    P_t(w) = exp(s_w / τ) / Σ_w′ exp(s_w′ / τ)     temperature τ: above 1 flatter, below 1 sharper

    greedy           w_t = argmax_w P_t(w)
    basic sampling   w_t ~ P_t(w)
    top-n            P_t restricted to the n most probable values
    top-p            P_t restricted to the fewest values whose total probability is at least p; the
                     slide says "proportion of words", which would be top-n under another name
    beam search      keeps the k partial sequences with the highest Σ_t log P_t(w_t)

Scores are arrays (..., V), any numbers whose softmax is P_t; −∞ means probability 0. `temperature`,
`top_n` and `top_p` turn scores into scores, `greedy` and `sample` choose a value:

    choose = lambda s, rng: sample(top_p(temperature(s, 0.8), 0.9), rng)
"""

import numpy as np

from minigen import log_softmax, softmax
from minigen.dist import choice
from minigen.tensor import as_array, readable, xp


def temperature(s, tau):
    """Scores at temperature τ > 0; tau is a number, or an array that broadcasts to s."""
    if not np.all(np.asarray(tau) > 0):
        raise ValueError(f"temperature: tau must be positive, got {tau} (greedy is its limit at 0)")
    return s / tau  # eq: temperature-softmax


def top_n(s, n):
    """Scores with all but the n highest set to −∞. Among equal scores the first are kept."""
    s = as_array(s)
    if not 1 <= n <= s.shape[-1]:
        raise ValueError(f"top_n: n must lie in 1…{s.shape[-1]}, got {n}")
    return xp(s).where(_rank(s) < n, s, -np.inf)  # eq: top-n-sampling


def top_p(s, p):
    """Scores set to −∞ except the fewest whose probabilities sum to at least p, 0 < p ≤ 1."""
    if not 0 < p <= 1:
        raise ValueError(f"top_p: p must lie in (0, 1], got {p}")
    s = as_array(s)
    m, rank, probs = xp(s), _rank(s), softmax(s.astype(np.float64), -1).data
    rest = m.cumsum(m.sort(probs, -1), -1)[..., ::-1]  # total of each value and all less probable
    most = (1 - p) * (1 + 1e-9)  # the most that may be dropped, with slack for rounding in the sums
    kept = (m.take_along_axis(rest, rank, -1) > most) | (rank == 0)
    return m.where(kept, s, -np.inf)  # eq: top-p-sampling


def _rank(s):
    """The rank of each score, 0 for the highest."""
    order = xp(s).argsort(-s.astype(np.float64), -1, kind="stable")
    return xp(s).argsort(order, -1, kind="stable")


def greedy(s, rng=None):
    """The most probable value: integers (...). Raises ValueError as `sample` does."""
    _highest("greedy", s)
    return np.argmax(s, -1)  # eq: greedy-decode


def sample(s, rng):
    """A value drawn with probabilities softmax(s): integers (...). ValueError if scores are NaN, or
    −∞ for all values."""
    s = as_array(s).astype(np.float64)
    s = s - _highest("sample", s)
    return choice(np.exp(s), rng)  # eq: basic-sampling


def _highest(name, s):
    """The highest score (..., 1), or a ValueError whose message starts with `name`."""
    top = s.max(-1, keepdims=True)
    if readable(top) and not (top > -np.inf).all():
        raise ValueError(f"{name}: scores are NaN, or −∞ for all values: nothing can be drawn")
    return top


def generate(step, state, start, T, choose, rng):
    """N sequences of T values, generated one value at a time: integers (N, T).

    step(state, w): the previous values w (N,) → the scores (N, V) of the next and the new state
    start: the values that precede the first one (start tokens), integers (N,)
    choose(s, rng): integers (N,), for example `sample`
    """
    if T < 1:
        raise ValueError(f"generate: T must be at least 1, got {T}")
    sequences = [np.asarray(start)]
    for _ in range(T):
        s, state = step(state, sequences[-1])
        sequences.append(choose(s, rng))
    return np.stack(sequences[1:], -1)


def beam_search(step, state, start, T, k):
    """The k most probable sequences of length T that a beam of width k finds (fewer if fewer have a
    nonzero probability), best first: integers (k, T), and their log-probabilities (k,). With
    k ≥ V^(T−1) they are the true k most probable sequences.

    step: as in `generate`, with one row per partial sequence; state: an array, or a tuple or list
    of arrays, whose first axis indexes rows (1 at the start); start: the start token, an integer

    Raises ValueError as `sample` does.
    """
    if k < 1:
        raise ValueError(f"beam_search: k must be at least 1, got {k}")
    sequences, log_p, w = np.empty((1, 0), int), np.zeros(1), np.array([start])
    for _ in range(T):
        s, state = step(state, w)
        s = np.asarray(s, np.float64)
        _highest("beam_search", s)
        total = log_p[:, None] + log_softmax(s, -1).data
        best = np.argsort(-total, None, kind="stable")[:k]  # eq: beam-search
        best = best[total.ravel()[best] > -np.inf]
        rows, w = np.divmod(best, total.shape[1])
        sequences, log_p = np.column_stack([sequences[rows], w]), total.ravel()[best]
        state = type(state)(a[rows] for a in state) if isinstance(state, (tuple, list)) \
            else state[rows]
    return sequences, log_p
