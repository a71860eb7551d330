"""Why the restored image of least error does not look real (Blau & Michaeli 2018).

    x̂(y) = E[x | y] = argmin_f E‖x − f(y)‖²         the mean of all images x that y may come from
    E‖x − x̃‖² = 2 E‖x − x̂(y)‖²,  x̃ ~ p(x | y)       the error of a sample

Samples x̃ have the distribution of real images, so nothing can tell them from these. Given y, x and
x̃ are independent with the same distribution, and the mean of ‖x − x̃‖² is twice their variance,
which is the least error. A factor of two is 10 log₁₀ 2 = 3 dB of PSNR: looking real need not cost
more. x̂(y) has the higher PSNR, but the mean of a thin stroke and of the same stroke one pixel to
the right is a wide, faint stroke.

Here there are K images, few enough to sum over all of them: x (K, d), their probabilities p (K,),
and the small image y (K, m) that each becomes. Arrays are NumPy's.
"""

import numpy as np


def posterior(p, y):
    """p(x = x_k | y = y_i), 0 unless y_k = y_i: (K, K), a row for each i."""
    alike = (y[:, None] == y).all(2)
    return alike * p / (alike @ p)[:, None]


def mean_image(p, x, y):
    """x̂(y_i) for each i: (K, d)."""
    return posterior(p, y) @ x  # eq: restoration-mean


def least_error(p, x, y):
    """E‖x − x̂(y)‖²."""
    return p @ np.square(x - mean_image(p, x, y)).sum(1)


def sample_error(p, x, y):
    """E‖x − x̃‖² for samples x̃ ~ p(x | y)."""
    squares = np.square(x[:, None] - x).sum(2)  # ‖x_i − x_k‖²
    return np.sum(p[:, None] * posterior(p, y) * squares)  # eq: restoration-sample
