"""Shared by glyphs and scenes: images are made in blocks, each from its own random generator."""

import numpy as np

BLOCK = 1000


def draw(block, n, seed, split):
    """The first `n` rows of an endless data set.

    `block(rng, size)` makes `size` rows of each of its arrays; block b comes from
    default_rng((seed, split, b)), so a smaller data set is the beginning of a larger one.
    Returns a tuple of arrays with n rows.
    """
    if n < 1:
        raise ValueError(f"at least one image is needed; got n={n}")
    blocks = [block(np.random.default_rng((seed, split, b)), BLOCK) for b in range(-(-n // BLOCK))]
    return tuple(np.concatenate(arrays)[:n] for arrays in zip(*blocks, strict=True))
