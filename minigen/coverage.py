"""How much of the data a generator covers: which modes it has, and how evenly.

A generator that has lost modes can still produce perfect samples, and judging samples one by one
does not reveal it. So samples are counted per mode: points by the nearest known centre, images by a
classifier.
"""

import numpy as np


def nearest_modes(x, centres, max_distance):
    """The mode of each point x (N, d): the index of the nearest of the centres (M, d), or −1 if
    that is farther away than `max_distance`. Integers (N,).

    ValueError if points and centres have different dimensions.
    """
    x, centres = np.asarray(x), np.asarray(centres)
    if x.ndim != 2 or centres.ndim != 2 or x.shape[1] != centres.shape[1]:
        raise ValueError(f"nearest_modes: points are {x.shape} and centres {centres.shape}, "
                         "expected (N, d) and (M, d)")
    distance = np.linalg.norm(x[:, None] - centres, axis=2)
    return np.where(distance.min(1) <= max_distance, distance.argmin(1), -1)


def likeliest_classes(probabilities, threshold=0.5):
    """The mode of each image, given a classifier's probabilities (N, M): the likeliest class, or −1
    where no class has a probability of at least `threshold`. Integers (N,).

    ValueError unless the rows are probabilities.
    """
    p = np.asarray(probabilities)
    if p.ndim != 2 or (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise ValueError(f"likeliest_classes: expected (N, M) probabilities whose rows sum to 1, "
                         f"got shape {p.shape}")
    return np.where(p.max(1) >= threshold, p.argmax(1), -1)


def coverage(modes, M, share=0.01):
    """Statistics of samples, given their modes: integers (N,), 0 ≤ mode < M, or −1 for a sample
    that belongs to no mode.

        modes_covered    modes that receive at least `share` of all samples
        high_quality     the share of samples that belong to some mode
        least_share      the share of the rarest mode
        kl_to_uniform    KL(shares of the modes ‖ uniform) in nats: 0 if all are equal, log M if
                         only one mode occurs, or none

    ValueError for a mode out of range and for no samples.
    """
    modes = np.asarray(modes)
    if not modes.size or modes.min() < -1 or modes.max() >= M:
        raise ValueError(f"coverage: expected integers from −1 to {M - 1}, got "
                         + (f"{modes.min()} to {modes.max()}" if modes.size else "none"))
    shares = np.bincount(modes[modes >= 0], minlength=M) / modes.size
    high_quality = shares.sum()
    p = shares[shares > 0] / high_quality if high_quality else np.ones(1)
    return {"modes_covered": int((shares >= share).sum()), "high_quality": float(high_quality),
            "least_share": float(shares.min()), "kl_to_uniform": float((p * np.log(p * M)).sum())}
