"""GIT: one network, trained end to end, captions an image (Wang et al. 2022).

    H = LN(W f(x)) + c                f: the features of a contrastive image encoder; c: learnt
    loss: −Σ_t log p_θ(w_t | w_1, …, w_{t−1}, H), averaged over images

Only the encoder is pretrained. The language model starts from new weights, and everything, the
encoder included, is trained on this one loss. It is a prefix language model: the vectors of H see
one another, and a token sees H and the tokens before it.

Differs from the paper: the encoder is a small CLIP's, to whose features the position embeddings c
are added.
"""

import numpy as np

from minigen import concatenate, nn, no_grad, tensor
from minigen.models.multimodal.language_model import LanguageModel, PrefixConditioned
from minigen.tensor import to_device_of


class PrefixLanguageModel(LanguageModel):
    """A language model in which the vectors of the prefix and the first s of the tokens w_0, w_1, …
    of each text all see one another."""

    def hidden(self, w, prefix, s=0):
        """The last hidden state at each of the tokens w, integers (N, t): (N, t, D). s: integers
        (N,)."""
        h = concatenate([prefix, self.embed_tokens(w)], axis=1)  # (N, P + t, D)
        position, end = np.arange(h.shape[1]), prefix.shape[1] + np.reshape(s, (-1, 1, 1, 1))
        mask = (position <= position[:, None]) | (position < end) & (position[:, None] < end)
        for block in self.blocks:
            h = block(h, to_device_of(mask, h.data))
        return self.norm(h[:, -w.shape[1]:])

    @no_grad()
    def start(self, n, prefix):
        """As in `TextModel`; s = 0."""
        (words, *caches), w = super().start(n)
        _, caches = self._forward_cached(prefix, caches, is_causal=False)
        return (words, *caches), w


class GIT(PrefixConditioned):
    """A `PrefixLanguageModel` lm, and an `encoder` whose `features` of an image are (N, P, d)."""

    def __init__(self, encoder, lm, P, d, rng=None):
        self.encoder, self.lm = encoder, lm
        self.W, self.norm = nn.Linear(d, lm.D, rng=rng), nn.LayerNorm(lm.D)
        self.position = nn.Embedding(P, lm.D, rng)

    def prefix(self, x):
        """H of images x (N, C, H, W): (N, P, D)."""
        return self.norm(self.W(self.encoder.features(tensor(x)))) + self.position.weight

    def trained(self):
        """The trained parameters, by name."""
        return nn.parameters({"W": self.W, "norm": self.norm, "position": self.position,
                              "lm": self.lm, "encoder": self.encoder.body})
