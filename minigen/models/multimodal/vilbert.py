"""ViLBERT: regions of a picture and words of a sentence read each other (Lu, Batra, Parikh & Lee
2019).

Two transformers: of regions, v = (IMG, v_1, …, v_P), where IMG is the regions' mean, and of words,
w = (CLS, w_1, …, w_T). In each layer they first exchange what they know, by co-attention: each asks
with queries of its own for the keys and values of the other,

    v, w ← v + attention(LN(v), LN(w)),  w + attention(LN(w), LN(v)),    h ← h + MLP(LN(h))

and then each is a block of its own. What is learnt, of pictures and sentences half of which belong
together:

    masked multimodal learning: of the pairs that do, some regions and words are hidden, to be
        guessed from what is left of both:
        words    −log p_θ(w_i | v, w), averaged over hidden words
        regions  −p_ik log q_ik − (1 − p_ik) log (1 − q_ik), averaged over hidden regions and words:
                 q_ik = p_θ(word k fits region i | v, w), p_ik what a detector of words found there
    multimodal alignment: −log p_θ(whether v and w belong together), from h_IMG ⊙ h_CLS

Hidden are 15% of the words, 8 of 10 as [MASK], one as another word and one as it is, as the network
is not to know which to mistrust (Devlin et al. 2019); and 15% of the regions, 9 of 10 as zeros.

Differs from the paper: regions are the squares of a small network that has learnt which words a
caption has, so that several words fit a region, where a detector's classes exclude one another, and
their places are learnt vectors, not coordinates; words and regions meet in every layer, there words
have some of their own first; its norms come first; no weights are BERT's; what is hidden is guessed
in pairs that belong together only.
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
from minigen.tensor import placed

HIDDEN = 0.15  # the share of words and of regions


class Layer:
    """Regions and words (N, 1 + P, D), (N, 1 + T, D) and which words there are, booleans
    (N, 1, 1, 1 + T) → both, of the same shapes."""

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
    """For P regions of d numbers of a picture, (N, P, d), and texts of at most T words 1 … V − 1:
    integers (N, T), 0 from their end on.

    D, depth, heads: length of a vector, layers, and attentions in each
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
        """What is known of the regions and words of pictures and texts: (N, 1 + P, D),
        (N, 1 + T, D)."""
        Z = tensor(Z)
        v = self.W(concatenate([mean(Z, 1, keepdims=True), Z], axis=1)) + self.where.weight
        c = np.pad(c, ((0, 0), (1, 0)), constant_values=self.CLS)
        w, there = self.embed(c) + self.place.weight, placed((c != 0)[:, None, None], v.data)
        for layer in self.layers:
            v, w = layer(v, w, there)
        return self.norm_v(v), self.norm_w(w)

    def scores(self, Z, c):
        """Which word stands in each place of texts, hidden there or not: scores (N, T, V)."""
        return self.word(self.read(Z, c)[1][:, 1:])

    def matches(self, v, w):
        """The logits (N,) of whether pictures and texts, read by `read`, belong together."""
        return self.aligned(v[:, 0] * w[:, 0])[:, 0]  # eq: vilbert-alignment

    def hide_words(self, c, rng):
        """Texts with some words hidden, and which: integers, booleans (N, T)."""
        hidden = (c > 0) & (rng.random(c.shape) < HIDDEN)
        how, other = rng.random(c.shape), rng.integers(1, self.V, c.shape)
        shown = np.where(how < 0.8, self.MASK, np.where(how < 0.9, other, c))
        return np.where(hidden, shown, c), hidden

    def loss(self, Z, found, c, rng):
        """The loss of N ≥ 2 pictures' regions, of what a detector found there, the logits
        (N, P, V) of each word, and of their texts; and its parts."""
        if len(c) < 2:
            raise ValueError(f"ViLBERT.loss: {len(c)} pair came, and none that another text is of")
        Z, found = tensor(Z), tensor(found)
        belong = rng.random(len(c)) < 0.5
        c = np.where(belong[:, None], c, np.roll(c, 1, axis=0))
        shown, hidden = self.hide_words(c, rng)
        unseen = rng.random(Z.shape[:2]) < HIDDEN
        blank = unseen & (rng.random(Z.shape[:2]) < 0.9)
        v, w = self.read(Z * placed((~blank)[..., None].astype(Z.dtype), Z.data), shown)

        guessed, blurred = hidden & belong[:, None], unseen & belong[:, None]
        words = cross_entropy(self.word(w[:, 1:]).swapaxes(1, 2), np.where(guessed, c, -1),
                              ignore_index=-1, reduction="none")  # eq: vilbert-masked
        q, p = self.fits(v[:, 1:]), sigmoid(found).astype(Z.dtype)
        regions = mean(binary_cross_entropy_with_logits(q, p, reduction="none"), 2)
        parts = {
            "words": sum(words) / max(guessed.sum(), 1),
            "regions": sum(regions * placed(blurred.astype(Z.dtype), Z.data))
            / max(blurred.sum(), 1),
            "alignment": binary_cross_entropy_with_logits(
                self.matches(v, w), placed(belong.astype(Z.dtype), Z.data))}
        return parts["words"] + parts["regions"] + parts["alignment"], parts
