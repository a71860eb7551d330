"""SiLU, and its derivative

    y[i] = x[i] σ(x[i])                    σ(x) = 1 / (1 + e^(−x))
    gx[i] = g[i] σ(x[i]) (1 + x[i] (1 − σ(x[i])))

    x (...) → y (...);  g, x (...) → gx (...)

About 20 FLOPs an element, once through memory, in threads. In NumPy it is eight passes forward and
twelve back, which were a quarter of the time that a diffusion model trains. The library's e^x is
called for one number at a time; the one below, for float32, compiles to vector instructions and is
seven times as fast.
"""

import math

import numpy as np
from numba import prange, types
from numba.extending import intrinsic, overload

from .common import chunks, kernel, threaded

CHUNK = 16384
F = np.float32


def _sigmoid(x):
    with np.errstate(over="ignore"):  # 1 / (1 + ∞) = 0
        return 1 / (1 + np.exp(-x))


@kernel(x="...")
def silu(x):
    return x * _sigmoid(x)


@silu.version("cpu")
def silu(x):
    y = np.empty_like(x)
    _silu(x.reshape(-1), y.reshape(-1), chunks(1 + x.size // CHUNK))
    return y


@threaded
def _silu(x, y, chunks):
    one = x.dtype.type(1)
    for chunk in prange(chunks):
        for i in range(chunk * len(x) // chunks, (chunk + 1) * len(x) // chunks):
            y[i] = x[i] * (one / (one + _exp(-x[i])))


@kernel(g="...", x="...")
def silu_backward(g, x):
    s = _sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


@silu_backward.version("cpu")
def silu_backward(g, x):
    gx = np.empty_like(x)
    _silu_backward(g.reshape(-1), x.reshape(-1), gx.reshape(-1), chunks(1 + x.size // CHUNK))
    return gx


@threaded
def _silu_backward(g, x, gx, chunks):
    one = x.dtype.type(1)
    for chunk in prange(chunks):
        for i in range(chunk * len(x) // chunks, (chunk + 1) * len(x) // chunks):
            s = one / (one + _exp(-x[i]))
            gx[i] = g[i] * (s * (one + x[i] * (one - s)))


# e^v = 2^n e^r with n whole and |r| ≤ log(2)/2, where 1 + r + r² p(r) with the first terms of
# Taylor's series is exact to the last digit of a float32. v ends at ±87, before 2^n overflows.
LOG2E, LOG2, LIMIT, HALF = F(1 / math.log(2)), math.log(2), F(87), F(0.5)
LOG2_HIGH = F(round(LOG2 * 512) / 512)  # few digits: n · LOG2_HIGH is exact
LOG2_LOW = F(LOG2 - float(LOG2_HIGH))
P2, P3, P4, P5, P6, P7 = (F(1 / math.factorial(k)) for k in range(2, 8))


def _exp(v):
    raise NotImplementedError("for compiled code")


@overload(_exp, inline="always")
def _exp_of_a_number(v):
    if v is not types.float32:
        return lambda v: math.exp(v)

    def exp32(v):
        v = min(max(v, -LIMIT), LIMIT)
        n = np.floor(v * LOG2E + HALF)
        r = v - n * LOG2_HIGH - n * LOG2_LOW
        p = P2 + r * (P3 + r * (P4 + r * (P5 + r * (P6 + r * P7))))
        return (r * r * p + r + F(1)) * _from_bits((np.int32(n) + np.int32(127)) << np.int32(23))
    return exp32


@intrinsic
def _from_bits(context, bits):
    """The float32 with these bits: 2^n for (n + 127) << 23."""
    from llvmlite import ir
    return types.float32(types.int32), lambda _, build, signature, args: build.bitcast(
        args[0], ir.FloatType())
