"""Thresholding: bringing an estimate of x_0 back into the range of images, at each sampling step.

Guidance with a large weight pushes x̂_0 beyond [−1, 1], where no training image is; the next step
continues from there, and the samples saturate. Two remedies (Saharia et al. 2022, Imagen):

    static     x̂_0 ← clip(x̂_0, −1, 1)
    dynamic    x̂_0 ← clip(x̂_0, −s, s) / s,    s = max(1, the p-th percentile of |x̂_0|)

Static thresholding leaves many pixels at exactly ±1. Dynamic thresholding chooses s for each image
at each step, so that only the fraction 1 − p of its pixels is clipped, and the others are moved
away from ±1.

Each is a `threshold` for the samplers: ``ddpm.sample(n, shape, rng, threshold=dynamic(0.9))``.
"""

from minigen import clip, maximum, minimum, tensor
from minigen.tensor import xp


def static(x_0):
    """x̂_0 (N, ...) clipped to [−1, 1]."""
    return clip(x_0, -1, 1)  # eq: static-thresholding


def dynamic(p=0.995):
    """Dynamic thresholding at the fraction p of each image's values: a function of x̂_0 (N, ...).

    Raises ValueError for a p outside (0, 1].
    """
    if not 0 < p <= 1:
        raise ValueError(f"dynamic thresholding: p is the fraction of values to keep, in (0, 1], "
                         f"got {p}{f': write {p / 100:g}' if 1 < p <= 100 else ''}")

    def threshold(x_0):
        x_0 = tensor(x_0)
        a = xp(x_0.data).abs(x_0.data).reshape(len(x_0), -1)
        s = xp(a).quantile(a, p, axis=1).astype(a.dtype)
        s = tensor(xp(a).maximum(s, 1).reshape(-1, *[1] * (x_0.ndim - 1)))
        return minimum(maximum(x_0, -s), s) / s  # eq: dynamic-thresholding
    return threshold
