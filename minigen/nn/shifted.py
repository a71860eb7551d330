"""Convolutions that see only what is above and to the left, and how to compute them pixel by pixel.

An image is padded at the top and the left, so that the filter (R, S) of an output ends at the
output's own row and, to the right, at its own column (`down_right_shifted`) or the next
(`down_shifted`). Shifting the image itself one row down, or one column to the right, then hides the
output's own pixel from it.

Each layer is called with the input x and with `at`, the part of the image that x is: `WholeImage`,
all of the image at once, or a `Position`, one row or pixel of it, after the earlier ones have been
computed.
"""

from minigen.nn.layers import Conv2d
from minigen.ops import pad
from minigen.tensor import tensor, xp


class ShiftedConv2d:
    """A convolution that sees `size` = (R, S) pixels: the R rows down to the output's own, and the
    columns from `left` before its own to S − 1 − left after it."""

    def __init__(self, C, K, size, left, stride=1):
        R, S = size
        self.conv = Conv2d(C, K, size, stride)
        self.edges = ((0, 0), (0, 0), (R - 1, 0), (left, S - 1 - left))

    def __call__(self, x, at):
        return self.conv(at.window(self, x))


def down_shifted(C, K, R=2, stride=1): return ShiftedConv2d(C, K, (R, 3), 1, stride)
def down_right_shifted(C, K, S=2, stride=1): return ShiftedConv2d(C, K, (2, S), S - 1, stride)


class WholeImage:
    """All of an image at once: the windows that layers see, and the results kept for others."""

    def __init__(self):
        self.results = {}
        self.get, self.put = self.results.__getitem__, self.results.__setitem__

    def window(self, layer, x):
        return pad(x, layer.edges)

    def inner(self, stream, x):
        return stream.upsample(stream.inner(stream.downsample(x, self), self))


class Position:
    """Row i of an image of `size`, or its pixel (i, j); positions are visited in order. The inputs
    of layers at earlier positions are kept in `cache`, so that only what is new is computed: one
    pass through the network per position computes a single row or pixel."""

    def __init__(self, cache, size, i, j=None):
        self.cache, self.size, self.i, self.j = cache, size, i, j
        self.at = (..., slice(i, i + 1), slice(None) if j is None else slice(j, j + 1))

    def window(self, layer, x):
        _, _, (top, _), (left, right) = layer.edges
        H, W = self.size
        padded = self._array(layer, x, (H + top, W + left + right))
        j, width = (0, W) if self.j is None else (self.j, 1)
        padded[:, :, self.i + top, left + j:left + j + width] = x.data[:, :, 0]
        return tensor(padded[:, :, self.i:self.i + top + 1, j:j + left + right + width])

    def inner(self, stream, x):
        """The stream at half the size: computed at even positions; the others reuse the result."""
        window = self.window(stream.downsample, x)
        if self.i % 2 == 0 and (self.j or 0) % 2 == 0:
            i, j = self.i, self.j
            half = Position(self.cache, [n // 2 for n in self.size], i // 2, j and j // 2)
            y = stream.upsample(stream.inner(stream.downsample.conv(window), half))
            whole = self._array(stream.upsample, y, self.size)
            whole[..., i:i + 2, slice(None) if j is None else slice(j, j + 2)] = y.data
        return self.get(stream.upsample)

    def get(self, layer):
        return tensor(self.cache[layer][self.at])

    def put(self, layer, y):
        self._array(layer, y, self.size)[self.at] = y.data

    def _array(self, layer, x, size):
        if layer not in self.cache:
            self.cache[layer] = xp(x.data).zeros((*x.shape[:2], *size), x.dtype)
        return self.cache[layer]
