"""Palette (Saharia et al. 2022): one diffusion model restores images that were degraded in four
different ways.

    L = E_{(x_0, y)} E_{ε ~ N(0, I), t} ‖ε − ε_θ(x_t, t; y)‖²        ε_θ = unet(x_t ⊕ y, t)

(⊕: channels side by side.) y is a degraded image of the size of x_0, and the same network, loss and
sampler serve every task, without being told which one it is:

    colourise    y has the brightness of x_0 in all three channels
    inpaint      y = (1 − m) ⊙ x_0 + m ⊙ ε,  ε ~ N(0, I), m = 1 in a rectangular hole
    uncrop       likewise, m = 1 in a half of the image on one of its four sides
    decompress   y was compressed as JPEG, with a quality from 5 to 30 of 100

Where several images fit y, a network trained by ‖x_0 − x̂_0‖² returns their mean, such as brown for
an unknown colour; each sample x ~ p_θ(x | y) is one of them.

Differs from the paper: the loss of inpainting and uncropping counts the known pixels too, and the
network is given t, not ᾱ_t.
"""

import io

import numpy as np
from PIL import Image

from minigen import concatenate
from minigen.data import signed, unsigned
from minigen.models.diffusion.denoiser import Denoiser, denoiser
from minigen.models.diffusion.inpainting import random_masks

BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # of red, green and blue, as in JPEG


def grey(x_0, rng):
    """Images (N, 3, H, W) without their colours."""
    y = np.einsum("c,nchw->nhw", BRIGHTNESS.astype(x_0.dtype), x_0)
    return np.repeat(y[:, None], 3, axis=1)  # eq: palette-tasks


def hide(x_0, m, rng):
    """Images x_0 (N, C, H, W) with noise where the masks m (N, 1, H, W) are 1."""
    return (1 - m) * x_0 + m * rng.standard_normal(x_0.shape, x_0.dtype)  # eq: palette-tasks


def hole(x_0, rng):
    """Images (N, C, H, W), each with a rectangular hole."""
    return hide(x_0, random_masks(len(x_0), x_0.shape[2:], rng), rng)


def crop(x_0, rng):
    """Images (N, C, H, W), each without the half on one side."""
    N, _, H, W = x_0.shape
    row, column = np.arange(H)[:, None] < H // 2, np.arange(W) < W // 2
    halves = np.stack(np.broadcast_arrays(row, ~row, column, ~column)).astype(x_0.dtype)
    return hide(x_0, halves[rng.integers(4, size=N), None], rng)


def jpeg(x_0, rng):
    """Images (N, 3, H, W), each compressed with a quality from 5 to 30."""
    y = np.empty_like(x_0)
    for i, image in enumerate(np.rint(unsigned(x_0) * 255).astype(np.uint8)):
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG",
                                                       quality=int(rng.integers(5, 31)))
        y[i] = signed(np.asarray(Image.open(file)).transpose(2, 0, 1))
    return y


TASKS = {"colourise": grey, "inpaint": hole, "uncrop": crop, "decompress": jpeg}


def degraded(x_0, rng):
    """Images (N, 3, H, W) in [−1, 1], each degraded for a task drawn at random."""
    tasks, y = rng.integers(len(TASKS), size=len(x_0)), np.empty_like(x_0)
    for k, task in enumerate(TASKS.values()):
        y[tasks == k] = task(x_0[tasks == k], rng)
    return y


class Palette(Denoiser):
    """A Denoiser that also sees degraded images y."""

    def __call__(self, x_t, t, y):
        """Images x_t and y (N, C, H, W) and integers t (N,): (N, C, H, W). ValueError if the shapes
        of x_t and y differ."""
        if y.shape != x_t.shape:
            raise ValueError(f"palette: the degraded images are {y.shape}, expected {x_t.shape}, "
                             "the shape of those that are sampled")
        return self.unet(concatenate([x_t, y], axis=1), self.embed(t))  # eq: palette-loss


def palette(shape, widths=(32, 64, 64), D=128, rng=None):
    """A Palette for images of `shape` (3, H, W): see `denoiser`."""
    net = denoiser(shape, widths, D, extra_channels=shape[0], rng=rng)
    return Palette(net.unet, net.embed)
