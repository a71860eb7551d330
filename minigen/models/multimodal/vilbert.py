"""ViLBERT: regions of an image and words of a sentence attend to each other (Lu, Batra, Parikh &
Lee 2019).

There are two transformers: one of regions, v = (IMG, v_1, …, v_P), where IMG is the regions' mean,
and one of words, w = (CLS, w_1, …, w_T). Each layer starts with co-attention, in which the queries
of each attend to the keys and values of the other,

    v, w ← v + attention(LN(v), LN(w)),  w + attention(LN(w), LN(v)),    h ← h + MLP(LN(h))

and then applies an ordinary block to each. There are two objectives, on images and sentences half
of which match:

    masked multimodal learning: in matching pairs, some regions and words are masked, to be
        predicted from what is left of both:
        words    −log p_θ(w_i | v, w), averaged over masked words
        regions  −p_ik log q_ik − (1 − p_ik) log (1 − q_ik), averaged over masked regions i and all
                 words k: q_ik = p_θ(word k fits region i | v, w), p_ik a word detector's output
    multimodal alignment: −log p_θ(whether v and w match), from h_IMG ⊙ h_CLS

15% of the words are masked: 8 of 10 become [MASK], one becomes a random word and one is kept, so
that the network cannot know which words to trust (Devlin et al. 2019). So are 15% of the regions:
9 of 10 become zeros.

Differs from the paper: regions are the patches of a small network trained to predict a caption's
words, so several words can fit a region, while a detector's classes exclude one another, and their
positions are learnt embeddings, not coordinates; there is co-attention in every layer, while in the
paper words have some layers of their own first; norms come first; no weights are BERT's; what is
masked is predicted in matching pairs only.
"""

import numpy as np

from minigen import (
    binary_cross_entropy_with_logits,
    concatenate,
    cross_entropy,
    mean,
    nn,
    sigmoid,
    sum,
    tensor,
)
from minigen.models.multimodal.blip2 import MLP, STD
from minigen.tensor import to_device_of

HIDDEN = 0.15  # the share of words and of regions that are masked


class Layer:
    """Regions and words (N, 1 + P, D), (N, 1 + T, D) and which words are not padding, booleans
    (N, 1, 1, 1 + T) → regions and words, of the same shapes."""

    def __init__(self, D, heads, rng=None):
        self.norm_v, self.norm_w = nn.LayerNorm(D), nn.LayerNorm(D)
        self.ask_w, self.ask_v = (nn.MultiheadAttention(D, heads, rng=rng) for _ in range(2))
        self.mlp_v, self.mlp_w = MLP(D, rng), MLP(D, rng)
        self.block_v, self.block_w = (nn.TransformerBlock(D, heads, rng) for _ in range(2))

    def __call__(self, v, w, there):
        a, b = self.norm_v(v), self.norm_w(w)
        v, w = v + self.ask_w(a, b, b, there), w + self.ask_v(b, a, a)
        return self.block_v(self.mlp_v(v)), self.block_w(self.mlp_w(w), there)


class ViLBERT:
    """ViLBERT for images given as P regions of d numbers, (N, P, d), and texts of at most T words
    1 … V − 1: integers (N, T), 0 from their end on.

    D, depth, heads: width of the vectors, layers, and attention heads in each
    """

    def __init__(self, V, T, P, d, D=64, depth=2, heads=4, rng=None):
        self.V, self.CLS, self.MASK = V, V, V + 1
        self.W, self.where = nn.Linear(d, D, rng=rng), nn.Embedding(1 + P, D, rng, STD)
        self.embed, self.place = nn.Embedding(V + 2, D, rng, STD), nn.Embedding(1 + T, D, rng, STD)
        self.layers = [Layer(D, heads, rng) for _ in range(depth)]
        self.norm_v, self.norm_w = nn.LayerNorm(D), nn.LayerNorm(D)
        self.fits, self.word = nn.Linear(D, V, rng=rng), nn.Linear(D, V, rng=rng)
        self.aligned = nn.Linear(D, 1, rng=rng)

    def read(self, Z, c):
        """The last hidden states of IMG and the regions Z of images, (N, 1 + P, D), and of CLS and
        the words c of texts, (N, 1 + T, D)."""
        Z = tensor(Z)
        v = self.W(concatenate([mean(Z, 1, keepdims=True), Z], axis=1)) + self.where.weight
        c = np.pad(c, ((0, 0), (1, 0)), constant_values=self.CLS)
        w, there = self.embed(c) + self.place.weight, to_device_of((c != 0)[:, None, None], v.data)
        for layer in self.layers:
            v, w = layer(v, w, there)
        return self.norm_v(v), self.norm_w(w)

    def scores(self, Z, c):
        """The scores (N, T, V) of the word at each position of texts, whether masked or not."""
        return self.word(self.read(Z, c)[1][:, 1:])

    def matches(self, v, w):
        """The logits (N,) of whether images and texts match, from the hidden states of `read`."""
        return self.aligned(v[:, 0] * w[:, 0])[:, 0]  # eq: vilbert-alignment

    def hide_words(self, c, rng):
        """Texts with some words masked, and which: integers, booleans (N, T)."""
        hidden = (c > 0) & (rng.random(c.shape) < HIDDEN)
        how, other = rng.random(c.shape), rng.integers(1, self.V, c.shape)
        shown = np.where(how < 0.8, self.MASK, np.where(how < 0.9, other, c))
        return np.where(hidden, shown, c), hidden

    def loss(self, Z, found, c, rng):
        """The loss, and its parts, on the regions Z of N ≥ 2 images, the logits `found` (N, P, V)
        of a word detector there, and their texts c."""
        if len(c) < 2:
            raise ValueError(f"ViLBERT.loss: {len(c)} pair came, expected at least 2, so that each "
                             "image can get another's text")
        Z, found = tensor(Z), tensor(found)
        belong = rng.random(len(c)) < 0.5
        c = np.where(belong[:, None], c, np.roll(c, 1, axis=0))
        shown, hidden = self.hide_words(c, rng)
        unseen = rng.random(Z.shape[:2]) < HIDDEN
        blank = unseen & (rng.random(Z.shape[:2]) < 0.9)
        v, w = self.read(Z * to_device_of((~blank)[..., None].astype(Z.dtype), Z.data), shown)

        guessed, blurred = hidden & belong[:, None], unseen & belong[:, None]
        words = cross_entropy(self.word(w[:, 1:]).swapaxes(1, 2), np.where(guessed, c, -1),
                              ignore_index=-1, reduction="none")  # eq: vilbert-masked
        q, p = self.fits(v[:, 1:]), sigmoid(found).astype(Z.dtype)
        regions = mean(binary_cross_entropy_with_logits(q, p, reduction="none"), 2)
        parts = {
            "words": sum(words) / max(guessed.sum(), 1),
            "regions": sum(regions * to_device_of(blurred.astype(Z.dtype), Z.data))
            / max(blurred.sum(), 1),
            "alignment": binary_cross_entropy_with_logits(
                self.matches(v, w), to_device_of(belong.astype(Z.dtype), Z.data))}
        return parts["words"] + parts["regions"] + parts["alignment"], parts
