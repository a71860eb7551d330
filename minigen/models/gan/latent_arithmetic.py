"""Latent-space arithmetic (Radford, Metz & Chintala 2016): the difference between two kinds of
images is a direction in latent space, which can be added to a third kind.

    z̄ = ⅓ Σᵢ zᵢ                  a concept: the mean code of three of its exemplars
    z̄_a − z̄_b + z̄_c              a slanted 7 − an upright 7 + an upright 1 = a slanted 1

Three exemplars, because each of them also varies in other ways (thickness, size): their mean keeps
a third of that variance, and the three means together have as much as a single code. With one
exemplar for each concept there would be three times as much.
"""

import numpy as np


def concept(z):
    """The code of what the exemplars z (n, d_z) have in common: their mean, (d_z,)."""
    return z.mean(axis=0)


def arithmetic(a, b, c):
    """z̄_a − z̄_b + z̄_c of the exemplars a, b and c, each (n, d_z): (d_z,).

    ValueError unless all three have this shape, with n at least 1 and one d_z.
    """
    shapes = [np.shape(z) for z in (a, b, c)]
    if any(len(s) != 2 or s[1] != shapes[0][-1] or not s[0] for s in shapes):
        raise ValueError(f"arithmetic: exemplars of shapes {shapes[0]}, {shapes[1]}, {shapes[2]}; "
                         "expected (n, d_z) each, of one d_z")
    return concept(a) - concept(b) + concept(c)  # eq: latent-arithmetic


def extremes(score, n=3):
    """The n images with the lowest and the n with the highest score: two arrays of n indices.

    score: (N,), N ≥ 2n. ValueError if there are fewer.
    """
    if len(score) < 2 * n:
        raise ValueError(f"extremes: {len(score)} images are too few for twice {n} exemplars")
    order = np.argsort(score, kind="stable")
    return order[:n], order[::-1][:n]


def ink(images):
    """The mean intensity of each image (N, C, H, W): (N,)."""
    return np.asarray(images).mean(axis=(1, 2, 3))


def slant(images):
    """How far each image's strokes lean to the right, in columns per row: (N,). Images (N, C, H, W)
    ≥ 0 show bright shapes on black; those without ink give 0.

    The slope of the line fitted to the shape: −cov(column, row) / var(row), rows counted downwards.
    """
    x = np.asarray(images, np.float64).mean(axis=1)
    weight = x / np.maximum(x.sum((1, 2), keepdims=True), 1e-12)
    row, column = np.indices(x.shape[1:])

    def E(value):
        return (weight * value).sum((1, 2))

    covariance = E(row * column) - E(row) * E(column)
    return -covariance / np.maximum(E(row * row) - E(row) ** 2, 1e-12)
