"""Glow (Kingma & Dhariwal 2018): a normalising flow, a generative model with an exact likelihood.

An invertible network f maps images to latents of the same size, z = f(x), with z ~ N(0, I):

    x = f⁻¹(z)        log p(x) = log N(f(x); 0, I) + log|det ∂f/∂x|

The log-determinants of its layers (nn/invertible.py) add up. After a logit, which takes pixels
from [0, 1] to all numbers, each of L levels turns 2×2 pixels into four times as many channels and
takes K steps of

    an actnorm           which scales and shifts each channel,
    a 1×1 convolution    which mixes the channels, and
    an affine coupling   which scales and shifts one half of them given the other half.

Then half of the channels become part of z, and the next level continues with the others. The last
level is global: it takes K steps on all the numbers that are left, as the channels of one pixel, so
that its couplings are fully connected, as in NICE (Dinh et al. 2015).

Differs from the paper: the global level, which mixes channels by a random rotation that is not
learnt (with Adam's steps, a learnt matrix of so many channels changes too much); the halves of z
that leave early are N(0, I), too, where the paper predicts their mean and variance from the other
half; couplings have fewer channels and no actnorm inside, and their log s is bounded; the logit,
which the paper does without.
"""

import math

from minigen import (
    concatenate,
    mean,
    nn,
    no_grad,
    pixel_shuffle,
    pixel_unshuffle,
    split,
    tensor,
)
from minigen.dist import Normal, noise, per_image
from minigen.nn.invertible import (
    ActNorm,
    AffineCoupling,
    InvertibleConv,
    Logit,
    Rotation,
    halves,
)


class Glow:
    """A flow for images (N, C, H, W) of `shape`, floats in [0, 1]; the last of the `levels` is the
    global one. ValueError unless H and W can be halved once for each of the others, and for images
    of another shape or dtype."""

    def __init__(self, shape, levels):
        L = len(levels) - 1
        if any(n % 2**L for n in shape[1:]):
            raise ValueError(f"Glow: images of shape {shape} cannot be halved {L} times: "
                             f"use fewer levels, or sides divisible by {2**L}")
        self.shape, self.logit, self.levels = tuple(shape), Logit(), levels

    def encode(self, x, before=lambda layer, h: None):
        """z (N, C·H·W) and log|det ∂z/∂x| (N,). before(layer, h) is called with each layer of each
        step and its input."""
        x = tensor(x)
        if x.shape[1:] != self.shape or x.dtype.kind != "f":
            raise ValueError(f"Glow: images are {x.shape} {x.dtype}, expected floats in [0, 1] of "
                             f"shape (N, {', '.join(map(str, self.shape))})")
        (h, log_det), parts = self.logit(x), []
        for level in self.levels:
            is_global = level is self.levels[-1]
            h = h.flatten(1)[:, :, None, None] if is_global else pixel_unshuffle(h, 2)
            for layer in level:
                before(layer, h)
                h, log_det_of_layer = layer(h)
                log_det = log_det + log_det_of_layer  # eq: flow-likelihood
            if not is_global:
                z, h = halves(h)
                parts.append(z)
        return concatenate([z.flatten(1) for z in (*parts, h)], axis=1), log_det

    def decode(self, z):
        """The images x (N, C, H, W) with latents z (N, C·H·W). ValueError for z of another shape.
        """
        z, (C, H, W) = tensor(z), self.shape
        L, D = len(self.levels) - 1, C * H * W
        if z.shape[1:] != (D,):
            raise ValueError(f"Glow: latents are {z.shape}, expected (N, {D})")
        parts = split(z, [D - (D >> i) for i in range(1, L + 1)], axis=1)
        h = parts.pop()[:, :, None, None]
        for level in self.levels[::-1]:
            is_global = level is self.levels[-1]
            if not is_global:
                h = concatenate([parts.pop().reshape(*h.shape), h], axis=1)
            for layer in level[::-1]:
                h = layer.inverse(h)
            h = h.reshape(len(z), C << L, H >> L, W >> L) if is_global else pixel_shuffle(h, 2)
        return self.logit.inverse(h)

    def log_prob(self, x):
        """log p(x): nats (N,)."""
        z, log_det = self.encode(x)
        return per_image(Normal(0.0, 0.0).log_prob(z)) + log_det  # eq: flow-likelihood

    def loss(self, x):
        """−log p(x) per dimension of images x (N, C, H, W): a scalar in nats."""
        return -mean(self.log_prob(x)) / math.prod(self.shape)  # eq: flow-likelihood

    def sample(self, n, rng):
        """n images (n, C, H, W)."""
        with no_grad():
            return self.decode(noise(rng, nn.like(self), (n, math.prod(self.shape))))

    def fit_actnorm(self, x):
        """Choose the s and b of each actnorm so that, for a first batch x (N, C, H, W), each of its
        channels gets mean 0 and variance 1."""
        with no_grad():
            self.encode(x, lambda layer, h: layer.fit(h) if isinstance(layer, ActNorm) else None)


def glow(shape, K=8, L=2, width=64, rng=None):
    """A Glow for images of `shape` (C, H, W), H and W divisible by 2^L, with L levels and the
    global one, all of K steps. The couplings of the first level have `width` hidden channels, those
    of each level twice as many as those of the level before."""
    C, levels = shape[0], []
    for i in range(L):
        C, hidden = (4 if i == 0 else 2) * C, width << i
        levels.append([layer for _ in range(K) for layer in
                       (ActNorm(C), InvertibleConv(C, rng), AffineCoupling(C, hidden, rng=rng))])
    C = math.prod(shape) >> L
    levels.append([layer for _ in range(K) for layer in
                   (ActNorm(C), Rotation(C, rng), AffineCoupling(C, width << L, 1, rng))])
    return Glow(shape, levels)
