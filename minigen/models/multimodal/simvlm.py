"""SimVLM: a single loss, the rest of a text given an image and the text's beginning (Wang et al.
2022).

    H = LN(W f(x)) + c            f: convolutions over the image; c: learnt position embeddings
    loss: −Σ_{t ≥ max(s, 1)} log p_θ(w_t | w_0, …, w_{t−1}, H), averaged over texts, s random

The prefix, H and w_0, …, w_{s−1}, is read bidirectionally: its positions see one another, and later
positions see all that precedes them. So one network learns both to understand and to generate;
nothing is pretrained, and nothing is frozen. With s = 0 the whole caption is generated, as in
git.py; in decoding, the beginning of a text that is to be continued is read with s = 0, too.

Differs from the paper: one transformer with a mask, not an encoder of the prefix and a decoder of
the rest; no texts without images.
"""

import numpy as np

from minigen import mean, sum
from minigen.models.multimodal.git import GIT
from minigen.tensor import to_device_of


class SimVLM(GIT):
    """A GIT whose `lm` is a `PrefixLanguageModel` and whose `encoder` starts from new weights."""

    def scores(self, w, x, s=0):
        """As in `TextModel`; at positions before s − 1 they mean nothing, as these attend to what
        follows."""
        return self.lm.scores(w, self.prefix(x), s)

    def loss(self, w, x, s=0):
        """−log p_θ of what follows the first s of w_0, w_1, … in texts w (N, T), averaged over the
        texts. s: integers (N,)."""
        nll = self.token_nll(w, x, s)
        mask = np.arange(1, self.T + 1) >= np.reshape(s, (-1, 1))
        return mean(sum(nll * to_device_of(mask.astype(nll.dtype), nll.data), 1))
