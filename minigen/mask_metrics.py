"""Metrics of masks: how well two sets of pixels agree."""

import numpy as np


def iou(a, b):
    """Intersection over union of masks a and b, booleans (N, K, H, W), where a 1 broadcasts: for
    each of the K the sum over all pixels of all images, (K,); 0 where the union is empty."""
    intersection, union = (m.sum((0, 2, 3)) for m in (a & b, a | b))
    return intersection / np.maximum(union, 1)


def mean_iou(predicted, true, classes):
    """mIoU of labels, integers (N, H, W) below `classes`, over the classes that occur:

        1/K Σ_k |ŷ = k ∧ y = k| / |ŷ = k ∨ y = k|
    """
    k = np.arange(classes)[:, None, None]
    a, b = predicted[:, None] == k, true[:, None] == k
    occurs = (a | b).any((0, 2, 3))
    return float(iou(a, b)[occurs].mean())
