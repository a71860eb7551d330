"""The updates of the optimisers, in place, exactly as in PyTorch

    scalars = (factor, lr, t), in all optimisers: the values that change from step to step
    g ← factor·g  (clips the gradient norm without a separate pass); if NaN, nothing is written
    adam     m ← β₁·m + (1 − β₁)·g,   v ← β₂·v + (1 − β₂)·g²
             p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)            t = 1, 2, …
             first: g ← g + λ·p  (weight decay), or p ← p − lr·λ·p  (decoupled: AdamW)
    sgd      g ← g + λ·p;   buf ← μ·buf + (1 − dampening)·g  (the first time buf ← g)
             p ← p − lr·buf, with Nesterov p ← p − lr·(g + μ·buf);   without momentum p ← p − lr·g
    rmsprop  g ← g + λ·p;   v ← α·v + (1 − α)·g²;   u = g / (√v + ε)
             buf ← μ·buf + u, p ← p − lr·buf;   without momentum p ← p − lr·u

    ema      a ← d·a + (1 − d)·p, the moving average of a parameter

    p, g, m, v, buf, a all of one shape; buf may be None without momentum. On a device `scalars` and
    d are arrays of float64, so that a recorded launch (minigen/recorded.py) reads the new values.

About 10 FLOPs per element; adam moves 7 arrays (reads p, g, m, v, writes p, m, v), which takes two
thirds of its time, square root and division the rest. The fast version is one pass; NumPy's dozen
expressions make a dozen. It does not read back what it has just written (mi instead of m[i]): where
a vector straddles two cache lines such a read stalls, and adam took up to three times as long. It
takes all parameters of a model at once, as lists (many.py): a call for each would take longer than
the update of a bias.
"""

import math

import numpy as np

from .cuda import launch_elementwise, xp
from .many import foreach, num_chunks, piece
from .once import threaded


@foreach(p="... in place", g="...", m="... in place", v="... in place")
def adam(p, g, m, v, scalars, beta1, beta2, eps, weight_decay, decoupled):
    factor, lr, t = scalars
    if factor != factor:
        return
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


def _adam_numbers(scalars, beta1, beta2, eps, weight_decay, decoupled):
    factor, lr, t = scalars
    decay, shrink = (0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1)
    return (factor, decay, shrink, beta1, 1 - beta1, beta2, 1 - beta2, lr / (1 - beta1**t),
            1 / math.sqrt(1 - beta2**t), eps)


@adam.foreach_cpu
def adam(table, dtype, *options):
    _run(_adam, table, dtype, _adam_numbers(*options))


@adam.version("cuda")
def adam(p, g, m, v, *options):
    _launch("adam", (g, m, v, p), *options)


@threaded
def _adam(chunk, chunks, table, dtype, factor, decay, shrink, beta1, rest1, beta2, rest2, step,
          scale, eps):
    for k in range(len(table)):
        p, g = piece(table, k, 1, chunk, chunks, dtype), piece(table, k, 2, chunk, chunks, dtype)
        m, v = piece(table, k, 3, chunk, chunks, dtype), piece(table, k, 4, chunk, chunks, dtype)
        for i in range(len(p)):
            gi = factor * g[i] + decay * p[i]
            m[i] = mi = beta1 * m[i] + rest1 * gi
            v[i] = vi = beta2 * v[i] + rest2 * gi * gi
            p[i] = shrink * p[i] - step * mi / (np.sqrt(vi) * scale + eps)


@foreach(p="... in place", g="...", buf="... in place or None")
def sgd(p, g, buf, scalars, momentum, dampening, weight_decay, nesterov):
    factor, lr, t = scalars
    if factor != factor:
        return
    g = factor * g + weight_decay * p
    if momentum:
        buf[...] = g if t == 1 else momentum * buf + (1 - dampening) * g
        g = g + momentum * buf if nesterov else buf
    p -= lr * g


def _sgd_numbers(scalars, momentum, dampening, weight_decay, nesterov):
    factor, lr, t = scalars
    mu, gain = (0, 1) if t == 1 else (momentum, 1 - dampening)
    from_g, from_buf = (1, momentum) if nesterov else (0, 1)
    return factor, lr, weight_decay, mu, gain, from_g, from_buf


@sgd.foreach_cpu
def sgd(table, dtype, scalars, momentum, *options):
    _run(_sgd, table, dtype, _sgd_numbers(scalars, momentum, *options), bool(momentum))


@sgd.version("cuda")
def sgd(p, g, buf, *options):
    _launch("sgd", (g, buf, p), *options)


@threaded
def _sgd(chunk, chunks, table, dtype, momentum, factor, lr, decay, mu, gain, from_g, from_buf):
    for k in range(len(table)):
        p, g = piece(table, k, 1, chunk, chunks, dtype), piece(table, k, 2, chunk, chunks, dtype)
        buf = piece(table, k, 3, chunk, chunks, dtype)
        for i in range(len(p)):
            gi = factor * g[i] + decay * p[i]
            if momentum:
                buf[i] = bi = mu * buf[i] + gain * gi
                gi = from_g * gi + from_buf * bi
            p[i] -= lr * gi


@foreach(p="... in place", g="...", v="... in place", buf="... in place or None")
def rmsprop(p, g, v, buf, scalars, alpha, eps, weight_decay, momentum):
    factor, lr, _ = scalars
    if factor != factor:
        return
    g = factor * g + weight_decay * p
    v *= alpha
    v += (1 - alpha) * g * g
    u = g / (np.sqrt(v) + eps)
    if momentum:
        buf *= momentum
        buf += u
        u = buf
    p -= lr * u


@rmsprop.foreach_cpu
def rmsprop(table, dtype, scalars, alpha, eps, weight_decay, momentum):
    factor, lr, _ = scalars
    _run(_rmsprop, table, dtype,
         (factor, lr, alpha, 1 - alpha, eps, weight_decay, momentum), bool(momentum))


@rmsprop.version("cuda")
def rmsprop(p, g, v, buf, *options):
    _launch("rmsprop", (g, v, buf, p), *options)


@threaded
def _rmsprop(chunk, chunks, table, dtype, momentum, factor, lr, alpha, rest, eps, decay, mu):
    for k in range(len(table)):
        p, g = piece(table, k, 1, chunk, chunks, dtype), piece(table, k, 2, chunk, chunks, dtype)
        v, buf = piece(table, k, 3, chunk, chunks, dtype), piece(table, k, 4, chunk, chunks, dtype)
        for i in range(len(p)):
            gi = factor * g[i] + decay * p[i]
            v[i] = vi = alpha * v[i] + rest * gi * gi
            u = gi / (np.sqrt(vi) + eps)
            if momentum:
                u += mu * buf[i]
                buf[i] = u
            p[i] -= lr * u


@foreach(a="... in place", p="...")
def ema(a, p, decay):
    a[...] = a + (1 - decay) * (p - a)  # decay may be (1,), a a single number


@ema.foreach_cpu
def ema(table, dtype, decay):
    _run(_ema, table, dtype, (1 - decay,))


@ema.version("cuda")
def ema(a, p, decay):
    _launch("ema", (p, a), decay)


@threaded
def _ema(chunk, chunks, table, dtype, rest):
    for k in range(len(table)):
        a, p = piece(table, k, 1, chunk, chunks, dtype), piece(table, k, 2, chunk, chunks, dtype)
        for i in range(len(a)):
            a[i] += rest * (p[i] - a[i])


def _run(update, table, dtype, numbers, *flags):
    """Call `update` with `numbers` in the arrays' dtype; not at all if the first of them, the
    gradient's factor, is NaN."""
    if numbers[0] == numbers[0]:
        update(num_chunks(table), table, dtype, *flags, *(dtype.type(float(x)) for x in numbers))


def _launch(name, arrays, scalars, *options):
    """Launch a kernel of optim.cu. Options are bools and numbers."""
    *others, p = arrays
    options = (x if isinstance(x, bool) else np.float64(x) for x in options)
    launch_elementwise("optim.cu", name, p, others,
                       (xp(p).asarray(scalars, np.float64), *options), elements=4)
