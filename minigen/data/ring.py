"""A ring of normal distributions in the plane: the data on which a GAN's missing modes can be
counted. It lies in [−1, 1]², as images do for a GAN. It is drawn on demand, so it is no Dataset.
"""

import numpy as np

MODES, RADIUS, SIGMA = 8, 0.8, 0.04


def centres(modes=MODES, radius=RADIUS):
    """The means of the modes, at equal angles on a circle: (modes, 2), float32."""
    angle = 2 * np.pi * np.arange(modes) / modes
    return (radius * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.float32)


def sample(n, rng, modes=MODES, radius=RADIUS, sigma=SIGMA):
    """n points, each of a mode drawn at random, with standard deviation `sigma` in both directions:
    (n, 2), float32."""
    mu = centres(modes, radius)[rng.integers(modes, size=n)]
    return mu + np.float32(sigma) * rng.standard_normal((n, 2), np.float32)
