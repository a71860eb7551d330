"""glyphs and scenes, tested by properties of their images."""

import colorsys
import re
from pathlib import Path

import numpy as np
import pytest
from data_files import REAL, real
from PIL import Image, ImageDraw

from minigen.data import load, scenes


@pytest.fixture(scope="module")
def glyphs():
    return load("glyphs")


@pytest.mark.parametrize("name, shape", [("glyphs", (1, 28, 28)), ("scenes", (3, 32, 32))])
def test_drawn_from_a_seed(name, shape):
    a, b, c = (load(name, n_train=1100, n_test=50, seed=s) for s in (0, 0, 1))
    assert a.train_x.shape == (1100, *shape) and a.test_x.shape == (50, *shape)
    assert a.train_x.dtype == np.uint8 and a.train_y.dtype == np.int64
    assert set(a.train_y) == set(range(10)) and len(a.classes) == 10
    np.testing.assert_array_equal(a.train_x, b.train_x)
    np.testing.assert_array_equal(a.test_y, b.test_y)
    assert not np.array_equal(a.train_x, c.train_x)
    assert not np.array_equal(a.train_x[:50], a.test_x)
    few = load(name, n_train=30, n_test=5)
    np.testing.assert_array_equal(few.train_x, a.train_x[:30])
    np.testing.assert_array_equal(few.test_y, a.test_y[:5])
    assert "1,100 training and 50 test images" in str(a) and "seed 1" in str(c)
    assert len(np.unique(a.train_x.reshape(1100, -1), axis=0)) == 1100


def test_glyphs_look_like_digits_on_paper(glyphs):
    x = glyphs.train_x[:, 0] / 255
    assert len(x) == 10_000 and len(glyphs.test_x) == 2_000
    assert (np.bincount(glyphs.train_y) == 1000).all()
    assert 0.11 < x.mean() < 0.16                                # MNIST: 0.13
    assert (x.max((1, 2)) > 0.9).all() and (x.min((1, 2)) == 0).all()
    ink = (x > 0.5).sum((1, 2))
    assert 30 <= np.percentile(ink, 1) and np.percentile(ink, 99) <= 240
    at = np.arange(28)
    for axis in (1, 2):                                          # centred, but not exactly
        where = (x.sum(3 - axis) * at).sum(1) / x.sum((1, 2))
        assert abs(where.mean() - 13.5) < 0.7 and 0.4 < where.std() < 1
    border = np.concatenate([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], 1)
    assert (border.max(1) > 0.5).mean() < 0.01, "few figures run out of the picture"
    edge = ((x > 0) & (x < 1)).sum((1, 2))
    assert np.median(edge / ink) > 0.3, "lines are antialiased"


def test_glyph_classes_are_separable_but_not_trivially(glyphs):
    f = lambda x: np.c_[x.reshape(len(x), -1) / np.float32(255), np.ones(len(x), np.float32)]
    a, b = f(glyphs.train_x), f(glyphs.test_x)
    w = np.linalg.solve(a.T @ a + 10 * np.eye(a.shape[1]), a.T @ np.eye(10)[glyphs.train_y])
    linear = ((b @ w).argmax(1) == glyphs.test_y)
    assert 0.85 < linear.mean() < 0.97
    b, want = b[:500], glyphs.test_y[:500]
    nearest = ((a**2).sum(1) - 2 * b @ a.T).argmin(1)
    assert (glyphs.train_y[nearest] == want).mean() > 0.95
    for digit in range(10):  # every class varies: most images are far from their class's mean
        of = a[glyphs.train_y == digit]
        assert np.median(np.linalg.norm(of - of.mean(0), axis=1)) > 4


def test_glyph_shapes_vary():
    """In more than place, size, slant and rotation: no affine map takes one figure to another."""
    from minigen.data.glyphs import _CURVES, _write
    for ways in _CURVES.values():
        for points, starts, ends in ways:
            figures, _ = _write(np.random.default_rng(0), points, starts, ends, 40)
            base = np.c_[starts @ points, np.ones(len(starts))]
            fit = base @ np.linalg.lstsq(base, figures.transpose(1, 0, 2).reshape(len(base), -1))[0]
            rest = figures - fit.reshape(len(base), 40, 2).swapaxes(0, 1)
            assert 0.45 < np.sqrt((rest**2).sum(-1).mean()) < 1.2  # pixels


@real
def test_glyphs_are_read_by_who_knows_mnist(glyphs):
    if not (Path(REAL) / "mnist").is_dir():
        pytest.skip("MINIGEN_DATA has no folder mnist")
    known = load("mnist", REAL, n_train=8000)
    a, b = (x.reshape(len(x), -1) / np.float32(255) for x in (known.train_x, glyphs.train_x[:1000]))
    nearest = known.train_y[((a**2).sum(1) - 2 * b @ a.T).argmin(1)]
    right = [(nearest == digit)[glyphs.train_y[:1000] == digit].mean() for digit in range(10)]
    assert min(right) > 0.6 and np.mean(right) > 0.8, np.round(right, 2)


HUES = {"red": 0, "orange": 30, "yellow": 60, "green": 120, "blue": 230, "purple": 285}  # degrees
PHRASE = r"a (small|large) (\w+) (\w+)"


def hue_distance(a, b):
    return min(abs(a - b), 360 - abs(a - b))


def painted(name, cx, cy, r, turn):
    """The shape drawn by Pillow at 4× resolution, independently of minigen: bool (32, 32)."""
    scale = 4
    image = Image.new("L", (32 * scale, 32 * scale))
    pen = ImageDraw.Draw(image)
    at = lambda x, y: (scale * (cx + 0.5 + x * np.cos(turn) - y * np.sin(turn)),
                       scale * (cy + 0.5 + x * np.sin(turn) + y * np.cos(turn)))
    disc = lambda q, fill: pen.ellipse([scale * (cx + 0.5 - q), scale * (cy + 0.5 - q),
                                        scale * (cx + 0.5 + q), scale * (cy + 0.5 + q)], fill)
    polygon = lambda *points: pen.polygon([at(r * x, r * y) for x, y in points], 255)
    if name in ("circle", "ring"):
        disc(r, 255)
        if name == "ring":
            disc(0.54 * r, 0)
    elif name == "square":
        polygon((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85))
    elif name == "triangle":
        polygon((0, -1.2), (1.04, 0.6), (-1.04, 0.6))
    else:
        polygon((-1, -0.34), (1, -0.34), (1, 0.34), (-1, 0.34))
        polygon((-0.34, -1), (0.34, -1), (0.34, 1), (-0.34, 1))
    return np.asarray(image).reshape(32, scale, 32, scale).mean((1, 3)) > 127


def recognise(mask, cx, cy):
    """(size, shape) by the best overlap with shapes drawn by Pillow."""
    best = max((((mask & p).sum() / (mask | p).sum(), r, name)
                for name in scenes.SHAPES for r in (3.2, 3.6, 5.6, 6.2)
                for turn in ((0,) if name in ("circle", "ring") else (-0.15, 0, 0.15))
                for p in [painted(name, cx, cy, r, turn)]))
    return ("small" if best[1] < 4.5 else "large"), best[2]


def test_captions_are_true():
    d = load("scenes", n_train=100, n_test=1)
    rows, cols = np.mgrid[:32, :32]
    numbers, shapes_right, objects = set(), 0, 0
    for x, y, caption, mask in zip(d.train_x, d.train_y, d.train_captions, d.train_masks[:, 0],
                                   strict=True):
        phrases = re.findall(PHRASE, caption)
        assert len(phrases) == mask.max()
        numbers.add(len(phrases))
        of_colour = {colour: (size, shape) for size, colour, shape in phrases}
        place, left = {}, None
        for k in range(1, mask.max() + 1):
            m = mask == k
            cx, cy = cols[m].mean(), rows[m].mean()
            r, g, b = np.median(x[:, m], axis=1) / 255
            hue = 360 * colorsys.rgb_to_hsv(r, g, b)[0]
            colour = min(HUES, key=lambda c: hue_distance(HUES[c], hue))
            assert colour in of_colour, caption
            size, shape = recognise(m, cx, cy)
            assert size == of_colour[colour][0], caption
            shapes_right += shape == of_colour[colour][1]
            objects += 1
            place[colour] = cx, cy
            if k == 1:
                left = of_colour[colour]
        assert len(place) == len(phrases), "every colour of the caption is in the picture"
        assert [cx for cx, _ in place.values()] == sorted(cx for cx, _ in place.values())
        assert d.classes[y] == " ".join(left), "the class is that of the leftmost object"
        sx, sy = place[phrases[0][1]]
        for relation, colour in re.findall(r"(left of|right of|above|below) a \w+ (\w+)", caption):
            dx, dy = sx - place[colour][0], sy - place[colour][1]
            away = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}[relation]
            assert away > max(abs(dx), abs(dy)) - 0.7 and away > 3, caption
        if len(phrases) == 1:
            words = re.search(f"{PHRASE} (?:in|at|on) the (.+?) on a", caption)[4].split()
            low, high = 32 / 3 - 0.5, 64 / 3 - 0.5
            for word, value, sign in (("left", sx, -1), ("right", sx, 1),
                                      ("top", sy, -1), ("bottom", sy, 1)):
                beyond = value - high if sign > 0 else low - value
                assert beyond > -0.6 if word in words else beyond < 0.6, caption
        ground = x[:, mask == 0].mean()
        assert f"on a {'light' if ground > 128 else 'dark'} background" in caption
    assert numbers == {1, 2, 3} and shapes_right >= 0.97 * objects


def test_all_true_captions():
    """One for each order of the objects; each relation in them holds for the objects' centres."""
    d = load("scenes", n_train=1, n_test=200)
    opposite = {"left of": "right of", "above": "below"}
    for caption, scene, mask in zip(d.test_captions, d.test_scenes, d.test_masks, strict=True):
        true = scenes.true_captions(scene)
        assert len(true) == (1, 2, 6)[scene["number"] - 1] and scene["number"] == mask.max()
        assert caption in true
        at = {list(scenes.COLOURS)[c]: centre for c, centre, _ in
              zip(scene["colour"], scene["centre"], range(scene["number"]), strict=False)}
        for text in true:
            assert sorted(text.split()[-4:]) == sorted(caption.split()[-4:])
            (_, subject, _), *others = phrases = re.findall(PHRASE, text)
            assert sorted(phrases) == sorted(re.findall(PHRASE, caption))
            found = re.findall(r"(left of|right of|above|below) a \w+ (\w+)", text)
            assert [colour for _, colour in found] == [colour for _, colour, _ in others]
            for relation, colour in found:
                dx, dy = at[subject] - at[colour]
                way, far = ("left of", dx) if abs(dx) > abs(dy) else ("above", dy)
                assert relation == (way if far < 0 else opposite[way])


def test_scene_masks_and_edges():
    d = load("scenes", n_train=300, n_test=40)
    assert d.train_masks.shape == d.train_edges.shape == (300, 1, 32, 32)
    assert d.train_masks.dtype == d.train_edges.dtype == np.uint8
    assert len(d.test_captions) == len(d.test_masks) == len(d.test_edges) == 40
    x = d.train_x.astype(int)
    grey = x.max(1) - x.min(1)
    inside = d.train_masks[:, 0] > 0
    near = np.zeros_like(inside)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            near |= np.roll(inside, (dy, dx), (1, 2))
    assert grey[~near].max() < 20, "beyond the objects there is only background"
    assert np.percentile(grey[inside], 1) > 50, "objects are coloured"
    np.testing.assert_array_equal(d.train_edges, scenes.edges(d.train_masks))
    m = d.train_masks[:, 0].astype(int)
    for a, b in ((m[:, 1:], m[:, :-1]), (m[:, :, 1:], m[:, :, :-1])):
        assert not (a * b * (a - b)).any(), "objects do not touch"


def test_edges_pixel_by_pixel():
    masks = np.random.default_rng(0).integers(0, 3, (5, 1, 3, 3)).repeat(3, 2).repeat(3, 3)
    for mask, edge in zip(masks[:, 0], scenes.edges(masks)[:, 0], strict=True):
        wide = np.pad(mask, 1)
        for r, c in np.ndindex(9, 9):
            around = wide[r, c + 1], wide[r + 2, c + 1], wide[r + 1, c], wide[r + 1, c + 2]
            outermost = mask[r, c] > 0 and any(v != mask[r, c] for v in around)
            assert edge[r, c] == 255 * outermost


def test_scene_classes_all_occur_often():
    counts = np.bincount(load("scenes", n_train=2000, n_test=1).train_y, minlength=10)
    assert counts.min() > 0.06 * 2000


def test_captions_as_numbers():
    d = load("scenes", n_train=500, n_test=1)
    tokens = scenes.encode(d.train_captions)
    assert tokens.shape == (500, scenes.LONGEST) and tokens.dtype == np.int64
    for row, caption in zip(tokens, d.train_captions, strict=True):
        assert " ".join(scenes.VOCABULARY[t] for t in row).strip() == caption
    assert scenes.decode(tokens) == d.train_captions.tolist()
    assert scenes.decode(scenes.encode(scenes.OBJECTS)) == list(scenes.OBJECTS)
    assert scenes.VOCABULARY[0] == "" and len(set(scenes.VOCABULARY)) == len(scenes.VOCABULARY)
    assert (tokens != 0).sum(1).max() == scenes.LONGEST
    assert set(np.unique(tokens)) == set(range(len(scenes.VOCABULARY)))
    with pytest.raises(ValueError, match="'huge' is not in the vocabulary"):
        scenes.encode(["a huge red ring"])
    with pytest.raises(ValueError, match="22 words, at most 21 fit"):
        scenes.encode([" ".join(["a"] * 22)])
    few = d.first(3)
    assert len(few.train_captions) == len(few.train_masks) == len(few.train_edges) == 3
    assert len(few.test_captions) == 1 and few.classes == d.classes
