"""What CLIP is used for: everything by the nearest code, and nothing of it learnt for the purpose.

    x̂ = argmax_x cos(g(c), f(x))        embed and retrieve: of stored images, the one that fits
    argmax_x f(x)·g(c)                  rerank: of images drawn for a text, the one that fits best
    ŷ = argmax_y f(x)·g(prompt(y))      zero-shot: of labels, the one whose description fits

The first (Reed et al. 2016) is the simplest way to make an image for a text. The second is how
DALL-E chose among 512 samples (Ramesh et al. 2021). The third (Radford et al. 2021) needs no image
with a label; a label's code is the mean over several prompts.
"""

import numpy as np

from minigen import no_grad, tensor
from minigen.data import in_order
from minigen.metrics import visual_similarity


def embed(encoder, inputs, batch=500):
    """The codes that an encoder, f or g, gives to images or texts (n, ...): an array (n, d)."""
    with no_grad():
        return np.concatenate([encoder(tensor(part)).numpy()
                               for part in in_order(inputs, batch_size=batch)])


def retrieve(queries, stored, r=1):
    """The r of the `stored` codes (m, d) nearest to each of the `queries` (n, d), nearest first:
    indices (n, r)."""
    similar = visual_similarity(queries, stored)
    return np.argsort(-similar, axis=1, kind="stable")[:, :r]  # eq: embed-and-retrieve


def rerank(f, g):
    """Images drawn for one text, the most fitting first: indices (n,), from the images' codes f
    (n, d) and the text's g (d,)."""
    return np.argsort(-(f @ g), kind="stable")  # eq: dalle-clip-rerank


def label_codes(g):
    """A code of length 1 for each label, (K, d), from those of its prompts (K, P, d)."""
    mean = g.mean(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def zero_shot(f, labels):
    """The label of each image: (n,), from the images' codes f (n, d) and the labels' (K, d)."""
    return (f @ labels.T).argmax(1)  # eq: clip-zero-shot
