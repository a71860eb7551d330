"""DALL-E (Ramesh et al. 2021): an image, too, is a sequence of tokens, and a single transformer
continues the tokens of a text with those of an image.

    z: an image as 32×32 tokens, each in {1, …, 8192}        the codes of a VQ-VAE, row by row
    s = (t_1, …, t_T, z_1, …, z_P)                           T = 256 tokens of text, P = 1,024
    p(t, z) = Π_i p(s_i | s_1, …, s_{i−1})
    loss: −⅛ mean_i log p(t_i | …) − ⅞ mean_i log p(z_i | …)        means over a batch's tokens

The VQ-VAE is trained first and then frozen; p(t, z) takes the place of its prior. To generate an
image for a text t, z_1, z_2, … are sampled one after the other, and decoded as a grid.

Tokens are numbered from 0 here, those of images after those of text: V + z. At text positions,
image tokens have probability 0, and vice versa.

The position embedding is a separate vector for each text position; for an image position it is the
sum of a row and a column embedding: what "above" means is learnt once, not for every position.

Differs from the paper: a VQ-VAE in place of one with Gumbel softmax; an image position attends to
all before it; in most of the paper's layers, only to its row or its column. The paper then reranks
its samples by CLIP: see retrieval.py.
"""

import math

import numpy as np

from minigen import concatenate, cross_entropy, mean, nn, no_grad, sum, swapaxes
from minigen.models.autoregressive import decoding
from minigen.models.multimodal.language_model import LanguageModel, shift_right
from minigen.models.vae.gaussian_vae import fixed_variance_normal
from minigen.models.vae.vq_vae import CHANNELS, vq_vae
from minigen.ops.loss import check_indices

TEXT_WEIGHT = 1 / 8  # in the loss
STD = 0.2  # of the initial token and position embeddings: small, so that the blocks soon matter


class PositionEmbedding:
    """Embeddings of T text positions and an image's h·w, row by row: `weight` (T + h·w, D)."""

    def __init__(self, T, size, D, rng=None):
        self.text, self.row, self.column = (nn.Embedding(n, D, rng, STD) for n in (T, *size))

    @property
    def weight(self):
        image = self.row.weight[:, None] + self.column.weight  # (h, w, D)
        return concatenate([self.text.weight, image.reshape(-1, image.shape[2])])


class DALLE:
    """DALL-E for texts of T tokens 0 … V − 1, integers (N, T), padded with 0; and the images of
    `vq_vae`, whose grids have h·w = P tokens 0 … K − 1.

    D, depth, heads: width of the vectors, blocks, and attention heads in each

    The transformer is the network of a `LanguageModel` with V + K tokens; that 0 ends a text is not
    used. Only its parameters are trained: `nn.parameters(model.transformer)`.
    """

    def __init__(self, vq_vae, V=16384, T=256, D=64, depth=2, heads=4, rng=None):
        self.vq_vae, self.V, self.T = vq_vae, V, T
        self.K, self.size = vq_vae.prior.K, vq_vae.prior.size
        length = T + math.prod(self.size)
        self.transformer = LanguageModel(V + self.K, length, D, depth, heads, rng, STD)
        self.transformer.position = PositionEmbedding(T, self.size, D, rng)

    def text(self, t):
        """Texts t, checked, as an array of integers (N, T)."""
        t = check_indices("DALLE: a text", t, self.V)
        if t.ndim != 2 or t.shape[1] != self.T:
            raise ValueError(f"DALLE: texts are {t.shape}, expected (N, {self.T})")
        return t

    def sequence(self, t, z):
        """s of texts t (N, T) and grids z (N, h, w): integers (N, T + P)."""
        t, z = self.text(t), check_indices("DALLE: a grid", z, self.K)
        if z.shape != (len(t), *self.size):
            raise ValueError(f"DALLE: grids are {z.shape}, expected {(len(t), *self.size)}")
        image = self.V + z.reshape(len(z), math.prod(self.size))  # eq: dalle-token-grid
        return np.concatenate([t, image], axis=1)

    def token_nll(self, t, z):
        """−log p(s_i | s_1, …, s_{i−1}) for every i: (N, T + P)."""
        s, V, T = self.sequence(t, z), self.V, self.T
        scores = self.transformer.scores(shift_right(s))  # after s_{i−1}, from s_0 = 0
        scores = swapaxes(scores, 1, 2)  # (N, V + K, T + P)
        text = cross_entropy(scores[:, :V, :T], s[:, :T], reduction="none")
        image = cross_entropy(scores[:, V:, T:], s[:, T:] - V, reduction="none")
        return concatenate([text, image], axis=1)

    def log_prob(self, t, z):
        """log p(t, z) of texts t (N, T) and grids z (N, h, w), in nats: (N,)."""
        return -sum(self.token_nll(t, z), 1)  # eq: dalle-joint-sequence

    def loss(self, t, z):
        """The weighted mean of −log p(s_i | …) over a batch: a scalar."""
        nll = self.token_nll(t, z)
        return TEXT_WEIGHT * mean(nll[:, :self.T]) + (1 - TEXT_WEIGHT) * mean(nll[:, self.T:])

    def step(self, state, w):
        """For decoding.py: the transformer's state and the token w (N,) that follows → the scores
        (N, V + K) of the next image token, −∞ for text tokens, and the new state."""
        scores, state = self.transformer.extend(state, w[:, None])
        return np.where(np.arange(scores.shape[1]) < self.V, -np.inf, scores), state

    def sample(self, t, rng, choose=decoding.sample):
        """A grid sampled for each text t (N, T): integers (N, h, w). `choose`: a rule of
        decoding.py."""
        t = self.text(t)
        state, _ = self.transformer.start(len(t))
        _, state = self.transformer.extend(state, shift_right(t))
        P = math.prod(self.size)
        z = decoding.generate(self.step, state, t[:, -1], P, choose, rng) - self.V
        return z.reshape(len(t), *self.size)

    def generate(self, t, rng, choose=decoding.sample):
        """p(x | z) for a grid z sampled for each text t (N, T): a distribution over images."""
        with no_grad():
            return self.vq_vae.decode(self.sample(t, rng, choose))


def image_tokenizer(shape, K=256, D=16, rng=None):
    """A VQ-VAE as `vq_vae` builds it for real-valued images of this shape, but with norms, and with
    one or two more layers in encoder and decoder."""
    vae, C = vq_vae(shape, K, D, fixed_variance_normal, rng), shape[0]
    vae.encoder, vae.decoder = to_grid(C, D, rng), to_image(D, C, rng)
    return vae


def to_grid(C, D, rng=None):
    """An encoder from images (N, C, H, W) to grids (N, D, H/4, W/4)."""
    a, b = CHANNELS
    return nn.Sequential(
        nn.Conv2d(C, a, 4, stride=2, padding=1, rng=rng), norm(a),             # (N, a, H/2, W/2)
        nn.Conv2d(a, b, 4, stride=2, padding=1, rng=rng), norm(b),             # (N, b, H/4, W/4)
        nn.Conv2d(b, b, 3, padding=1, rng=rng), norm(b),
        nn.Conv2d(b, D, 1, rng=rng))


def to_image(D, C, rng=None):
    """A decoder from grids (N, D, h, w) to images (N, C, 4h, 4w)."""
    a, b = CHANNELS
    return nn.Sequential(
        nn.Conv2d(D, b, 3, padding=1, rng=rng), norm(b),
        nn.Conv2d(b, b, 3, padding=1, rng=rng), norm(b),
        nn.ConvTranspose2d(b, a, 4, stride=2, padding=1, rng=rng), norm(a),
        nn.Conv2d(a, a, 3, padding=1, rng=rng), norm(a),
        nn.ConvTranspose2d(a, C, 4, stride=2, padding=1, rng=rng))


def norm(channels):
    return nn.GroupNormSiLU(8, channels)
