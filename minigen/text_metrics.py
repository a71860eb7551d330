"""Metrics for texts, and for images together with texts."""

from collections import Counter
from functools import reduce
from operator import or_

import numpy as np

from minigen.data.scenes import COLOURS
from minigen.models.gan.dissection import colour

SEEN = 8  # pixels of a shown colour; in 12,000 scenes objects have 14 or more, absent colours ≤ 2


def bleu(said, true, n=4):
    """How much of N sentences also occurs in reference sentences (Papineni et al. 2002): 0 to 1.

        BLEU = min(1, exp(1 − r/c)) (p_1 p_2 … p_n)^{1/n}

    said: the N sentences; true: for each of them a list of one or more references
    p_k: the share of all k-grams in `said` that occur as often in a reference
    c, r: the number of words in `said`, and in the references nearest in length

    Raises ValueError if `said` and `true` differ in length, or if either is empty.
    """
    if not len(said) or len(said) != len(true) or not all(
            len(some) and not isinstance(some, str) for some in true):
        raise ValueError(f"bleu: {len(said)} sentences are said, with true ones for {len(true)}: "
                         "expected a list of one or more for each")
    hits, rows, c, r = np.zeros(n), np.zeros(n), 0, 0
    for sentence, wanted in zip(said, true, strict=True):
        words, wanted = sentence.split(), [text.split() for text in wanted]
        c += len(words)
        r += min((abs(len(text) - len(words)), len(text)) for text in wanted)[1]
        for k in range(n):
            ours = _in_a_row(words, k + 1)
            hits[k] += (ours & reduce(or_, (_in_a_row(text, k + 1) for text in wanted))).total()
            rows[k] += ours.total()
    with np.errstate(divide="ignore"):
        p = np.log(hits / np.maximum(rows, 1)).mean()
    return float(np.exp(min(0, 1 - r / max(c, 1)) + p))


def _in_a_row(words, k):
    """How often each k-gram of words occurs."""
    return Counter(zip(*(words[i:] for i in range(k)), strict=False))


def captioning_score(describe, x, texts):
    """How well images x (N, ...) match the N texts that they were generated from: the BLEU of
    `describe(x)`, the N captions that a captioning model gives them."""
    return bleu(describe(x), [[text] for text in texts])  # eq: captioning-metric


def semantic_object_accuracy(found, named):
    """The share of N images in which everything that the caption names is detected.

    found, named: booleans (N, K): which of K kinds a detector finds, and which the caption names

    Hinz, Heinrich & Wermter 2020 count each kind that a caption names separately. ValueError for
    other arrays.
    """
    found, named = np.asarray(found), np.asarray(named)
    if found.shape != named.shape or found.ndim != 2 or not len(found) or {
            found.dtype, named.dtype} != {np.dtype(bool)}:
        raise ValueError(f"semantic_object_accuracy: found is {found.dtype} {found.shape}, named "
                         f"{named.dtype} {named.shape}: expected booleans (N, K) both")
    return float((found | ~named).all(1).mean())  # eq: soa


def colours_shown(images, captions):
    """The share of the colours named in a caption that its image shows, and the share of the other
    colours of the scenes data that it shows; images are (N, 3, H, W) in [0, 1]. Two numbers."""
    named = np.array([[name in text.split() for name in COLOURS] for text in captions])
    shown = np.stack([colour(hue)(images).sum((1, 2)) >= SEEN for hue in COLOURS.values()], 1)
    return shown[named].mean(), shown[~named].mean()


def relative_score(marks, reference):
    """The sum of a model's marks for its answers to N questions over that of a reference model for
    the same questions, (N,) each; a third model gave both. ValueError for marks outside 1 to 10."""
    marks, reference = np.asarray(marks, float), np.asarray(reference, float)
    if marks.shape != reference.shape or not marks.size:
        raise ValueError(f"relative_score: marks are {marks.shape}, the reference's "
                         f"{reference.shape}: expected one of both for each question")
    both = np.stack([marks, reference])
    if not (both.min() >= 1 and both.max() <= 10):
        raise ValueError(f"relative_score: marks are from {both.min():g} to {both.max():g}, "
                         "expected 1 to 10")
    return float(marks.sum() / reference.sum())  # eq: llm-relative-score


# ------------------------------------------------------------------------------- human judgements

def human_rank(ranks):
    """The mean rank of each of S systems, (S,); lower is better. ranks: (n, S), in each row the
    ranks, from 1 to S, that a person gave to one image of each system. ValueError for others."""
    ranks = np.atleast_1d(ranks)
    order = np.arange(1, ranks.shape[-1] + 1)
    if ranks.ndim != 2 or not len(ranks) or (np.sort(ranks, axis=1) != order).any():
        raise ValueError(f"human_rank: expected rows of the ranks 1 to {len(order)}, each once, "
                         f"got {ranks.shape}: {ranks.ravel()[:8].tolist()}")
    return ranks.mean(0)  # eq: human-rank


def preference(votes):
    """DrawBench (Saharia et al. 2022): the shares of people who chose the first of two models when
    asked whose images match the text better, and whose look more like photographs: (2,).

    votes: (texts, people, 2), 1 for the first model, 0 for the second, ½ for neither. ValueError
    for others."""
    votes = np.asarray(votes, float)
    if votes.ndim != 3 or votes.shape[2] != 2 or not votes.size or not np.isin(
            votes, (0, 0.5, 1)).all():
        raise ValueError(f"preference: votes are {votes.shape}, expected (texts, people, 2) of "
                         "1, 0 or ½")
    return votes.mean((0, 1))  # eq: drawbench
