"""Special functions, each with its derivative on the next line."""

import math

from minigen import kernels
from minigen.kernels.cuda import special
from minigen.operation import op
from minigen.ops.math import as_float, elementary, exp, where
from minigen.tensor import xp

__all__ = ["erf", "log_ndtr", "wrightomega"]


@op
def erf(x):
    """The error function, 2/√π ∫₀ˣ e^(−t²) dt."""
    return elementary(kernels.erf, x)
@erf.vjp
def erf(g, x): return g * (2 / math.sqrt(math.pi)) * exp(-x * x)

@op
def wrightomega(x):
    """W(e^x), where W(a) is Lambert's function: the ω > 0 with ω + log ω = x. For x > 88 it still
    fits into a float32, while e^x does not."""
    m, x = xp(x), as_float(x)
    z = m.where(m.isinf(x), 0, x)  # for infinite x, ω is e^−∞ or ∞
    y = m.where(z < 1, z, m.log(m.maximum(z, 1)))  # log ω, by Newton's method on y + e^y = z
    for _ in range(6):
        y = y - (y + m.exp(y) - z) / (1 + m.exp(y))
    return m.where(m.isinf(x), m.maximum(x, 0), m.exp(y))
@wrightomega.vjp
def wrightomega(g, y): return g * y / (1 + y)

@op
def log_ndtr(x):
    """log Φ(x), the logarithm of the standard normal's cumulative distribution function."""
    return special(x).log_ndtr(x)
@log_ndtr.vjp
def log_ndtr(g, x): return g * _log_ndtr_backward(x)

@op
def _log_ndtr_backward(x):
    """φ(x) / Φ(x) = √(2/π) / erfcx(−x/√2), φ = Φ′: for x → −∞ both round to 0, their ratio is ≈ −x.
    """
    return math.sqrt(2 / math.pi) / special(x).erfcx(x * -math.sqrt(0.5))
@_log_ndtr_backward.vjp
def _log_ndtr_backward(g, y, x):
    far = x < -50  # there x + y = −1/x + 2/x³ − 10/x⁵ + … would be lost in rounding
    r = 1 / where(far, x, -50.0)
    return -g * y * where(far, r * (-1 + r * r * (2 - 10 * r * r)), x + y)
