"""A recurrent cell: one step of a long short-term memory."""

from minigen.nn.layers import Linear
from minigen.ops import concatenate, sigmoid, split, tanh
from minigen.tensor import tensor, xp


class LSTMCell:
    """One step of an LSTM (Hochreiter & Schmidhuber 1997; the forget gate: Gers et al. 2000):

        (i, f, o, g) = W [h, x] + b
        c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g),   h' = σ(o) ⊙ tanh(c')

    from an input x (..., d_in) and the state (h, c), both (..., d_h), to the next (h', c').
    PyTorch's layer of this name has W in two parts, two biases and another order of the gates.
    """

    def __init__(self, d_in, d_h, rng=None):
        self.d_h, self.W = d_h, Linear(d_h + d_in, 4 * d_h, rng=rng)

    def start(self, *lead):
        """The state before the first step: zeros, (*lead, d_h) both."""
        weight = self.W.weight
        zeros = tensor(xp(weight.data).zeros((*lead, self.d_h), weight.dtype))
        return zeros, zeros

    def __call__(self, x, state):
        h, c = state
        i, f, o, g = split(self.W(concatenate([h, x], axis=-1)), 4, axis=-1)  # eq: lstm
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)  # eq: lstm
        return sigmoid(o) * tanh(c), c  # eq: lstm
