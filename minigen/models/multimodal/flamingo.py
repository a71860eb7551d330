"""Flamingo: a language model that stays as it is reads images among words (Alayrac et al. 2022).

    p(w | x) = Π_t p(w_t | w_1, …, w_{t−1}, x_1, …, x_φ(t))      φ(t): how many images stand before

Each image, P features of an encoder that stays as it is too, becomes M vectors, whatever P is, by a
Perceiver Resampler: learnt vectors look at the features and at each other, several times,

    r ← r + attention(LN(r), (LN(z), LN(r))),    r ← r + MLP(LN(r))

Before each block of the language model the words look at the image that last stood before them,

    h ← h + tanh(α) attention(LN(h), r_φ(t)),    h ← h + tanh(β) MLP(LN(h))

and at none where none did. Earlier images reach a word by way of the words that saw them. α = β = 0
at first: then the words' probabilities are, bit for bit, those of the language model. As texts and
images take turns, examples can stand before the question: what is to be done is learnt in context.

Differs from the paper: in place of NFNet and Chinchilla a small CLIP's encoder and a small language
model, which has met the sign of an image in its texts; a learnt vector for each place of an image,
none for time.
"""

import numpy as np

from minigen import broadcast_to, concatenate, nn, no_grad, tanh, tensor
from minigen.models.multimodal.visual_gpt import Looking
from minigen.nn import initializers
from minigen.tensor import placed

STD = 0.2  # of the first vectors of places, beside features of about 1
RATE = 10  # of gates: as long as they are shut, what they let through learns next to nothing


class Gate:
    """h + tanh(α) u, at first α = 0: (..., D) → the same. What learns is α / RATE."""

    def __init__(self):
        self.alpha = initializers.empty()
        self.init(None)

    def init(self, rng):
        initializers.constant(self.alpha, 0)

    def __call__(self, h, u):
        return h + tanh(RATE * self.alpha) * u


class GatedLook:
    """Words look at images: h (N, t, D), r (N, S, D) and who sees what, booleans (N, t, S) →
    (N, t, D)."""

    def __init__(self, D, heads, rng=None):
        self.norm_1, self.attention = nn.LayerNorm(D), nn.MultiheadAttention(D, heads, rng=rng)
        self.norm_2, self.mlp = nn.LayerNorm(D), nn.mlp(D, rng)
        self.gate_1, self.gate_2 = Gate(), Gate()

    def __call__(self, h, r, seen):
        h = self.gate_1(h, self.attention(self.norm_1(h), r, r, seen[:, None]))
        return self.gate_2(h, self.mlp(self.norm_2(h)))


class ResamplerLayer:
    """Vectors look at features and at each other: r (N, M, D), z (N, P, D) → (N, M, D)."""

    def __init__(self, D, heads, rng=None):
        self.norm_z, self.norm_1, self.norm_2 = (nn.LayerNorm(D) for _ in range(3))
        self.attention, self.mlp = nn.MultiheadAttention(D, heads, rng=rng), nn.mlp(D, rng)

    def __call__(self, r, z):
        q = self.norm_1(r)
        seen = concatenate([self.norm_z(z), q], axis=1)  # (N, P + M, D)
        r = r + self.attention(q, seen, seen)
        return r + self.mlp(self.norm_2(r))


class Resampler:
    """P features of d numbers to M of D: (N, P, d) → (N, M, D)."""

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
    """A language model `lm` and an `encoder` whose `features` of an image are (N, P, d), joined.
    The word `sign` of a text stands where an image does: the k-th for the k-th of images x
    (N, K, C, H, W), which is what `Texts` is given.

    M: vectors of an image; depth, heads: layers of the resampler, and attentions in each
    """

    def __init__(self, encoder, lm, sign, P, d, M=8, depth=2, heads=4, rng=None):
        self.encoder, self.lm, self.sign, self.M = encoder, lm, sign, M
        self.resampler = Resampler(P, d, lm.D, M, depth, heads, rng)
        self.gated = [GatedLook(lm.D, heads, rng) for _ in lm.blocks]

    def trained(self):
        """What is trained: parameters by name."""
        return nn.parameters({"resampler": self.resampler, "gated": self.gated})

    def look(self, x):
        """r of images x (N, K, C, H, W), one image's M vectors after another's: (N, K M, D)."""
        N, K, *shape = x.shape
        with no_grad():
            Z = self.encoder.features(tensor(x.reshape(N * K, *shape)))
        return self.resampler(Z).reshape(N, K * self.M, self.lm.D)

    def seen(self, w, r):
        """Which of r (N, K M, D) each of the words w, integers (N, t), sees: booleans
        (N, t, K M), those of the image whose sign stood last, if one did."""
        last = np.cumsum(w == self.sign, axis=1)  # φ
        image = 1 + np.arange(r.shape[1]) // self.M
        return placed(last[..., None] == image, r.data)

    def scores(self, w, x):
        """As in `Texts`. ValueError for a text with more signs than images."""
        most = (np.asarray(w) == self.sign).sum(1).max(initial=0)
        if most > x.shape[1]:
            raise ValueError(f"Flamingo.scores: a text has the sign of an image {most} times, but "
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
