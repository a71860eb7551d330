"""Elementary functions and the error function, each in one pass over memory on all threads

    absolute |x|        sqrt  √x        clip  min(max(x, low), high)        sign  −1, 0 or 1
    exp      e^x = 2^k e^r as in exponential.py, but 2^k in two factors: results may be subnormal
    expm1    e^x − 1, of exponential.py
    log      k ln 2 + 2 artanh((m − 1) / (m + 1)), where x = 2^k m, √½ < m ≤ √2
    log1p    2 artanh(x / (2 + x)) where |x| < ½, else log(1 + x)
    erf      x p(x²) where |x| < 1, else ±(1 − 2 Q(√2 |x|)), Q of normal.py

    x (...) → y (...)

NumPy has one thread compute them, and expm1, log1p and SciPy's erf number by number, which takes
ten times as long as one vectorised loop. The relative error is at most 1e-7 (exp), 1.2e-7
(expm1; 4e-7 above 88.3), 2.3e-7 (log, log1p), 1.8e-7 (erf; the polynomial p, of degree 6, was
fitted to minimise the largest relative error: 1.2e-9). In float64 all but clip are NumPy's
functions, and SciPy's erf.
"""

import math

import numpy as np

from . import exponential
from .activation import pointwise
from .common import inlined, kernel
from .cuda import special, xp
from .exponential import (
    BITS_OF_1,
    HALF,
    LN2_HIGH,
    LN2_LOW,
    MANTISSA,
    ONE,
    ROUND,
    bits,
    from_bits,
    power_of_2,
    reduced,
    twice_artanh,
)
from .normal import tail

_f = np.float32
SMALLEST = _f(-104)  # e^SMALLEST is rounded to 0
TINY, SCALE, LOG2_SCALE = _f(2.0**-126), _f(2.0**24), _f(24)  # TINY: the smallest normal number
SQRT_2, NEAR, INFINITY, NAN = _f(math.sqrt(2)), _f(0.5), _f(math.inf), _f(math.nan)
FRACTION, BIAS, K_MAX = np.int32((1 << 23) - 1), np.int32(127), _f(254)
E0, E1, E2, E3 = _f(1.128379107), _f(-0.3761262596), _f(0.1128358841), _f(-0.02685392275)
E4, E5, E6 = _f(0.005188518669), _f(-0.0008011756581), _f(7.858715253e-05)


@inlined
def _split(x):
    """m and k of x = 2^k m, √½ < m ≤ √2, for a normal number x > 0."""
    b = bits(x)
    m = from_bits((b & FRACTION) | BITS_OF_1)
    k = np.float32((b >> MANTISSA) - BIAS)
    return (m * HALF, k + ONE) if m > SQRT_2 else (m, k)


@inlined
def _log_of(x, u, k):
    """log x = 2 artanh u + k ln 2, and what it is for 0, infinity, and what has no logarithm."""
    y = twice_artanh(u) + k * LN2_LOW + k * LN2_HIGH
    y = y if x < INFINITY else x
    return y if x > 0 else -INFINITY if x == 0 else NAN


@pointwise
def _absolute(x, one): return abs(x)

@pointwise
def _sqrt(x, one): return math.sqrt(x)

@pointwise
def _sign(x, one): return one if x > 0 else -one if x < 0 else x - x if x == 0 else x

@pointwise
def _clip(x, one, low, high):
    y = low if x < low else x
    return high if y > high else y  # NaN remains NaN

@pointwise
def _exp(x, one):
    m, t = reduced(max(x, SMALLEST), K_MAX)
    half = (t - ROUND) * HALF + ROUND
    return (one + m) * power_of_2(half) * power_of_2(t - half + ROUND)

@pointwise
def _expm1(x, one): return x if x == 0 else exponential.expm1(x)

@pointwise
def _log(x, one):
    subnormal = x < TINY
    m, k = _split(x * SCALE if subnormal else x)
    return _log_of(x, (m - one) / (m + one), k - LOG2_SCALE if subnormal else k)

@pointwise
def _log1p(x, one):
    near = abs(x) < NEAR  # where 1 + x would be rounded too much
    m, k = _split(one + x)
    u = (x if near else m - one) / (one + one + x if near else m + one)
    y = _log_of(one + x, u, k - k if near else k)  # k − k is 0 in k's type
    return x if x == 0 else y  # −0 remains −0

@pointwise
def _erf(x, one):
    z = abs(x)
    w = z * z
    near = x * ((((((E6 * w + E5) * w + E4) * w + E3) * w + E2) * w + E1) * w + E0)
    _, q = tail(SQRT_2 * z)
    far = one - (q + q)
    return near if z < one else far if x > 0 else -far


def fast_in_float32(fast):
    """Turn a function of NumPy and CuPy into a kernel that uses `fast` for float32 on the CPU."""
    def decorate(reference):
        made = kernel(x="...")(reference)
        made.version("cpu")(lambda x: fast(x) if x.dtype == np.float32 else reference(x))
        return made.version("cuda")(reference)  # CuPy makes one pass of it
    return decorate


@fast_in_float32(_absolute)
def absolute(x): return xp(x).absolute(x)

@fast_in_float32(_sqrt)
def sqrt(x): return xp(x).sqrt(x)

@fast_in_float32(_sign)
def sign(x): return xp(x).sign(x)

@kernel(x="...")
def clip(x, low, high): return xp(x).minimum(xp(x).maximum(x, low), high)
clip.version("cpu")(_clip)
clip.version("cuda")(clip.reference)

@fast_in_float32(_exp)
def exp(x): return xp(x).exp(x)

@fast_in_float32(_expm1)
def expm1(x): return xp(x).expm1(x)

@fast_in_float32(_log)
def log(x): return xp(x).log(x)

@fast_in_float32(_log1p)
def log1p(x): return xp(x).log1p(x)

@fast_in_float32(_erf)
def erf(x): return special(x).erf(x)
