"""What CLIP is used for: everything by similarity of embeddings, without any further training.

    x̂ = argmax_x cos(g(c), f(x))        retrieve: of stored images, the best match
    argmax_x f(x)·g(c)                  rerank: of images generated for a text, the best match
    ŷ = argmax_y f(x)·g(prompt(y))      zero-shot: of labels, the one whose description matches best

The first (Reed et al. 2016) is the simplest way to get an image for a text. The second is how
DALL-E chose among 512 samples (Ramesh et al. 2021). The third (Radford et al. 2021) needs no
labelled images. If a label y has P prompts, all equally frequent, the probability that the text of
x is one of them is proportional to

    Σ_p e^{f(x)·g(prompt_p(y)) / τ}     as e^{f·g / τ} tends to p(c | x) / p(c): optimal_critic.py

Differs from the paper: it averages the embeddings of the prompts, which suits sentences that mean
the same. Where each says more than the label, such as a position, the average classifies 54% of
drawn scenes correctly, and the sum 70% (demos/clip.py, 800 steps).
"""

import numpy as np

from minigen import logsumexp, tensor
from minigen.metrics import visual_similarity


def retrieve(queries, stored, r=1):
    """The r `stored` embeddings (m, d) most similar to each of the `queries` (n, d), the most
    similar first: indices (n, r). ValueError for an r that is not from 1 to m."""
    if not 1 <= r <= len(stored):
        raise ValueError(f"retrieve: r must lie in 1…{len(stored)}, got {r}")
    similar = visual_similarity(queries, stored)
    return np.argsort(-similar, axis=1, kind="stable")[:, :r]  # eq: embed-and-retrieve


def rerank(f, g):
    """Images generated for one text, the best match first: indices (n,), from the embeddings f
    (n, d) of the images and g (d,) of the text."""
    return np.argsort(-(f @ g), kind="stable")  # eq: dalle-clip-rerank


def label_scores(f, g, tau):
    """How well each label matches each image: the logarithm of the sum above, (n, K), from the
    embeddings f (n, d) of the images and g (K, P, d) of the prompts, and τ."""
    K, P, d = g.shape
    s = (f @ g.reshape(-1, d).T / tau).reshape(len(f), K, P)
    return logsumexp(tensor(s), axis=2).numpy()


def zero_shot(f, g, tau):
    """The predicted label of each image: (n,). Arguments as for `label_scores`."""
    return label_scores(f, g, tau).argmax(1)  # eq: clip-zero-shot
