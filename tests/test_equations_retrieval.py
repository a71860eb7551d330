"""Section "CLIP", its uses and its metrics: each equation is checked by a second route."""

import numpy as np
import pytest
from test_equations_clip import RNG, units

from minigen import metrics
from minigen.models.clip import retrieval
from minigen.models.clip.optimal_critic import pointwise_mutual_information


def cosine(a, b):
    return sum(a_i * b_i for a_i, b_i in zip(a, b, strict=True)) / (
        sum(a_i ** 2 for a_i in a) * sum(b_i ** 2 for b_i in b)) ** 0.5


def test_visual_similarity_is_the_cosine_of_the_angle():
    t, x = 3 * RNG(0).normal(size=(4, 5)), RNG(1).normal(size=(6, 5))
    VS = metrics.visual_similarity(t, x)
    assert np.allclose(VS, [[cosine(a, b) for b in x] for a in t])  # eq: visual-similarity
    angles = RNG(2).uniform(0, 3, 8)
    turned = 2 * np.stack([np.cos(angles), np.sin(angles)], 1)
    found = metrics.visual_similarity([[0.3, 0.0]], turned)[0]
    assert np.allclose(np.arccos(found), angles)  # eq: visual-similarity
    for codes, says in ((np.ones((2, 3)), r"\(1, 2\) and \(2, 3\)"), (0 * turned, "no direction")):
        with pytest.raises(ValueError, match=says):
            metrics.visual_similarity([[0.3, 0.0]], codes)


def test_retrieval_finds_the_nearest_by_cosine_not_by_length():
    queries, stored = RNG(0).normal(size=(5, 3)), RNG(1).normal(size=(40, 3))
    stored *= RNG(2).uniform(0.1, 10, (40, 1))
    found = retrieval.retrieve(queries, stored, 4)
    for query, row in zip(queries, found, strict=True):
        order = sorted(range(40), key=lambda k, q=query: -cosine(q, stored[k]))
        assert row.tolist() == order[:4]  # eq: embed-and-retrieve
    near = np.concatenate([stored[:7], 100 * queries, stored[7:]])
    assert retrieval.retrieve(queries, near)[:, 0].tolist() == [7, 8, 9, 10, 11]


def test_reranking_puts_the_most_fitting_sample_first():
    f, g = units(30, 4, RNG(0)), units(1, 4, RNG(1))[0]
    order = retrieval.rerank(f, g)
    fit = {k: cosine(f[k], g) for k in range(30)}
    assert order.tolist() == sorted(fit, key=fit.get, reverse=True)  # eq: dalle-clip-rerank
    f[17] = g
    assert retrieval.rerank(f, g)[0] == 17


def test_zero_shot_names_an_image_by_the_nearest_description():
    f, g = units(50, 5, RNG(0)), units(4, 5, RNG(1))
    want = [max(range(4), key=lambda k, a=a: cosine(a, g[k])) for a in f]
    assert len(set(want)) == 4
    for tau in (0.01, 1.0):
        assert retrieval.zero_shot(f, g[:, None], tau).tolist() == want  # eq: clip-zero-shot


def test_several_prompts_of_a_label_add_up():
    f, g, tau = units(50, 5, RNG(0)), units(12, 5, RNG(1)).reshape(4, 3, 5), 0.3
    total = np.array([[sum(np.exp(a @ prompt / tau) for prompt in label) for label in g]
                      for a in f])
    assert np.allclose(np.exp(retrieval.label_scores(f, g, tau)), total)
    named = retrieval.zero_shot(f, g, tau)
    assert named.tolist() == total.argmax(1).tolist()  # eq: clip-zero-shot
    assert (named != (f @ g.mean(1).T).argmax(1)).any()


def test_the_best_scores_name_images_as_bayes_rule_does():
    """Codes whose products are the pointwise mutual information; a label is two of the
    six texts, which are equally frequent."""
    p = RNG(2).dirichlet(np.ones(8), 6).T / 6  # p(x, c) of 8 images and 6 texts
    f, g = pointwise_mutual_information(p), np.eye(6)
    label = p.reshape(8, 3, 2).sum(2)  # p(x, y)
    assert retrieval.zero_shot(f, g.reshape(3, 2, 6), 1.0).tolist() == label.argmax(1).tolist()


def test_r_precision_with_planted_ranks():
    """The number of texts nearer to an image than its own goes from 0 to 99, each once."""
    rank = RNG(0).permutation(100)
    t, x = np.eye(100), np.zeros((100, 100))
    for i in range(100):
        others = np.delete(np.arange(100), i)
        x[i, others] = np.where(np.arange(99) < rank[i], 2.0, 0.5)
        x[i, i] = 1.0
    for r in (1, 5, 42, 100):
        assert metrics.r_precision(t, x, r, RNG(1)) == pytest.approx(r / 100)  # eq: r-precision
    assert metrics.r_precision(t, np.eye(100), 1, RNG(1)) == 1
    assert metrics.r_precision(t, -np.eye(100), 99, RNG(1)) == 0


def test_r_precision_by_brute_force():
    n, others = 12, 11  # all others, so that nothing is random
    t, x = RNG(0).normal(size=(n, 3)), RNG(1).normal(size=(n, 3))
    ranks = [sorted(range(n), key=lambda j, i=i: -cosine(x[i], t[j])).index(i) for i in range(n)]
    for r in range(1, n + 1):
        want = np.mean([rank < r for rank in ranks])
        found = metrics.r_precision(t, x, r, RNG(2), others)
        assert found == pytest.approx(want)  # eq: r-precision


def test_r_precision_of_drawn_texts():
    """Of 30 texts, 9 are drawn to compete with an image's own, which wins if none is nearer."""
    n, others = 30, 9
    t, x = RNG(0).normal(size=(n, 4)), RNG(1).normal(size=(n, 4))
    nearer = [sum(cosine(x[i], t[j]) > cosine(x[i], t[i]) for j in range(n)) for i in range(n)]
    chance = [np.prod([(n - 1 - k - m) / (n - 1 - m) for m in range(others)]) for k in nearer]
    found = np.mean([metrics.r_precision(t, x, 1, RNG((2, k)), others) for k in range(400)])
    assert found == pytest.approx(np.mean(chance), abs=0.01)  # eq: r-precision


def test_equal_texts_are_told_apart_by_chance():
    for d in (5, 64):
        x, t = units(100, d, RNG(0)), np.tile(RNG(2).normal(size=d), (100, 1))
        for r, others in ((1, 99), (10, 99), (1, 98), (1, 9), (2, 10), (1, 2)):
            found = metrics.r_precision(t, x, r, RNG(1), others)
            assert found == pytest.approx(r / (others + 1))  # eq: r-precision
    x, t = units(100, 5, RNG(0)), units(100, 5, RNG(1))
    for n, r, says in ((99, 1, "at least 100"), (100, 0, "r = 0"), (100, 101, "r = 101")):
        with pytest.raises(ValueError, match=says):
            metrics.r_precision(t[:n], x[:n], r, RNG(0))
