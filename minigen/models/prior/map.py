"""Image restoration as maximum a posteriori (MAP) estimation, exact for a finite list of images.

    x̂ = x + ε, ε ~ N(0, σ²)                                   what is given
    x* = argmax_x p(x | x̂) = argmax_x p(x̂ | x) p(x)           the most probable image
       = argmin_x E(x, x̂) + R(x)                              E = −log p(x̂ | x), R = −log p(x)

Images are float arrays (..., C, H, W); the list of them is (M, C, H, W).
"""

import numpy as np

from minigen.dist import Normal


def degrade(x, sigma, rng):
    """x̂ = x + ε with ε ~ N(0, σ²), of x's dtype. TypeError for images that are not floats."""
    if x.dtype.kind != "f":
        raise TypeError(f"degrade: images are {x.dtype}, which holds no noise: expected floats")
    return x + float(sigma) * rng.standard_normal(x.shape).astype(x.dtype)  # eq: dip-degradation


def log_likelihood(x_hat, x, sigma):
    """log p(x̂ | x) = log N(x̂; x, σ²), summed over pixels: for images x (..., C, H, W), (...,)."""
    log_sigma2 = np.full_like(x, 2 * np.log(sigma))
    return Normal(x, log_sigma2).log_prob(x_hat).numpy().sum((-3, -2, -1))


def distance(x, x_hat):
    """‖x − x̂‖², minimal for the same x as −log N(x̂; x, σ²): (...,)."""
    return ((x - x_hat) ** 2).sum((-3, -2, -1))  # eq: dip-gaussian-data-term


def flat(images):
    """log p(x) if all images are equally probable: (M,). If x̂ is among them, x* is x̂ itself."""
    return np.full(len(images), -np.log(len(images)))  # eq: dip-flat-prior


def map_estimate(images, log_likelihoods, log_prior):
    """x* among a list of images, given log p(x̂ | x) and log p(x) of each, (M,)."""
    return images[np.argmax(log_likelihoods + log_prior)]  # eq: dip-map


def neg_log(log_p):
    """−log p: the less probable, the higher."""
    return -log_p  # eq: dip-neg-log


def min_energy(images, E, R):
    """x* among a list of images, given the energies E(x, x̂) and R(x) of each, (M,)."""
    return images[np.argmin(E + R)]  # eq: dip-energy
