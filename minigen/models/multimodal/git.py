"""GIT: one network is shown an image and says what it sees (Wang et al. 2022).

    H = LN(W f(x)) + c                f: the places of a contrastive image encoder; c: learnt
    loss: −Σ_t log p_θ(w_t | w_1, …, w_{t−1}, H), averaged over images

Only the encoder has learnt before. The language model begins with new weights, and all of it, the
encoder too, goes down this one loss. It is a prefix language model: the vectors of H see one
another, a word sees them and those before it.

Differs from the paper: the encoder is a small CLIP's, to whose places c is added.
"""

import numpy as np

from minigen import concatenate, nn, no_grad, tensor
from minigen.models.multimodal.language_model import LanguageModel, Shown
from minigen.tensor import placed


class PrefixLanguageModel(LanguageModel):
    """A language model in which the vectors of the prefix, and with them the first s of the words
    w_0, w_1, … of each text, see one another."""

    def hidden(self, w, prefix, s=0):
        """What is known after each of the words w, integers (N, t): (N, t, D). s: integers (N,)."""
        h = concatenate([prefix, self.read(w)], axis=1)  # (N, P + t, D)
        place, end = np.arange(h.shape[1]), prefix.shape[1] + np.reshape(s, (-1, 1, 1, 1))
        seen = (place <= place[:, None]) | (place < end) & (place[:, None] < end)
        for block in self.blocks:
            h = block(h, placed(seen, h.data))
        return self.norm(h[:, -w.shape[1]:])

    @no_grad()
    def start(self, n, prefix):
        """As in `Texts`; s = 0."""
        (words, *nothing), w = super().start(n)
        _, past = self._go_on(prefix, nothing, is_causal=False)
        return (words, *past), w


class GIT(Shown):
    """A `PrefixLanguageModel` lm, and an `encoder` whose `features` of an image are (N, P, d)."""

    def __init__(self, encoder, lm, P, d, rng=None):
        self.encoder, self.lm = encoder, lm
        self.W, self.norm = nn.Linear(d, lm.D, rng=rng), nn.LayerNorm(lm.D)
        self.place = nn.Embedding(P, lm.D, rng)

    def look(self, x):
        """H of images x (N, C, H, W): (N, P, D)."""
        return self.norm(self.W(self.encoder.features(tensor(x)))) + self.place.weight

    def trained(self):
        """What is trained: parameters by name."""
        heard = {"W": self.W, "norm": self.norm, "place": self.place}
        return nn.parameters(heard | {"lm": self.lm, "seen": self.encoder.body})
