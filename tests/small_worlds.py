"""What the tests on few possible states share: all these states, and networks that are tables."""

import numpy as np

from minigen import tensor


def all_of(K, *shape):
    """All arrays of this shape with values 0 … K − 1: integers (N, *shape)."""
    D = int(np.prod(shape))
    return np.indices([K] * D).reshape(D, -1).T.reshape(-1, *shape)


class Table:
    """A network on integers: a table with a number for each, looked up by one-hot vectors."""

    def __init__(self, values):
        self.values = tensor(values, True)

    def __call__(self, x):
        return tensor(np.eye(len(self.values.data))[x.astype(int).reshape(-1)]) @ self.values
