"""A ring of normal distributions in the plane: data on which the modes that a GAN misses can be
counted. The ring lies in [−1, 1]², the range of images for a GAN. Points are sampled on demand, so
it is not a Dataset.
"""

import numpy as np

MODES, RADIUS, SIGMA = 8, 0.8, 0.04


def centres(modes=MODES, radius=RADIUS):
    """The means of the modes, at equal angles on a circle: (modes, 2), float32."""
    angle = 2 * np.pi * np.arange(modes) / modes
    return (radius * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.float32)


def sample(n, rng, modes=MODES, radius=RADIUS, sigma=SIGMA):
    """n points, each from a mode chosen uniformly at random, with standard deviation `sigma` in
    both directions: (n, 2), float32."""
    mu = centres(modes, radius)[rng.integers(modes, size=n)]
    return mu + np.float32(sigma) * rng.standard_normal((n, 2), np.float32)
