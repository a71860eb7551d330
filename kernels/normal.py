"""The upper tail of the standard normal distribution for compiled loops, in float32 without a call

    φ(z) = e^(−z²/2) / √(2π)      Q(z) = 1 − Φ(z) = e^(−z²/2) t R(t),   t = 1 / (1 + 0.3 z),   z ≥ 0

with a polynomial R of degree 7, fitted to erfcx to minimise the largest relative error: 1.5e-7
before rounding. The absolute error of Q is at most 2.5e-7, its relative error at most 1e-6 up to
z = 5; from there on the rounding of z² dominates, 5e-6 at z = 12. In float64 this is the C
library's erfc.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from .exponential import HALF, ONE, OPTIONS, exp

_f = np.float32
A = _f(0.3)
R0, R1, R2, R3 = _f(0.1196292981), _f(0.1207539682), _f(0.09991340932), _f(0.1285619220)
R4, R5, R6, R7 = _f(-0.05368424077), _f(0.2063541897), _f(-0.1572034953), _f(0.03567487579)


def tail(z): ...
@overload(tail, jit_options=OPTIONS)
def _(z):
    """e^(−z²/2) and Q(z)."""
    def single(z):
        e, t = exp(-HALF * z * z), ONE / (ONE + A * z)
        s = t * t
        r = (((R7 * t + R6) * s + (R5 * t + R4)) * s + (R3 * t + R2)) * s + (R1 * t + R0)
        return e, e * (t * r)
    return single if z == types.float32 else lambda z: (
        math.exp(-0.5 * z * z), 0.5 * math.erfc(z * math.sqrt(0.5)))
