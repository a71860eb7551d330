"""Palette (Saharia et al. 2022): one diffusion model restores images that were degraded in four
different ways.

    L = E_{(x_0, y, m)} E_{ε ~ N(0, I), t} ‖m ⊙ (ε − ε_θ(x_t, t; y))‖²        ε_θ = unet(x_t ⊕ y, t)

(⊕: channels side by side.) y is the degraded image, of the size of x_0, and m is 1 where pixels are
to be generated. The same network, loss and sampler serve all tasks, without being told the task:

    colourise    y has the brightness of x_0 in all three channels, m = 1
    inpaint      y = (1 − m) ⊙ x_0 + m ⊙ ε,  ε ~ N(0, I), m = 1 in a rectangular hole
    uncrop       as inpaint, with m = 1 in one half of the image, on any of its four sides
    decompress   y was compressed as JPEG, with a quality from 5 to 30 of 100, m = 1

Where several images fit y, a network trained by ‖x_0 − x̂_0‖² returns their mean, such as brown for
an unknown colour; each sample x ~ p_θ(x | y) is one of them. Samples keep the pixels with m = 0:
they are drawn by ``inpaint(sampler, y, m, rng, y)`` of inpainting.py.

Differs from the paper: the network is given t, not ᾱ_t, and sees each 2×2 pixels as one position.
"""

import io

import numpy as np
from PIL import Image

from minigen import concatenate, square
from minigen.data import signed, unsigned
from minigen.models.diffusion.denoiser import Denoiser, unet_and_embed
from minigen.models.diffusion.inpainting import random_masks
from minigen.nn.unet import SpaceToDepthUNet

BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # of red, green and blue, as in JPEG


def grey(x_0, rng):
    """Images x_0 (N, 3, H, W) without their colours, and m (N, 1, H, W)."""
    y = np.einsum("c,nchw->nhw", BRIGHTNESS.astype(x_0.dtype), x_0)
    return np.repeat(y[:, None], 3, axis=1), np.ones_like(x_0[:, :1])  # eq: palette-tasks


def hide(x_0, m, rng):
    """Images x_0 (N, C, H, W) with noise where m (N, 1, H, W) is 1, and m."""
    noise = rng.standard_normal(x_0.shape, x_0.dtype)
    return (1 - m) * x_0 + m * noise, m  # eq: palette-tasks


def hole(x_0, rng):
    """Images x_0 (N, C, H, W), each with a rectangular hole, and m."""
    return hide(x_0, random_masks(len(x_0), x_0.shape[2:], rng).astype(x_0.dtype), rng)


def crop(x_0, rng):
    """Images x_0 (N, C, H, W), each without the half on one side, and m."""
    N, _, H, W = x_0.shape
    row, column = np.arange(H)[:, None] < H // 2, np.arange(W) < W // 2
    halves = np.stack(np.broadcast_arrays(row, ~row, column, ~column)).astype(x_0.dtype)
    return hide(x_0, halves[rng.integers(4, size=N), None], rng)


def jpeg(x_0, rng):
    """Images x_0 (N, 3, H, W), each compressed with a quality from 5 to 30, and m."""
    y = np.empty_like(x_0)
    for i, image in enumerate(np.rint(unsigned(x_0) * 255).astype(np.uint8)):
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG",
                                                       quality=int(rng.integers(5, 31)))
        y[i] = signed(np.asarray(Image.open(file)).transpose(2, 0, 1))
    return y, np.ones_like(x_0[:, :1])


TASKS = {"colourise": grey, "inpaint": hole, "uncrop": crop, "decompress": jpeg}


def degraded(x_0, rng):
    """Images x_0 (N, 3, H, W) in [−1, 1], each degraded for a random task, and m (N, 1, H, W)."""
    tasks, y, m = rng.integers(len(TASKS), size=len(x_0)), np.empty_like(x_0), x_0[:, :1].copy()
    for k, task in enumerate(TASKS.values()):
        y[tasks == k], m[tasks == k] = task(x_0[tasks == k], rng)
    return y, m


def masked(m):
    """‖m ⊙ error‖², for the loss of DDPM."""
    return lambda error: m * square(error)  # eq: palette-loss


class Palette(Denoiser):
    """A Denoiser that also sees degraded images y."""

    def __call__(self, x_t, t, y):
        """Images x_t and y (N, C, H, W) and integers t (N,): (N, C, H, W). ValueError if the shapes
        of x_t and y differ."""
        if y.shape != x_t.shape:
            raise ValueError(f"palette: the degraded images are {y.shape}, expected {x_t.shape}, "
                             "the shape of those that are sampled")
        return self.unet(concatenate([x_t, y], axis=1), self.embed(t))  # eq: palette-loss


def palette(shape, widths=(64, 64), D=128, rng=None):
    """A Palette for images of `shape` (3, H, W), both sides divisible by 2^len(widths)."""
    C, H, W = shape
    unet, embed = unet_and_embed((4 * C, H // 2, W // 2), widths, D, extra_channels=4 * C, rng=rng)
    return Palette(SpaceToDepthUNet(unet), embed)
