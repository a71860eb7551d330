"""e^x, e^x − 1 and log(1 + y) for compiled loops, in float32 without a call, so that the loops are
vectorised

    x = k ln 2 + r, k whole, |r| ≤ ½ ln 2        e^x = 2^k e^r        e^r − 1 = r + r² p(r)

with a polynomial p of degree 5 (coefficients from the Cephes library's expf) and 2^k assembled from
the bits of a float. Such a loop waits for the last of a chain of dependent steps, so the chain is
kept short: p is summed in pairs, and x / ln 2 + 1.5 · 2²³ is k, rounded, in the lowest bits of a
float, from where it is shifted into the exponent. The relative error is at most 1.5e-7 (4e-7 above
88.3, where k stops at 127); below −87.7 (k = −127, whose bits are those of 0) e^x is 0, above 88.7
it is infinite; NaN stays NaN.

    log(1 + y) = 2 artanh u,   u = y / (2 + y),   0 ≤ y ≤ 1        artanh u = u + u³/3 + u⁵/5 + …

with a polynomial in u² of degree 4 in place of the series, fitted to minimise the largest relative
error: 4e-9, and 2.3e-7 with the rounding of all steps.

In float64 these are the C library's functions.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from .common import compiled

_f = np.float32
LOG2_E, LN2_HIGH, LN2_LOW = _f(1.44269504), _f(0.693359375), _f(-2.12194440e-4)
LOWEST, HALF, ONE, ROUND, K_MAX = _f(-88), _f(0.5), _f(1), _f(1.5 * 2**23), _f(127)
P0, P1, P2 = _f(1.9875691500e-4), _f(1.3981999507e-3), _f(8.3334519073e-3)
P3, P4, P5 = _f(4.1665795894e-2), _f(1.6666665459e-1), _f(5.0000001201e-1)
L1, L2, L3, L4 = _f(0.33333157), _f(0.20012455), _f(0.13980301), _f(0.14089167)
MANTISSA, BITS_OF_1 = np.int32(23), np.int32(127 << 23)
OPTIONS = {"error_model": "numpy", "fastmath": {"contract"}}


def _bitcast(source, target, llvm):
    def define(context, x):
        return target(source), lambda context, builder, signature, args: builder.bitcast(
            args[0], llvm)
    return intrinsic(define)


bits = _bitcast(types.float32, types.int32, ir.IntType(32))  # of a float32
from_bits = _bitcast(types.int32, types.float32, ir.FloatType())  # the float32 that has these bits


def power_of_2(t): ...
@overload(power_of_2, jit_options=OPTIONS)
def _(t):
    """2^k in float32, for t = k + ROUND, −127 < k < 128, and 0 for k = −127."""
    return lambda t: from_bits((bits(t) << MANTISSA) + BITS_OF_1)


def reduced(x, k_max): ...
@overload(reduced, jit_options=OPTIONS)
def _(x, k_max):
    """e^r − 1 and k + ROUND, for x = k ln 2 + r, k ≤ k_max, in float32."""
    def single(x, k_max):
        t = min(x * LOG2_E + ROUND, k_max + ROUND)
        k = t - ROUND
        r = x - k * LN2_HIGH - k * LN2_LOW
        s = r * r
        p = ((P0 * r + P1) * s + (P2 * r + P3)) * s + (P4 * r + P5)
        return p * s + r, t
    return single


def exp(x): ...
@overload(exp, jit_options=OPTIONS)
def _(x):
    def single(x):
        m, t = reduced(max(x, LOWEST), K_MAX)
        scale = power_of_2(t)
        return m * scale + scale
    return single if x == types.float32 else lambda x: math.exp(x)


def expm1(x): ...
@overload(expm1, jit_options=OPTIONS)
def _(x):
    def single(x):
        m, t = reduced(max(x, LOWEST), K_MAX)
        scale = power_of_2(t)
        return m * scale + (scale - ONE)
    return single if x == types.float32 else lambda x: math.expm1(x)


def twice_artanh(u): ...
@overload(twice_artanh, jit_options=OPTIONS)
def _(u):
    """2 artanh u for |u| ≤ 1/3, in float32."""
    def single(u):
        w = u * u
        return (u + u) * ((((L4 * w + L3) * w + L2) * w + L1) * w + ONE)
    return single


def log1p(y): ...
@overload(log1p, jit_options=OPTIONS)
def _(y):
    """log(1 + y) for 0 ≤ y ≤ 1."""
    def single(y):
        return twice_artanh(y / (ONE + ONE + y))
    return single if y == types.float32 else lambda y: math.log1p(y)


def difference(a, b): ...
@overload(difference, jit_options=OPTIONS)
def _(a, b):
    """a − b, computed before anything else. Other sums may be reordered (FLAGS): (a − b) + c, with
    a and b large and close, could become (a + c) − b."""
    return lambda a, b: a - b


@intrinsic
def larger(context, a, b):
    """The larger of two numbers, assuming that neither is NaN: only then does LLVM vectorise the
    maximum of a row, seven times as fast. A sum of e^(x − top) is NaN if an x is, whatever top."""
    def emit(context, builder, signature, args):
        known = ("nnan", "nsz")
        return builder.select(builder.fcmp_ordered(">", *args, flags=known), *args, flags=known)
    return a(a, a), emit


@compiled
def largest(row):
    top = row[0]
    for i in range(len(row)):
        top = larger(top, row[i])
    return top


@compiled
def exp_shifted(row, shift):
    """row ← exp(row − shift)."""
    for i in range(len(row)):
        row[i] = exp(row[i] - shift[i])
