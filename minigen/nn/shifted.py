"""Convolutions that see only what is above and to the left, and how to compute them pixel by pixel.

An image is padded at the top and the left, so that the filter (R, S) of an output ends at the
output's own row and, to the right, at its own column (`Right`) or the next (`Down`). Shifting the
image itself one row down, or one column to the right, then hides the output's own pixel from it.

Each layer is called with the input x and with `at`, the part of the image that x is: `Whole`, all
of the image at once, or a `Place`, one row or pixel of it, after the earlier ones have been
computed.
"""

from minigen.nn.layers import Conv2d
from minigen.ops import pad
from minigen.tensor import tensor, xp


class Shifted:
    """A convolution that sees `size` = (R, S) pixels: the R rows down to the output's own, and the
    columns from `left` before its own to S − 1 − left after it."""

    def __init__(self, C, K, size, left, stride=1):
        R, S = size
        self.conv = Conv2d(C, K, size, stride)
        self.edges = ((0, 0), (0, 0), (R - 1, 0), (left, S - 1 - left))

    def __call__(self, x, at):
        return self.conv(at.window(self, x))


def Down(C, K, R=2, stride=1): return Shifted(C, K, (R, 3), 1, stride)
def Right(C, K, S=2, stride=1): return Shifted(C, K, (2, S), S - 1, stride)


class Whole:
    """All of an image at once: the windows that layers see, and the results left for others."""

    def __init__(self):
        self.left = {}
        self.get, self.put = self.left.__getitem__, self.left.__setitem__

    def window(self, layer, x):
        return pad(x, layer.edges)

    def inside(self, stream, x):
        return stream.double(stream.inside(stream.halve(x, self), self))


class Place:
    """Row i of an image of `size`, or its pixel (i, j); places are visited in order. The inputs of
    layers at earlier places are kept in `layers`, so that only what is new is computed: one pass
    through the network per place computes a single row or pixel."""

    def __init__(self, layers, size, i, j=None):
        self.layers, self.size, self.i, self.j = layers, size, i, j
        self.at = (..., slice(i, i + 1), slice(None) if j is None else slice(j, j + 1))

    def window(self, layer, x):
        _, _, (top, _), (left, right) = layer.edges
        H, W = self.size
        seen = self._array(layer, x, (H + top, W + left + right))
        j, width = (0, W) if self.j is None else (self.j, 1)
        seen[:, :, self.i + top, left + j:left + j + width] = x.data[:, :, 0]
        return tensor(seen[:, :, self.i:self.i + top + 1, j:j + left + right + width])

    def inside(self, stream, x):
        """The stream at half the size: computed at even places, whose result the others reuse."""
        window = self.window(stream.halve, x)
        if self.i % 2 == 0 and (self.j or 0) % 2 == 0:
            i, j = self.i, self.j
            half = Place(self.layers, [n // 2 for n in self.size], i // 2, j and j // 2)
            y = stream.double(stream.inside(stream.halve.conv(window), half))
            whole = self._array(stream.double, y, self.size)
            whole[..., i:i + 2, slice(None) if j is None else slice(j, j + 2)] = y.data
        return self.get(stream.double)

    def get(self, layer):
        return tensor(self.layers[layer][self.at])

    def put(self, layer, y):
        self._array(layer, y, self.size)[self.at] = y.data

    def _array(self, layer, x, size):
        if layer not in self.layers:
            self.layers[layer] = xp(x.data).zeros((*x.shape[:2], *size), x.dtype)
        return self.layers[layer]
