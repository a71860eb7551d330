"""Deep image prior (Ulyanov, Vedaldi & Lempitsky 2018): a network that has seen no image but a
damaged one restores it.

The restored image has the least energy E(x, x̂) + R(x) (map.py), and the hard part is R. Here a
restriction replaces it: x is the output of a convolutional network for fixed noise z.

    x = f_θ(z), z ~ U(−1, 1) of the image's size
    θ* = argmin_θ E(f_θ(z), x̂), x* = f_θ*(z)          θ ← θ − α ∂E(f_θ(z), x̂)/∂θ

The network could produce any image, including x̂ with its noise, so the descent stops early: what
is alike everywhere in the image is fitted sooner than what is not.

    denoising            E = ‖x − x̂‖²
    inpainting           E = ‖(x − x̂) ⊙ m‖²           m: 1 where x̂ is known, 0 elsewhere
    super-resolution     E = ‖d(x) − x̂‖²              d: means over squares of pixels
    feature inversion    E = ‖φ(x) − φ(x̂)‖²           φ: the first layers of a trained network
    flash / no flash     E = ‖f_θ(x_flash) − x̂‖²      x_flash: the same scene in different light

Differs from the paper: three halvings in place of five, for images of 32×32 pixels; no skip
connections; no noise added to z at every step; z as on the slide, in the paper U(0, 0.1).
"""

import numpy as np

from minigen import avg_pool2d, grad, interpolate, leaky_relu, nn, sigmoid, square, sum, tensor
from minigen.models.prior.map import degrade
from minigen.nn import initializers


class DeepImagePrior:
    """An image of `shape` (C, H, W) in [0, 1] as a network's output for `channels` of noise."""

    def __init__(self, shape, widths=(32, 64, 64), channels=32, rng=None):
        self.net = hourglass(channels, shape, widths, rng)
        self.z = tensor(np.empty((1, channels, *shape[1:]), np.float32))
        self.init(initializers.generator(rng))

    def init(self, rng):
        nn.init(self.net, rng)
        noise = rng.uniform(-1, 1, self.z.shape)  # eq: dip-init
        initializers.values(self.z, noise)

    def __call__(self):
        """x: (1, C, H, W)."""
        return self.net(self.z)  # eq: dip-parametrisation


class FlashPrior:
    """An image as a U-Net's output for a sharp photograph x_flash (C, H, W) of the same scene,
    taken with a flash, in place of noise. The skip connections carry the outlines over; what is
    left to learn from a noisy x̂, taken without flash, is its light. The energy is that of
    denoising."""

    def __init__(self, x_flash, widths=(16, 32, 64), rng=None):
        C = len(x_flash)
        self.net, self.x_flash = nn.Sequential(nn.UNet(C, C, widths, rng), sigmoid), x_flash[None]

    def __call__(self):
        """x: (1, C, H, W)."""
        return self.net(tensor(self.x_flash))  # eq: dip-flash-noflash


def hourglass(C, shape, widths, rng=None):
    """(N, C, H, W) to images of `shape` in [0, 1]: halves the size once for each of the widths, and
    restores it by bilinear interpolation. ValueError for sides that cannot be halved so often, or
    that would leave a single pixel, which batch norm cannot normalise."""
    factor = 2 ** len(widths)
    if shape[1] % factor or shape[2] % factor or shape[1] * shape[2] == factor ** 2:
        raise ValueError(f"hourglass: height and width must be divisible by {factor}, and not both "
                         f"{factor}, got {shape[1]}×{shape[2]}")

    def conv(a, b, stride=1):
        return nn.Conv2d(a, b, 3, stride, 1, bias=False, rng=rng), nn.BatchNorm2d(b), leaky

    layers, K = [], C
    for width in widths:
        layers += [*conv(K, width, 2), *conv(width, width)]
        K = width
    for width in widths[::-1]:
        layers += [upsample, *conv(K, width), *conv(width, width)]
        K = width
    return nn.Sequential(*layers, nn.Conv2d(K, shape[0], 1, rng=rng), sigmoid)


def leaky(x):
    return leaky_relu(x, 0.1)


def upsample(x):
    return interpolate(x, scale_factor=2, mode="bilinear")


# ------------------------------------------------------------------------- energies, of x and x̂

def denoising(x, x_hat):
    return sum(square(x - x_hat))  # eq: dip-denoise


def inpainting(x, x_hat, m):
    """m: 1 where x̂ is known, 0 elsewhere, of x̂'s shape."""
    return sum(square((x - x_hat) * m))  # eq: dip-inpaint


def super_resolution(x, x_hat):
    """x̂ is smaller than x by an integer factor; d takes the mean of each square of factor × factor
    pixels. ValueError if there is no such factor."""
    factor = x.shape[3] // x_hat.shape[3]
    if x.shape[2:] != tuple(factor * side for side in x_hat.shape[2:]):
        raise ValueError(f"super_resolution: x is {x.shape} and x̂ {x_hat.shape}, expected sides "
                         "that are smaller by one whole factor")
    return sum(square(avg_pool2d(x, factor) - x_hat))  # eq: dip-super-resolution


def feature_inversion(x, x_hat, phi):
    return sum(square(phi(x) - phi(x_hat)))  # eq: dip-feature-inversion


# ----------------------------------------------------------------------------------- the descent

def restore(prior, E, opt, steps):
    """Minimise E(x) with an optimiser of the network's parameters. An iterator of `steps` pairs: x
    (1, C, H, W) and its energy, each before the update computed from it."""
    for _ in range(steps):  # eq: dip-early-stopping
        x = prior()
        energy = E(x)  # eq: dip-objective
        opt.step(grad(energy, opt.params))  # eq: dip-gd-step
        yield x, energy


# ----------------------------------------------------------------------------- what it is given

def pixel_drop(shape, rng, fraction=0.5):
    """A mask that drops a `fraction` of the pixels, at random, in all channels: 0 there, 1
    elsewhere. ValueError for a fraction outside [0, 1]."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"pixel_drop: the fraction must lie in [0, 1], got {fraction}")
    known = rng.random((1, *shape[1:])) >= fraction  # eq: dip-pixel-drop
    return np.broadcast_to(known, shape).astype(np.float32)


def impedance(x, sigma, rng):
    """What the network fits easily, and what it does not: an image x (C, H, W) in [0, 1], x with
    noise, x with its pixels shuffled, and noise alone."""
    pixels = x.reshape(len(x), -1)
    return {"image": x, "noisy": degrade(x, sigma, rng),
            "shuffled": pixels[:, rng.permutation(pixels.shape[1])].reshape(x.shape),
            "noise": rng.random(x.shape).astype(x.dtype)}  # eq: dip-impedance
