"""CLIP: an image encoder and a text encoder learn which images and texts match (Radford et al.
2021).

    f(x), g(c)                          embeddings of an image and a text, both of length 1
    s_ij = f(x_i)·g(c_j) / τ            how well image i matches text j, for N pairs (x_i, c_i)

    loss = mean_i [−log (e^{s_ii} / Σ_k e^{s_ik}) − log (e^{s_ii} / Σ_k e^{s_ki})]

The first term asks which of the batch's texts belongs to an image, the second which image belongs
to a text. Gradient descent raises s_ii and lowers s_ij, j ≠ i: max T_i·I_i, min T_i·I_j.

If a text occurs m times in a batch, its m columns are equal, and both terms are at least log m
there: nothing can tell which of the m is the right one. That shifts the loss, but not what is
learnt. Given x and N texts, one sampled from p(c | x) and the others from p(c), the probability
that the k-th is the one from p(c | x) is proportional to p(c_k | x) / p(c_k), whether texts are
equal or not, and e^s tends to this ratio (optimal_critic.py).

Differs from the paper: the two terms are added, as on the slide, not averaged; small networks; a
text's embedding is made from the mean of its words, not from the last one; 1/τ has no upper limit
of 100.
"""

import math
from itertools import pairwise

import numpy as np

from minigen import cross_entropy, exp, nn, norm, sum
from minigen.nn.unet import groups
from minigen.tensor import as_array, to_device_of


class CLIP:
    """`image` maps images, with whatever else `f` is given, to (N, d), `text` words to (N, d)."""

    def __init__(self, image, text):
        self.image, self.text, self.tau = image, text, Temperature()

    def f(self, x, *given):
        """The embeddings of images x (N, C, H, W): (N, d), of length 1."""
        return unit(self.image(x, *given))

    def g(self, c):
        """The embeddings of texts c, integers (N, L): (N, d), of length 1."""
        return unit(self.text(c))

    def logits(self, x, c, *given):
        """s, a row for each image and a column for each text."""
        return self.f(x, *given) @ self.g(c).T / self.tau()

    def loss(self, x, c, *given):
        """The loss of N pairs, and what to report with it: the means of f·g over matching pairs,
        `own`, and over all other pairs, `others`; and τ."""
        s, tau = self.logits(x, c, *given), self.tau()
        loss = contrastive_loss(s)
        own, others = agreement((s * tau).detach())
        return loss, {"own": own, "others": others, "tau": tau}


class Temperature(nn.Parameter):
    """τ as the exponential of a learnt number, so that it is positive; initially 0.07."""

    def __init__(self):
        super().__init__(value=math.log(0.07))

    def __call__(self):
        return exp(self.weight)


def unit(codes):
    """Embeddings (N, d) scaled to length 1."""
    return codes / norm(codes, axis=1, keepdims=True)


def targets(s):
    """The index of each image's text, and of each text's image, in scores s (N, N): 0 … N − 1.

    Raises ValueError for another shape, and for a single pair, which has nothing to compare with.
    """
    if s.ndim != 2 or s.shape[0] != s.shape[1] or len(s) < 2:
        raise ValueError(f"clip: scores of images and texts are {s.shape}, expected (N, N), one "
                         "text for each image, N at least 2")
    return np.arange(len(s))


def contrastive_loss(s):
    """The loss for scores s (N, N) of N images and their texts in the same order."""
    i = targets(s)
    return cross_entropy(s, i) + cross_entropy(s.T, i)  # eq: clip-contrastive


def agreement(products):
    """The means of T_i·I_i and of T_i·I_j, j ≠ i, of products (N, N)."""
    N = len(products)
    own = sum(products * to_device_of(np.eye(N, dtype=products.dtype), products.data))
    return own / N, (sum(products) - own) / (N * N - N)  # eq: clip-pairwise-goal


class ImageEncoder:
    """A convolution, then one of stride 2 for each further width, with norms and SiLU between them,
    and a linear layer: images of `shape` (C, H, W) → (N, d)."""

    def __init__(self, shape, d, widths=(16, 32, 64, 128), rng=None):
        C, H, W = shape
        halvings, layers = len(widths) - 1, [nn.Conv2d(C, widths[0], 3, padding=1, rng=rng)]
        for a, b in pairwise(widths):
            layers += [nn.GroupNormSiLU(groups(a), a), nn.Conv2d(a, b, 4, 2, 1, rng=rng)]
        last = nn.GroupNormSiLU(groups(widths[-1]), widths[-1])
        self.convs = nn.Sequential(*layers, last)
        size = widths[-1] * (H >> halvings) * (W >> halvings)
        self.proj = nn.Linear(size, d, bias=False, rng=rng)

    def __call__(self, x):
        return self.proj(self.convs(x).flatten(1))


class TextEncoder:
    """A small transformer: words (N, L), integers below `words`, padded with 0, L ≤ `longest` →
    (N, d). Words attend to one another, and are then averaged."""

    def __init__(self, words, longest, d, D=64, layers=2, heads=4, rng=None):
        self.embed, self.position = nn.Embedding(words, D, rng), nn.Embedding(longest, D, rng)
        self.blocks = [nn.TransformerBlock(D, heads, rng) for _ in range(layers)]
        self.norm, self.proj = nn.LayerNorm(D), nn.Linear(D, d, bias=False, rng=rng)

    def hidden(self, c):
        """The last hidden states of words c, not yet averaged: (N, L, D), and which words are not
        padding, booleans (N, L). Raises ValueError for another shape and for a text without words.
        """
        if c.ndim != 2 or not 0 < c.shape[1] <= self.position.weight.shape[0]:
            raise ValueError(f"clip: texts are {c.shape}, expected (N, L), L at most "
                             f"{self.position.weight.shape[0]}")
        mask = as_array(c) != 0
        if not mask.any(1).all():
            raise ValueError("clip: there is a text without words: all of its numbers are 0")
        h = self.embed(c) + self.position.weight[:c.shape[1]]
        for block in self.blocks:
            h = block(h, mask[:, None, None])
        return self.norm(h), mask

    def __call__(self, c):
        return self.pool(*self.hidden(c))

    def pool(self, h, mask):
        """The embeddings (N, d) of texts, from what `hidden` returns for them."""
        weight = mask / mask.sum(1, keepdims=True)
        return self.proj(sum(h * weight.astype(h.dtype)[..., None], 1))
