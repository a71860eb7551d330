"""Softmax and its logarithm along one axis

    softmax       y[a,c,b] = e^x[a,c,b] / Σ_{j<C} e^x[a,j,b]
    log_softmax   y[a,c,b] = x[a,c,b] − log Σ_{j<C} e^x[a,j,b]

    x (A, C, B) → y (A, C, B);  the largest x[a,:,b] is taken out first, so that nothing overflows

About 6 FLOPs and an exponential an element; x and y at least once through memory. On the CPU the
exponential takes the time, and NumPy's passes will do; on the device each pass would be a launch
and a trip through memory. With integer targets see cross_entropy.py.
"""

import numpy as np

from .common import kernel
from .cuda import blocks, launch, real, xp


@kernel(x="A C B")
def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@kernel(x="A C B")
def log_softmax(x):
    d = x - x.max(1, keepdims=True)
    return d - np.log(np.exp(d).sum(1, keepdims=True))


for _kernel in (softmax, log_softmax):
    _kernel.version("cpu")(_kernel.reference)


@softmax.version("cuda")
def softmax(x):
    return _launch("softmax", x)


@log_softmax.version("cuda")
def log_softmax(x):
    return _launch("log_softmax", x)


def _launch(name, x):
    (A, C, B), y = x.shape, xp(x).empty_like(x)
    threads = A * (32 if B == 1 else B)
    launch("softmax.cu", name, blocks(threads, 128), 128, (x, y, np.int64(A * B), C, B),
           **real(x.dtype))
    return y
