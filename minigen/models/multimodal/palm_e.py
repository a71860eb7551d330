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

NO_OBSERVATIONS = MappingProxyType({})  # no observations
STD = 0.2  # of the initial embeddings


class ImageEncoder:
    """φ of images (N, 3, H, W) in [−1, 1]: a vector for each of the m patches of 8×8 pixels,
    (N, m, D). TypeError unless images hold floats."""

    def __init__(self, m, D, widths=(32, 64, 64), rng=None):
        self.patches = Encoder(D, widths, rng)
        self.position = nn.Embedding(m, D, rng, STD)

    def __call__(self, x):
        x = tensor(x)
        check_floats("ImageEncoder", x)
        return self.patches.scores(x) + self.position.weight


class PaLME(LanguageModel):
    """A language model of tokens 0 … V − 1, of which `emb_token` is ⟨emb⟩. `encoders` maps each
    kind of observation to its φ, which turns N of them into vectors (N, m, D): an `ImageEncoder`,
    or an MLP of each part of a state. What is `given` in `TextModel` is a dict from kinds to arrays
    (N, …) of observations, in the order in which a text contains them, or nothing.

    D, depth, heads, std: as in `LanguageModel`
    """

    def __init__(self, V, T, emb_token, encoders, D=64, depth=2, heads=4, rng=None, std=STD):
        super().__init__(V, T, D, depth, heads, rng, std)
        self.emb_token, self.encoders = emb_token, encoders

    def encode_observations(self, n, observations):
        """φ_1(O_1), φ_2(O_2), … of n texts, concatenated: (n, S, D). ValueError for a kind without
        an encoder."""
        if unknown := set(observations) - set(self.encoders):
            raise ValueError(f"PaLME: observations are {', '.join(unknown)}, but the encoders are "
                             f"for {', '.join(self.encoders)}")
        like = nn.like(self)
        none = tensor(xp(like).empty((n, 0, self.D), like.dtype))
        return concatenate([none, *(self.encoders[kind](o) for kind, o in observations.items())],
                           axis=1)

    def sentence(self, w, phi, offset=0):
        """x_l, position embeddings included, of the tokens after the first `offset` of texts w
        (N, L), for observations' vectors φ (N, S, D): (N, L − offset, D). ⟨emb⟩ tokens for which no
        vector is left are embedded as words."""
        h, S = self.embed_tokens(w[:, offset:], offset), phi.shape[1]
        if not S:
            return h
        i = np.cumsum(w == self.emb_token, axis=1)[:, offset:] - 1
        x = phi[np.arange(len(w))[:, None], i.clip(0, S - 1)]
        x = x + self.position.weight[offset:w.shape[1]]
        emb = (w[:, offset:] == self.emb_token) & (i < S)
        return where(emb[..., None], x, h)  # eq: palm-e-sentence

    def scores(self, w, observations=NO_OBSERVATIONS):
        """As in `TextModel`. ValueError unless each text has as many ⟨emb⟩ tokens as its
        observations have vectors."""
        phi = self.encode_observations(len(w), observations)
        self._check(w, phi.shape[1])
        h = self.sentence(w, phi)
        return self.out(self.norm(self._forward_cached(h, self.empty_caches(len(w)))[0]))

    def complete(self, w, observations=NO_OBSERVATIONS, **options):
        """As in `TextModel`. ValueError as for `scores`."""
        self._check(w, self.encode_observations(len(w), observations).shape[1])
        return super().complete(w, observations, **options)

    def _check(self, w, vectors):
        counts = sorted({*(w == self.emb_token).sum(1).tolist()})
        if counts not in ([], [vectors]):
            raise ValueError(f"PaLME: texts have {', '.join(map(str, counts))} ⟨emb⟩ tokens, "
                             f"but their observations are {vectors} vectors")

    def loss(self, w, observations=NO_OBSERVATIONS, n=0):
        """−log p_θ of a token after the first n of texts w (N, T), averaged over all such tokens,
        end tokens included. n: integers (N,). ValueError if there are none."""
        nll = self.token_nll(w, observations)
        position, length = np.arange(self.T), (w > 0).sum(1, keepdims=True)
        mask = (position >= np.reshape(n, (-1, 1))) & (position <= length)
        if not mask.any():
            raise ValueError(f"PaLME.loss: no token follows the first n of {len(w)} texts")
        return sum(nll * mask) / mask.sum()  # eq: palm-e-loss

    @no_grad()
    def start(self, n, observations=NO_OBSERVATIONS):
        """As in `TextModel`. A state is the tokens read, the observations' vectors, and for each
        block the keys and values of all positions so far."""
        (words, *caches), w = super().start(n)
        return (words, self.encode_observations(n, observations), *caches), w

    @no_grad()
    def extend(self, state, w):
        """As in `TextModel`."""
        words, phi, *caches = state
        offset, words = words.shape[1], np.concatenate([words, w], axis=1)
        h, caches = self._forward_cached(self.sentence(words, phi, offset), caches)
        return self.out(self.norm(h[:, -1])).numpy(), (words, phi, *caches)
