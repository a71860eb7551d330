"""DAMSM, the deep attentional multimodal similarity model (Xu et al. 2018, AttnGAN): how well an
image matches a description, word by word.

An image Q is given as embeddings v_j of its regions, a description D as embeddings e_i of its
words.

    s̄_ij = softmax_i(e_iᵀ v_j)                        which word a region is about
    α_ij = softmax_j(γ₁ s̄_ij),   c_i = Σ_j α_ij v_j   what word i attends to in the image
    R(Q, D) = log (Σ_i exp(γ₂ cos(c_i, e_i)))^{1/γ₂}  how well the best-matching words match

    P(D_i | Q_i) = exp(γ₃ R(Q_i, D_i)) / Σ_{j=1…M} exp(γ₃ R(Q_i, D_j))        in a batch of M pairs
    L₁ʷ = −Σ_i log P(D_i | Q_i),     L₂ʷ = −Σ_i log P(Q_i | D_i)
    L_DAMSM = L₁ʷ + L₂ʷ + L₁ˢ + L₂ˢ                   s: with R = cos(v̄, ē) of whole image and text

The denominator of P(Q_i | D_i) sums over the images of the batch.

Differs from the paper: small networks, trained on the pairs alone; clip.py's text encoder.
"""

import math

from minigen import (
    cross_entropy,
    expand_dims,
    logsumexp,
    mean,
    nn,
    norm,
    softmax,
    sum,
    swapaxes,
    where,
)
from minigen.models.clip.clip import TextEncoder, targets, unit
from minigen.nn.unet import groups

GAMMA_1, GAMMA_2, GAMMA_3 = 5.0, 5.0, 10.0  # the paper's for CUB


def cos(a, b):
    """The cosine of vectors along the last axis."""
    return sum(a * b, -1) / (norm(a, axis=-1) * norm(b, axis=-1))


def match_scores(v, e, mask):
    """R of M images and K descriptions: (M, K).

    v: regions (M, N, d); e: words (K, T, d); mask: which words are not padding, booleans (K, T)
    """
    v, mask = expand_dims(v, 1), mask[:, :, None]  # (M, 1, N, d), (K, T, 1)
    e = where(mask, e, 1.0)  # padding may be embedded as 0, whose cosine is undefined
    s = where(mask, e @ swapaxes(v, -1, -2), -math.inf)  # (M, K, T, N)
    alpha = softmax(GAMMA_1 * softmax(s, axis=2), axis=3)
    c = alpha @ v  # (M, K, T, d)
    scores = where(mask[..., 0], GAMMA_2 * cos(c, e), -math.inf)
    return logsumexp(scores, axis=2) / GAMMA_2  # eq: damsm-match-score


def posterior(R):
    """P(D_j | Q_i) from scores R (M, M): a row for each image, which sums to 1."""
    return softmax(GAMMA_3 * R, axis=1)  # eq: damsm-posterior


def matching_loss(R):
    """L₁ + L₂ of scores R (M, M) of M pairs: a scalar in nats."""
    i = targets(R)
    L_1, L_2 = (cross_entropy(GAMMA_3 * a, i, reduction="sum") for a in (R, R.T))
    return L_1 + L_2  # eq: damsm-word-losses


def damsm(v, e, mask, v_bar, e_bar):
    """L_DAMSM of M images and their descriptions: regions and words as in `match_scores`, and the
    embeddings of whole images v̄ and sentences ē, both (M, d)."""
    words, sentences = match_scores(v, e, mask), unit(v_bar) @ unit(e_bar).T
    return matching_loss(words) + matching_loss(sentences)  # eq: damsm-total


class DAMSM:
    """The networks: from images (N, C, H, W), sides divisible by 4, to embeddings v of (H/4)·(W/4)
    regions and v̄ of the whole, and from words c (N, T) to e and ē, all of d numbers."""

    def __init__(self, C, words, longest, d=64, widths=(32, 64), rng=None):
        K1, K2 = widths
        self.image = nn.Sequential(
            nn.Conv2d(C, K1, 4, 2, 1, rng=rng), nn.GroupNormSiLU(groups(K1), K1),
            nn.Conv2d(K1, K2, 4, 2, 1, rng=rng), nn.GroupNormSiLU(groups(K2), K2),
            nn.Conv2d(K2, K2, 3, 1, 1, rng=rng), nn.GroupNormSiLU(groups(K2), K2))
        self.proj_region, self.proj_image = nn.Linear(K2, d, rng=rng), nn.Linear(K2, d, rng=rng)
        self.text = TextEncoder(words, longest, d, d, rng=rng)

    def embed_image(self, x):
        """v (N, regions, d) and v̄ (N, d)."""
        h = nn.positions(self.image(x))
        return self.proj_region(h), self.proj_image(mean(h, axis=1))

    def embed_text(self, c):
        """e (N, T, d), which words are not padding (N, T), and ē (N, d)."""
        e, mask = self.text.hidden(c)
        return e, mask, self.text.pool(e, mask)

    def loss(self, x, e, mask, e_bar):
        """L_DAMSM of images x and what `embed_text` returns for their descriptions."""
        v, v_bar = self.embed_image(x)
        return damsm(v, e, mask, v_bar, e_bar)
