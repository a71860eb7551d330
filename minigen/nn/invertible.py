"""Invertible layers, of which normalising flows are made.

Each takes h (N, C, H, W) to h' of the same shape, and gives log|det ∂h'/∂h| with it, (N,) or one
number for all images. Inverting a layer and its log-determinant cost no more than the layer itself:

    Logit            h' = logit(α + (1 − 2α) h)                           Σ log ∂h'/∂h
    ActNorm          h' = s ⊙ (h + b), per channel                        H W Σ_c log|s_c|
    InvertibleConv   h'[:, i, j] = W h[:, i, j], W = P L (U + diag(s))    H W Σ_c log|s_c|
    Rotation         h'[:, i, j] = R h[:, i, j], RᵀR = I                  0
    AffineCoupling   h'_a = h_a,  h'_b = s ⊙ h_b + t,                     Σ log s
                     (log s, t) = NN(h_a)

All but R and P, a permutation, is learnt; L is lower triangular with ones on its diagonal, U
strictly upper triangular. The Jacobian of a coupling is triangular, and it can be inverted whatever
NN is.

Logit and coupling are from Dinh et al. 2017, the others but the rotation from Kingma & Dhariwal
2018.
"""

import math

import numpy as np

from minigen.dist import per_image
from minigen.nn import initializers
from minigen.nn.layers import Conv2d
from minigen.nn.unet import ZeroConv2d
from minigen.ops import (
    concatenate,
    conv2d,
    exp,
    log,
    mean,
    relu,
    sigmoid,
    split,
    std,
    sum,
    tanh,
    tril,
    triu,
)
from minigen.tensor import tensor, to_device_of

ALPHA = 1e-6  # keeps the logits of pixels finite
BOUND = 2.0  # of |log s| in a coupling


class Logit:
    """h = logit(α + (1 − 2α) x): pixels in [0, 1] become numbers without bounds."""

    def __call__(self, x):
        log_p, log_q = (log(ALPHA + (1 - 2 * ALPHA) * x) for x in (x, 1 - x))
        log_slope = math.log(1 - 2 * ALPHA) - log_p - log_q
        return log_p - log_q, per_image(log_slope)  # eq: flow-logit

    def inverse(self, h):
        return (sigmoid(h) - ALPHA) / (1 - 2 * ALPHA)  # eq: flow-logit


class ActNorm:
    """h ← s ⊙ (h + b), one s and b for each of C channels."""

    def __init__(self, C):
        self.log_s, self.b = initializers.parameter(C, 1, 1), initializers.parameter(C, 1, 1)
        self.init(None)

    def init(self, rng):
        initializers.constant(self.log_s, 0)
        initializers.constant(self.b, 0)

    def fit(self, h):
        """Choose s and b so that the channels of h (N, C, H, W) get mean 0 and variance 1.
        ValueError for a channel that is constant, up to rounding."""
        mu, sigma = (f(h, (0, 2, 3), keepdims=True)[0] for f in (mean, std))
        if (sigma.data <= 1e-6 * abs(mu.data)).any():
            raise ValueError(f"ActNorm: a channel of {h.shape} is constant, so no scale gives it "
                             "variance 1: fit it to more images, or to images that differ")
        initializers.values(self.b, -mu.data)
        initializers.values(self.log_s, -log(sigma).data)

    def __call__(self, h):
        _, _, H, W = h.shape
        return exp(self.log_s) * (h + self.b), H * W * sum(self.log_s)  # eq: flow-actnorm

    def inverse(self, h):
        return exp(-self.log_s) * h - self.b


class InvertibleConv:
    """h[:, i, j] ← W h[:, i, j], with W = P L (U + diag(s)), initially a random rotation of C
    channels."""

    def __init__(self, C, rng=None):
        self.P, self.sign = (tensor(np.empty(shape, np.float32)) for shape in ((C, C), C))
        self.L, self.U = initializers.parameter(C, C), initializers.parameter(C, C)
        self.log_s = initializers.parameter(C)
        self.init(initializers.generator(rng))

    def init(self, rng):
        from scipy.linalg import lu  # imported here: it loads slowly
        rotation, _ = np.linalg.qr(rng.standard_normal(self.P.shape))
        P, L, U = lu(rotation)
        s = np.diag(U)
        for t, value in ((self.P, P), (self.L, L), (self.U, U), (self.sign, np.sign(s)),
                         (self.log_s, np.log(np.abs(s)))):
            initializers.values(t, value)

    def weight(self):
        """W (C, C)."""
        diagonal = to_device_of(np.eye(len(self.log_s), dtype=self.P.dtype), self.P.data)
        lower = tril(self.L, -1) + diagonal
        upper = triu(self.U, 1) + self.sign * exp(self.log_s) * diagonal
        return self.P @ lower @ upper  # eq: flow-conv

    def __call__(self, h):
        _, _, H, W = h.shape
        return conv2d(h, self.weight()[:, :, None, None]), H * W * sum(self.log_s)  # eq: flow-conv

    def inverse(self, h):
        inverse = np.linalg.inv(self.weight().numpy().astype(np.float64)).astype(h.dtype)
        return conv2d(h, to_device_of(inverse[:, :, None, None], h.data))


class Rotation:
    """h[:, i, j] ← R h[:, i, j], with R a random rotation of C channels, which is not learnt."""

    def __init__(self, C, rng=None):
        self.R = tensor(np.empty((C, C), np.float32))
        self.init(initializers.generator(rng))

    def init(self, rng):
        initializers.values(self.R, np.linalg.qr(rng.standard_normal(self.R.shape))[0])

    def __call__(self, h):
        return conv2d(h, self.R[:, :, None, None]), 0.0

    def inverse(self, h):
        return conv2d(h, self.R.T[:, :, None, None])


class AffineCoupling:
    """h_a, h_b ← h_a, s ⊙ h_b + t, with (log s, t) = NN(h_a); initially the identity on C
    channels. The first and the last convolution of NN are of `kernel`×`kernel` pixels."""

    def __init__(self, C, width, kernel=3, rng=None):
        self.net = [Conv2d(C - C // 2, width, kernel, padding=kernel // 2, rng=rng),
                    Conv2d(width, width, 1, rng=rng),
                    ZeroConv2d(width, 2 * (C // 2), kernel, padding=kernel // 2)]

    def scale_and_shift(self, h_a):
        first, second, last = self.net
        raw, t = split(last(relu(second(relu(first(h_a))))), 2, axis=1)
        return BOUND * tanh(raw / BOUND), t

    def __call__(self, h):
        h_a, h_b = halves(h)
        log_s, t = self.scale_and_shift(h_a)
        h_b = exp(log_s) * h_b + t  # eq: flow-coupling
        return concatenate([h_a, h_b], axis=1), per_image(log_s)  # eq: flow-coupling

    def inverse(self, h):
        h_a, h_b = halves(h)
        log_s, t = self.scale_and_shift(h_a)
        return concatenate([h_a, (h_b - t) * exp(-log_s)], axis=1)


def halves(h):
    """The first channels of h (N, C, H, W), one more if C is odd, and the others."""
    return split(h, [h.shape[1] - h.shape[1] // 2], axis=1)
