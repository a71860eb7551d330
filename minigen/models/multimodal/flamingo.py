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
from minigen.models.multimodal.visual_gpt import CrossAttending
from minigen.tensor import to_device_of

STD = 0.2  # of the initial position embeddings, which are added to features of about 1
RATE = 10  # speeds up the gates: while they are shut, the layers behind them hardly learn


class Gate:
    """h + tanh(α) u, initially α = 0: (..., D) → (..., D). The trained parameter is α / RATE."""

    def __init__(self):
        self.alpha = nn.Parameter()

    def __call__(self, h, u):
        return h + tanh(RATE * self.alpha.weight) * u


class GatedCrossAttention:
    """Gated cross-attention of tokens to images: h (N, t, D), r (N, S, D) and which token attends
    to which vector, booleans (N, t, S) → (N, t, D)."""

    def __init__(self, D, heads, rng=None):
        self.norm_1, self.attention = nn.LayerNorm(D), nn.MultiheadAttention(D, heads, rng=rng)
        self.norm_2, self.mlp = nn.LayerNorm(D), nn.mlp(D, rng)
        self.gate_1, self.gate_2 = Gate(), Gate()

    def __call__(self, h, r, mask):
        h = self.gate_1(h, self.attention(self.norm_1(h), r, r, mask[:, None]))
        return self.gate_2(h, self.mlp(self.norm_2(h)))


class ResamplerLayer:
    """Latents attend to features and to each other: r (N, M, D), z (N, P, D) → (N, M, D)."""

    def __init__(self, D, heads, rng=None):
        self.norm_z, self.norm_1, self.norm_2 = (nn.LayerNorm(D) for _ in range(3))
        self.attention, self.mlp = nn.MultiheadAttention(D, heads, rng=rng), nn.mlp(D, rng)

    def __call__(self, r, z):
        q = self.norm_1(r)
        kv = concatenate([self.norm_z(z), q], axis=1)  # (N, P + M, D)
        r = r + self.attention(q, kv, kv)
        return r + self.mlp(self.norm_2(r))


class Resampler:
    """The Perceiver Resampler, from P features of d numbers to M of D: (N, P, d) → (N, M, D)."""

    def __init__(self, P, d, D, M, depth=2, heads=4, rng=None):
        self.W, self.position = nn.Linear(d, D, rng=rng), nn.Embedding(P, D, rng, STD)
        self.latents = nn.Embedding(M, D, rng)
        self.layers = [ResamplerLayer(D, heads, rng) for _ in range(depth)]
        self.norm = nn.LayerNorm(D)

    def __call__(self, Z):
        z = self.W(Z) + self.position.weight
        r = broadcast_to(self.latents.weight, (len(z), *self.latents.weight.shape))
        for layer in self.layers:
            r = layer(r, z)
        return self.norm(r)


class Flamingo(CrossAttending):
    """A language model `lm` connected to an `encoder` whose `features` of an image are (N, P, d).
    The token `image_token` marks where an image is in a text: the k-th one stands for the k-th of
    images x (N, K, C, H, W), which are what is `given` in `TextModel`.

    M: vectors for each image; depth: layers of the resampler; heads: of every attention
    """

    def __init__(self, encoder, lm, image_token, P, d, M=8, depth=2, heads=4, rng=None):
        self.encoder, self.lm, self.image_token, self.M = encoder, lm, image_token, M
        self.resampler = Resampler(P, d, lm.D, M, depth, heads, rng)
        self.cross_attentions = [GatedCrossAttention(lm.D, heads, rng) for _ in lm.blocks]

    def trained(self):
        """The trained parameters, by name."""
        return nn.parameters({"resampler": self.resampler,
                              "cross_attentions": self.cross_attentions})

    def embed_images(self, x):
        """r of images x (N, K, C, H, W), the M vectors of each image in turn: (N, K M, D)."""
        N, K, *shape = x.shape
        with no_grad():
            Z = self.encoder.features(tensor(x.reshape(N * K, *shape)))
        return self.resampler(Z).reshape(N, K * self.M, self.lm.D)

    def mask(self, w, r):
        """Which vectors of r (N, K M, D) each of the tokens w, integers (N, t), attends to:
        booleans (N, t, K M), true for the image whose token came last, if there was one."""
        phi = np.cumsum(w == self.image_token, axis=1)
        image = 1 + np.arange(r.shape[1]) // self.M
        return to_device_of(phi[..., None] == image, r.data)

    def scores(self, w, x):
        """As in `TextModel`. ValueError for a text with more image tokens than images."""
        count = (np.asarray(w) == self.image_token).sum(1).max(initial=0)
        if count > x.shape[1]:
            raise ValueError(f"Flamingo.scores: a text has the image token {count} times, but "
                             f"came with {x.shape[1]} images")
        r = self.embed_images(x)
        h, mask = self.lm.embed_tokens(w), self.mask(w, r)
        for attend, block in zip(self.cross_attentions, self.lm.blocks, strict=True):
            h = block(attend(h, r, mask), is_causal=True)
        return self.lm.out(self.lm.norm(h))

    def forward_cached(self, words, r, offset, caches):
        """As in `CrossAttending`."""
        h, extended = self.lm.embed_tokens(words[:, offset:], offset), []
        mask = self.mask(words, r)[:, offset:]
        for attend, block, cache in zip(self.cross_attentions, self.lm.blocks, caches, strict=True):
            h, cache = block.forward_cached(attend(h, r, mask), cache)
            extended.append(cache)
        return h, extended
