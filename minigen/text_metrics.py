"""Metrics for texts, and for images together with texts."""

from collections import Counter
from functools import reduce
from operator import or_

import numpy as np

from minigen import metrics
from minigen.data.scenes import COLOURS, shows

MIN_PIXELS = 8  # of a shown colour; in 12,000 scenes objects have 14 or more, absent colours ≤ 2


def bleu(candidates, references, n=4):
    """How much of N sentences also occurs in reference sentences (Papineni et al. 2002): 0 to 1.

        BLEU = min(1, exp(1 − r/c)) (p_1 p_2 … p_n)^{1/n}

    candidates: the N sentences; references: for each of them a list of one or more
    p_k: the share of all k-grams in the candidates that occur as often in a reference
    c, r: the number of words in the candidates, and in the references nearest in length

    Raises ValueError if the two lists differ in length, or if either is empty.
    """
    if not len(candidates) or len(candidates) != len(references) or not all(
            len(some) and not isinstance(some, str) for some in references):
        raise ValueError(f"bleu: {len(candidates)} candidates came, with references for "
                         f"{len(references)}: expected a list of one or more for each")
    matches, totals, c, r = np.zeros(n), np.zeros(n), 0, 0
    for candidate, refs in zip(candidates, references, strict=True):
        words, refs = candidate.split(), [text.split() for text in refs]
        c += len(words)
        r += min((abs(len(text) - len(words)), len(text)) for text in refs)[1]
        for k in range(n):
            ngrams = _ngrams(words, k + 1)
            matches[k] += (ngrams & reduce(or_, (_ngrams(text, k + 1) for text in refs))).total()
            totals[k] += ngrams.total()
    with np.errstate(divide="ignore"):
        p = np.log(matches / np.maximum(totals, 1)).mean()
    return float(np.exp(min(0, 1 - r / max(c, 1)) + p))


def _ngrams(words, k):
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
    shown = np.stack([shows(hue)(images).sum((1, 2)) >= MIN_PIXELS for hue in COLOURS.values()], 1)
    return shown[named].mean(), shown[~named].mean()


def caption_scores(name, images, captions, f, g):
    """How well N images match their captions: what `colours_shown` gives, and how often an image's
    own caption is found among 100, by the codes f and g (N, d) of images and captions. A dict,
    whose keys end in `name`."""
    named, not_named = colours_shown(images, captions)
    r_precision = metrics.r_precision(g, f, 1, np.random.default_rng(0), min(99, len(g) - 1))
    return {f"colour_named_{name}": named, f"colour_not_named_{name}": not_named,
            f"r_precision@1_{name}": r_precision}


def shapes_shown(images, captions, known):
    """The share of the objects named in captions that images (N, 3, H, W) in [0, 1] show in the
    shape named. An object's pixels are those of its colour, at least MIN_PIXELS; its shape is that
    of the nearest of the `known` silhouettes, as `known_silhouettes` gives them."""
    pixels, shapes = silhouettes(images, captions)
    found = pixels.sum((1, 2)) >= MIN_PIXELS
    if not found.any():
        return 0.0
    known_pixels, known_shapes = known
    _, index = metrics.nearest(pixels[found], known_pixels)
    return (shapes[found] == known_shapes[index]).sum() / len(found)


def known_silhouettes(data):
    """The `silhouettes` in the first 1,000 training images of the scenes data."""
    return silhouettes(data.train_x[:1000] / np.float32(255), data.train_captions[:1000])


def silhouettes(images, captions, side=16):
    """For each object named in the captions, which are those of scenes data, the pixels of its
    colour in its image, moved to the centre: 0 or 1, float32 (n, side, side); and the name of its
    shape (n,)."""
    shown, cut, shapes = [shows(hue)(images) for hue in COLOURS.values()], [], []
    for i, text in enumerate(captions):
        words = text.split()
        for k, name in enumerate(COLOURS):
            if name in words:
                ys, xs = np.nonzero(shown[k][i])
                y, x = (round(v.mean()) if len(v) else 0 for v in (ys, xs))
                cut.append(np.pad(shown[k][i], side // 2)[y:y + side, x:x + side])
                shapes.append(words[words.index(name) + 1])
    return np.array(cut, np.float32), np.array(shapes)


def relative_score(scores, reference):
    """The sum of a model's scores for its answers to N questions over that of a reference model for
    the same questions, (N,) each; a third model gave both. ValueError outside 1 to 10."""
    scores, reference = np.asarray(scores, float), np.asarray(reference, float)
    if scores.shape != reference.shape or not scores.size:
        raise ValueError(f"relative_score: scores are {scores.shape}, the reference's "
                         f"{reference.shape}: expected one of both for each question")
    both = np.stack([scores, reference])
    if not (both.min() >= 1 and both.max() <= 10):
        raise ValueError(f"relative_score: scores are from {both.min():g} to {both.max():g}, "
                         "expected 1 to 10")
    return float(scores.sum() / reference.sum())  # eq: llm-relative-score


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
