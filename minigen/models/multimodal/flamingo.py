"""Flamingo: a frozen language model reads text with interleaved images (Alayrac et al. 2022).

    p(w | x) = Π_t p(w_t | w_1, …, w_{t−1}, x_1, …, x_φ(t))      φ(t): number of images before w_t

A frozen encoder turns each image into P features. A Perceiver Resampler reduces them to M vectors,
whatever P is: in each of its layers, M learnt latents attend to the features and to each other,

    r ← r + attention(LN(r), (LN(z), LN(r))),    r ← r + MLP(LN(r))

Before each block of the language model, every token cross-attends to the most recent image,

    h ← h + tanh(α) attention(LN(h), r_φ(t)),    h ← h + tanh(β) MLP(LN(h))

or to nothing if no image came before it. Earlier images reach a token only through the tokens that
attended to them. Initially α = β = 0, so the token probabilities are, bit for bit, those of the
language model. As text and images are interleaved, examples can precede a question: the task is
learnt in context.

Differs from the paper: in place of NFNet and Chinchilla, a small CLIP's encoder and a small
language model whose training texts contained the image token; a learnt embedding for each position
in an image, none for time.
"""

import numpy as np

from minigen import broadcast_to, concatenate, nn, no_grad, tanh, tensor
from minigen.models.multimodal.visual_gpt import Looking
from minigen.nn import initializers
from minigen.tensor import to_device_of

STD = 0.2  # of the initial position embeddings, which are added to features of about 1
RATE = 10  # speeds up the gates: while they are shut, the layers behind them hardly learn


class Gate:
    """h + tanh(α) u, initially α = 0: (..., D) → (..., D). The trained parameter is α / RATE."""

    def __init__(self):
        self.alpha = initializers.empty()
        self.init(None)

    def init(self, rng):
        initializers.constant(self.alpha, 0)

    def __call__(self, h, u):
        return h + tanh(RATE * self.alpha) * u


class GatedLook:
    """Gated cross-attention of tokens to images: h (N, t, D), r (N, S, D) and which token sees
    which vector, booleans (N, t, S) → (N, t, D)."""

    def __init__(self, D, heads, rng=None):
        self.norm_1, self.attention = nn.LayerNorm(D), nn.MultiheadAttention(D, heads, rng=rng)
        self.norm_2, self.mlp = nn.LayerNorm(D), nn.mlp(D, rng)
        self.gate_1, self.gate_2 = Gate(), Gate()

    def __call__(self, h, r, seen):
        h = self.gate_1(h, self.attention(self.norm_1(h), r, r, seen[:, None]))
        return self.gate_2(h, self.mlp(self.norm_2(h)))


class ResamplerLayer:
    """Latents attend to features and to each other: r (N, M, D), z (N, P, D) → (N, M, D)."""

    def __init__(self, D, heads, rng=None):
        self.norm_z, self.norm_1, self.norm_2 = (nn.LayerNorm(D) for _ in range(3))
        self.attention, self.mlp = nn.MultiheadAttention(D, heads, rng=rng), nn.mlp(D, rng)

    def __call__(self, r, z):
        q = self.norm_1(r)
        seen = concatenate([self.norm_z(z), q], axis=1)  # (N, P + M, D)
        r = r + self.attention(q, seen, seen)
        return r + self.mlp(self.norm_2(r))


class Resampler:
    """The Perceiver Resampler, from P features of d numbers to M of D: (N, P, d) → (N, M, D)."""

    def __init__(self, P, d, D, M, depth=2, heads=4, rng=None):
        self.W, self.place = nn.Linear(d, D, rng=rng), nn.Embedding(P, D, rng, STD)
        self.start = nn.Embedding(M, D, rng)
        self.layers = [ResamplerLayer(D, heads, rng) for _ in range(depth)]
        self.norm = nn.LayerNorm(D)

    def __call__(self, Z):
        z = self.W(Z) + self.place.weight
        r = broadcast_to(self.start.weight, (len(z), *self.start.weight.shape))
        for layer in self.layers:
            r = layer(r, z)
        return self.norm(r)


class Flamingo(Looking):
    """A language model `lm` connected to an `encoder` whose `features` of an image are (N, P, d).
    The image token `sign` marks where an image is in a text: the k-th one stands for the k-th of
    images x (N, K, C, H, W), which are what is `given` in `Texts`.

    M: vectors for each image; depth: layers of the resampler; heads: of every attention
    """

    def __init__(self, encoder, lm, sign, P, d, M=8, depth=2, heads=4, rng=None):
        self.encoder, self.lm, self.sign, self.M = encoder, lm, sign, M
        self.resampler = Resampler(P, d, lm.D, M, depth, heads, rng)
        self.gated = [GatedLook(lm.D, heads, rng) for _ in lm.blocks]

    def trained(self):
        """The trained parameters, by name."""
        return nn.parameters({"resampler": self.resampler, "gated": self.gated})

    def look(self, x):
        """r of images x (N, K, C, H, W), the M vectors of each image in turn: (N, K M, D)."""
        N, K, *shape = x.shape
        with no_grad():
            Z = self.encoder.features(tensor(x.reshape(N * K, *shape)))
        return self.resampler(Z).reshape(N, K * self.M, self.lm.D)

    def seen(self, w, r):
        """Which vectors of r (N, K M, D) each of the tokens w, integers (N, t), sees: booleans
        (N, t, K M), true for the image whose token came last, if there was one."""
        last = np.cumsum(w == self.sign, axis=1)  # φ
        image = 1 + np.arange(r.shape[1]) // self.M
        return to_device_of(last[..., None] == image, r.data)

    def scores(self, w, x):
        """As in `Texts`. ValueError for a text with more image tokens than images."""
        most = (np.asarray(w) == self.sign).sum(1).max(initial=0)
        if most > x.shape[1]:
            raise ValueError(f"Flamingo.scores: a text has the image token {most} times, but "
                             f"came with {x.shape[1]} images")
        r = self.look(x)
        h, seen = self.lm.read(w), self.seen(w, r)
        for look, block in zip(self.gated, self.lm.blocks, strict=True):
            h = block(look(h, r, seen), is_causal=True)
        return self.lm.out(self.lm.norm(h))

    def through(self, words, r, before, past):
        """As in `Looking`."""
        h, longer = self.lm.read(words[:, before:], before), []
        seen = self.seen(words, r)[:, before:]
        for look, block, was in zip(self.gated, self.lm.blocks, past, strict=True):
            h, after = block.go_on(look(h, r, seen), was)
            longer.append(after)
        return h, longer
