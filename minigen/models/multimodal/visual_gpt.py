"""VisualGPT: a language model that has learnt to write learns to look (Chen et al. 2022).

    I = LN(W f(x)) + c            f: an image encoder that stays as it is; c: learnt, for each place

In each block of the language model, between words looking at each other and their MLP, words look
at the image. Each number of H, what they know so far, sets two gates of its own:

    H ← B_lan ⊙ H + B_vis ⊙ attention(LN(H), I)
    B_vis = σ(H) 1[σ(H) > τ],    B_lan = (1 − σ(H)) 1[1 − σ(H) > τ],    0 ≤ τ < ½

so it is how much a place keeps of language and how much it takes from the image; less than τ is
nothing. Never are both gates shut, and where one is, the other still passes its gradient on to H,
which may open it again: a self-resurrecting activation unit.

    loss: −Σ_t log p_θ(w_t | w_1, …, w_{t−1}, I), averaged over images; it trains all but f

Differs from the paper: the encoder is a small CLIP's, there a transformer on what a detector finds,
whose three layers are all looked at; a small language model in place of GPT-2.
"""

import numpy as np

from minigen import nn, no_grad, sigmoid, tensor
from minigen.models.multimodal.language_model import Texts
from minigen.ops.math import floats

TAU = 0.2  # as in the paper


class GatedLook:
    """Words look at an image: H (N, t, D), I (N, P, D) → (N, t, D)."""

    def __init__(self, D, heads, rng=None):
        self.norm, self.attention = nn.LayerNorm(D), nn.MultiheadAttention(D, heads, rng=rng)

    def __call__(self, H, I):
        vis = sigmoid(H)
        lan = 1 - vis
        vis, lan = vis * (vis.data > TAU), lan * (lan.data > TAU)  # eq: visual-gpt-srau
        return lan * H + vis * self.attention(self.norm(H), I, I)  # eq: visual-gpt-srau


class Looking(Texts):
    """A language model `lm` whose words look at images x, which it is given as `Texts`: `look(x)`
    gives vectors (N, S, D), which stand beside the words, not before them.

    through(words, seen, before, past): words that stand after the first so many of texts (N, t),
        and look at those vectors, through all blocks: (N, t − before, D), and the past of what
        follows
    """

    V = property(lambda self: self.lm.V)
    T = property(lambda self: self.lm.T)

    @no_grad()
    def start(self, n, x):
        """As in `Texts`. A state is the words read, the vectors beside them, and for each block the
        keys and values of all places so far."""
        (words, *past), w = self.lm.start(n)
        return (words, self.look(x), *past), w

    @no_grad()
    def read_on(self, state, w):
        """As in `Texts`."""
        words, seen, *past = state
        before, words = words.shape[1], np.concatenate([words, w], axis=1)
        h, past = self.through(words, seen, before, past)
        return self.lm.out(self.lm.norm(h[:, -1])).numpy(), (words, seen, *past)


class VisualGPT(Looking):
    """A language model `lm` and an `encoder` whose `features` of an image are (N, P, d), joined;
    `Texts` is given images (N, C, H, W). heads: attentions to the image in each block."""

    def __init__(self, encoder, lm, P, d, heads=4, rng=None):
        self.encoder, self.lm = encoder, lm
        self.W, self.norm = nn.Linear(d, lm.D, rng=rng), nn.LayerNorm(lm.D)
        self.place = nn.Embedding(P, lm.D, rng)
        self.looks = [GatedLook(lm.D, heads, rng) for _ in lm.blocks]

    def trained(self):
        """What is trained: parameters by name."""
        return nn.parameters({"W": self.W, "norm": self.norm, "place": self.place, "lm": self.lm,
                              "looks": self.looks})

    def look(self, x):
        """I of images x (N, C, H, W) in [−1, 1]: (N, P, D). TypeError for bytes."""
        x = tensor(x)
        floats("VisualGPT", x)
        with no_grad():
            Z = self.encoder.features(x)
        return self.norm(self.W(Z)) + self.place.weight

    def scores(self, w, x):
        """As in `Texts`."""
        h, _ = self.through(w, self.look(x), 0, self.lm.nothing(len(w)))
        return self.lm.out(self.lm.norm(h))

    def through(self, words, I, before, past):
        """As in `Looking`."""
        h, longer = self.lm.read(words[:, before:], before), []
        for block, look, was in zip(self.lm.blocks, self.looks, past, strict=True):
            a, after = block.attention.go_on(block.norm_1(h), was)
            h = look(h + a, I)
            h = h + block.mlp(block.norm_2(h))
            longer.append(after)
        return h, longer
