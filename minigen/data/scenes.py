"""Captioned images: 32×32 colour scenes drawn from a seed, a drop-in replacement for CIFAR-10.

A scene shows one to three objects, each with a shape, a colour, a size and a place, on a dark or a
light background. It comes with a true caption, a mask of its objects and their edges. The captions:

    caption  = object place ground | object relation ground | object relation "and" relation ground
    relation = ("left of" | "right of" | "above" | "below") object
    object   = "a" size colour shape
    place    = "in the top left" | "at the top" | ... | "in the bottom right"
    ground   = "on a dark background" | "on a light background"

No two objects of a scene share a colour or touch. A relation names the axis along which the two
centres are further apart. The class of a scene is the size and shape of its leftmost object.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from .dataset import Dataset
from .drawing import draw

SIZE = 32
SHAPES = ("circle", "square", "triangle", "cross", "ring")
SIZES = ("small", "large")
RADII = ((3.0, 3.8), (5.4, 6.4))  # roughly from the centre to the rim, in pixels
COLOURS = {"red": 0, "orange": 28, "yellow": 56, "green": 120, "blue": 225, "purple": 285}  # hue, °
TOLERANCE = 15  # by which the hue of a pixel may differ from that of its colour, °
GROUNDS = ("dark", "light")
PLACES = (("in the top left", "at the top", "in the top right"),
          ("on the left", "in the middle", "on the right"),
          ("in the bottom left", "at the bottom", "in the bottom right"))
CLASSES = tuple(f"{size} {shape}" for shape in SHAPES for size in SIZES)
OBJECTS = tuple(f"{size} {colour} {shape}" for shape in SHAPES for size in SIZES
                for colour in COLOURS)
PADDING = ""
VOCABULARY = (PADDING, *sorted({*SHAPES, *SIZES, *COLOURS, *GROUNDS, *(
    "a of above below and background".split()), *" ".join(sum(PLACES, ())).split()}))
LONGEST = 21  # words of "a . . . left of a . . . and left of a . . . on a . background"
SCENE = np.dtype([("number", int), ("shape", int, 3), ("colour", int, 3), ("size", int, 3),
                  ("centre", float, (3, 2)), ("ground", int)])  # `number` objects, from the left


@dataclass(frozen=True, repr=False, eq=False)
class Scenes(Dataset):
    """A Dataset with captions, object masks and outlines.

    *_captions: str (N,)
    *_masks: uint8 (N, 1, 32, 32), 0 for the background, k for the k-th object from the left
    *_edges: uint8 (N, 1, 32, 32), 255 on the objects' outermost pixels, 0 elsewhere
    *_scenes: SCENE (N,), the contents: indices into SHAPES, …, GROUNDS, centres x, y in pixels
    """

    train_captions: np.ndarray
    train_masks: np.ndarray
    train_edges: np.ndarray
    train_scenes: np.ndarray
    test_captions: np.ndarray
    test_masks: np.ndarray
    test_edges: np.ndarray
    test_scenes: np.ndarray


def load(seed=0, n_train=10_000, n_test=2_000):
    """The Scenes: uint8 (N, 3, 32, 32), labels 0..9, captions, masks, edges."""
    train, test = draw(_block, n_train, seed, 0), draw(_block, n_test, seed, 1)
    return Scenes("scenes", *train[:2], *test[:2], CLASSES, f"drawn from seed {seed}",
                  *train[2:], *test[2:])


def encode(captions, vocabulary=VOCABULARY, longest=LONGEST):
    """int64 (N, longest): the words of each caption as indices into the vocabulary, zero-padded.

    Raises ValueError for a word that is not in the vocabulary or a caption of too many words.
    """
    index = {word: i for i, word in enumerate(vocabulary)}
    tokens = np.zeros((len(captions), longest), np.int64)
    for row, caption in zip(tokens, captions, strict=True):
        words = str(caption).split()
        unknown = [word for word in words if word not in index]
        if unknown or len(words) > longest:
            raise ValueError(f"caption {str(caption)!r}: "
                             + (f"{unknown[0]!r} is not in the vocabulary" if unknown else
                                f"{len(words)} words, at most {longest} fit"))
        row[:len(words)] = [index[word] for word in words]
    return tokens


def decode(tokens, vocabulary=VOCABULARY):
    """The inverse of `encode`: integers (N, T) to a list of N captions."""
    return [" ".join(vocabulary[i] for i in row if i) for row in tokens]


def true_captions(scene):
    """The set of all captions that are true of a scene, one element of *_scenes."""
    return {_caption(order, *scene) for order in permutations(range(scene["number"]))}


def draw_captions(scenes, rng):
    """For each of the scenes, elements of *_scenes, one of its true captions at random: a list."""
    return [rng.choice(sorted(true_captions(scene))) for scene in scenes]


def _block(rng, n):
    """Images, labels, captions, masks, edges and records of n scenes. Per-object arrays have shape
    (n, 3), the objects sorted from left to right; `present` says which of the three exist."""
    number = rng.integers(1, 4, n)
    present = np.arange(3) < number[:, None]
    shape = rng.integers(len(SHAPES), size=(n, 3))
    colour = rng.permuted(np.tile(np.arange(len(COLOURS)), (n, 1)), axis=1)[:, :3]
    size = rng.integers(2, size=(n, 3))
    three = number == 3  # there is rarely room for two large ones
    size[three] = rng.permuted(np.outer(rng.random(three.sum()) < 0.8, [1, 0, 0]), axis=1)
    low, high = np.array(RADII).T[..., size]
    radius = rng.uniform(low, high)
    centre = _scatter(rng, 1.2 * radius, present)
    ground = rng.integers(2, size=n)

    order = np.argsort(np.where(present, centre[..., 0], np.inf), axis=1, kind="stable")
    shape, colour, size, radius = (np.take_along_axis(v, order, 1)
                                   for v in (shape, colour, size, radius))
    centre = np.take_along_axis(centre, order[..., None], 1)

    cover = _coverage(rng, shape, radius, centre) * present[..., None, None]  # (n, 3, 32, 32)
    masks = ((cover >= 0.5) * np.arange(1, 4)[:, None, None]).max(1, keepdims=True)
    x = background(rng, ground)
    for k in range(3):
        rgb, c = paint(rng, colour[:, k])[..., None, None], cover[:, k, None]
        x = x * (1 - c) + rgb * c
    scenes = np.empty(n, SCENE)
    for name, values in zip(SCENE.names, (number, shape, colour, size, centre, ground),
                            strict=True):
        scenes[name] = values
    captions = [_caption(rng.permutation(scene["number"]), *scene) for scene in scenes]
    return (np.rint(255 * x).astype(np.uint8), (2 * shape + size)[:, 0], np.array(captions),
            masks.astype(np.uint8), edges(masks), scenes)


def edges(masks):
    """uint8 like `masks` (N, 1, H, W): 255 where an object's pixel has a neighbour (above, below,
    left or right) that is not part of the object, 0 elsewhere."""
    wide = np.pad(masks, ((0, 0), (0, 0), (1, 1), (1, 1)))
    inside = ((wide[..., :-2, 1:-1] == masks) & (wide[..., 2:, 1:-1] == masks)
              & (wide[..., 1:-1, :-2] == masks) & (wide[..., 1:-1, 2:] == masks))
    return np.where((masks > 0) & ~inside, 255, 0).astype(np.uint8)


def _scatter(rng, reach, present):
    """Centres (n, 3, 2) in pixels, x then y, drawn again until objects of radius `reach` lie inside
    the image, at least a pixel apart, and no two have nearly the same x."""
    centre = np.empty((*reach.shape, 2))
    todo = np.arange(len(reach))
    while len(todo):
        r = reach[todo]
        p = rng.uniform(r[..., None] - 0.5, SIZE - 0.5 - r[..., None], (len(todo), 3, 2))
        good = np.ones(len(todo), bool)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            delta = p[:, i] - p[:, j]
            clear = np.hypot(*delta.T) >= r[:, i] + r[:, j] + 1
            good &= (clear & (np.abs(delta[:, 0]) >= 2)) | ~present[todo, i] | ~present[todo, j]
        centre[todo[good]] = p[good]
        todo = todo[~good]
    return centre


def _coverage(rng, shape, radius, centre):
    """How much of each pixel each object covers: float32 (n, 3, 32, 32) in [0, 1], from the signed
    distance to the object's rim. Objects are rotated at random by up to 12°."""
    axis = np.arange(SIZE, dtype=np.float32)
    angle = np.deg2rad(rng.uniform(-12, 12, shape.shape))
    out = np.empty((*shape.shape, SIZE, SIZE), np.float32)
    for kind, name in enumerate(SHAPES):
        where = shape == kind
        r, cos, sin = (v[where].astype(np.float32)[:, None, None]
                       for v in (radius, np.cos(angle), np.sin(angle)))
        cx, cy = centre[where].astype(np.float32).T[..., None, None]
        dx, dy = axis[None, None, :] - cx, axis[None, :, None] - cy
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        out[where] = np.clip(0.5 - _distance(name, u, v, r), 0, 1)
    return out


def _distance(name, u, v, r):
    """Distance in pixels from (u, v) to the rim of a shape about the origin, negative inside."""
    au, av = np.abs(u), np.abs(v)
    if name == "circle":
        return np.hypot(u, v) - r
    if name == "ring":
        return np.abs(np.hypot(u, v) - 0.77 * r) - 0.23 * r
    if name == "square":
        return np.maximum(au, av) - 0.85 * r
    if name == "triangle":  # three half-planes at 0.6 r; the top is at 1.2 r
        return np.maximum(v, np.sqrt(0.75) * au - v / 2) - 0.6 * r
    bar = 0.34 * r
    return np.minimum(np.maximum(au - r, av - bar), np.maximum(au - bar, av - r))


def background(rng, ground):
    """(n, 3, 32, 32) in [0, 1]: nearly grey, dark or light, with a slight vertical gradient."""
    n = len(ground)
    level = np.where(ground == 1, 0.84, 0.16) + rng.uniform(-0.08, 0.08, n)
    tint = rng.uniform(-0.03, 0.03, (n, 3))
    shade = rng.uniform(-0.04, 0.04, (n, 1, 1)) * np.linspace(-1, 1, SIZE)[:, None]
    x = level[:, None, None, None] + tint[..., None, None] + shade[:, None]
    return np.broadcast_to(x, (n, 3, SIZE, SIZE)).astype(np.float32)


def paint(rng, colour):
    """RGB (n, 3) in [0, 1]: the colour's hue, within 5°, at random saturation and brightness."""
    hue = np.array(list(COLOURS.values()))[colour] + rng.uniform(-5, 5, colour.shape)
    saturation, value = rng.uniform(0.8, 1, colour.shape), rng.uniform(0.75, 0.95, colour.shape)
    k = (np.array([5, 3, 1]) + hue[:, None] / 60) % 6
    chroma = (saturation * value)[:, None]
    return (value[:, None] - chroma * np.minimum(k, 4 - k).clip(0, 1)).astype(np.float32)


def shows(hue):
    """A function that finds the pixels of images (N, 3, H, W) in [0, 1] that show a colour: their
    hue is within TOLERANCE of `hue`, in degrees, and they are neither grey nor dark."""
    def s(x):
        from matplotlib.colors import rgb_to_hsv
        h, saturation, value = np.moveaxis(rgb_to_hsv(x.transpose(0, 2, 3, 1).clip(0, 1)), -1, 0)
        hue_diff = np.abs((360 * h - hue + 180) % 360 - 180)
        return (hue_diff <= TOLERANCE) & (saturation > 0.4) & (value > 0.4)
    return s


def _caption(order, number, shape, colour, size, centre, ground):
    """The caption naming the objects in the given order, the first in relation to the others."""
    names = [f"a {SIZES[s]} {list(COLOURS)[c]} {SHAPES[f]}"
             for s, c, f in zip(size, colour, shape, strict=True)]
    subject, *others = order
    if not others:
        column, row = np.searchsorted((SIZE / 3 - 0.5, 2 * SIZE / 3 - 0.5), centre[0])
        details = [PLACES[row][column]]
    else:
        details = [f"{_relation(*(centre[subject] - centre[o]))} {names[o]}" for o in others]
    return f"{names[subject]} {' and '.join(details)} on a {GROUNDS[ground]} background"


def _relation(dx, dy):
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"
