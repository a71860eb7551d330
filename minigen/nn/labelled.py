"""Conditioning a network on a class: the label is concatenated to its input."""

import numpy as np

from minigen.ops import broadcast_to, concatenate, one_hot
from minigen.tensor import tensor


class Labelled:
    """A network whose input, an image or a code, gets one extra channel per class: 1 in the
    channel of the label, 0 in the others."""

    def __init__(self, net, classes):
        self.net, self.classes = net, classes

    def __call__(self, x, y):
        """x (N, C, ...), floats, and y as `class_weights` takes it."""
        if x.dtype.kind != "f":  # y would be cast to integers, too
            raise TypeError(f"Labelled: the input must be of floats, got {x.dtype}")
        code = class_weights(y, len(x), self.classes, x.dtype)
        code = code.reshape(*code.shape, *[1] * (x.ndim - 2))
        code = broadcast_to(code, shape=(len(x), self.classes, *x.shape[2:]))
        return self.net(concatenate([x, code], axis=1))  # eq: cvae-conditioning, cgan-conditioning


def class_weights(y, n, classes, dtype):
    """Integers y (n,), 0 ≤ y < classes, as one-hot vectors, or a weight for each class,
    y (n, classes), as it is: (n, classes). ValueError for a y of another shape."""
    code = one_hot(y, classes, dtype) if np.ndim(y) == 1 else tensor(y).astype(dtype)
    if code.shape != (n, classes):
        raise ValueError(f"labels: {n} inputs came with y {np.shape(y)}, expected ({n},) or "
                         f"({n}, {classes})")
    return code
