"""Synthetic digits: 28×28 grey images drawn from a seed, a drop-in replacement for MNIST.

A digit is a few strokes, each a smooth curve through the control points given below. For every
image the points are jittered, the figure is bent, slanted, rotated and scaled, and a pen is chosen;
then each piece of the curve inks the pixels near it. All steps are vectorised over the images.
"""

import numpy as np

from .dataset import Dataset
from .drawing import draw

SIZE = 28
MARGIN = 2  # pixels between a figure and the border of its picture
PIECES = 4  # straight pieces between two control points

# For each digit, the ways of writing it. A way is a list of strokes; a stroke is a list of control
# points "x y" in percent of the digit's box, x to the right and y down. ";" separates strokes; "/"
# ends one without lifting the pen: the next starts at the same point, with a corner.
WAYS = {
    0: ("58 0, 22 10, 2 48, 20 90, 50 100, 82 88, 98 48, 80 10, 50 1",
        "75 8, 40 2, 8 30, 6 72, 40 100, 82 82, 97 40, 78 10, 52 12"),
    1: ("50 0, 50 50, 50 100",
        "22 26, 40 14, 56 0 / 55 50, 54 100",
        "24 22, 42 12, 56 0 / 55 50, 55 99; 22 100, 55 99, 90 98"),
    2: ("6 24, 28 3, 66 2, 88 26, 66 58, 34 82, 5 98 / 50 97, 97 96",
        "8 22, 34 0, 76 6, 84 34, 54 70, 22 97, 6 88, 24 78, 56 92, 98 92"),
    3: ("8 14, 40 0, 80 10, 78 36, 38 47 / 82 56, 92 80, 54 100, 4 90",
        "10 3, 50 3, 88 2 / 64 22, 40 40 / 84 50, 90 80, 52 100, 6 90"),
    4: ("26 0, 18 28, 8 56 / 50 56, 96 52; 76 8, 74 50, 70 100",
        "70 0, 34 34, 2 66 / 50 66, 98 64; 71 0, 70 50, 68 100"),
    5: ("88 3, 55 3, 22 5 / 18 24, 14 44 / 52 36, 90 58, 76 92, 40 100, 4 90",
        "22 4, 18 24, 14 42 / 56 38, 90 62, 72 94, 38 100, 4 92; 22 4, 56 4, 94 0"),
    6: ("76 2, 40 18, 12 52, 12 84, 44 100, 80 90, 82 64, 50 52, 16 72",
        "60 0, 26 28, 6 68, 26 96, 64 98, 86 74, 64 52, 28 60, 14 80"),
    7: ("4 6, 50 5, 94 3 / 66 48, 44 100",
        "6 22, 6 8 / 50 7, 94 4 / 64 50, 48 100",
        "4 6, 50 5, 94 3 / 66 48, 44 100; 30 54, 58 52, 86 48"),
    8: ("80 12, 44 0, 16 20, 46 44, 84 70, 58 99, 18 88, 24 64, 58 44, 84 22, 76 8",
        "50 46, 20 32, 26 6, 60 0, 80 20, 50 46, 14 66, 22 94, 60 100, 86 76, 50 46"),
    9: ("84 14, 48 0, 12 20, 22 46, 60 46, 86 14 / 84 56, 78 100",
        "86 22, 56 0, 16 14, 16 42, 52 50, 86 20, 90 56, 66 92, 24 98"),
}
CLASSES = tuple(str(digit) for digit in WAYS)


def load(seed=0, n_train=10_000, n_test=2_000):
    """The glyphs Dataset: uint8 (N, 1, 28, 28) and labels, each digit about a tenth of them."""
    train, test = draw(_block, n_train, seed, 0), draw(_block, n_test, seed, 1)
    return Dataset("glyphs", *train, *test, CLASSES, f"drawn from seed {seed}")


def _block(rng, n):
    """Images, uint8 (n, 1, 28, 28), and labels, int64 (n,), with equally many of each digit."""
    y = rng.permutation(np.arange(n) % len(WAYS))
    way = rng.random(n)
    x = np.empty((n, 1, SIZE, SIZE), np.uint8)
    for digit, ways in _CURVES.items():
        for k, (points, starts, ends) in enumerate(ways):
            i = np.flatnonzero((y == digit) & ((way * len(ways)).astype(int) == k))
            x[i, 0] = _render(*_write(rng, points, starts, ends, len(i)), rng)
    return x, y


def _write(rng, points, starts, ends, n):
    """n random variations of a way of writing: the pixel coordinates (n, pieces, 2) of the start
    and of the end of every straight piece."""
    p = points + rng.normal(0, 0.042, (n, *points.shape))  # (n, points, 2)
    a, b = starts @ p, ends @ p                            # (n, pieces, 2)
    bend = rng.normal(0, 0.07, (n, 1, 2))
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 2))
    height = rng.normal(17.8, 1.1, n).clip(15, 20)
    width = height * rng.normal(0.68, 0.09, n).clip(0.45, 0.9)
    slant, turn = rng.normal(0.12, 0.2, n), rng.normal(0, 0.07, n)
    # pixel = place + turn · slant · scale · point, with the ink's centre of mass near the middle
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.stack([np.stack([width * cos, -height * (slant * cos + sin)], -1),
                       np.stack([width * sin, height * (cos - slant * sin)], -1)], -2)
    a, b = (q + bend * np.sin(phase + 4 * q[..., ::-1]) for q in (a, b))
    a, b = (q @ matrix.swapaxes(-1, -2) for q in (a, b))
    length = np.hypot(*np.moveaxis(b - a, -1, 0))[..., None]
    middle = ((a + b) / 2 * length).sum(1, keepdims=True) / length.sum(1, keepdims=True)
    place = (SIZE - 1) / 2 + rng.normal(0, 0.6, (n, 1, 2)).clip(-1.5, 1.5) - middle
    low = np.minimum(a, b).min(1, keepdims=True) + place
    high = np.maximum(a, b).max(1, keepdims=True) + place
    place += (MARGIN - low).clip(0) - (high - (SIZE - 1 - MARGIN)).clip(0)  # stay on the paper
    return a + place, b + place


def _render(a, b, rng):
    """uint8 (n, 28, 28): a pen drawn along the pieces from a to b, (n, pieces, 2) in pixels."""
    n, pieces = a.shape[:2]
    soft = rng.uniform(0.9, 1.5, n)[:, None, None]            # pixels from full ink to none
    swell = rng.normal(0, 0.12, (n, 1)) * np.sin(np.linspace(0, 2 * np.pi, pieces)
                                                 + rng.uniform(0, 2 * np.pi, (n, 1)))
    # half the line's thickness: (n, pieces)
    radius = (rng.normal(1.2, 0.28, (n, 1)) * (1 + swell)).clip(0.7, 2.2)
    a, b, radius, soft = (v.astype(np.float32) for v in (a, b, radius, soft))
    reach = int(np.ceil(radius.max() + soft.max() / 2 + np.abs(b - a).max() / 2))
    window = np.arange(-reach, reach + 1, dtype=np.float32)
    ink = np.zeros((n, SIZE + 4 * reach, SIZE + 4 * reach), np.float32)
    row = np.arange(n)[:, None, None]
    for s in range(pieces):
        p, d = a[:, s], b[:, s] - a[:, s]                     # (n, 2)
        middle = np.rint(p + d / 2).clip(-reach, SIZE - 1 + reach)
        px = (middle[:, :1] + window)[:, None, :]             # (n, 1, w)
        py = (middle[:, 1:] + window)[:, :, None]             # (n, w, 1)
        rx, ry = px - p[:, :1, None], py - p[:, 1:, None]
        dx, dy = d[:, :1, None], d[:, 1:, None]
        t = ((rx * dx + ry * dy) / (dx * dx + dy * dy + 1e-9)).clip(0, 1)
        distance = np.hypot(rx - t * dx, ry - t * dy)
        new = ((radius[:, s, None, None] - distance) / soft + 0.5).clip(0, 1)
        where = row, py.astype(int) + 2 * reach, px.astype(int) + 2 * reach
        ink[where] = np.maximum(ink[where], new)
    inner = slice(2 * reach, 2 * reach + SIZE)
    return np.rint(255 * ink[:, inner, inner]).astype(np.uint8)


def _curve(way):
    """A way of writing as (points (P, 2), starts (S, P), ends (S, P)): the curve's S straight
    pieces run from starts @ points to ends @ points, wherever the points are moved."""
    points, starts, ends = [], [], []
    for figure in way.split(";"):
        for k, stroke in enumerate(figure.split("/")):
            new = [[float(v) / 100 for v in p.split()] for p in stroke.split(",")]
            first = len(points) - (k > 0)  # a corner shares the point before it
            points += new
            knots = range(first, len(points))
            samples = _catmull_rom(knots)
            starts += samples[:-1]
            ends += samples[1:]
    total = len(points)
    expand = lambda rows: np.array([[row.get(i, 0.0) for i in range(total)] for row in rows])
    return np.array(points), expand(starts), expand(ends)


def _catmull_rom(knots):
    """Weights {point: weight} of successive positions on the Catmull-Rom spline through `knots`."""
    samples, last = [], len(knots) - 1
    for i in range(last):
        for t in np.arange(PIECES + (i == last - 1)) / PIECES:
            weights = ((-t + 2 * t**2 - t**3) / 2, (2 - 5 * t**2 + 3 * t**3) / 2,
                       (t + 4 * t**2 - 3 * t**3) / 2, (t**3 - t**2) / 2)
            row = {}
            for j, w in zip(range(i - 1, i + 3), weights, strict=True):
                knot = knots[min(max(j, 0), last)]
                row[knot] = row.get(knot, 0.0) + w
            samples.append(row)
    return samples


_CURVES = {digit: [_curve(way) for way in ways] for digit, ways in WAYS.items()}
