"""Blocks on a table: images of them, texts about them, and what happens when one is moved.

A world gives, for each of six colours, the column and the level of the block of that colour, or −1
and −1 if it has none: integers (6, 2), or (N, 6, 2) for N worlds. There are three to five blocks
and five columns, so a block that is taken off another always finds an empty column. The texts:

    words     = { colour "on" (colour | "table") "." }
    question  = "what is on" block "?"
              | "how to grasp" block "?"
              | "how to put" block "on" block "?"
    block     = colour "block"
    answer    = block | "nothing" | command
    command   = ["first"] "grasp" block | "grasp" block "and put it on" block

Whatever lies on the blocks in question has to be taken off first, starting at the top.
"""

import numpy as np

from .scenes import COLOURS, SIZE, background, paint

NAMES = tuple(COLOURS)
COLUMNS = 5
SIDE = 6  # of a block, in pixels
VOCABULARY = ("", *NAMES, *(
    ". ? table nothing block first grasp and put it on what is how to".split()))


def worlds(rng, n):
    """n random worlds: integers (n, 6, 2)."""
    w = np.full((n, len(NAMES), 2), -1)
    for world in w:
        columns = rng.permutation(COLUMNS)[:rng.integers(1, 4)]
        for block in rng.permutation(len(NAMES))[:rng.integers(3, 6)]:
            column = rng.choice(columns)
            world[block] = column, (world[:, 0] == column).sum()
    return w


def draw(some, rng):
    """Images of some worlds (N, 6, 2), on a dark or a light background, with all the blocks of an
    image shifted sideways by a few random pixels: uint8 (N, 3, 32, 32)."""
    n = len(some)
    ground = rng.integers(2, size=n)
    x, axis = background(rng, ground), np.arange(SIZE)
    left = rng.integers(0, SIZE - COLUMNS * SIDE + 1, n)
    x[:, :, -2:] = np.where(ground, 0.35, 0.65)[:, None, None, None]
    for block, (column, level) in enumerate(some.transpose(1, 2, 0)):
        across = axis - (left + SIDE * column)[:, None]  # pixels from the block's left side
        down = axis - (SIZE - 2 - SIDE * (level + 1))[:, None]  # and from its top
        inside = [(0 <= at) & (at < SIDE - 1) for at in (across, down)]
        cover = (inside[0][:, None, :] & inside[1][:, :, None] & (level >= 0)[:, None, None])
        colour = paint(rng, np.full(n, block))[..., None, None]
        x = np.where(cover[:, None], colour, x)
    return np.rint(255 * x).astype(np.uint8)


def above(world, block):
    """The blocks stacked on top of a block, the lowest first: integers."""
    column, level = world[block]
    stack = np.flatnonzero((world[:, 0] == column) & (world[:, 1] > level))
    return stack[np.argsort(world[stack, 1])]


def under(world, block):
    """The block on which a block lies, or None if it lies on the table."""
    column, level = world[block]
    found = np.flatnonzero((world[:, 0] == column) & (world[:, 1] == level - 1))
    return found[0] if len(found) else None


def describe(world, rng):
    """A description of a world in words, its blocks in random order."""
    sentences = []
    for block in rng.permutation(np.flatnonzero(world[:, 1] >= 0)):
        below = under(world, block)
        sentences.append(f"{NAMES[block]} on {'table' if below is None else NAMES[below]} .")
    return " ".join(sentences)


def command(world, block, onto=None):
    """The next command to follow in order to grasp a block, or to put it onto another."""
    for on_it in (above(world, block), [] if onto is None else above(world, onto)):
        if len(on_it):
            return f"first grasp {NAMES[on_it[-1]]} block"
    put = "" if onto is None else f" and put it on {NAMES[onto]} block"
    return f"grasp {NAMES[block]} block{put}"


def steps(world, block, onto):
    """How many commands it takes to put a block onto another; 0 if it lies there already."""
    n = 0
    while under(world, block) != onto:
        world, n = execute(world, command(world, block, onto)), n + 1
    return n


def execute(world, text):
    """The world after a command. A block that is grasped "first" is put down on the table. None if
    `text` is not a command or cannot be executed: a block must have nothing on top of it to be
    grasped, or to have another put on it."""
    words, new = text.split(), world.copy()
    blocks = [NAMES.index(word) for word in words if word in NAMES]
    free = all(world[block, 1] >= 0 and not len(above(world, block)) for block in blocks)
    if not free or len(set(blocks)) < len(blocks):
        return None
    kind = " ".join("*" if word in NAMES else word for word in words)
    if kind == "first grasp * block":
        empty = np.setdiff1d(np.arange(COLUMNS), np.delete(world[:, 0], blocks))
        new[blocks[0]] = empty[0], 0
    elif kind == "grasp * block and put it on * block":
        new[blocks[0]] = world[blocks[1]] + [0, 1]
    elif kind != "grasp * block":
        return None
    return new


def ask(world, rng):
    """A random question about a world, and its answer."""
    one, other = rng.permutation(np.flatnonzero(world[:, 1] >= 0))[:2]
    kind = rng.integers(3)
    if kind == 0:
        on_it = above(world, one)
        return (f"what is on {NAMES[one]} block ?",
                f"{NAMES[on_it[0]]} block" if len(on_it) else "nothing")
    if kind == 1 or under(world, one) == other:
        return f"how to grasp {NAMES[one]} block ?", command(world, one)
    return how_to_put(one, other), command(world, one, other)


def how_to_put(block, onto):
    """The question of how to put one block on another."""
    return f"how to put {NAMES[block]} block on {NAMES[onto]} block ?"
