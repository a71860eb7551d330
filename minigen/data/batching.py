"""Batches with random access: the batch of step t is a function of (seed, t) and nothing else, so
a run can resume exactly at any step, and no generator's state has to be stored."""

from functools import lru_cache
from itertools import count

import numpy as np

from minigen.tensor import no_grad, tensor

# Keeps the shuffles independent of the noise of training step t, which is drawn from (seed, t).
SHUFFLE = 0x5EED


def batch_indices(n, batch_size, seed, step):
    """Which of `n` images make up the batch of step `step` = 0, 1, 2, ...: int64 (batch_size,).

    Epoch e is a permutation of range(n) drawn from default_rng((seed, e, SHUFFLE)). The epochs are
    concatenated, and step t takes the positions from t·batch_size up to (t+1)·batch_size. So every
    image occurs once per epoch, every batch is full, and a batch that crosses the boundary of two
    epochs holds the end of one and the beginning of the next. `batch_size` may exceed `n`.
    """
    if n < 1 or batch_size < 1 or step < 0:
        raise ValueError("batch_indices needs n >= 1, batch_size >= 1 and step >= 0; "
                         f"got n={n}, batch_size={batch_size}, step={step}")
    position, end = step * batch_size, (step + 1) * batch_size
    parts = []
    while position < end:
        epoch, start = divmod(position, n)
        parts.append(_permutation(n, seed, epoch)[start : start + end - position])
        position += len(parts[-1])
    return np.concatenate(parts)


def batches(*arrays, batch_size, seed, start=0, stop=None):
    """Yield the shuffled batches of the steps from `start` up to `stop` (None: for ever).

    `arrays` have equal length. For one array each item is its batch, for several a tuple of theirs.
    """
    n = _length(arrays)
    for step in count(start) if stop is None else range(start, stop):
        i = batch_indices(n, batch_size, seed, step)
        yield arrays[0][i] if len(arrays) == 1 else tuple(a[i] for a in arrays)


def in_order(*arrays, batch_size):
    """Yield every row once, in order, for evaluation; the last batch may be smaller."""
    if batch_size < 1:
        raise ValueError(f"in_order needs batch_size >= 1; got {batch_size}")
    for i in range(0, _length(arrays), batch_size):
        rows = slice(i, i + batch_size)
        yield arrays[0][rows] if len(arrays) == 1 else tuple(a[rows] for a in arrays)


def in_batches(f, *arrays, batch_size=500):
    """f of arrays (n, ...), for `batch_size` rows at a time, untracked: an array (n, ...). f gives
    a tensor or an array with as many rows as it is given."""
    with no_grad():
        results = [f(*(a[i:i + batch_size] for a in arrays))
                   for i in range(0, _length(arrays), batch_size)]
        return np.concatenate([tensor(y).numpy() for y in results])


@lru_cache(maxsize=4)
def _permutation(n, seed, epoch):
    order = np.random.default_rng((seed, epoch, SHUFFLE)).permutation(n)
    order.flags.writeable = False
    return order


def _length(arrays):
    lengths = [len(a) for a in arrays]
    if len(set(lengths)) != 1:
        raise ValueError(f"batches need arrays of one length; got {lengths}")
    return lengths[0]
