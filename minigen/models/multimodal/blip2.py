"""BLIP-2: a small network connects a frozen image encoder and a frozen language model (Li, Li,
Savarese & Hoi 2023).

The Q-Former is two transformers that share their self-attention. One has M learnt vectors, the
queries q, which also cross-attend to the encoder's features Z; the other reads text tokens w. In
each layer

    (q, w) ← (q, w) + attention(LN(q, w)),       with a mask that depends on the loss
    q ← q + attention(LN(q), Z),   q ← q + MLP_q(LN(q)),   w ← w + MLP_w(LN(w))

Stage 1 minimises the sum of three losses, to extract from an image what can be said in words.

    ITC   s_ij = max_m u(q_im)·v(w_j) / τ in CLIP's loss, halved (the mean of its two terms);
          queries and tokens do not see each other
    ITM   −log p(whether x and w match), all positions seeing all; on the true pairs, each image
          with a hard negative text j ~ softmax(s_i), j ≠ i, and each text with such an image
    ITG   −log p(w_t | w_1, …, w_{t−1}, q), averaged over tokens; tokens see the queries and the
          tokens before them, queries see no tokens: they must hold all that the text needs

Stage 2 puts W q before the tokens of the language model, as in llava.py, and minimises its loss.

Differs from the paper: a small CLIP's encoder and a small language model; the queries attend to the
image in every layer, not in every other; the Q-Former starts from new weights, not from BERT's; its
norms come first; a text starts with [CLS] (token V) for ITC and ITM and with [DEC] (0) for ITG.
"""

import numpy as np

from minigen import (
    binary_cross_entropy_with_logits,
    broadcast_to,
    concatenate,
    max,
    mean,
    nn,
    no_grad,
    sum,
    tensor,
)
from minigen.dist import choice
from minigen.models.clip.clip import Temperature, contrastive_loss, unit
from minigen.models.multimodal.language_model import PrefixConditioned, TextModel
from minigen.tensor import to_device_of

STD = 0.2  # of the initial token and position embeddings: small, so that the layers soon matter


class Attention:
    """h + attention(LN(h), z): (N, S, D) and (N, P, D) → (N, S, D). Without z, h attends to itself;
    `mask`: which of its positions attend to which."""

    def __init__(self, D, heads, rng=None):
        self.norm, self.attention = nn.LayerNorm(D), nn.MultiheadAttention(D, heads, rng=rng)

    def __call__(self, h, z=None, mask=None):
        a = self.norm(h)
        z = a if z is None else z
        return h + self.attention(a, z, z, mask)


class MLP:
    """h + MLP(LN(h)): (N, S, D) → (N, S, D)."""

    def __init__(self, D, rng=None):
        self.norm, self.mlp = nn.LayerNorm(D), nn.mlp(D, rng)

    def __call__(self, h):
        return h + self.mlp(self.norm(h))


class QueryBranch:
    """The parts that only the queries use."""

    def __init__(self, P, d, D, M, depth, heads, rng=None):
        self.W, self.position = nn.Linear(d, D, rng=rng), nn.Embedding(P, D, rng, STD)
        self.queries = nn.Embedding(M, D, rng)
        self.cross_attentions = [Attention(D, heads, rng) for _ in range(depth)]
        self.mlps, self.norm = [MLP(D, rng) for _ in range(depth)], nn.LayerNorm(D)


class TextBranch:
    """The parts that only text tokens use: [CLS] or [DEC], then T tokens below V."""

    def __init__(self, V, T, D, depth, rng=None):
        self.embed, self.position = (nn.Embedding(n + 1, D, rng, STD) for n in (V, T))
        self.mlps, self.norm = [MLP(D, rng) for _ in range(depth)], nn.LayerNorm(D)
        self.out = nn.Linear(D, V, rng=rng)


class QFormer(TextModel):
    """The Q-Former for images given as P features of d numbers, (N, P, d), and texts of at most T
    tokens 1 … V − 1: integers (N, T), 0 from their end on. As `TextModel`, given Z, it is ITG.

    M: queries; D, depth, heads: width of the vectors, layers, and attention heads in each; E: width
    of the embeddings that ITC compares
    """

    def __init__(self, V, T, P, d, M=8, D=64, depth=2, heads=4, E=32, rng=None):
        self.V, self.T, self.M = V, T, M
        self.shared = [Attention(D, heads, rng) for _ in range(depth)]
        self.query_branch = QueryBranch(P, d, D, M, depth, heads, rng)
        self.text_branch = TextBranch(V, T, D, depth, rng)
        self.u, self.v, self.tau = nn.Linear(D, E, rng=rng), nn.Linear(D, E, rng=rng), Temperature()
        self.itm_head = nn.Linear(D, 1, rng=rng)

    def hidden(self, Z, w, mask):
        """Queries and tokens w, integers (N, t), after all layers: (N, M, D), (N, t, D). `mask`:
        which of the M + t positions sees which, booleans that broadcast to (N, M + t, M + t)."""
        query, text, M = self.query_branch, self.text_branch, self.M
        z = query.W(Z) + query.position.weight
        q = broadcast_to(query.queries.weight, (len(z), *query.queries.weight.shape))
        w = text.embed(w) + text.position.weight[:w.shape[1]]
        mask = to_device_of(mask[:, None], z.data)
        for attend, cross, mlp_q, mlp_w in zip(self.shared, query.cross_attentions, query.mlps,
                                               text.mlps, strict=True):
            h = attend(concatenate([q, w], axis=1), mask=mask)
            q, w = mlp_q(cross(h[:, :M], z)), mlp_w(h[:, M:])
        return query.norm(q), text.norm(w)

    def itm_mask(self, w):
        """ITM's mask: all positions see all but padding: (N, 1, M + t)."""
        return np.pad(w != 0, ((0, 0), (self.M, 0)), constant_values=True)[:, None]

    def itc_mask(self, w):
        """ITC's mask: queries see queries, and tokens see tokens: (N, M + t, M + t)."""
        query = np.arange(self.M + w.shape[1]) < self.M
        return self.itm_mask(w) & (query[:, None] == query)

    def itg_mask(self, w):
        """ITG's mask: all see the queries, and tokens see no later ones: (1, M + t, M + t)."""
        S = self.M + w.shape[1]
        return (np.tri(S, dtype=bool) | (np.arange(S) < self.M))[None]

    def queries(self, Z):
        """q of features without a text: (N, M, D). The only token is [DEC], unseen by q."""
        w = np.zeros((len(Z), 1), int)
        return self.hidden(Z, w, self.itg_mask(w))[0]

    def scores(self, w, Z):
        """As in `TextModel`; the first token, 0, is [DEC]."""
        return self.text_branch.out(self.hidden(Z, w, self.itg_mask(w))[1])

    def with_cls(self, c):
        """Texts c after a [CLS] token: (N, 1 + T)."""
        return np.pad(c, ((0, 0), (1, 0)), constant_values=self.V)

    def itc_scores(self, Z, c):
        """ITC's s, a row for each of N images and a column for each of their texts: (N, N)."""
        w = self.with_cls(c)
        q, h = self.hidden(Z, w, self.itc_mask(w))
        N, M, D = q.shape
        u, v = unit(self.u(q.reshape(N * M, D))), unit(self.v(h[:, 0]))
        return max((u @ v.T).reshape(N, M, N), axis=1) / self.tau()

    def itm_logits(self, Z, c):
        """The logit of whether image and text match, averaged over the queries: (N,)."""
        w = self.with_cls(c)
        return mean(self.itm_head(self.hidden(Z, w, self.itm_mask(w))[0]), (1, 2))

    def loss_1(self, Z, c, rng):
        """Stage 1's loss on the features of N ≥ 2 images and their texts, and its parts."""
        s = self.itc_scores(Z, c)
        text, image = hard_negatives(s.numpy(), rng), hard_negatives(s.numpy().T, rng)
        logits = self.itm_logits(concatenate([Z, Z, Z[image]]), np.concatenate([c, c[text], c]))
        target = to_device_of(np.repeat([1, 0, 0], len(c)).astype(logits.dtype), logits.data)
        n = np.pad(c != 0, ((0, 0), (1, 0)), constant_values=True)[:, :self.T].sum()  # tokens
        parts = {"itc": contrastive_loss(s) / 2, "itg": sum(self.token_nll(c, Z)) / n,
                 "itm": binary_cross_entropy_with_logits(logits, target)}
        return parts["itc"] + parts["itm"] + parts["itg"], parts


def hard_negatives(s, rng):
    """For each row i of scores s (N, N) a hard negative j ≠ i, sampled with p ∝ e^{s_ij}: (N,)."""
    s = np.where(np.eye(len(s), dtype=bool), -np.inf, s)
    return choice(np.exp(s - s.max(1, keepdims=True)), rng)


class BLIP2(PrefixConditioned):
    """A QFormer `q_former` between an `encoder` and a language model `lm`."""

    def __init__(self, encoder, q_former, lm, rng=None):
        self.encoder, self.q_former, self.lm = encoder, q_former, lm
        self.W = nn.Linear(q_former.itm_head.weight.shape[1], lm.D, rng=rng)

    def trained(self, stage):
        """The parameters that stage 1 or 2 trains, by name. Stage 2 leaves out the text branch."""
        if stage not in (1, 2):
            raise ValueError(f"BLIP2.trained: stage must be 1 or 2, got {stage}")
        q = self.q_former
        return nn.parameters(q if stage == 1 else {
            "shared": q.shared, "query_branch": q.query_branch, "W": self.W})

    def features(self, x):
        """Z of images x (N, C, H, W): (N, P, d), untracked."""
        with no_grad():
            return self.encoder.features(tensor(x))

    def prefix(self, x):
        """W q of images x (N, C, H, W): (N, M, D)."""
        return self.W(self.q_former.queries(self.features(x)))
