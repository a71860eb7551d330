"""An array where a mask is true, zeros elsewhere

    y[i] = x[i] if mask[i], else 0        x (...), mask (...) boolean → y (...)

Used in the gradients of maximum, minimum, clip and where. A selection, not a product: 0 · ∞ would
be NaN. x, mask and y pass through memory once. The fast version is a loop that compiles to vector
blends; np.where branches at every element and takes fifteen times as long on an irregular mask.
"""

import numpy as np

from .common import PART, chunks, empty, kernel, part
from .cuda import xp
from .once import threaded


@kernel(x="...", mask="... mask")
def keep(x, mask):
    return np.where(mask, x, x.dtype.type(0))


@keep.version("cpu")
def keep(x, mask):
    y = empty(x.shape, x.dtype)
    _keep(chunks(1 + x.size // PART), x.ravel(), mask.ravel(), y.reshape(-1))
    return y


@keep.version("cuda")
def keep(x, mask):  # CuPy's where is one pass, and a selection too
    return xp(x).where(mask, x, x.dtype.type(0))


@threaded
def _keep(chunk, chunks, x, mask, y):
    xs, masks, ys = part(x, chunk, chunks), part(mask, chunk, chunks), part(y, chunk, chunks)
    zero = x.dtype.type(0)
    for i in range(len(ys)):
        ys[i] = xs[i] if masks[i] else zero
