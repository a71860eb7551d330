"""The activation functions of neural networks and their gradients, each in one pass over memory

    sigmoid      y = 1 / (1 + e^−x)                     gx = g · y (1 − y)
    tanh         y = x P(x²) / Q(x²)                    gx = g · (1 − y²)
    softplus     y = log(1 + e^x)                       gx = g · σ(x), by sigmoid
    silu         y = x σ(x)                             gx = g · σ(x) (1 + x (1 − σ(x)))
    gelu         y = x Φ(x)                             gx = g · (Φ(x) + x φ(x))
    elu          y = x where x > 0, else a (e^x − 1)    gx = g where x > 0, else g · (y + a)
    leaky_relu   y = x where x > 0, else a x            gx = g where x > 0, else g · a
    relu         y = x, but 0 where x ≤ 0               gx = g, but 0 where y ≤ 0

    x, g, y, gx (...), a a number; elu's gradient takes y, which has the sign of x for a > 0;
    Φ is the standard normal distribution function, φ = Φ′ its density; P and Q, of degree 4, were
    fitted to minimise the largest relative error up to 9.02, where tanh x is rounded to 1: 2.1e-8,
    and 3.2e-7 with the rounding of all steps (in float64, tanh is the C library's)

As a chain of NumPy functions an activation takes up to six passes over memory, and selecting by an
irregular mask takes as long as ten more. Here each is one vectorised loop over each thread's part.
"""

import functools
import math

import numpy as np
from numba import types
from numba.extending import overload

from .common import PART, chunks, empty, inlined, kernel, part
from .cuda import launch_elementwise, special, xp
from .exponential import ONE, OPTIONS, exp, expm1, log1p
from .normal import tail
from .once import threaded

_f = np.float32
P0, P1, P2 = _f(0.999999979044547), _f(0.13379722678688208), _f(0.0034940400210211877)
P3, P4 = _f(2.0583564260529176e-05), _f(1.3319173572295145e-08)
Q1, Q2 = _f(0.4671303792672359), _f(0.025871094408723865)
Q3, Q4, TOP = _f(0.0003283101477101376), _f(7.762063890382622e-07), _f(9.02)


def pointwise(f):
    """Turn f, of numbers, into a function of an array and numbers, y[i] = f(x[i], 1, *numbers),
    where 1 and the numbers have x's dtype."""
    f = inlined(f)

    def loop(chunk, chunks, x, numbers, y):
        xs, ys, one = part(x, chunk, chunks), part(y, chunk, chunks), x.dtype.type(1)
        for i in range(len(ys)):
            ys[i] = f(xs[i], one, *numbers)

    loop = threaded(loop, f)

    def run(x, *numbers):
        y = empty(x.shape, x.dtype)
        loop(chunks(1 + x.size // PART), x.ravel(),
             tuple([x.dtype.type(float(n)) for n in numbers]), y.reshape(-1))
        return y
    return run


def pointwise_backward(f):
    """As `pointwise`, for a gradient: gx[i] = f(g[i], x[i], 1, *numbers)."""
    f = inlined(f)

    def loop(chunk, chunks, g, x, numbers, gx):
        gs, xs, gxs = part(g, chunk, chunks), part(x, chunk, chunks), part(gx, chunk, chunks)
        one = x.dtype.type(1)
        for i in range(len(gxs)):
            gxs[i] = f(gs[i], xs[i], one, *numbers)

    loop = threaded(loop, f)

    def run(g, x, *numbers):
        gx = empty(x.shape, x.dtype)
        loop(chunks(1 + x.size // PART), g.ravel(), x.ravel(),
             tuple([x.dtype.type(float(n)) for n in numbers]), gx.reshape(-1))
        return gx
    return run


@pointwise
def _sigmoid(x, one): return one / (one + exp(-x))
@pointwise_backward
def _sigmoid_backward(g, y, one): return g * (y * (one - y))

def _rational(x): ...
@overload(_rational, jit_options=OPTIONS)
def _(x):
    """x P(x²) / Q(x²), and the C library's tanh in float64."""
    def single(x):
        z = min(max(x, -TOP), TOP)
        w = z * z
        p = (((P4 * w + P3) * w + P2) * w + P1) * w + P0
        q = (((Q4 * w + Q3) * w + Q2) * w + Q1) * w + ONE
        y = min(max(z * p / q, -ONE), ONE)  # rounding can exceed 1
        return y if x == x else x
    return single if x == types.float32 else lambda x: math.tanh(x)

@pointwise
def _tanh(x, one): return _rational(x)
@pointwise_backward
def _tanh_backward(g, y, one): return g * (one - y * y)

@pointwise
def _softplus(x, one):
    y = log1p(exp(-abs(x)))
    return x + y if x > 0 else y

@pointwise
def _silu(x, one): return x / (one + exp(-x))
@pointwise_backward
def _silu_backward(g, x, one):
    s = one / (one + exp(-x))
    return g * (s * (one + x * (one - s)))

@pointwise
def _gelu(x, one):
    _, q = tail(abs(x))
    return x * (one - q if x > 0 else q)
@pointwise_backward
def _gelu_backward(g, x, one, a):
    e, q = tail(abs(x))
    return g * ((one - q if x > 0 else q) + x * e * a)

@pointwise
def _elu(x, one, a):
    m = a * expm1(x)  # computed for x > 0 too, so that the loop has no branches
    return x if x > 0 else m
@pointwise_backward
def _elu_backward(g, y, one, a): return g if y > 0 else g * (y + a)

@pointwise
def _leaky_relu(x, one, a): return x if x > 0 else a * x
@pointwise_backward
def _leaky_relu_backward(g, x, one, a): return g if x > 0 else g * a


@pointwise
def _relu(x, one): return one - one if x <= 0 else x
@pointwise_backward
def _relu_backward(g, y, one): return one - one if y <= 0 else g


@kernel(x="...")
def sigmoid(x):
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))  # nothing overflows
@sigmoid.version("cpu")
def sigmoid(x): return _sigmoid(x)

@kernel(g="...", y="...")
def sigmoid_backward(g, y): return g * (y * (1 - y))
@sigmoid_backward.version("cpu")
def sigmoid_backward(g, y): return _sigmoid_backward(g, y)

@kernel(x="...")
def tanh(x): return np.tanh(x)
@tanh.version("cpu")
def tanh(x): return _tanh(x)
@tanh.version("cuda")
def tanh(x): return xp(x).tanh(x)  # a kernel of that name would collide with C's function

@kernel(g="...", y="...")
def tanh_backward(g, y): return g * (1 - y * y)
@tanh_backward.version("cpu")
def tanh_backward(g, y): return _tanh_backward(g, y)

@kernel(x="...")
def softplus(x): return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
@softplus.version("cpu")
def softplus(x): return _softplus(x)

@kernel(x="...")
def silu(x): return x * sigmoid.reference(x)
@silu.version("cpu")
def silu(x): return _silu(x)

@kernel(g="...", x="...")
def silu_backward(g, x):
    s = sigmoid.reference(x)
    return g * (s * (1 + x * (1 - s)))
@silu_backward.version("cpu")
def silu_backward(g, x): return _silu_backward(g, x)

@kernel(x="...")
def gelu(x): return x * special(x).ndtr(x)
@gelu.version("cpu")
def gelu(x): return _gelu(x)

@kernel(g="...", x="...")
def gelu_backward(g, x):
    return g * (special(x).ndtr(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))
@gelu_backward.version("cpu")
def gelu_backward(g, x): return _gelu_backward(g, x, 1 / math.sqrt(2 * math.pi))

@kernel(x="...")
def elu(x, alpha): return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0))
@elu.version("cpu")
def elu(x, alpha): return _elu(x, alpha)

@kernel(g="...", y="...")
def elu_backward(g, y, alpha): return g * np.where(y > 0, y.dtype.type(1), y + alpha)
@elu_backward.version("cpu")
def elu_backward(g, y, alpha): return _elu_backward(g, y, alpha)

@kernel(x="...")
def leaky_relu(x, negative_slope): return np.where(x > 0, x, negative_slope * x)
@leaky_relu.version("cpu")
def leaky_relu(x, negative_slope): return _leaky_relu(x, negative_slope)

@kernel(g="...", x="...")
def leaky_relu_backward(g, x, negative_slope): return np.where(x > 0, g, negative_slope * g)
@leaky_relu_backward.version("cpu")
def leaky_relu_backward(g, x, negative_slope): return _leaky_relu_backward(g, x, negative_slope)


@kernel(x="...")
def relu(x): return np.maximum(x, 0)
@relu.version("cpu")
def relu(x): return _relu(x)

@kernel(g="...", y="...")
def relu_backward(g, y): return np.where(y <= 0, y.dtype.type(0), g)
@relu_backward.version("cpu")
def relu_backward(g, y): return _relu_backward(g, y)


def _launch(name, *args):
    arrays = [x for x in args if not np.isscalar(x)]
    y = xp(arrays[0]).empty_like(arrays[0])
    a = args[-1] if len(args) > len(arrays) else 0
    launch_elementwise("activation.cu", name, y, arrays, (y.dtype.type(a),), elements=4)
    return y


for _kernel in (sigmoid, sigmoid_backward, tanh_backward, softplus, silu, silu_backward, gelu,
                gelu_backward, elu, elu_backward, leaky_relu, leaky_relu_backward, relu,
                relu_backward):
    _kernel.version("cuda")(functools.partial(_launch, _kernel.name))
