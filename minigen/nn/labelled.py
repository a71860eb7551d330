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
        """x (N, C, ...), floats, and integers y (N,), 0 ≤ y < classes, or a weight for each class,
        y (N, classes). ValueError for a y of another shape."""
        if x.dtype.kind != "f":  # y would be cast to integers, too
            raise TypeError(f"Labelled: the input must be of floats, got {x.dtype}")
        code = one_hot(y, self.classes, x.dtype) if np.ndim(y) == 1 else tensor(y).astype(x.dtype)
        if code.shape != (len(x), self.classes):
            raise ValueError(f"Labelled: {len(x)} inputs came with y {np.shape(y)}, expected "
                             f"({len(x)},) or ({len(x)}, {self.classes})")
        code = code.reshape(*code.shape, *[1] * (x.ndim - 2))
        code = broadcast_to(code, shape=(len(x), self.classes, *x.shape[2:]))
        return self.net(concatenate([x, code], axis=1))  # eq: cvae-conditioning, cgan-conditioning
