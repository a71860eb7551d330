"""SimVLM: one loss, of texts of which the picture and the beginning are given (Wang et al. 2022).

    H = LN(W f(x)) + c            f: convolutions over the picture; c: learnt, a vector for a place
    loss: −Σ_{t ≥ max(s, 1)} log p_θ(w_t | w_0, …, w_{t−1}, H), averaged over texts, s drawn anew

The prefix, H and w_0, …, w_{s−1}, is read as a whole: its places see one another, those of the rest
what stands before them. So one network learns to understand and to write; nothing has learnt
before, and nothing is frozen. s = 0 leaves the whole caption to be written, as in git.py; who goes
on with a text reads it so too, one word after the other.

Differs from the paper: one transformer with a mask, there an encoder of the prefix and a decoder of
the rest; no texts without pictures.
"""

import numpy as np

from minigen import mean, sum
from minigen.models.multimodal.git import GIT
from minigen.tensor import placed


class SimVLM(GIT):
    """A GIT whose `lm` is a `PrefixLanguageModel` and whose `encoder` begins with new weights."""

    def scores(self, w, x, s=0):
        """As in `Texts`; of places before s − 1 they say nothing, as these see what follows."""
        return self.lm.scores(w, self.look(x), s)

    def loss(self, w, x, s=0):
        """−log p_θ of what follows the first s of w_0, w_1, … in texts w (N, T), averaged over
        them. s: integers (N,)."""
        surprise = self.surprise(w, x, s)
        rest = np.arange(1, self.T + 1) >= np.reshape(s, (-1, 1))
        return mean(sum(surprise * placed(rest.astype(surprise.dtype), surprise.data), 1))
