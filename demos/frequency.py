"""Diffusion by frequency: noise drowns fine detail first, and a denoiser works on what is left.

    python demos/frequency.py                                  offline, on drawn digits
    python demos/frequency.py --data cifar10 --data-dir DIR    on photographs

What is learned is the smallest denoiser there is: one number g for each t and each |f|, by which
the transform of x_t is multiplied to guess that of x_0. Its optimum is known, Wiener's gain.
"""

import numpy as np

from minigen import data, exp, pictures, sigmoid, sum, tensor, train, optim
from minigen.demo import Demo, cli
from minigen.models.diffusion import frequency
from minigen.models.diffusion.schedule import linear


class Gains:
    """g = σ(a) for `times` values of t and `R` of |f|."""

    def __init__(self, times, R):
        self.a = tensor(np.zeros((times, R), np.float32), requires_grad=True)
