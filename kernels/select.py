"""The elements of one array where a mask is true, those of another elsewhere

    y[i] = a[i] if mask[i], else b[i]        a, b, mask of shapes that broadcast, mask boolean → y

Used by where, and in the gradients of maximum, minimum and clip with b = 0. A selection, not a
product: 0 · ∞ would be NaN. a, b, mask and y pass through memory once. The fast version is a loop
that compiles to vector blends; np.where branches at every element and takes fifteen times as long
on an irregular mask.
"""

import numpy as np

from .common import PART, chunks, empty, kernel, part
from .cuda import xp
from .once import threaded


@kernel(a="*", b="*", mask="* mask")
def select(a, b, mask):
    return xp(a).where(mask, a, b)


select.version("cuda")(select.reference)  # CuPy makes one pass of it


@select.version("cpu")
def select(a, b, mask):
    if a.size == 1:
        a, b, mask = b, a, ~mask
    shape = np.broadcast_shapes(a.shape, b.shape, mask.shape)
    a, mask = np.broadcast_to(a, shape).ravel(), np.broadcast_to(mask, shape).ravel()
    b = b.ravel() if b.size == 1 else np.broadcast_to(b, shape).ravel()
    y = empty(shape, a.dtype)
    _select(chunks(1 + y.size // PART), a, b, mask, y.reshape(-1))
    return y


@threaded
def _select(chunk, chunks, a, b, mask, y):
    xs, masks, ys = part(a, chunk, chunks), part(mask, chunk, chunks), part(y, chunk, chunks)
    if len(b) == 1:
        other = b[0]
        for i in range(len(ys)):
            ys[i] = xs[i] if masks[i] else other
    else:
        others = part(b, chunk, chunks)
        for i in range(len(ys)):
            x, other = xs[i], others[i]
            ys[i] = x if masks[i] else other
