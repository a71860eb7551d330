"""Latent-space arithmetic, shown and measured on digits: for each digit, a slanted one − an upright
one + an upright next digit = a slanted next digit.

The slant is measured (`latent_arithmetic.slant`), and a classifier (the ruler) recognises the
digit, so exemplars are chosen and results are judged automatically.
"""

import numpy as np

from minigen import ruler
from minigen.coverage import likeliest_classes
from minigen.models.gan.film import render
from minigen.models.gan.latent_arithmetic import arithmetic, extremes, slant

CLASSES, EXEMPLARS = 10, 3


def exemplars(digit, slants, n=EXEMPLARS):
    """For each digit, if it and the next digit have enough samples: the indices of the digit's n
    most (a) and least (b) slanted samples, and of the next digit's n least slanted samples (c). A
    list of (a, b, c).

    digit: (N,), integers, −1 for samples that are not recognised as a digit; slants: (N,)
    """
    by_digit = [np.flatnonzero(digit == k) for k in range(CLASSES)]
    rows = []
    for k in range(CLASSES):
        this, following = by_digit[k], by_digit[(k + 1) % CLASSES]
        if min(len(this), len(following)) >= 2 * n:
            (b, a), (c, _) = extremes(slants[this], n), extremes(slants[following], n)
            rows.append((this[a], this[b], following[c]))
    return rows


def slant_arithmetic(run, game, n=2000, confidence=0.9):
    """Draw n samples from a trained GAN and write arithmetic.png: one row per digit, with the
    exemplars a, b and c, three each, and G(z̄_a − z̄_b + z̄_c). Returns numbers for metrics.json:

        arithmetic_slant_before     the exemplars c, in columns per row
        arithmetic_slant_aim        the most slanted samples of the same digit as c
        arithmetic_slant_after      the results
        arithmetic_same_digit       the share of the results that show the digit of c

    Nothing is written and the dict is empty if the data set has no ruler, or if the ruler is sure
    of too few samples (assigns them a class with probability `confidence` or more).
    """
    if run.data.name not in ruler.NAMES:
        return {}
    z = game.codes(n, run.rng).numpy()
    x = render(game, z)
    p, slants = ruler.classify(x, run.data.name), slant(x)
    digit = likeliest_classes(p, confidence)
    rows = exemplars(digit, slants)
    if not rows:
        return {}
    x_result = render(game, np.stack([arithmetic(z[a], z[b], z[c]) for a, b, c in rows]))
    run.picture("arithmetic", np.concatenate([
        np.concatenate([x[a], x[b], x[c], y[None]])
        for (a, b, c), y in zip(rows, x_result, strict=True)]), columns=3 * EXEMPLARS + 1)
    of = [digit[c[0]] for _, _, c in rows]
    aim = [slants[digit == k][extremes(slants[digit == k], EXEMPLARS)[1]].mean() for k in of]
    same = ruler.classify(x_result, run.data.name).argmax(1) == of
    return {"arithmetic_slant_before": np.mean([slants[c].mean() for *_, c in rows]),
            "arithmetic_slant_aim": np.mean(aim), "arithmetic_slant_after": slant(x_result).mean(),
            "arithmetic_same_digit": same.mean()}
