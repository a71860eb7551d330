"""Metrics for texts, and for pictures with texts: each is checked by a second route."""

import math

import numpy as np
import pytest

from minigen import text_metrics
from minigen.data import scenes

RNG = np.random.default_rng
WORDS = "a small red ring".split()  # few, so that 4-grams recur


def sentences(n, seed):
    rng = RNG(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(5, 12))) for _ in range(n)]


def precision(candidates, references, k):
    """Clipped precision: a k-gram of a candidate counts at most as often as in a reference."""
    matches, totals = 0, 0
    for sentence, refs in zip(candidates, references, strict=True):
        words = sentence.split()
        grams = [words[i:i + k] for i in range(len(words) - k + 1)]
        totals += len(grams)
        for gram in {tuple(gram) for gram in grams}:
            clip = max(sum(text.split()[i:i + k] == list(gram) for i in range(len(text.split())))
                       for text in refs)
            matches += min(clip, grams.count(list(gram)))
    return matches / totals


def test_bleu_against_loops():
    candidates = sentences(100, 0)
    references = list(zip(sentences(100, 1), sentences(100, 2), strict=True))
    c = sum(len(s.split()) for s in candidates)
    r = sum(min((len(t.split()) for t in refs), key=lambda n: (abs(n - len(s.split())), n))
            for s, refs in zip(candidates, references, strict=True))
    for n in (1, 2, 4):
        p = [precision(candidates, references, k) for k in range(1, n + 1)]
        by_hand = min(1, math.exp(1 - r / c)) * math.prod(p) ** (1 / n)
        bleu = text_metrics.bleu(candidates, references, n)
        assert bleu == pytest.approx(by_hand) and 0 < by_hand < 1


def test_bleu_of_papinenis_examples():
    cat = ["the cat is on the mat", "there is a cat on the mat"]
    assert text_metrics.bleu(["the the the the the the the"], [cat], 1) == pytest.approx(2 / 7)
    assert text_metrics.bleu(cat, [[t] for t in cat]) == pytest.approx(1)
    assert text_metrics.bleu(["the cat"], [cat], 2) == pytest.approx(math.exp(1 - 6 / 2))
    assert text_metrics.bleu(["mat the on"], [cat]) == text_metrics.bleu([""], [cat]) == 0


def test_colours_are_counted_apart_that_captions_name_and_that_they_do_not():
    x = np.full((2, 3, 4, 8), 0.1)
    for image, pixels, rgb in ((0, np.s_[0, :8], (1, 0, 0)), (1, np.s_[0, :7], (0, 0.25, 1)),
                               (1, np.s_[1:3, :5], (0, 0.9, 0))):
        x[image][:, *pixels] = np.array(rgb).reshape(3, *[1] * x[0, 0][pixels].ndim)
    named, others = text_metrics.colours_shown(x, ["a red ring", "a blue ring on a light ground"])
    assert named == 1 / 2 and others == 1 / 10  # seven pixels do not count; green is not named
    seen = scenes.load(n_train=1, n_test=100)
    x, captions = seen.test_x / 255, seen.test_captions
    assert text_metrics.colours_shown(x, captions) == (1, 0)
    named, others = text_metrics.colours_shown(x[::-1], captions)
    number = seen.test_scenes["number"]
    both = [len(set(scene["colour"][:scene["number"]]) & set(other["colour"][:other["number"]]))
            for scene, other in zip(seen.test_scenes, seen.test_scenes[::-1], strict=True)]
    assert named == sum(both) / number.sum()
    assert others == (number.sum() - sum(both)) / (600 - number.sum())


def test_a_shape_is_the_one_that_a_known_object_of_its_colour_has():
    seen = scenes.load(n_train=500, n_test=100)
    x, captions = seen.test_x / 255, seen.test_captions
    known = text_metrics.known_silhouettes(seen)
    assert text_metrics.shapes_shown(x, captions, known) > 0.98
    turned = [text.replace("ring", "cross") for text in captions]
    words = " ".join(captions).split()
    share = sum(word in scenes.SHAPES and word != "ring" for word in words) / sum(
        word in scenes.SHAPES for word in words)
    assert text_metrics.shapes_shown(x, turned, known) == pytest.approx(share, abs=0.02)
    shifted = np.roll(x, 3, (2, 3))  # mostly nothing is cut off; places do not matter
    assert text_metrics.shapes_shown(shifted, captions, known) > 0.8
    assert text_metrics.shapes_shown(0 * x, captions, known) == 0


def test_a_picture_is_judged_by_what_is_said_of_it():
    texts = sentences(20, 3)
    pictures = np.arange(20)
    half = lambda x: [" ".join(texts[i].split()[:-2]) for i in x]  # all but the last two words
    c, r = (sum(len(t.split()) for t in some) for some in (half(pictures), texts))
    score = text_metrics.captioning_score(half, pictures, texts)
    assert score == pytest.approx(math.exp(1 - r / c)) and c < r  # eq: captioning-metric
    more = lambda x: [f"{texts[i]} indeed" for i in x]
    p = [precision(more(pictures), [[t] for t in texts], k) for k in range(1, 5)]
    score = text_metrics.captioning_score(more, pictures, texts)
    assert score == pytest.approx(math.prod(p) ** 0.25) and score < 1  # eq: captioning-metric
    assert text_metrics.captioning_score(half, np.roll(pictures, 1), texts) < 0.5


def test_objects_that_are_named_must_be_found():
    found, named = RNG(4).random((2, 200, 6)) < np.array([0.8, 0.3])[:, None, None]
    sets = [({k for k in range(6) if f[k]}, {k for k in range(6) if c[k]})
            for f, c in zip(found, named, strict=True)]
    share = sum(wanted <= seen for seen, wanted in sets) / 200
    accuracy = text_metrics.semantic_object_accuracy(found, named)
    assert accuracy == pytest.approx(share) and 0.3 < share < 0.9  # eq: soa
    assert text_metrics.semantic_object_accuracy(named, named) == 1


def test_marks_relative_to_the_references():
    scores, reference = [9, 4, 7.5], [10, 8, 7.5]
    ratio = np.mean(scores) / np.mean(reference)  # as many of each
    assert text_metrics.relative_score(scores, reference) == pytest.approx(
        ratio) == pytest.approx(20.5 / 25.5)  # eq: llm-relative-score
    assert text_metrics.relative_score(reference, reference) == 1


@pytest.mark.parametrize("call, message", [
    (lambda: text_metrics.bleu(["a"], []), "1 candidates came, with references for 0"),
    (lambda: text_metrics.bleu(["a"], [[]]), "one or more for each"),
    (lambda: text_metrics.bleu(["a ring"], ["a ring"]), "a list of one or more for each"),
    (lambda: text_metrics.semantic_object_accuracy(np.zeros((2, 3), int), np.ones((2, 3), int)),
     r"found is int64 \(2, 3\), named int64"),
    (lambda: text_metrics.semantic_object_accuracy([[True], [True]], [True]), "expected booleans"),
    (lambda: text_metrics.human_rank(3), "expected rows of the ranks"),
    (lambda: text_metrics.relative_score([1, 2], [3]), r"are \(2,\), the reference's \(1,\)"),
    (lambda: text_metrics.relative_score([0], [3]), "from 0 to 3, expected 1 to 10"),
    (lambda: text_metrics.relative_score([4], [np.nan]), "expected 1 to 10"),
])
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_systems_human_rank_is_the_mean_of_its_places():
    ranks = np.stack([RNG(k).permutation(4) + 1 for k in range(9)])
    counted = [sum(place * (row[s] == place) for row in ranks for place in range(1, 5)) / 9
               for s in range(4)]
    assert text_metrics.human_rank(ranks) == pytest.approx(counted)  # eq: human-rank
    assert text_metrics.human_rank(ranks).sum() == pytest.approx(10)  # 1 + 2 + 3 + 4
    with pytest.raises(ValueError, match=r"ranks 1 to 3, each once, got \(1, 3\): \[1, 1, 2\]"):
        text_metrics.human_rank([[1, 1, 2]])


def test_preference_is_the_share_of_votes_for_each_question():
    votes = RNG(0).choice([0, 0.5, 1], (7, 5, 2))
    for question, share in enumerate(text_metrics.preference(votes)):
        column = votes[..., question].ravel().tolist()
        want = (column.count(1) + column.count(0.5) / 2) / 35
        assert share == pytest.approx(want)  # eq: drawbench
    with pytest.raises(ValueError, match=r"votes are \(7, 5\), expected \(texts, people, 2\)"):
        text_metrics.preference(votes[..., 0])
