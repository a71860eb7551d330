"""What CLIP's scores tend to, computed for so few images and texts that all can be summed over.

The probabilities p(x, c) are a table (X, C), and so are the scores s, f(x)·g(c) / τ on a slide.

    s*(x, c) = log p(x, c) / (p(x) p(c)) = log p(c | x) − log p(c)      pointwise mutual information

The expected loss of N pairs, whatever N, is minimal where s = s* + a constant. The first term alone
leaves a free constant for each image, the second for each text, and both together a single one.

A slide has f(x)·g(c) = s*. With embeddings of length 1, it is f·g / τ that equals s*, up to that
constant: f·g itself lies in [−1, 1], while s* can take any value. And embeddings of few dimensions
can only approximate s*, which can have any rank.
"""

import numpy as np

from minigen import cross_entropy, sum, swapaxes


def pointwise_mutual_information(p):
    """s* of p (X, C): −∞ where an image and a text never occur together. ValueError for an image or
    a text that never occurs at all, for which s* could be anything."""
    x, c = p.sum(1, keepdims=True), p.sum(0, keepdims=True)
    if not (x.all() and c.all()):
        raise ValueError("pointwise_mutual_information: a row or a column of p is 0: leave it out")
    with np.errstate(divide="ignore"):
        return np.log(p / (x * c))  # eq: clip-optimal-critic


def expected_loss(s, p, N=2):
    """The contrastive loss of the scores s, a tensor (X, C), averaged over all (X C)^N batches of N
    pairs, each weighted by its probability under p (X, C)."""
    pairs = np.indices((p.size,) * N).reshape(N, -1).T  # (batches, N)
    weight = p.ravel()[pairs].prod(1)
    pairs, weight = pairs[weight > 0], weight[weight > 0]  # s may be −∞ where p is 0
    x, c = np.divmod(pairs, p.shape[1])
    scores = s[x[:, :, None], c[:, None, :]]  # (batches, N, N)
    i = np.broadcast_to(np.arange(N), pairs.shape)
    loss = (cross_entropy(swapaxes(scores, 1, 2), i, reduction="none")
            + cross_entropy(scores, i, reduction="none"))
    return sum(loss * weight[:, None]) / N
