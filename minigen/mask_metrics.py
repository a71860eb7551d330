"""Metrics of masks: how well two sets of pixels agree."""

import numpy as np


def iou(a, b):
    """Intersection over union of masks a and b, booleans (N, K, H, W), of which one K may be 1: for
    each of the K over all pixels of all N images, (K,); 0 where the union is empty."""
    intersection, union = (m.sum((0, 2, 3)) for m in (a & b, a | b))
    return intersection / np.maximum(union, 1)  # eq: dissection-agreement


def mean_iou(predicted, true, classes):
    """mIoU of the classes of pixels, integers (N, H, W) below `classes`: the mean over the K
    classes that occur.

        1/K Σ_k |ŷ = k ∧ y = k| / |ŷ = k ∨ y = k|

    ValueError for two shapes, and for other numbers.
    """
    if predicted.shape != true.shape or true.ndim != 3:
        raise ValueError(f"mean_iou: classes are {predicted.shape} and {true.shape}, expected "
                         "(N, H, W) twice")
    both = np.stack([predicted, true])
    low, high = both.min(), both.max()
    if low < 0 or high >= classes:
        raise ValueError(f"mean_iou: classes are {low} to {high}, expected 0 to {classes - 1}")
    k = np.arange(classes)[:, None, None]
    a, b = predicted[:, None] == k, true[:, None] == k
    each = iou(a, b)[(a | b).any((0, 2, 3))]
    return float(each.mean())  # eq: mean-iou
