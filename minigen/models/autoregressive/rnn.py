"""A recurrent network that models sequences one value at a time and keeps what it has read in a
state.

    h_t = f(h_{t−1}, x_{t−1})          h_0 = 0, and x_0 is a start token
    p(x_t | x_1, …, x_{t−1}) = g(h_t)

    p(x_1, …, x_T) = Π_t p(x_t | x_1, …, x_{t−1})        the chain rule: exact, no approximation

f is the simplest recurrence there is, tanh(W h + E x + b), and g is a softmax of a linear map.
"""

import numpy as np

from minigen import cross_entropy, mean, nn, no_grad, stack, sum, tanh, tensor
from minigen.models.autoregressive import decoding
from minigen.ops.loss import check_indices


class RNN:
    """A model of sequences of integers 0 … V − 1; d_h: the size of the state."""

    def __init__(self, V, d_h=64, rng=None):
        self.V, self.d_h = V, d_h
        self.embed = nn.Embedding(V + 1, d_h, rng)  # V is x_0
        self.state = nn.Linear(d_h, d_h, rng=rng)
        self.out = nn.Linear(d_h, V, rng=rng)

    def f(self, h, x):
        """The next state (N, d_h) from the previous state h and the previous value x (N,)."""
        return tanh(self.state(h) + self.embed(x))  # eq: ar-rnn-state

    def g(self, h):
        """The scores of the next value, whose softmax is p(x_t | x_<t): (N, V)."""
        return self.out(h)

    def start(self, N):
        """h_0 (N, d_h) and x_0 (N,)."""
        return tensor(np.zeros((N, self.d_h), self.out.weight.dtype)), np.full(N, self.V)

    def log_prob(self, x):
        """log p(x) of sequences x, integers (N, T), in nats: (N,). ValueError for any other x."""
        x = check_indices("RNN.log_prob", x, self.V)
        if x.ndim != 2 or not x.shape[1]:
            raise ValueError(f"RNN.log_prob: sequences are {x.shape}, expected (N, T), T ≥ 1")
        h, last = self.start(len(x))
        terms = []
        for t in range(x.shape[1]):
            h = self.f(h, last)
            terms.append(-cross_entropy(self.g(h), x[:, t], reduction="none"))
            last = x[:, t]
        return sum(stack(terms), 0)  # eq: ar-chain-rule

    def loss(self, x):
        """−log p(x), averaged over a batch of sequences x (N, T)."""
        return -mean(self.log_prob(x))

    def step(self, h, x):
        """For decoding.py: the previous state and value x (N,) → scores (N, V) and the new state.
        """
        with no_grad():
            h = self.f(h, x)
            return self.g(h).numpy(), h

    def sample(self, n, T, rng, choose=decoding.sample):
        """n sequences: integers (n, T). `choose`: a decoding rule from decoding.py."""
        return decoding.generate(self.step, *self.start(n), T, choose, rng)

    def most_probable(self, T, k):
        """The best k sequences of length T found by beam search with width k, and their log p:
        (k, T) and (k,)."""
        h, x = self.start(1)
        return decoding.beam_search(self.step, h, x[0], T, k)
