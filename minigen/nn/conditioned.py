"""Conditioning a network on a class or a vector, which is concatenated to its input."""

import numpy as np

from minigen.ops import broadcast_to, concatenate, one_hot
from minigen.tensor import tensor


class Conditioned:
    """A network whose input, an image or a code, gets d more channels, each constant over the
    image: a vector y (N, d), or integers y (N,) as one-hot vectors."""

    def __init__(self, net, d):
        self.net, self.d = net, d

    def __call__(self, x, y):
        """x (N, C, ...), floats, and y."""
        if x.dtype.kind != "f":  # y would be cast to integers, too
            raise TypeError(f"Conditioned: the input must be of floats, got {x.dtype}")
        code = as_vectors(y, len(x), self.d, x.dtype)
        code = code.reshape(*code.shape, *[1] * (x.ndim - 2))
        code = broadcast_to(code, shape=(len(x), self.d, *x.shape[2:]))
        return self.net(concatenate([x, code], axis=1))  # eq: cvae-conditioning, cgan-conditioning


def as_vectors(y, n, d, dtype):
    """Integers y (n,), 0 ≤ y < d, as one-hot vectors, or vectors y (n, d) as they are: (n, d).
    ValueError for a y of another shape."""
    code = one_hot(y, d, dtype) if np.ndim(y) == 1 else tensor(y).astype(dtype)
    if code.shape != (n, d):
        raise ValueError(f"conditioned: {n} inputs came with y {np.shape(y)}, expected ({n},) or "
                         f"({n}, {d})")
    return code
