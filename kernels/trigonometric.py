"""Sine, cosine, tangent and arctangent, each in one pass over memory on all threads

    x = k π/2 + r, k whole, |r| ≤ π/4
    sin      sin r where k is even, else cos r; −sin r and −cos r where k mod 4 ≥ 2
    cos      sin(x + π/2): as sin, with k + 1
    tan      sin r / cos r where k is even, else −cos r / sin r
    arctan   t + t³ p(t²) where t = |x| ≤ 1, else π/2 − arctan(1/|x|); with the sign of x

    x (...) → y (...)

NumPy has one thread compute them, and tan and arctan number by number. Polynomials take the place
of sin r and cos r (fitted to minimise the largest relative error: 4e-9 and 1e-10) and of arctan
(2e-8). r is computed in float64, which holds x and k π/2 for |x| ≤ 2³⁰; larger numbers are left to
the C library. The relative error is at most 1.3e-7 (sin, cos), 2.3e-7 (tan), 1.7e-7 (arctan). In
float64 these are NumPy's functions.
"""

import math

import numpy as np

from .activation import pointwise
from .common import PART, chunks, empty, inlined, part
from .cuda import xp
from .elementary import fast_in_float32
from .exponential import HALF, ONE
from .once import threaded

_f = np.float32
PER_QUARTER = 2 / math.pi
PI_2_HIGH, PI_2_LOW = math.pi / 2, 6.123233995736766e-17  # their sum is π/2 to 107 bits
FAR = _f(2.0**30)  # k must fit into 32 bits
S1, S2, S3 = _f(-0.16666655), _f(0.00833216), _f(-0.00019515)
C2, C3, C4 = _f(0.0416666457), _f(-0.00138873162), _f(2.44331457e-05)
A1, A2, A3, A4 = _f(-0.33333153), _f(0.19993773), _f(-0.14211057), _f(0.10666011)
A5, A6, A7, A8 = _f(-0.07552228), _f(0.04321203), _f(-0.01636804), _f(0.00292072)
PI_2 = _f(math.pi / 2)


@inlined
def _quarters(x):
    """k, sin r and cos r of x = k π/2 + r."""
    x = np.float64(x)
    k = np.floor(x * PER_QUARTER + 0.5)
    r = np.float32(x - k * PI_2_HIGH - k * PI_2_LOW)
    w = r * r
    return (np.int32(k), r + r * w * ((S3 * w + S2) * w + S1),
            w * w * ((C4 * w + C3) * w + C2) - HALF * w + ONE)


def periodic(far):
    """Turn a function of one number into a function of arrays that leaves to `far`, the C library's
    function, what is larger than FAR, infinite, or NaN."""
    def decorate(f):
        f = inlined(f)

        def loop(chunk, chunks, x, y):
            xs, ys = part(x, chunk, chunks), part(y, chunk, chunks)
            outside = 0
            for i in range(len(ys)):
                ys[i] = f(xs[i])
                outside += not abs(xs[i]) <= FAR
            if outside:
                for i in range(len(ys)):
                    if not abs(xs[i]) <= FAR:
                        ys[i] = far(np.float64(xs[i]))

        loop = threaded(loop, f)

        def run(x):
            y = empty(x.shape, x.dtype)
            loop(chunks(1 + x.size // PART), x.ravel(), y.reshape(-1))
            return y
        return run
    return decorate


@periodic(math.sin)
def _sin(x):
    k, sine, cosine = _quarters(x)
    y = cosine if k & 1 else sine
    y = -y if k & 2 else y
    return x if x == 0 else y  # −0 remains −0

@periodic(math.cos)
def _cos(x):
    k, sine, cosine = _quarters(x)
    y = sine if k & 1 else cosine
    return -y if (k + 1) & 2 else y

@periodic(math.tan)
def _tan(x):
    k, sine, cosine = _quarters(x)
    y = (-cosine if k & 1 else sine) / (sine if k & 1 else cosine)
    return x if x == 0 else y

@pointwise
def _arctan(x, one):
    z = abs(x)
    far = z > one
    t = (one if far else z) / (z if far else one)
    w = t * t
    p = ((((((A8 * w + A7) * w + A6) * w + A5) * w + A4) * w + A3) * w + A2) * w + A1
    y = t + t * w * p
    y = PI_2 - y if far else y
    return y if x > 0 else -y if x < 0 else x  # −0 remains −0, NaN remains NaN


@fast_in_float32(_sin)
def sin(x): return xp(x).sin(x)

@fast_in_float32(_cos)
def cos(x): return xp(x).cos(x)

@fast_in_float32(_tan)
def tan(x): return xp(x).tan(x)

@fast_in_float32(_arctan)
def arctan(x): return xp(x).arctan(x)
