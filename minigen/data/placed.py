"""Digits at a place, with captions: 60×60 images made from a data set's digits.

    caption  = "the digit" digit place | "the digit" digit relation "the digit" digit
    place    = "is at the" ("top" | "bottom") ("left" | "right") "of the image"
    relation = "is left of" | "is right of" | "is above" | "is below"

A quarter of the captions are unseen: those for which the number of the place plus the digit, or the
sum of both digits, is divisible by 4. So every word is seen, but not in every combination.
"""

import numpy as np

SIZE, SIDE, JITTER = 60, 28, 4
NAMES = "zero one two three four five six seven eight nine".split()
WHERE = ("is at the top left of the image", "is at the top right of the image",
         "is at the bottom left of the image", "is at the bottom right of the image",
         "is left of", "is right of", "is above", "is below")
START, MIDDLE, END = 0, (SIZE - SIDE - JITTER) // 2, SIZE - SIDE - JITTER
# row and column of the upper left corner, at least, of the first and of the second digit
CORNERS = np.array([[(START, START)] * 2, [(START, END)] * 2, [(END, START)] * 2, [(END, END)] * 2,
                    [(MIDDLE, START), (MIDDLE, END)], [(MIDDLE, END), (MIDDLE, START)],
                    [(START, MIDDLE), (END, MIDDLE)], [(END, MIDDLE), (START, MIDDLE)]])
VOCABULARY = ("", *sorted({*NAMES, *"the digit".split(), *" ".join(WHERE).split()}))
LONGEST = 11


def compose(x, y, rng, unseen=False):
    """From digits x, uint8 (n, 1, 28, 28), and their labels y: n images, uint8 (n, 1, 60, 60), the
    first digit of image i being x[i]; their contents, integers (n, 3): the index into WHERE, the
    first digit and the second, or −1; all with unseen captions or all with others."""
    n, todo = len(x), np.arange(len(x))
    where, other = np.empty(n, int), np.empty(n, int)
    while len(todo):
        where[todo] = rng.integers(len(WHERE), size=len(todo))
        other[todo] = rng.integers(n, size=len(todo))
        second = np.where(where < 4, where, y[other])
        todo = np.flatnonzero(((y + second) % 4 == 0) != unseen)
    images = np.zeros((n, 1, SIZE, SIZE), np.uint8)
    corners = CORNERS[where] + rng.integers(JITTER + 1, size=(n, 2, 2))
    for i, places in enumerate(corners):
        both = (x[i], x[other[i]])[:1 + (where[i] > 3)]
        for digit, (row, column) in zip(both, places, strict=False):
            patch = images[i, :, row:row + SIDE, column:column + SIDE]
            np.maximum(patch, digit, out=patch)
    return images, np.stack([where, y, np.where(where < 4, -1, y[other])], 1)


def captions(contents):
    """The captions of contents (n, 3): a list."""
    return [f"the digit {NAMES[a]} {WHERE[where]}" + (f" the digit {NAMES[b]}" if b >= 0 else "")
            for where, a, b in contents]


def regions(images, contents):
    """For each digit that the contents name: the digit, and the 32×32 pixels of its image in which
    the caption says that it is, a view (1, 32, 32)."""
    side = SIDE + JITTER
    for x, (where, *digits) in zip(images, contents, strict=True):
        for digit, (row, column) in zip(digits, CORNERS[where], strict=True):
            if digit >= 0:
                yield digit, x[:, row:row + side, column:column + side]


def crops(images, contents):
    """The digits of images (n, 1, 60, 60), each cut out of the place that the contents name, with
    its ink in the middle as far as the place allows: (m, 1, 28, 28), and their labels (m,)."""
    found, labels, at = [], [], np.arange(SIDE + JITTER)
    for digit, x in regions(images, contents):
        ink = x[0].astype(float) + 1e-9  # the middle, if there is none
        row, column = (int(np.clip(np.rint(ink.sum(axis) @ at / ink.sum()) - SIDE // 2, 0, JITTER))
                       for axis in (1, 0))
        found.append(x[:, row:row + SIDE, column:column + SIDE])
        labels.append(digit)
    return np.stack(found), np.array(labels)


def share_in_place(images, contents):
    """The share of the white of images (n, 1, 60, 60) that is where the contents say."""
    inside = np.zeros(images.shape, bool)
    for _, region in regions(inside, contents):
        region[:] = True
    return images[inside].sum(dtype=float) / images.sum(dtype=float)
