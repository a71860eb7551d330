"""What CLIP's scores tend to, where images and texts are so few that all can be summed.

p is a table (X, C): p(x, c). So are the scores s, which a slide calls f(x)·g(c) / τ.

    s*(x, c) = log p(x, c) / (p(x) p(c)) = log p(c | x) − log p(c)      pointwise mutual information

The expected loss of N pairs, whatever N, is least where s = s* + a constant. Its first term alone
leaves a constant free for each image, its second for each text, both leave one for all.

A slide has f(x)·g(c) = s*. With codes of length 1 it is f·g / τ, up to that constant: f·g itself
lies in [−1, 1], s* anywhere. And codes of few numbers come only near: s* can have any rank.
"""

import numpy as np

from minigen import cross_entropy, sum, swapaxes


def pointwise_mutual_information(p):
    """s* of p (X, C): −∞ where two never meet. ValueError for an image or a text that never occurs,
    for which s* could be anything."""
    x, c = p.sum(1, keepdims=True), p.sum(0, keepdims=True)
    if not (x.all() and c.all()):
        raise ValueError("pointwise_mutual_information: a row or a column of p is 0: leave it out")
    with np.errstate(divide="ignore"):
        return np.log(p / (x * c))  # eq: clip-optimal-critic


def expected_loss(s, p, N=2):
    """The contrastive loss of the scores s, a tensor (X, C), averaged over all (X C)^N batches of N
    pairs, each as often as it is drawn from p (X, C)."""
    pairs = np.indices((p.size,) * N).reshape(N, -1).T  # (batches, N)
    chance = p.ravel()[pairs].prod(1)
    pairs, chance = pairs[chance > 0], chance[chance > 0]  # s may be −∞ where two never meet
    x, c = np.divmod(pairs, p.shape[1])
    scores = s[x[:, :, None], c[:, None, :]]  # (batches, N, N)
    i = np.broadcast_to(np.arange(N), pairs.shape)
    loss = (cross_entropy(swapaxes(scores, 1, 2), i, reduction="none")
            + cross_entropy(scores, i, reduction="none"))
    return sum(loss * chance[:, None]) / N
