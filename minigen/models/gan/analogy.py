"""Latent-space arithmetic, shown and measured on digits: for each digit, a slanted one − an upright
one + an upright next digit = a slanted next digit.

The slant is measured (`latent.slant`), and a classifier (the ruler) recognises the digit, so
exemplars are chosen and results are judged automatically.
"""

import numpy as np

from minigen import ruler
from minigen.coverage import likeliest_classes
from minigen.models.gan.film import show
from minigen.models.gan.latent import arithmetic, extremes, slant

CLASSES, EXEMPLARS = 10, 3


def exemplars(digit, lean, n=EXEMPLARS):
    """For each digit, if it and the next digit have enough samples: the indices of the digit's n
    most (a) and least (b) slanted samples, and of the next digit's n least slanted samples (c). A
    list of (a, b, c).

    digit: (N,), integers, −1 for samples that are not recognised as a digit; lean: their slant (N,)
    """
    own = [np.flatnonzero(digit == k) for k in range(CLASSES)]
    found = []
    for k in range(CLASSES):
        this, following = own[k], own[(k + 1) % CLASSES]
        if min(len(this), len(following)) >= 2 * n:
            (b, a), (c, _) = extremes(lean[this], n), extremes(lean[following], n)
            found.append((this[a], this[b], following[c]))
    return found


def leaning(run, game, n=2000, sure=0.9):
    """Draw n samples from a trained GAN and write arithmetic.png: one row per digit, with the
    exemplars a, b and c, three each, and G(z̄_a − z̄_b + z̄_c). Returns numbers for metrics.json:

        arithmetic_slant_before     the exemplars c, in columns per row
        arithmetic_slant_aim        the most slanted samples of the same digit as c
        arithmetic_slant_after      the results
        arithmetic_same_digit       the share of the results that show the digit of c

    Nothing is written and the dict is empty if the data set has no ruler, or if the ruler is sure
    of too few samples (assigns them a class with probability `sure` or more).
    """
    if run.data.name not in ruler.NAMES:
        return {}
    z = game.prior(n, run.rng).numpy()
    x = show(game, z)
    p, lean = ruler.classify(x, run.data.name), slant(x)
    digit = likeliest_classes(p, sure)
    rows = exemplars(digit, lean)
    if not rows:
        return {}
    results = show(game, np.stack([arithmetic(z[a], z[b], z[c]) for a, b, c in rows]))
    run.picture("arithmetic", np.concatenate([
        np.concatenate([x[a], x[b], x[c], y[None]])
        for (a, b, c), y in zip(rows, results, strict=True)]), columns=3 * EXEMPLARS + 1)
    of = [digit[c[0]] for _, _, c in rows]
    aim = [lean[digit == k][extremes(lean[digit == k], EXEMPLARS)[1]].mean() for k in of]
    same = ruler.classify(results, run.data.name).argmax(1) == of
    return {"arithmetic_slant_before": np.mean([lean[c].mean() for *_, c in rows]),
            "arithmetic_slant_aim": np.mean(aim), "arithmetic_slant_after": slant(results).mean(),
            "arithmetic_same_digit": same.mean()}
