"""What CLIP is used for: all of it by nearness of codes, none of it learnt for the purpose.

    x̂ = argmax_x cos(g(c), f(x))        embed and retrieve: of stored images, the one that fits
    argmax_x f(x)·g(c)                  rerank: of images drawn for a text, the one that fits best
    ŷ = argmax_y f(x)·g(prompt(y))      zero-shot: of labels, the one whose description fits

The first (Reed et al. 2016) is the simplest way to make an image for a text. The second is how
DALL-E chose among 512 samples (Ramesh et al. 2021). The third (Radford et al. 2021) needs no image
with a label. Where a label has P prompts, all as frequent, what is said of x is one of them with a
probability proportional to

    Σ_p e^{f(x)·g(prompt_p(y)) / τ}     as e^{f·g / τ} tends to p(c | x) / p(c): optimal_critic.py

Differs from the paper: it averages the codes of the prompts, which suits sentences that say the
same. Where each says more than the label, such as a place, 54% of drawn scenes are then named
rightly, and by the sum 70% (demos/clip.py, 800 steps).
"""

import numpy as np

from minigen import logsumexp, no_grad, tensor
from minigen.data import in_order
from minigen.metrics import visual_similarity


def embed(encoder, *inputs, batch=500):
    """The codes that an encoder, f or g, gives to images or texts (n, ...), or what another network
    gives to both: an array (n, ...)."""
    with no_grad():
        return np.concatenate([encoder(*(tensor(a[rows]) for a in inputs)).numpy()
                               for rows in in_order(np.arange(len(inputs[0])), batch_size=batch)])


def retrieve(queries, stored, r=1):
    """The r of the `stored` codes (m, d) nearest to each of the `queries` (n, d), nearest first:
    indices (n, r). ValueError for an r that is not from 1 to m."""
    if not 1 <= r <= len(stored):
        raise ValueError(f"retrieve: r must lie in 1…{len(stored)}, got {r}")
    similar = visual_similarity(queries, stored)
    return np.argsort(-similar, axis=1, kind="stable")[:, :r]  # eq: embed-and-retrieve


def rerank(f, g):
    """Images drawn for one text, the most fitting first: indices (n,), from the images' codes f
    (n, d) and the text's g (d,)."""
    return np.argsort(-(f @ g), kind="stable")  # eq: dalle-clip-rerank


def label_scores(f, g, tau):
    """How well each label fits each image: the logarithm of the sum above, (n, K), from the images'
    codes f (n, d), the prompts' g (K, P, d) and τ."""
    K, P, d = g.shape
    s = (f @ g.reshape(-1, d).T / tau).reshape(len(f), K, P)
    return logsumexp(tensor(s), axis=2).numpy()


def zero_shot(f, g, tau):
    """The label of each image: (n,). Arguments as for `label_scores`."""
    return label_scores(f, g, tau).argmax(1)  # eq: clip-zero-shot
