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

MASK_RATIO = 0.15  # the share of words and of regions that are masked


class Layer:
    """Regions and words (N, 1 + P, D), (N, 1 + T, D) and which words are not padding, booleans
    (N, 1, 1, 1 + T) → regions and words, of the same shapes."""

    def __init__(self, D, heads, rng=None):
        self.norm_v, self.norm_w = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attend_w, self.attend_v = (nn.MultiheadAttention(D, heads, rng=rng) for _ in range(2))
        self.mlp_v, self.mlp_w = MLP(D, rng), MLP(D, rng)
        self.block_v, self.block_w = (nn.TransformerBlock(D, heads, rng) for _ in range(2))

    def __call__(self, v, w, mask):
        a, b = self.norm_v(v), self.norm_w(w)
        v, w = v + self.attend_w(a, b, b, mask), w + self.attend_v(b, a, a)
        return self.block_v(self.mlp_v(v)), self.block_w(self.mlp_w(w), mask)


class ViLBERT:
    """ViLBERT for images given as P regions of d numbers, (N, P, d), and texts of at most T words
    1 … V − 1: integers (N, T), 0 from their end on.

    D, depth, heads: width of the vectors, layers, and attention heads in each
    """

    def __init__(self, V, T, P, d, D=64, depth=2, heads=4, rng=None):
        self.V, self.CLS, self.MASK = V, V, V + 1
        self.W, self.position_v = nn.Linear(d, D, rng=rng), nn.Embedding(1 + P, D, rng, STD)
        self.embed, self.position_w = (nn.Embedding(n, D, rng, STD) for n in (V + 2, 1 + T))
        self.layers = [Layer(D, heads, rng) for _ in range(depth)]
        self.norm_v, self.norm_w = nn.LayerNorm(D), nn.LayerNorm(D)
        self.out_v, self.out_w = nn.Linear(D, V, rng=rng), nn.Linear(D, V, rng=rng)
        self.out_match = nn.Linear(D, 1, rng=rng)

    def hidden(self, Z, c):
        """The last hidden states of IMG and the regions Z of images, (N, 1 + P, D), and of CLS and
        the words c of texts, (N, 1 + T, D)."""
        Z = tensor(Z)
        v = self.W(concatenate([mean(Z, 1, keepdims=True), Z], axis=1)) + self.position_v.weight
        c = np.pad(c, ((0, 0), (1, 0)), constant_values=self.CLS)
        w = self.embed(c) + self.position_w.weight
        mask = to_device_of((c != 0)[:, None, None], v.data)
        for layer in self.layers:
            v, w = layer(v, w, mask)
        return self.norm_v(v), self.norm_w(w)

    def scores(self, Z, c):
        """The scores (N, T, V) of the word at each position of texts, whether masked or not."""
        return self.out_w(self.hidden(Z, c)[1][:, 1:])

    def match_logits(self, v, w):
        """The logits (N,) of whether images and texts match, from their `hidden` states."""
        return self.out_match(v[:, 0] * w[:, 0])[:, 0]  # eq: vilbert-alignment

    def mask_words(self, c, rng):
        """Texts with some words masked, and which: integers, booleans (N, T)."""
        mask = (c > 0) & (rng.random(c.shape) < MASK_RATIO)
        u, other = rng.random(c.shape), rng.integers(1, self.V, c.shape)
        masked = np.where(u < 0.8, self.MASK, np.where(u < 0.9, other, c))
        return np.where(mask, masked, c), mask

    def loss(self, Z, logits, c, rng):
        """The loss, and its parts, on the regions Z of N ≥ 2 images, the `logits` (N, P, V) of a
        word detector there, and their texts c."""
        if len(c) < 2:
            raise ValueError(f"ViLBERT.loss: {len(c)} pair came, expected at least 2, so that each "
                             "image can get another's text")
        Z, logits = tensor(Z), tensor(logits)
        match = rng.random(len(c)) < 0.5
        c = np.where(match[:, None], c, np.roll(c, 1, axis=0))
        masked, mask_w = self.mask_words(c, rng)
        mask_v = rng.random(Z.shape[:2]) < MASK_RATIO
        zeroed = mask_v & (rng.random(Z.shape[:2]) < 0.9)
        v, w = self.hidden(Z * to_device_of((~zeroed)[..., None].astype(Z.dtype), Z.data), masked)

        mask_w, mask_v = mask_w & match[:, None], mask_v & match[:, None]
        words = cross_entropy(self.out_w(w[:, 1:]).swapaxes(1, 2), np.where(mask_w, c, -1),
                              ignore_index=-1, reduction="none")  # eq: vilbert-masked
        q, p = self.out_v(v[:, 1:]), sigmoid(logits).astype(Z.dtype)
        regions = mean(binary_cross_entropy_with_logits(q, p, reduction="none"), 2)
        parts = {
            "words": sum(words) / max(mask_w.sum(), 1),
            "regions": sum(regions * to_device_of(mask_v.astype(Z.dtype), Z.data))
            / max(mask_v.sum(), 1),
            "alignment": binary_cross_entropy_with_logits(
                self.match_logits(v, w), to_device_of(match.astype(Z.dtype), Z.data))}
        return parts["words"] + parts["regions"] + parts["alignment"], parts
