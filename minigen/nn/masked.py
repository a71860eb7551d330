"""Masked convolution (van den Oord et al. 2016): an image is read like a page, row by row from the
top, and each output sees only the pixels already read.

The positions of a filter, relative to its centre:

    before the centre    the rows above it, and its own row to the left: seen
    after the centre     not seen
    the centre           mask A: not seen, for a layer that reads the image itself
                         mask B: seen, for later layers, whose input there is a masked output
    mask "rows"          sees the rows above and all of the centre's row

A pixel's colours are read one after the other: red, green, blue. The channels of inputs and outputs
are then divided into equal groups, one for each colour in this order, and at the centre a group
sees those before it (A), or also itself (B).
"""

import numpy as np

from minigen.nn import initializers
from minigen.nn.layers import Conv2d
from minigen.ops import conv2d, linear, transpose
from minigen.ops.conv import pair
from minigen.tensor import tensor, to_device_of, xp


def causal_mask(K, C, R, S, kind, colours=1):
    """1 where a filter sees its input and 0 elsewhere: (K, C, R, S), float32."""
    r, s = np.arange(R)[:, None] - R // 2, np.arange(S) - S // 2
    k, c = np.arange(K)[:, None] * colours // K, np.arange(C) * colours // C  # groups
    if kind == "rows":
        M = np.broadcast_to(r <= 0, (K, C, R, S))
    else:
        centre = k > c if kind == "A" else k >= c
        before = (r < 0) | (r == 0) & (s < 0)
        M = before | (r == 0) & (s == 0) & centre[:, :, None, None]  # eq: masked-conv
    return M.astype(np.float32)


class MaskedConv2d(Conv2d):
    """A convolution that sees only what has been read: (N, in, H, W) → (N, out, H, W).

    kernel_size: odd, a number or a pair; mask: "A", "B" or "rows"; colours: the number of groups
    that the channels are divided into. The mask is neither a parameter nor a buffer.

    Where a filter is 0, Winograd's algorithm has terms that cancel: masked inputs have no effect,
    but only up to rounding error, in float32 about 1e-6 of the largest value nearby, masked or not.
    """

    def __init__(self, in_channels, out_channels, kernel_size, mask="B", colours=1, bias=True,
                 rng=None):
        R, S = pair("kernel_size", kernel_size)
        if mask not in ("A", "B", "rows"):
            raise ValueError(f'MaskedConv2d: mask must be "A", "B" or "rows", got {mask!r}')
        if R % 2 == 0 or S % 2 == 0:
            raise ValueError(f"MaskedConv2d: kernel_size must be odd, so that there is a centre, "
                             f"got {kernel_size}")
        if colours < 1 or in_channels % colours or out_channels % colours:
            raise ValueError(f"MaskedConv2d: {colours} colours must divide in_channels "
                             f"{in_channels} and out_channels {out_channels}")
        self.kind = mask
        self.mask = causal_mask(out_channels, in_channels, R, S, mask, colours)
        super().__init__(in_channels, out_channels, (R, S), padding=(R // 2, S // 2), bias=bias,
                         rng=rng)

    def init(self, rng):
        """U(−b, b), b = √(3/n), where a filter sees n numbers (on average): the outputs then vary
        as much as the inputs. Gated layers need this: with PyTorch's 1/√n the signal they pass
        fades."""
        n = max(1, self.mask.sum() / len(self.mask))
        initializers.uniform(self.weight, (3 / n) ** 0.5, rng)
        if self.bias is not None:
            initializers.uniform(self.bias, n ** -0.5, rng)

    def masked(self):
        """The weight, set to 0 where the filter must not see its input."""
        return self.weight * to_device_of(self.mask.astype(self.weight.dtype), self.weight.data)

    def __call__(self, x, at=None):
        """at: a `Scan`; x is then a piece of a row, (N, in, 1, w), and so is the result."""
        if at is not None:
            return at.conv2d(self, x)
        return conv2d(x, self.masked(), self.bias, **self.options)


class PositionBias:
    """Adds a learnt number for every position and channel: (N, K, H, W) → the same shape. A masked
    layer cannot see how far it is to the lower and the right border; this tells it."""

    def __init__(self, K, H, W):
        self.bias = initializers.parameter(1, K, H, W)

    def init(self, rng):
        initializers.constant(self.bias, 0)

    def __call__(self, x, at=None):
        i, j = (0, 0) if at is None else (at.i, at.j)
        return x + self.bias[:, :, i:i + x.shape[2], j:j + x.shape[3]]


class Scan:
    """Reads an image position by position, without computing anything twice.

    The output of a masked convolution at one position depends on a window of its input, all of
    which but the position itself is already known. So each layer's input is kept, and the layer
    computes one pixel (or one row) at a time. Layers without a window (1×1, activations) need
    nothing kept.

    x: the image (N, C, H, W), floats; whoever samples it writes the pixels into it
    i, j: the current row, and the column where the current piece of it begins
    cache: what a model itself wants to reuse at the next position
    """

    def __init__(self, x):
        self.x, self.i, self.j, self.cache = x, 0, 0, {}
        self._layers = {}  # for each, its zero-padded input so far, and its filters' seen rows

    def conv2d(self, layer, x):
        """The layer's output for its input x (N, C, 1, w) at row i from column j on: (N, K, 1, w).

        A product of windows and filters, without the rows below, which no filter sees. The kept
        input has its channels innermost, so that the S·C numbers of a window's row lie together.
        """
        K, C, R, S = layer.weight.shape
        (N, _, H, W), w, rows = self.x.shape, x.shape[3], R // 2 + 1
        if layer not in self._layers:
            padded = xp(self.x).zeros((N, H + rows - 1, W + S - 1, C), self.x.dtype)
            filters = layer.masked().data[:, :, :rows].transpose(0, 2, 3, 1).reshape(K, -1)
            self._layers[layer] = padded, tensor(filters)
        padded, filters = self._layers[layer]
        self._write(layer, padded, x.data)
        padded = padded[:, self.i:self.i + rows, self.j:self.j + w + S - 1]
        n, row, column, channel = padded.strides
        windows = xp(padded).lib.stride_tricks.as_strided(
            padded, (N, w, rows, S, C), (n, column, row, column, channel))
        y = linear(tensor(windows.reshape(N, w, rows * S * C)), filters, layer.bias)
        return transpose(y, (0, 2, 1)).reshape(N, K, 1, w)

    def commit_pixel(self):
        """Tell the layers of mask A, which read the image itself, that the pixel at (i, j) of `x`
        is now final."""
        for layer, (padded, _) in self._layers.items():
            if layer.kind == "A":
                self._write(layer, padded, self.pixel())

    def pixel(self):
        """The pixel at (i, j): (N, C, 1, 1)."""
        return self.x[:, :, self.i:self.i + 1, self.j:self.j + 1]

    def _write(self, layer, padded, x):
        R, S = layer.weight.shape[2:]
        left = self.j + S // 2
        padded[:, self.i + R // 2, left:left + x.shape[3]] = x[:, :, 0].swapaxes(1, 2)
