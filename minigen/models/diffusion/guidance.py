"""Guidance: sample images that show a class c more clearly than the model's own samples of it.

By a separately trained classifier of noisy images (Dhariwal & Nichol 2021):

    ∇ log p(x_t) + ω ∇ log p(c | x_t)      as noise:  ε̃ = ε_θ(x_t) − ω √(1 − ᾱ_t) ∇ log p(c | x_t)

Classifier-free (Ho & Salimans 2021), by one network trained with labels and, because they are
dropped (c = ∅) for 10% of the images, also without:

    ε̃ = (1 + w) ε_θ(x_t, c) − w ε_θ(x_t, ∅)

Both follow from ε = −√(1 − ᾱ_t) ∇ log p(x_t) and
∇ log p(c | x_t) = ∇ log p(x_t | c) − ∇ log p(x_t). They agree for ω = 1 + w: ε̃ is then the noise
in x_t if its density is proportional to p(x_t | c) p(c | x_t)^w. Images that are clearly of class c
become more probable, at the cost of diversity. A guided network is called like any other:
``DDPM(ClassifierFree(net, 2.0, no_label(10)), schedule)``.

A label y is one of 0 … K − 1, and ∅ is K. A network may also be conditioned on something else, with
another ∅, such as codes (unclip.py).
"""

import math

import numpy as np

from minigen import grad, log_softmax, sum, take_along_axis, tensor
from minigen.models.diffusion.ddpm import check_eps
from minigen.tensor import Tensor, readable, track


def drop_labels(y, classes, rng, p=0.1):
    """Labels y (N,), each dropped (∅ = `classes`) with probability p, for training."""
    y = labels(y, classes)
    return np.where(rng.random(len(y)) < p, classes, y)


def labels(y, classes):
    """y as an array of integers (N,). Raises ValueError for anything that is not a label."""
    if isinstance(y, Tensor) and not readable(y.data):
        return y.data
    y = np.asarray(y.numpy() if isinstance(y, Tensor) else y)
    integers = y.ndim == 1 and y.dtype.kind in "iu"
    wrong = y[(y < 0) | (y >= classes)] if integers else [f"{y.dtype} {y.shape}"]
    if len(wrong):
        raise ValueError(f"guidance: labels are integers (N,) from 0 to {classes - 1}, got "
                         f"{wrong[0]}")
    return y


def no_label(classes):
    """The `null` of ClassifierFree for labels y (N,): N times ∅. ValueError for other y."""
    return lambda y: np.full(len(labels(y, classes)), classes)


class ClassifierFree:
    """ε̃ with guidance weight w ≥ 0 from a conditional network: itself a network of x_t, t and what
    that one is given besides. `null` maps each such input to the ∅ that takes its place.

    Raises ValueError for a weight below 0.
    """

    def __init__(self, net, w, null):
        self.net, self.w, self.null = net, check_weight(w), null

    def __call__(self, x_t, t, *given):
        cond = check_eps(self.net(x_t, t, *given), x_t)
        uncond = self.net(x_t, t, *map(self.null, given))
        return (1 + self.w) * cond - self.w * uncond  # eq: classifier-free-guidance


class ClassifierGuided:
    """ε̃ with guidance weight ω ≥ 0 from a network `net` and a `classifier`, both called with x_t
    and t; the classifier returns logits (N, classes), for each image independently. `schedule` is
    the one used in training."""

    def __init__(self, net, classifier, schedule, omega):
        self.net, self.classifier = net, classifier
        self.schedule, self.omega = schedule, check_weight(omega)

    def __call__(self, x_t, t, y):
        b = self.schedule.at(np.sqrt(1 - self.schedule.alpha_bar), t, x_t)
        grad_log_p = classifier_grad(self.classifier, x_t, t, y)
        eps = check_eps(self.net(x_t, t), x_t)
        return eps - self.omega * b * grad_log_p  # eq: classifier-guidance


def classifier_grad(classifier, x_t, t, y):
    """∇ log p(y | x_t), of the shape of x_t, for one label y per image, or one for all. One
    backward pass serves all images, so the classifier must not mix them."""
    with track(True):
        x = tensor(x_t, requires_grad=True)
        logits = classifier(x, t)
        y = labels(y, logits.shape[1])
        check_batch(x, y)
        return grad(sum(take_along_axis(log_softmax(logits, 1), indices=y[:, None], axis=1)), x)


def check_batch(x, y):
    """ValueError unless there is one y for each of the images x, or one for all."""
    if len(y) not in (1, len(x)):
        raise ValueError(f"guidance: {len(x)} images came with {len(y)} labels or texts: expected "
                         "one for each, or one for all")


def check_weight(w):
    if not (w >= 0 and math.isfinite(w)):
        raise ValueError(f"guidance: a weight is a number from 0 (no guidance) upwards, got {w}")
    return float(w)
