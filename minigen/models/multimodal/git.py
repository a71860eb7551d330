"""GIT: one network is shown an image and says what it sees (Wang et al. 2022).

    H = LN(W f(x)) + c                f: the places of a contrastive image encoder; c: learnt
    loss: −Σ_t log p_θ(w_t | w_1, …, w_{t−1}, H), averaged over images

Only the encoder has learnt before. The language model begins with new weights, and all of it, the
encoder too, goes down this one loss.

Differs from the paper: the encoder is a small CLIP's; a vector of H sees those before it
alone.
"""

from minigen import nn, tensor
from minigen.models.multimodal.language_model import Shown


class GIT(Shown):
    """A language model `lm`, and an `encoder` whose `features` of an image are (N, P, d)."""

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
