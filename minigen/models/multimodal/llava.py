"""LLaVA: a language model that is shown images (Liu, Li, Wu & Lee 2023).

    Z_image = g(x)                    the features of a frozen image encoder
    H = W Z_image                     as many vectors, a prefix to the tokens
    loss: −Σ_t log p_θ(w_t | w_1, …, w_{t−1}, H)

A language model trained only on text and an image encoder are connected in two stages:

    1.  only W is trained: images are mapped to what the language model can read
    2.  W and θ: the language model learns to read images

Differs from the paper: the encoder is not CLIP's, but a small convolutional network trained to
predict which words occur in an image's caption; both stages train on captions, where the paper's
second stage has conversations.
"""

import numpy as np

from minigen import (
    binary_cross_entropy_with_logits,
    concatenate,
    max,
    max_pool2d,
    nn,
    no_grad,
    tensor,
    transpose,
)
from minigen.models.multimodal.language_model import LanguageModel, PrefixConditioned
from minigen.ops.loss import check_indices
from minigen.ops.math import check_floats
from minigen.tensor import to_device_of


class Encoder:
    """Which of V words fit images (N, 3, H, W) in [−1, 1]: logits (N, V). Each of the P patches of
    8×8 pixels has a score for each word; the maximum over the patches is the logit."""

    def __init__(self, V, widths=(32, 64, 64), rng=None):
        a, b, d = widths
        conv = lambda C, K: (nn.Conv2d(C, K, 3, padding=1, rng=rng), nn.GroupNormSiLU(8, K))
        self.body = nn.Sequential(*conv(3, a), halve, *conv(a, b), halve, *conv(b, d))
        self.head = nn.Linear(d, V, rng=rng)

    def features(self, x):
        """Z_image: for each patch, row by row, its 2×2 vectors concatenated: (N, P, 4d)."""
        z = self.body(x)
        N, d, H, W = z.shape
        z = transpose(z.reshape(N, d, H // 2, 2, W // 2, 2), (0, 2, 4, 1, 3, 5))
        return z.reshape(N, H * W // 4, 4 * d)

    def scores(self, x):
        """The scores of the words in each patch, from the maximum of each channel over its 2×2
        vectors: (N, P, V)."""
        return self.head(nn.positions(halve(self.body(x))))

    def __call__(self, x):
        return max(self.scores(x), axis=1)

    def detects(self, x, w):
        """Whether an image has a patch that all words of an object fit, for objects w, integers
        (K, n): booleans (N, K)."""
        with no_grad():
            s = self.scores(tensor(x)).numpy()
        return s[:, :, w].min(-1).max(1) > 0

    def loss(self, x, w):
        """−log p(which words occur | x) for images and their captions, integers (N, T), averaged
        over images and words, of which 0 ends a caption."""
        s = self(x)
        if len(w) != len(s):
            raise ValueError(f"Encoder.loss: {len(s)} images came with {len(w)} captions")
        target = np.zeros(s.shape, s.dtype)
        np.put_along_axis(target, check_indices("Encoder.loss", w, s.shape[1]), 1, axis=1)
        return binary_cross_entropy_with_logits(s, to_device_of(target, s.data))


def halve(h):
    return max_pool2d(h, 2)


class LLaVA(PrefixConditioned):
    """A language model `lm` and an `encoder` whose features are (N, P, d), connected by W.

    W also gets the index of each feature's patch, as a one-hot code; CLIP's features contain it.
    """

    def __init__(self, encoder, lm, P, d, rng=None):
        self.encoder, self.lm = encoder, lm
        self.W = nn.Linear(d + P, lm.D, bias=False, rng=rng)

    def trained(self, stage):
        """The parameters that stage 1 or 2 trains, by name."""
        if stage not in (1, 2):
            raise ValueError(f"LLaVA.trained: stage must be 1 or 2, got {stage}")
        parts = {"W": self.W, "lm": self.lm} if stage == 2 else {"W": self.W}  # eq: llava-two-stage
        return nn.parameters(parts)

    def prefix(self, x):
        """H of images x (N, 3, H, W) in [−1, 1]: (N, P, D). TypeError unless x holds floats."""
        x = tensor(x)
        check_floats("LLaVA", x)
        with no_grad():
            Z = self.encoder.features(x)
        N, P, _ = Z.shape
        position = to_device_of(np.broadcast_to(np.eye(P, dtype=Z.dtype), (N, P, P)), Z.data)
        Z = concatenate([Z, position], axis=2)
        return self.W(Z)  # eq: llava-two-stage


def llava(shape, V, T, D=64, rng=None):
    """A LLaVA for images of `shape` (3, H, W), H and W divisible by 8, and texts of at most T
    tokens 1 … V − 1; D: see `LanguageModel`."""
    C, H, W = shape
    if C != 3 or H % 8 or W % 8:
        raise ValueError(f"llava: images are {C}×{H}×{W}, expected 3 channels, and a height and a "
                         "width that 8 divides")
    encoder = Encoder(V, rng=rng)
    d = 4 * encoder.head.weight.shape[1]
    return LLaVA(encoder, LanguageModel(V, T, D, rng=rng), H // 8 * (W // 8), d, rng)
