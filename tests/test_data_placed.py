"""Digits at a place, with captions: the images show what the captions say."""

import numpy as np
import pytest

from minigen import ruler
from minigen.data import load, placed, scenes


@pytest.fixture(scope="module")
def glyphs():
    return load("glyphs", n_train=400, n_test=1)


@pytest.fixture(scope="module")
def placed_digits(glyphs):
    x, y = glyphs.train_x[:400], glyphs.train_y[:400]
    return x, y, *placed.compose(x, y, np.random.default_rng(0))


def test_placed_digits_are_where_the_caption_says(placed_digits):
    x, y, images, contents = placed_digits
    assert images.shape == (400, 1, 60, 60) and images.dtype == np.uint8
    assert np.array_equal(contents[:, 1], y) and set(contents[:, 0]) == set(range(8))
    ink = images[:, 0].astype(float)
    half = {"top": np.s_[:, :32], "bottom": np.s_[:, 28:], "left": np.s_[:, :, :32],
            "right": np.s_[:, :, 28:]}
    for text, (where, _, b), image in zip(placed.captions(contents), contents, ink, strict=True):
        assert (b >= 0) == (where >= 4) == (text.count("digit") == 2)
        if b < 0:  # all of the ink is in both of the halves that the caption names
            sides = [side for side in half if side in text.split()]
            assert len(sides) == 2
            assert all(np.isclose(image[None][half[s]].sum(), image.sum()) for s in sides)
    digits, labels = placed.crops(images, contents)
    assert len(digits) == 400 + (contents[:, 2] >= 0).sum()
    assert np.array_equal(labels, contents[:, 1:][contents[:, 1:] >= 0])
    assert (ruler.classify(digits, "glyphs").argmax(1) == labels).mean() > 0.97
    assert placed.share_in_place(images, contents) == 1
    assert placed.share_in_place(images, np.roll(contents, 1, 0)) < 0.8


def test_a_relation_names_the_first_digit_first(glyphs):
    x, y = glyphs.train_x[:40], glyphs.train_y[:40]
    x = np.where(np.arange(40)[:, None, None, None] == 0, 255, 0 * x)  # the first one is white
    for seed in range(60):
        images, contents = placed.compose(x, y, np.random.default_rng(seed))
        where, middle = contents[0, 0], (images[0, 0] > 0).nonzero()
        row, column = np.mean(middle, 1) - 29.5
        name = placed.WHERE[where].split()[-2:]
        if where > 3 and (images[0] > 0).sum() == 28 * 28:  # else it occurs twice
            assert {"left": column < -5, "right": column > 5, "above": row < -5,
                    "below": row > 5}[name[0] if "of" in name else name[1]]


def test_unseen_captions_never_occur_in_training(placed_digits, glyphs):
    x, y, _, contents = placed_digits
    _, other = placed.compose(x, y, np.random.default_rng(1), unseen=True)
    seen, unseen = ({*placed.captions(c)} for c in (contents, other))
    assert len(unseen) > 30 and not seen & unseen
    assert {w for text in seen for w in text.split()} == {*placed.VOCABULARY[1:]}
    # also not the other way round: a is left of b, b is right of a
    pairs = [{frozenset(c[1:]) for c in some[some[:, 0] > 3].tolist()}
             for some in (contents, other)]
    assert not pairs[0] & pairs[1]
    tokens = scenes.encode([*seen, *unseen], placed.VOCABULARY, placed.LONGEST)
    assert scenes.decode(tokens, placed.VOCABULARY) == [*seen, *unseen]
    assert (tokens != 0).sum(1).max() == placed.LONGEST


def test_digits_without_ink_are_cut_from_the_middle():
    digits, labels = placed.crops(np.zeros((2, 1, 60, 60)), np.array([[0, 3, -1], [5, 1, 2]]))
    assert digits.shape == (3, 1, 28, 28) and labels.tolist() == [3, 1, 2]
