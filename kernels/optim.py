"""The updates of the optimisers, in place, exactly PyTorch's

    g ← factor·g, in all of them (of a gradient that is cut to a norm, without a pass of its own)
    adam     m ← β₁·m + (1 − β₁)·g,   v ← β₂·v + (1 − β₂)·g²
             p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)            t = 1, 2, …
             before: g ← g + λ·p  (weight decay), or p ← p − lr·λ·p  (decoupled: AdamW)
    sgd      g ← g + λ·p;   buf ← μ·buf + (1 − dampening)·g  (the first time buf ← g)
             p ← p − lr·buf, with Nesterov p ← p − lr·(g + μ·buf);   without momentum p ← p − lr·g
    rmsprop  g ← g + λ·p;   v ← α·v + (1 − α)·g²;   u = g / (√v + ε)
             buf ← μ·buf + u, p ← p − lr·buf;   without momentum p ← p − lr·u

    ema      a ← d·a + (1 − d)·p, the moving average of a parameter

    p, g, m, v, buf, a all of one shape; buf may be None without momentum

About 10 FLOPs an element; adam moves 7 arrays (reads p, g, m, v, writes p, m, v), which is all of
its time. The fast version is one pass; NumPy's dozen expressions make a dozen passes. Small
parameters are not worth waking the threads.
"""

import math

import numpy as np
from numba import prange

from .common import chunks, compiled, kernel, threaded
from .cuda import each

ONE_THREAD = 1 << 14  # elements below which one thread is faster


@kernel(p="... in place", g="...", m="... in place", v="... in place")
def adam(p, g, m, v, factor, lr, beta1, beta2, eps, weight_decay, decoupled, t):
    g = factor * g
    if decoupled:
        p *= 1 - lr * weight_decay
    else:
        g = g + weight_decay * p
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g * g
    p -= lr / (1 - beta1**t) * m / (np.sqrt(v) / math.sqrt(1 - beta2**t) + eps)


def _adam_numbers(factor, lr, beta1, beta2, eps, weight_decay, decoupled, t):
    decay, shrink = (0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1)
    return (factor, decay, shrink, beta1, 1 - beta1, beta2, 1 - beta2, lr / (1 - beta1**t),
            1 / math.sqrt(1 - beta2**t), eps)


@adam.version("cpu")
def adam(p, g, m, v, *options):
    _run(_adam, _adam_threads, (p, g, m, v), _adam_numbers(*options))


@adam.version("cuda")
def adam(p, g, m, v, *options):
    _launch("adam", (g, m, v, p), _adam_numbers(*options))


@compiled
def _adam(p, g, m, v, factor, decay, shrink, beta1, rest1, beta2, rest2, step, scale, eps):
    for i in range(len(p)):
        gi = factor * g[i] + decay * p[i]
        m[i] = beta1 * m[i] + rest1 * gi
        v[i] = beta2 * v[i] + rest2 * gi * gi
        p[i] = shrink * p[i] - step * m[i] / (np.sqrt(v[i]) * scale + eps)


@threaded
def _adam_threads(chunks, p, g, m, v, factor, decay, shrink, beta1, rest1, beta2, rest2, step,
                  scale, eps):
    for c in prange(chunks):
        i, j = c * len(p) // chunks, (c + 1) * len(p) // chunks
        _adam(p[i:j], g[i:j], m[i:j], v[i:j], factor, decay, shrink, beta1, rest1, beta2, rest2,
              step, scale, eps)


@kernel(p="... in place", g="...", buf="... in place or None")
def sgd(p, g, buf, factor, lr, momentum, dampening, weight_decay, nesterov, first):
    g = factor * g + weight_decay * p
    if momentum:
        buf[...] = g if first else momentum * buf + (1 - dampening) * g
        g = g + momentum * buf if nesterov else buf
    p -= lr * g


def _sgd_numbers(factor, lr, momentum, dampening, weight_decay, nesterov, first):
    keep, take = (0, 1) if first else (momentum, 1 - dampening)
    from_g, from_buf = (1, momentum) if nesterov else (0, 1)
    return factor, lr, weight_decay, keep, take, from_g, from_buf


@sgd.version("cpu")
def sgd(p, g, buf, factor, lr, momentum, *options):
    _run(_sgd, _sgd_threads, (p, g, g if buf is None else buf),
         _sgd_numbers(factor, lr, momentum, *options), bool(momentum))


@sgd.version("cuda")
def sgd(p, g, buf, factor, lr, momentum, *options):
    _launch("sgd", (g, buf, p), _sgd_numbers(factor, lr, momentum, *options), bool(momentum))


@compiled
def _sgd(p, g, buf, factor, lr, decay, keep, take, from_g, from_buf, momentum):
    for i in range(len(p)):
        gi = factor * g[i] + decay * p[i]
        if momentum:
            buf[i] = keep * buf[i] + take * gi
            gi = from_g * gi + from_buf * buf[i]
        p[i] -= lr * gi


@threaded
def _sgd_threads(chunks, p, g, buf, factor, lr, decay, keep, take, from_g, from_buf, momentum):
    for c in prange(chunks):
        i, j = c * len(p) // chunks, (c + 1) * len(p) // chunks
        _sgd(p[i:j], g[i:j], buf[i:j], factor, lr, decay, keep, take, from_g, from_buf, momentum)


@kernel(p="... in place", g="...", v="... in place", buf="... in place or None")
def rmsprop(p, g, v, buf, factor, lr, alpha, eps, weight_decay, momentum):
    g = factor * g + weight_decay * p
    v *= alpha
    v += (1 - alpha) * g * g
    u = g / (np.sqrt(v) + eps)
    if momentum:
        buf *= momentum
        buf += u
        u = buf
    p -= lr * u


@rmsprop.version("cpu")
def rmsprop(p, g, v, buf, factor, lr, alpha, eps, weight_decay, momentum):
    _run(_rmsprop, _rmsprop_threads, (p, g, v, g if buf is None else buf),
         (factor, lr, alpha, 1 - alpha, eps, weight_decay, momentum), bool(momentum))


@rmsprop.version("cuda")
def rmsprop(p, g, v, buf, factor, lr, alpha, eps, weight_decay, momentum):
    _launch("rmsprop", (g, v, buf, p),
            (factor, lr, alpha, 1 - alpha, eps, weight_decay, momentum), bool(momentum))


@compiled
def _rmsprop(p, g, v, buf, factor, lr, alpha, rest, eps, decay, keep, momentum):
    for i in range(len(p)):
        gi = factor * g[i] + decay * p[i]
        v[i] = alpha * v[i] + rest * gi * gi
        u = gi / (np.sqrt(v[i]) + eps)
        if momentum:
            u += keep * buf[i]
            buf[i] = u
        p[i] -= lr * u


@threaded
def _rmsprop_threads(chunks, p, g, v, buf, factor, lr, alpha, rest, eps, decay, keep, momentum):
    for c in prange(chunks):
        i, j = c * len(p) // chunks, (c + 1) * len(p) // chunks
        _rmsprop(p[i:j], g[i:j], v[i:j], buf[i:j], factor, lr, alpha, rest, eps, decay, keep,
                 momentum)


@kernel(a="... in place", p="...")
def ema(a, p, decay):
    a += (1 - decay) * (p - a)


@ema.version("cpu")
def ema(a, p, decay):
    _run(_ema, _ema_threads, (a, p), (1 - decay,))


@ema.version("cuda")
def ema(a, p, decay):
    _launch("ema", (p, a), (1 - decay,))


@compiled
def _ema(a, p, rest):
    for i in range(len(a)):
        a[i] += rest * (p[i] - a[i])


@threaded
def _ema_threads(chunks, a, p, rest):
    for c in prange(chunks):
        i, j = c * len(p) // chunks, (c + 1) * len(p) // chunks
        _ema(a[i:j], p[i:j], rest)


def _run(one, threads, arrays, numbers, *flags):
    """Call `one`, or `threads` with a number of chunks, on flat arrays; numbers in their dtype."""
    arrays = [a.reshape(-1) for a in arrays]
    numbers = [arrays[0].dtype.type(x) for x in numbers]
    if arrays[0].size < ONE_THREAD:
        one(*arrays, *numbers, *flags)
    else:
        threads(chunks(arrays[0].size), *arrays, *numbers, *flags)


def _launch(name, arrays, numbers, *flags):
    """Launch a kernel of optim.cu, a thread an element; numbers in the arrays' dtype."""
    *others, p = arrays
    each("optim.cu", name, p, others, (*map(p.dtype.type, numbers), *flags))
