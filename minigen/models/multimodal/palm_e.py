"""PaLM-E: a language model whose sentences contain observations among the words (Driess et al.
2023).

    p_θ(w_{n+1}, …, w_L | w_1, …, w_n) = Π_{l>n} p_θ(w_l | x_1, …, x_{l−1})

    x_l = γ(w_l) for a word; for the i-th ⟨emb⟩ of a text the i-th of the vectors φ_1(O_1),
          φ_2(O_2), … which encoders φ compute from the observations O

    loss: −log p_θ of a token after the first n, averaged over all such tokens of all texts

An observation is anything that has an encoder: an image, the numbers of a robot's state. Its
vectors are treated like embedded words, position embeddings included; a text may contain several
observations, or none. So a language model that knows what to do in a world described in words can
go on to learn it in a world that it observes; and if its answer is a command, the command is
executed, and the model is asked again given the new observation.

Differs from the paper: images are encoded by convolutions in place of a ViT; encoders and language
model start from new weights; each part of a state is a vector, not the state as a whole.
"""

from types import MappingProxyType

import numpy as np

from minigen import concatenate, nn, no_grad, sum, tensor, where
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.multimodal.llava import Encoder
from minigen.ops.math import check_floats
from minigen.tensor import xp

NOTHING = MappingProxyType({})  # no observations
STD = 0.2  # of the initial embeddings


class ImageEncoder:
    """φ of images (N, 3, H, W) in [−1, 1]: a vector for each of the m patches of 8×8 pixels,
    (N, m, D). TypeError unless images hold floats."""

    def __init__(self, m, D, widths=(32, 64, 64), rng=None):
        self.squares = Encoder(D, widths, rng)
        self.place = nn.Embedding(m, D, rng, STD)

    def __call__(self, x):
        x = tensor(x)
        check_floats("ImageEncoder", x)
        return self.squares.scores(x) + self.place.weight


class PaLME(LanguageModel):
    """A language model of tokens 0 … V − 1, of which `sign` is ⟨emb⟩. `encoders` maps each kind of
    observation to its φ, which turns N of them into vectors (N, m, D): an `ImageEncoder`, or an MLP
    of each part of a state. What is `given` in `Texts` is a dict from kinds to arrays (N, …) of
    observations, in the order in which a text contains them, or nothing.

    D, depth, heads, std: as in `LanguageModel`
    """

    def __init__(self, V, T, sign, encoders, D=64, depth=2, heads=4, rng=None, std=STD):
        super().__init__(V, T, D, depth, heads, rng, std)
        self.sign, self.encoders = sign, encoders

    def perceive(self, n, observations):
        """φ_1(O_1), φ_2(O_2), … of n texts, concatenated: (n, S, D). ValueError for a kind without
        an encoder."""
        if unknown := set(observations) - set(self.encoders):
            raise ValueError(f"PaLME: observations are {', '.join(unknown)}, but the encoders are "
                             f"for {', '.join(self.encoders)}")
        like = nn.like(self)
        nothing = tensor(xp(like).empty((n, 0, self.D), like.dtype))
        return concatenate([nothing, *(self.encoders[kind](o) for kind, o in observations.items())],
                           axis=1)

    def sentence(self, w, seen, before=0):
        """x_l, position embeddings included, of the tokens after the first `before` of texts w
        (N, L): (N, L − before, D). ⟨emb⟩ tokens for which no vector is left are embedded as words.
        """
        h, S = self.read(w[:, before:], before), seen.shape[1]
        if not S:
            return h
        i = np.cumsum(w == self.sign, axis=1)[:, before:] - 1
        x = seen[np.arange(len(w))[:, None], i.clip(0, S - 1)]
        x = x + self.place.weight[before:w.shape[1]]
        emb = (w[:, before:] == self.sign) & (i < S)
        return where(emb[..., None], x, h)  # eq: palm-e-sentence

    def scores(self, w, observations=NOTHING):
        """As in `Texts`. ValueError unless each text has as many ⟨emb⟩ tokens as its observations
        have vectors."""
        seen = self.perceive(len(w), observations)
        self._check(w, seen.shape[1])
        h = self.sentence(w, seen)
        return self.out(self.norm(self._go_on(h, self.nothing(len(w)))[0]))

    def go_on(self, w, observations=NOTHING, **options):
        """As in `Texts`. ValueError as for `scores`."""
        self._check(w, self.perceive(len(w), observations).shape[1])
        return super().go_on(w, observations, **options)

    def _check(self, w, vectors):
        signs = sorted({*(w == self.sign).sum(1).tolist()})
        if signs not in ([], [vectors]):
            raise ValueError(f"PaLME: texts have {', '.join(map(str, signs))} ⟨emb⟩ tokens, "
                             f"but their observations are {vectors} vectors")

    def loss(self, w, observations=NOTHING, n=0):
        """−log p_θ of a token after the first n of texts w (N, T), averaged over all such tokens,
        end tokens included. n: integers (N,). ValueError if there are none."""
        surprise = self.surprise(w, observations)
        place, length = np.arange(self.T), (w > 0).sum(1, keepdims=True)
        told = (place >= np.reshape(n, (-1, 1))) & (place <= length)
        if not told.any():
            raise ValueError(f"PaLME.loss: no token follows the first n of {len(w)} texts")
        return sum(surprise * told) / told.sum()  # eq: palm-e-loss

    @no_grad()
    def start(self, n, observations=NOTHING):
        """As in `Texts`. A state is the tokens read, the observations' vectors, and for each block
        the keys and values of all positions so far."""
        (words, *past), w = super().start(n)
        return (words, self.perceive(n, observations), *past), w

    @no_grad()
    def read_on(self, state, w):
        """As in `Texts`."""
        words, seen, *past = state
        before, words = words.shape[1], np.concatenate([words, w], axis=1)
        h, past = self._go_on(self.sentence(words, seen, before), past)
        return self.out(self.norm(h[:, -1])).numpy(), (words, seen, *past)
