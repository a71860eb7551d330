"""PixelRNN (van den Oord, Kalchbrenner & Kavukcuoglu 2016): a recurrent network that reads an image
in both directions at once. The state at a pixel depends on the states and the pixel values to its
left and above it:

    h_{x,y} = f(h_{x−1,y}, h_{x,y−1}, W)          f: an LSTM

    (i, f, o, g) = W [h_left, h_above, x_left, x_above] + b
    c = σ(f) ⊙ c_left + σ(i) ⊙ tanh(g),   h = σ(o) ⊙ tanh(c)

so each pixel depends, implicitly, on all pixels above and to the left. The states on an
anti-diagonal, x + y = d, need only those on the previous one, in training and in sampling: its
pixels are sampled in parallel, and an N × N image takes 2N − 1 steps; the other models take N².

Differs from the paper: only one direction of its diagonal LSTM, so no pixel sees the pixels above
and to its right; one layer; grey images.
"""

import numpy as np

from minigen import concatenate, nn, no_grad, pad, relu, stack, tensor
from minigen.models.autoregressive import decoding
from minigen.models.autoregressive.pixels import PixelModel, outputs
from minigen.tensor import xp


class DiagonalLSTM:
    """The network: (N, 1, H, W) → (N, outputs(levels), H, W); d_h: the size of a state."""

    def __init__(self, levels=2, d_h=64, rng=None):
        self.d_h = d_h
        self.cell = nn.LSTMCell(d_h + 2, d_h, rng)
        self.head = nn.Linear(d_h, 2 * d_h, rng=rng)
        self.last = nn.Linear(2 * d_h, outputs(levels), rng=rng)

    def f(self, left, above, values):
        """h and c at some positions, from (h, c) on their left, h above them and the pixel values
        to the left and above, (..., N, 2)."""
        x = concatenate([above, values], axis=-1)  # eq: pixelrnn-recurrence
        return self.cell(x, left)

    def g(self, h):
        """The softmax's logits, from a state."""
        return self.last(relu(self.head(h)))

    def initial_state(self, x):
        """The empty anti-diagonal before the first one of images x: see `step`."""
        empty = tensor(xp(x.data).zeros((0, len(x), self.d_h), x.dtype))
        return 0, empty, empty

    def step(self, previous, i, values):
        """One anti-diagonal: its first row, and h and c at its positions, (positions, N, d_h).
        previous: the same three for the previous anti-diagonal; i: the rows of the positions;
        values (positions, N, 2): the pixel values to the left of each position and above it."""
        first, h, c = previous
        # with zeros added at both ends: there is no state outside the image
        h, c = (pad(a, [(1, 1), (0, 0), (0, 0)]) for a in (h, c))
        above = slice(i[0] - first, i[0] - first + len(i))
        left = slice(above.start + 1, above.stop + 1)
        return i[0], *self.f((h[left], c[left]), h[above], values)

    def __call__(self, x):
        N, _, H, W = x.shape
        values, state, h_all, positions = neighbours(x), self.initial_state(x), [], []
        for i, j in anti_diagonals(H, W):
            state = self.step(state, i, values[i, j])
            h_all.append(state[1])
            positions.append(i * W + j)
        h = concatenate(h_all)[np.argsort(np.concatenate(positions))]  # row by row again
        return self.g(h).reshape(H, W, N, -1).transpose(2, 3, 0, 1)


class PixelRNN(PixelModel):
    """A PixelModel with a DiagonalLSTM, sampled one anti-diagonal at a time."""

    def complete(self, x, known, rng, *, choose=decoding.sample):
        """As in PixelModel, but one anti-diagonal at a time, its values from top to bottom, each
        conditioned on the values above and to the left, the only ones it depends on."""
        x, known = self._init_canvas(x, known)
        net = self.net
        with no_grad():
            state = net.initial_state(tensor(self._scaled(x)))
            for i, j in anti_diagonals(*self.shape[1:]):
                state = net.step(state, i, neighbours(tensor(self._scaled(x)))[i, j])
                s = net.g(state[1]).transpose(1, 2, 0)[:, :, None]
                s = self.to_scores(s)  # (N, 1, V, 1, k)
                for k, position in enumerate(zip(i, j, strict=True)):
                    self._choose(s[:, 0, :, 0, k].data, x, known, (0, *position), choose, rng)
        return x


def anti_diagonals(H, W):
    """The rows and columns of the pixels on each anti-diagonal x + y = 0, 1, …: one step each."""
    rows, columns = np.indices((H, W))
    steps = H + W - 1  # eq: pixelrnn-steps
    return [np.nonzero(rows + columns == d) for d in range(steps)]


def neighbours(x):
    """The values to the left of each pixel and above it, 0 outside the image: (N, 1, H, W) →
    (H, W, N, 2)."""
    no_pad = (0, 0)
    left = pad(x[:, 0, :, :-1], [no_pad, no_pad, (1, 0)])
    above = pad(x[:, 0, :-1], [no_pad, (1, 0), no_pad])
    return stack([left, above], axis=-1).transpose(1, 2, 0, 3)


def pixelrnn(shape, levels=2, d_h=64, rng=None):
    """A PixelRNN for grey images of `shape` (1, H, W) with values 0 … levels − 1."""
    if shape[0] != 1:
        raise ValueError(f"pixelrnn: expected grey images (1, H, W), got {tuple(shape)}")
    return PixelRNN(DiagonalLSTM(levels, d_h, rng), shape, levels)
