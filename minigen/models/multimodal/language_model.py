"""A language model: a text word by word, each given those before it and whatever stands before the
first, x, for example a picture (Vinyals et al. 2015).

    p_θ(w | x) = Π_t p_θ(w_t | w_1, …, w_{t−1}, x)
    loss: −Σ_t log p_θ(w_t | w_1, …, w_{t−1}, x), averaged over texts

The network is a transformer with a causal mask (Vaswani et al. 2017; Radford et al. 2019):

    h = (x, E w_0 + c_0, …, E w_{t−1} + c_{t−1})        c: learnt, a vector for each place
    h ← h + attention(LN(h)),  h ← h + MLP(LN(h))       several times; a place sees none after it
    p_θ(w_t | …) = softmax(U LN(h_{t−1}))

As a place sees none after it, words that follow do not change it. Who writes keeps the keys and
values of the places so far, in every block, and computes one place for each word.

The word 0 ends a text, and w_0 = 0: a text begins where another ended. It has at most T words, and
after so many it is over, so that the probabilities of all texts sum to one.

Differs from Vinyals et al.: a transformer in place of an LSTM; x is several vectors, not one.
"""

import numpy as np

from minigen import concatenate, cross_entropy, mean, nn, no_grad, sum, swapaxes, tensor
from minigen.models.autoregressive import decoding
from minigen.ops.loss import integers
from minigen.tensor import xp


class LanguageModel:
    """Texts of at most T words 1 … V − 1: integers (N, T), 0 from their end on.

    D, depth, heads: length of a vector, blocks, and attentions in each; std: of the first E and c

    `prefix`: x (N, P, D), if there is one; its vectors take the places before the words, but no c.
    """

    def __init__(self, V, T, D=64, depth=2, heads=4, rng=None, std=1.0):
        self.V, self.T, self.D = V, T, D
        self.embed, self.place = nn.Embedding(V, D, rng, std), nn.Embedding(T, D, rng, std)
        self.blocks = [nn.TransformerBlock(D, heads, rng) for _ in range(depth)]
        self.norm, self.out = nn.LayerNorm(D), nn.Linear(D, V, rng=rng)

    def read(self, w, before=0):
        """The vectors of words, integers (N, t), that stand after so many others: (N, t, D).
        ValueError beyond the last place."""
        end = before + w.shape[1]
        if end > self.T:
            raise ValueError(f"LanguageModel: {end} words came, expected at most {self.T}")
        return self.embed(w) + self.place.weight[before:end]

    def scores(self, w, *prefix):
        """What follows each of the words w_0, w_1, …, integers (N, t): scores (N, t, V), whose
        softmax is p_θ."""
        h = concatenate([*prefix, self.read(w)], axis=1)  # (N, P + t, D)
        for block in self.blocks:
            h = block(h, is_causal=True)
        return self.out(self.norm(h[:, -w.shape[1]:]))

    def log_prob(self, w, *prefix):
        """log p_θ(w | x) of texts w (N, T), in nats: (N,). ValueError for others."""
        w = integers("LanguageModel.log_prob", w, self.V)
        if w.ndim != 2 or w.shape[1] != self.T:
            raise ValueError(f"LanguageModel.log_prob: texts are {w.shape}, expected (N, {self.T})")
        before = np.pad(w[:, :-1], ((0, 0), (1, 0)))  # w_{t−1}, from w_0 = 0
        over = (before == 0) & (np.arange(self.T) > 0)
        if w[over].any():
            raise ValueError("LanguageModel.log_prob: a word stands after the end of its text")
        s = swapaxes(self.scores(before, *prefix), 1, 2)  # (N, V, T)
        surprise = cross_entropy(s, np.where(over, -1, w), ignore_index=-1, reduction="none")
        return -sum(surprise, 1)  # eq: lm-ar-loss

    def loss(self, w, *prefix):
        """−log p_θ(w | x), averaged over a batch of texts (N, T)."""
        return -mean(self.log_prob(w, *prefix))

    @no_grad()
    def start(self, n, *prefix):
        """The state for decoding.py before any word, and w_0 (n,). A state is the words read, (n,
        t), and for each block the keys and values of all places so far, (n, P + t, 2 D)."""
        like = nn.like(self)
        past = [tensor(xp(like).empty((n, 0, 2 * self.D), like.dtype))] * len(self.blocks)
        for x in prefix:
            _, past = self._go_on(x, past)
        return (np.empty((n, 0), int), *past), np.zeros(n, int)

    @no_grad()
    def read_on(self, state, w):
        """Read words w, integers (N, t), after those of a state: the scores (N, V), an array, of
        what follows the last, and the new state."""
        words, *past = state
        h, past = self._go_on(self.read(w, words.shape[1]), past)
        words = np.concatenate([words, w], axis=1)
        return self.out(self.norm(h[:, -1])).numpy(), (words, *past)

    def _go_on(self, h, past):
        """Vectors h (N, t, D) through all blocks, after the places of `past`; and their past."""
        longer = []
        for block, before in zip(self.blocks, past, strict=True):
            h, after = block.go_on(h, before)
            longer.append(after)
        return h, longer

    def step(self, state, w):
        """For decoding.py: the state before the last word, w (N,) → scores (N, V), the state."""
        s, state = self.read_on(state, w[:, None])
        over = (state[0][:, 1:] == 0).any(1, keepdims=True)
        return np.where(over & (np.arange(self.V) > 0), -np.inf, s), state

    def sample(self, n, rng, *prefix, choose=decoding.sample):
        """n texts: integers (n, T). `choose`: a rule of decoding.py."""
        return decoding.generate(self.step, *self.start(n, *prefix), self.T, choose, rng)

    def most_probable(self, k, *prefix):
        """The k most probable texts that a beam of width k finds, and their log p_θ: integers
        (k, T), (k,). The prefix, if there is one, is (1, P, D)."""
        state, w = self.start(1, *prefix)
        return decoding.beam_search(self.step, state, w[0], self.T, k)
