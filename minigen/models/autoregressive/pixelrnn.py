"""PixelRNN (van den Oord, Kalchbrenner & Kavukcuoglu 2016): a recurrent network that reads an image
in both directions at once. The state of a pixel depends on those to its left and above it, and on
the values there:

    h_{x,y} = f(h_{x−1,y}, h_{x,y−1}, W)          f: an LSTM

    (i, f, o, g) = W [h_left, h_above, x_left, x_above] + b
    c = σ(f) ⊙ c_left + σ(i) ⊙ tanh(g),   h = σ(o) ⊙ tanh(c)

so each pixel depends, implicitly, on all pixels above and to the left. The states on an
anti-diagonal, x + y = d, need only those on the one before. When the whole image is there, all of
an anti-diagonal is one step, and an image of N × N takes 2N − 1 steps. That is training. Sampling
is not so lucky, whatever the slide says: each of the N² pixels is read by the next one.

Differs from the paper: one direction of its diagonal LSTM, one layer, grey images.
"""

import numpy as np

from minigen import concatenate, nn, pad, relu, sigmoid, split, stack, tanh, tensor
from minigen.models.autoregressive.pixels import PixelModel, outputs
from minigen.tensor import xp


class DiagonalLSTM:
    """The network: (N, 1, H, W) → (N, outputs(levels), H, W); d_h: the size of a state."""

    def __init__(self, levels=2, d_h=64, rng=None):
        self.d_h = d_h
        self.W = nn.Linear(2 * d_h + 2, 4 * d_h, rng=rng)
        self.head = nn.Linear(d_h, 2 * d_h, rng=rng)
        self.last = nn.Linear(2 * d_h, outputs(levels), rng=rng)

    def f(self, left, above, values):
        """h and c of places from (h, c) on their left, h above and the values there: (..., N, 2).
        """
        (h_left, c_left), h_above = left, above
        gates = self.W(concatenate([h_left, h_above, values], axis=-1))  # eq: pixelrnn-recurrence
        i, f, o, g = split(gates, 4, axis=-1)
        c = sigmoid(f) * c_left + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def g(self, h):
        """What the softmax takes, from a state."""
        return self.last(relu(self.head(h)))

    def __call__(self, x, at=None):
        return self.whole(x) if at is None else self.one(at)

    def whole(self, x):
        """All places of images x (N, 1, H, W), an anti-diagonal at a time."""
        N, _, H, W = x.shape
        values = neighbours(x).transpose(1, 2, 0, 3)  # (H, W, N, 2)
        h = c = tensor(xp(x.data).zeros((0, N, self.d_h), x.dtype))
        states, places, first = [], [], 0
        for d in range(anti_diagonals(H, W)):
            i = np.arange(max(0, d - W + 1), min(H, d + 1))  # the rows that have a place on it
            # the one before with a row of zeros at each end: beyond the image there is no state
            h, c = (pad(a, [(1, 1), (0, 0), (0, 0)]) for a in (h, c))
            above = slice(i[0] - first, i[0] - first + len(i))
            left = slice(above.start + 1, above.stop + 1)
            h, c = self.f((h[left], c[left]), h[above], values[i, d - i])
            first = i[0]
            states.append(h)
            places.append(i * W + d - i)
        h = concatenate(states)[np.argsort(np.concatenate(places))]  # row by row again
        return self.g(h).reshape(H, W, N, -1).transpose(2, 3, 0, 1)

    def one(self, at):
        """The place of the `Scan` at: (N, outputs, 1, 1)."""
        N, _, _, W = at.x.shape
        if self not in at.kept:
            zero = tensor(xp(at.x).zeros((N, self.d_h), at.x.dtype))
            at.kept[self] = [(zero, zero)] * (W + 1)  # the last one: the edge
        row = at.kept[self]  # (h, c) of this row as far as it is read, then of the row above
        corner = at.x[:, :, max(at.i - 1, 0):at.i + 1, max(at.j - 1, 0):at.j + 1]
        values = neighbours(tensor(corner))[:, -1, -1]
        row[at.j] = self.f(row[at.j - 1 if at.j else W], row[at.j][0], values)
        s = self.g(row[at.j][0])
        return s.reshape(*s.shape, 1, 1)


def anti_diagonals(H, W):
    """How many there are, x + y = 0, 1, …: the steps that a training pass takes one by one."""
    return H + W - 1  # eq: pixelrnn-steps


def neighbours(x):
    """The values left of and above each place, 0 beyond the image: (N, 1, H, W) → (N, H, W, 2)."""
    none = (0, 0)
    left = pad(x[:, 0, :, :-1], [none, none, (1, 0)])
    above = pad(x[:, 0, :-1], [none, (1, 0), none])
    return stack([left, above], axis=-1)


def pixelrnn(shape, levels=2, d_h=64, rng=None):
    """A PixelRNN for grey images of `shape` (1, H, W) with values 0 … levels − 1: a `PixelModel`.
    """
    if shape[0] != 1:
        raise ValueError(f"pixelrnn: expected grey images (1, H, W), got {tuple(shape)}")
    return PixelModel(DiagonalLSTM(levels, d_h, rng), shape, levels)
