"""VisualGPT: a pretrained language model learns to use images (Chen et al. 2022).

    I = LN(W f(x)) + c            f: a frozen image encoder; c: learnt position embeddings

In each block of the language model, between self-attention and MLP, tokens cross-attend to the
image. Each component of H, the hidden state so far, sets two gates of its own:

    H ← B_lan ⊙ H + B_vis ⊙ attention(LN(H), I)
    B_vis = σ(H) 1[σ(H) > τ],    B_lan = (1 − σ(H)) 1[1 − σ(H) > τ],    0 ≤ τ < ½

They determine how much a position keeps of its language state and how much it takes from the image;
a gate below τ is shut. The two are never both shut, and where one is, the other still passes a
gradient on to H, which may open it again: a self-resurrecting activation unit.

    loss: −Σ_t log p_θ(w_t | w_1, …, w_{t−1}, I), averaged over images; it trains all but f

Differs from the paper: the encoder is a small CLIP's; the paper's is a transformer on a detector's
regions, and all three of its layers are attended to; a small language model in place of GPT-2.
"""

import numpy as np

from minigen import nn, no_grad, sigmoid, tensor
from minigen.models.multimodal.language_model import TextModel
from minigen.ops.math import check_floats

TAU = 0.2  # as in the paper


class SRAUCrossAttention:
    """Cross-attention of tokens to an image, gated by a self-resurrecting activation unit: H
    (N, t, D), I (N, P, D) → (N, t, D)."""

    def __init__(self, D, heads, rng=None):
        self.norm, self.attention = nn.LayerNorm(D), nn.MultiheadAttention(D, heads, rng=rng)

    def __call__(self, H, I):
        vis = sigmoid(H)
        lan = 1 - vis
        vis, lan = vis * (vis.data > TAU), lan * (lan.data > TAU)  # eq: visual-gpt-srau
        return lan * H + vis * self.attention(self.norm(H), I, I)  # eq: visual-gpt-srau


class CrossAttending(TextModel):
    """A language model `lm` whose tokens cross-attend to images x (what is `given` in
    `TextModel`): `embed_images(x)` returns vectors I (N, S, D), which are no prefix: they take no
    positions of the text.

    forward_cached(words, I, offset, caches): runs the tokens after the first `offset` of texts
        (N, t) through all blocks, cross-attending to I, after the positions in the `caches`:
        (N, t − offset, D), and the caches extended
    """

    V = property(lambda self: self.lm.V)
    T = property(lambda self: self.lm.T)

    @no_grad()
    def start(self, n, x):
        """As in `TextModel`. A state is the tokens read, the images' vectors, and for each block
        the keys and values of all positions so far."""
        (words, *caches), w = self.lm.start(n)
        return (words, self.embed_images(x), *caches), w

    @no_grad()
    def extend(self, state, w):
        """As in `TextModel`."""
        words, I, *caches = state
        offset, words = words.shape[1], np.concatenate([words, w], axis=1)
        h, caches = self.forward_cached(words, I, offset, caches)
        return self.lm.out(self.lm.norm(h[:, -1])).numpy(), (words, I, *caches)


class VisualGPT(CrossAttending):
    """A language model `lm` connected to an `encoder` whose `features` of an image are (N, P, d);
    the images are (N, C, H, W). heads: of the cross-attention in each block."""

    def __init__(self, encoder, lm, P, d, heads=4, rng=None):
        self.encoder, self.lm = encoder, lm
        self.W, self.norm = nn.Linear(d, lm.D, rng=rng), nn.LayerNorm(lm.D)
        self.position = nn.Embedding(P, lm.D, rng)
        self.cross_attentions = [SRAUCrossAttention(lm.D, heads, rng) for _ in lm.blocks]

    def trained(self):
        """The trained parameters, by name."""
        return nn.parameters({"W": self.W, "norm": self.norm, "position": self.position,
                              "lm": self.lm, "cross_attentions": self.cross_attentions})

    def embed_images(self, x):
        """I of images x (N, C, H, W) in [−1, 1]: (N, P, D). TypeError unless x holds floats."""
        x = tensor(x)
        check_floats("VisualGPT", x)
        with no_grad():
            Z = self.encoder.features(x)
        return self.norm(self.W(Z)) + self.position.weight

    def scores(self, w, x):
        """As in `TextModel`."""
        h, _ = self.forward_cached(w, self.embed_images(x), 0, self.lm.empty_caches(len(w)))
        return self.lm.out(self.lm.norm(h))

    def forward_cached(self, words, I, offset, caches):
        """As in `CrossAttending`."""
        h, extended = self.lm.embed_tokens(words[:, offset:], offset), []
        for block, attend, cache in zip(self.lm.blocks, self.cross_attentions, caches, strict=True):
            a, cache = block.attention.forward_cached(block.norm_1(h), cache)
            h = attend(h + a, I)
            h = h + block.mlp(block.norm_2(h))
            extended.append(cache)
        return h, extended
