"""A language model: a text token by token, each token given those before it and a prefix x, for
example an image (Vinyals et al. 2015).

    p_θ(w | x) = Π_t p_θ(w_t | w_1, …, w_{t−1}, x)
    loss: −Σ_t log p_θ(w_t | w_1, …, w_{t−1}, x), averaged over texts

The network is a transformer with a causal mask (Vaswani et al. 2017; Radford et al. 2019):

    h = (x, E w_0 + c_0, …, E w_{t−1} + c_{t−1})        c: learnt position embeddings
    h ← h + attention(LN(h)),  h ← h + MLP(LN(h))       in each block; causal: no look ahead
    p_θ(w_t | …) = softmax(U LN(h_{t−1}))

Because no position sees a later one, further tokens do not change the earlier positions. Decoding
therefore caches the keys and values of all positions so far, in every block, and computes only one
new position for each token.

The tokens are words. Token 0 ends a text, and w_0 = 0: a text starts where another ended. It has at
most T words and ends after the T-th in any case, so the probabilities of all texts sum to one.

Differs from Vinyals et al.: a transformer in place of an LSTM; x is several vectors, not one.
"""

import numpy as np

from minigen import concatenate, cross_entropy, mean, nn, no_grad, sum, swapaxes, tensor
from minigen.models.autoregressive import decoding
from minigen.ops.loss import check_indices
from minigen.tensor import readable, xp


class TextModel:
    """A distribution over texts of at most T tokens 1 … V − 1: integers (N, T), 0 from their end
    on; `given` is what it is conditioned on. A subclass defines

    scores(w, *given): the scores (logits) of the token after each of w_0, w_1, …, integers (N, t):
        (N, t, V), whose softmax is p_θ

    and, for decoding,

    start(n, *given): the state for decoding.py before any token, arrays of n rows of which the
        first holds the tokens read so far, and w_0 (n,)
    extend(state, w): reads tokens w, integers (N, t), after those of a state: the scores (N, V),
        an array, of the token after the last, and the new state
    """

    def token_nll(self, w, *given):
        """−log p_θ(w_t | w_1, …, w_{t−1}, x) of each token of texts w (N, T), in nats: (N, T), 0
        after the end. ValueError for another shape and for tokens after the end of a text."""
        who = f"{type(self).__name__}.token_nll"
        w = check_indices(who, w, self.V)
        if w.ndim != 2 or w.shape[1] != self.T:
            raise ValueError(f"{who}: texts are {w.shape}, expected (N, {self.T})")
        inputs = shift_right(w)
        ended = (inputs == 0) & (xp(w).arange(self.T) > 0)
        if readable(w) and (w * ended).any():
            raise ValueError(f"{who}: a word stands after the end of its text")
        s = swapaxes(self.scores(inputs, *given), 1, 2)  # (N, V, T)
        return cross_entropy(s, xp(w).where(ended, -1, w), ignore_index=-1, reduction="none")

    def log_prob(self, w, *given):
        """log p_θ(w | x) of texts w (N, T), in nats: (N,)."""
        return -sum(self.token_nll(w, *given), 1)  # eq: lm-ar-loss

    def loss(self, w, *given):
        """−log p_θ(w | x), averaged over a batch of texts (N, T)."""
        return -mean(self.log_prob(w, *given))

    def step(self, state, w):
        """For decoding.py: a state and the token w (N,) that follows → the scores (N, V) of the
        next token, only 0 being possible after the end, and the new state."""
        s, state = self.extend(state, w[:, None])
        ended = (state[0][:, 1:] == 0).any(1, keepdims=True)
        return np.where(ended & (np.arange(self.V) > 0), -np.inf, s), state

    def sample(self, n, rng, *given, choose=decoding.sample):
        """n texts, sampled: integers (n, T). `choose`: a rule of decoding.py."""
        return decoding.generate(self.step, *self.start(n, *given), self.T, choose, rng)

    def describe(self, x, rng=None, choose=decoding.greedy):
        """A text for each of the inputs x, such as a caption: integers (N, T). `choose`: a rule of
        decoding.py."""
        return self.sample(len(x), rng, x, choose=choose)

    def complete(self, w, *given, rng=None, choose=decoding.greedy):
        """Continues texts from the tokens w, integers (N, T), 0 from where each is to be continued:
        (N, T)."""
        w = np.asarray(w)

        def step(state, last):
            s, state = self.step(state, last)
            known = w[:, state[0].shape[1] - 1, None]
            return np.where((known > 0) & (np.arange(self.V) != known), -np.inf, s), state

        return decoding.generate(step, *self.start(len(w), *given), self.T, choose, rng)

    def beam_search(self, k, *given):
        """The k most probable texts that beam search of width k finds, and their log p_θ: integers
        (k, T), (k,). Each `given`, if there is any, has one row."""
        state, w = self.start(1, *given)
        return decoding.beam_search(self.step, state, w[0], self.T, k)


class LanguageModel(TextModel):
    """A language model of texts after an optional `prefix`, x (N, P, D), whose vectors precede the
    tokens and get no c.

    D, depth, heads: width of the vectors, blocks, and attention heads in each; std: standard
    deviation of the initial E and c
    """

    def __init__(self, V, T, D=64, depth=2, heads=4, rng=None, std=1.0):
        self.V, self.T, self.D = V, T, D
        self.embed, self.position = nn.Embedding(V, D, rng, std), nn.Embedding(T, D, rng, std)
        self.blocks = [nn.TransformerBlock(D, heads, rng) for _ in range(depth)]
        self.norm, self.out = nn.LayerNorm(D), nn.Linear(D, V, rng=rng)

    def embed_tokens(self, w, offset=0):
        """Embeds tokens w, integers (N, t), that follow `offset` others: (N, t, D). ValueError
        beyond the last position."""
        end = offset + w.shape[1]
        if end > self.T:
            raise ValueError(f"LanguageModel: {end} words came, expected at most {self.T}")
        return self.embed(w) + self.position.weight[offset:end]

    def hidden(self, w, *prefix):
        """The last hidden state at each of the tokens w, integers (N, t): LN(h), (N, t, D)."""
        h = concatenate([*prefix, self.embed_tokens(w)], axis=1)  # (N, P + t, D)
        for block in self.blocks:
            h = block(h, is_causal=True)
        return self.norm(h[:, -w.shape[1]:])

    def scores(self, w, *prefix):
        """As in `TextModel`."""
        return self.out(self.hidden(w, *prefix))

    def empty_caches(self, n):
        """The blocks' empty caches: a list of keys and values (n, 0, 2 D)."""
        like = nn.like(self)
        return [tensor(xp(like).empty((n, 0, 2 * self.D), like.dtype))] * len(self.blocks)

    @no_grad()
    def start(self, n, *prefix):
        """As in `TextModel`. A state is the tokens read, (n, t), and for each block the keys and
        values of all positions so far, (n, P + t, 2 D)."""
        caches = self.empty_caches(n)
        for x in prefix:
            _, caches = self._forward_cached(x, caches)
        return (np.empty((n, 0), int), *caches), np.zeros(n, int)

    @no_grad()
    def extend(self, state, w):
        """As in `TextModel`."""
        words, *caches = state
        h, caches = self._forward_cached(self.embed_tokens(w, words.shape[1]), caches)
        words = np.concatenate([words, w], axis=1)
        return self.out(self.norm(h[:, -1])).numpy(), (words, *caches)

    def _forward_cached(self, h, caches, is_causal=True):
        """Runs vectors h (N, t, D) through all blocks, after the positions in their `caches`:
        (N, t, D) and the caches extended by them."""
        extended = []
        for block, cache in zip(self.blocks, caches, strict=True):
            h, cache = block.forward_cached(h, cache, is_causal)
            extended.append(cache)
        return h, extended


def shift_right(w):
    """The token before each token of texts w (N, T): w_0 = 0, w_1, …, w_{T−1}, (N, T)."""
    return xp(w).pad(w[:, :-1], ((0, 0), (1, 0)))


class PrefixConditioned(TextModel):
    """A language model `lm` conditioned on images or prompts x (what is `given` in `TextModel`):
    `prefix(x)` returns vectors (N, P, D) that precede the tokens."""

    V = property(lambda self: self.lm.V)
    T = property(lambda self: self.lm.T)

    def scores(self, w, x):
        """As in `TextModel`."""
        return self.lm.scores(w, self.prefix(x))

    def start(self, n, x):
        """As in `TextModel`."""
        with no_grad():
            return self.lm.start(n, self.prefix(x))

    def extend(self, state, w):
        """As in `TextModel`."""
        return self.lm.extend(state, w)
