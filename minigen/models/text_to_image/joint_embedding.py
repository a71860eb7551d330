"""Joint embedding of images and texts by classes (Reed et al. 2016): embeddings of both, such that
either alone identifies the class.

    f_v(v) = argmax_y E_{t ~ T(y)}[φ_v(v)ᵀ φ_t(t)]    T(y): the texts of class y
    f_t(t) = argmax_y E_{v ~ V(y)}[φ_v(v)ᵀ φ_t(t)]    V(y): the images of class y
    1/N Σₙ [Δ(yₙ, f_v(vₙ)) + Δ(yₙ, f_t(tₙ))]           Δ: 1 for a mistake, 0 otherwise

The gradient of Δ is zero. What is minimised is an upper bound on it, F(y) being the expectation:

    Δ(yₙ, argmax_y F(y)) ≤ Σ_{y≠yₙ} max(0, 1 + F(y) − F(yₙ))

Every class whose score comes too close contributes to the gradient. A tighter bound has only the
largest term in place of the sum; on drawn scenes in 82 classes, it made all embeddings alike and
stayed at 1.

Embeddings are (N, d), classes integers (N,); T(y) and V(y) are the given examples of class y.

Differs from the paper: in the bound, other classes compete with the mean over the true class,
F(yₙ), not with the sample's own text or image alone; so it is a bound on the loss above.
"""

import numpy as np

from minigen import mean, one_hot, relu, sum, take_along_axis
from minigen.ops.loss import check_indices


def compatibility(codes, others, y, classes):
    """F: the mean inner product of each of `codes` (N, d) with the `others` (M, d) of each class,
    y (M,) being the classes of the others: (N, classes).

    Raises ValueError if a class has none.
    """
    member = np.eye(classes, dtype=codes.dtype)[check_indices("joint embedding", y, classes)]
    counts = member.sum(0)
    if not counts.all():
        raise ValueError(f"joint embedding: class {int(counts.argmin())} of {classes} has no "
                         "example to compare with")
    return codes @ (others.T @ (member / counts))


def image_class(v, t, y, classes):
    """f_v of image embeddings v (N, d), given text embeddings t (M, d) of classes y (M,): (N,)."""
    return compatibility(v, t, y, classes).argmax(1)  # eq: sje-image-classifier


def text_class(t, v, y, classes):
    """f_t of text embeddings t (N, d), given image embeddings v (M, d) of classes y (M,): (N,)."""
    return compatibility(t, v, y, classes).argmax(1)  # eq: sje-text-classifier


def zero_one_loss(y, f_v, f_t):
    """How many of the two predictions for a pair are wrong, from 0 to 2, on average."""
    return (f_v != y).mean() + (f_t != y).mean()  # eq: sje-loss


def hinge(F, y):
    """The bound on Δ for scores F (N, classes) and classes y (N,): a differentiable scalar."""
    wrong = 1 - one_hot(y, F.shape[1], F.dtype)
    true = take_along_axis(F, np.asarray(y)[:, None], 1)
    return mean(sum(wrong * relu(1 + F - true), 1))


class JointEmbedding:
    """φ_v and φ_t: `image` embeds images, `text` embeds words, both as (N, d)."""

    def __init__(self, image, text):
        self.image, self.text = image, text

    def loss(self, x, c, y):
        """The bound on the slide's loss for a minibatch of images x, their texts c, and the classes
        y (N,) of both; only the classes that occur in it compete: a scalar."""
        v, t, (classes, y) = self.image(x), self.text(c), np.unique(y, return_inverse=True)
        return (hinge(compatibility(v, t, y, len(classes)), y)
                + hinge(compatibility(t, v, y, len(classes)), y))
