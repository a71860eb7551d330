"""Optimising the input of a network whose weights are frozen.

    x* = argmax_x log p(y_wrong | x)                  a digit that is classified as another
    from the mean image plus noise, ascend p(y | x) until it is 99.99%           fooling images
    argmin_x ‖Φ(x) − Φ(x_0)‖² + λ R_V^β(x)            what a layer Φ keeps of an image x_0
    max_x ‖Φ(x)‖²                                     DeepDream: amplifies what a layer detects

    R_V^β(x) = Σ_{i,j} ((x_{i,j+1} − x_{ij})² + (x_{i+1,j} − x_{ij})²)^{β/2}     total variation

Szegedy et al. 2014; Nguyen, Yosinski & Clune 2015; Mahendran & Vedaldi 2015; Mordvintsev, Olah &
Tyka 2015. That so small a change suffices is not due to the depth of the network: for a linear one,

    wᵀ(x + d) + b = wᵀx + b + wᵀd

and with d = ε sign(w) no pixel changes by more than ε, but wᵀd = ε ‖w‖₁ grows with the number of
pixels (Goodfellow, Shlens & Szegedy 2015).

Images are (N, C, H, W) in [0, 1]. A network returns logits (N, classes).
"""

import numpy as np

from minigen import cross_entropy, grad, power, softmax, square, sum, tensor, where
from minigen.tensor import xp


def ascend(objective, x, steps, size):
    """Gradient ascent on objective(x), a scalar: an iterator of `steps` tensors like x. In each
    step no pixel moves by more than `size`, and all stay in [0, 1]."""
    x = tensor(x, requires_grad=True)
    for _ in range(steps):
        g = grad(objective(x), x).data
        g_max = abs(g).max((1, 2, 3), keepdims=True)
        x_new = x.data + float(size) * g / xp(g).where(g_max > 0, g_max, 1)
        x = tensor(x_new.clip(0, 1), requires_grad=True)
        yield x.detach()


def log_p(net, y):
    """The objective log p(y | x), with a label for each image, summed: x* is classified as y, which
    may be a wrong label."""
    return lambda x: -sum(cross_entropy(net(x), y, reduction="none"))  # eq: adv-targeted-input-opt


def fool(net, mean, y, rng, confidence=0.9999, size=0.02, noise=0.02, max_steps=2000):
    """Images that the network classifies as y (N,), though no person would, and p(y | x): gradient
    ascent from the mean image (C, H, W) plus a little noise, until p(y | x) ≥ `confidence` for all.

    Raises RuntimeError if `max_steps` steps do not suffice."""
    p, shape = np.zeros(len(y)), (len(y), *mean.shape)
    start = (mean + noise * rng.standard_normal(shape)).clip(0, 1).astype(mean.dtype)
    for x in ascend(log_p(net, y), start, max_steps, size):
        p = softmax(net(x), axis=1).numpy()[np.arange(len(y)), y]
        if p.min() >= confidence:  # eq: fooling-image-ascent
            return x, p
    raise RuntimeError(f"fool: after {max_steps} steps the network is sure of an image by "
                       f"{p.min():.4f} only, not {confidence}: take more steps, or larger ones")


def fast_gradient_sign(net, x, y, eps):
    """x + ε sign(∂/∂x −log p(y | x)): the worst that changes of ε per pixel can do to a network
    that is linear and has two classes. With more classes −log p bends, and this is only the worst
    of small changes."""
    x = tensor(x, requires_grad=True)
    g = grad(-log_p(net, y)(x), x).numpy()
    return (x.numpy() + worst_perturbation(g, float(eps))).clip(0, 1)


def worst_perturbation(w, eps):
    """The d with |d_i| ≤ ε that maximises wᵀd."""
    return eps * np.sign(w)


def score_change(w, d):
    """The change of the score wᵀx + b if x becomes x + d: wᵀd, whatever x is."""
    return (w * d).sum()  # eq: adv-linear-argument


# -------------------------------------------------------------------------------- regularisers

def total_variation(x, beta=1.0):
    """R_V^β of images (N, C, H, W), summed over images and channels. Where a pixel equals both of
    its neighbours, the derivative, infinite for β < 1 and undefined for β = 1, is taken as 0."""
    here = x[:, :, :-1, :-1]
    s = square(x[:, :, :-1, 1:] - here) + square(x[:, :, 1:, :-1] - here)
    return sum(where(s > 0, power(where(s > 0, s, 1), beta / 2), 0))  # eq: tv-discrete


def total_variation_of(f, beta=1.0, n=200):
    """∫ ((∂_u f)² + (∂_v f)²)^{β/2} du dv over the unit square, of a function of tensors u and v,
    by the midpoint rule with n × n points."""
    at = (np.arange(n) + 0.5) / n
    u, v = (tensor(a, requires_grad=True) for a in np.meshgrid(at, at, indexing="ij"))
    f_u, f_v = grad(sum(f(u, v)), [u, v], allow_unused=True)
    slopes = f_u.numpy() ** 2 + f_v.numpy() ** 2
    return (slopes ** (beta / 2)).mean()  # eq: tv-continuous


def inversion(phi, x_0, lam, beta=1.0):
    """The objective whose maximiser looks like x_0 to a layer Φ and varies little."""
    target = phi(tensor(x_0)).detach()
    return lambda x: -(sum(square(phi(x) - target))
                       + lam * total_variation(x, beta))  # eq: feature-inversion-tv


def dream(phi):
    """The objective of DeepDream: ‖Φ(x)‖² of a layer Φ, whatever it detects."""
    return lambda x: sum(square(phi(x)))  # eq: deepdream
