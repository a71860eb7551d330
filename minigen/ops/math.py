"""Element-wise mathematics: each function with its derivative on the next line."""

import math

import numpy as np
from numpy import ndarray

from minigen import kernels
from minigen.operands import NUMBERS
from minigen.operation import op
from minigen.sums import LARGE
from minigen.tensor import FLOATS, Tensor, xp

__all__ = [
    "abs", "add", "arctan", "ceil", "clip", "cos", "divide", "exp", "expm1", "floor", "log",
    "log1p", "maximum", "minimum", "multiply", "negative", "power", "reciprocal", "round", "sign",
    "sin", "sqrt", "square", "subtract", "tan", "tanh", "where",
]


def small(x):
    """Whether x, an array or number of NumPy's, is too small for more than NumPy's functions."""
    return isinstance(x, (ndarray, np.generic)) and x.size <= LARGE

def kernel_pair(a, b):
    """a and b as arrays for a kernel of arithmetic, if one is worth it: they are floats of one type
    on the CPU, at least one is a large array, the other one may be a number. Otherwise None."""
    if type(a) is ndarray and a.size > LARGE or type(b) is ndarray and b.size > LARGE:
        dtype = a.dtype if type(a) is ndarray else b.dtype
        if dtype not in FLOATS:  # bytes cannot hold −1, integers no fraction
            return None
        a, b = (np.array(x, dtype) if isinstance(x, (int, float)) else x for x in (a, b))
        if type(a) is type(b) is ndarray and a.dtype == b.dtype:
            if a.shape == b.shape:  # one of them may be broadcast, as the cotangent of a mean is
                a, b = (_distinct(a), b) if b.flags.c_contiguous else (a, _distinct(b))
            if a.flags.c_contiguous and b.flags.c_contiguous:
                return a, b
    return None

def _distinct(a):
    """a with length 1 along the axes along which it repeats itself."""
    return a if a.flags.c_contiguous else a[tuple([slice(None if s else 1) for s in a.strides])]

@op
def add(a, b): return kernels.add(*pair) if (pair := kernel_pair(a, b)) else a + b
@add.vjp
def add(g): return g, g

@op
def subtract(a, b): return kernels.subtract(*pair) if (pair := kernel_pair(a, b)) else a - b
@subtract.vjp
def subtract(g): return g, lambda: -g

@op
def multiply(a, b): return kernels.multiply(*pair) if (pair := kernel_pair(a, b)) else a * b
@multiply.vjp
def multiply(g, a, b): return lambda: g * b, lambda: g * a

@op
def divide(a, b):
    return kernels.divide(*pair) if (pair := kernel_pair(a, b)) else xp(a, b).true_divide(a, b)
@divide.vjp
def divide(g, y, b): return lambda: g / b, lambda: -g * y / b

@op
def negative(x): return kernels.multiply(*pair) if (pair := kernel_pair(x, -1)) else -x
@negative.vjp
def negative(g): return -g

@op
def reciprocal(x): return divide.forward(1, x)
@reciprocal.vjp
def reciprocal(g, y): return -g * y * y

def _product(a, n):
    """a · a · …, n factors. NumPy's power takes 600 times as long for negative float32 numbers."""
    if n == 1:
        return a
    y = square.forward(_product(a, n // 2))
    return multiply.forward(y, a) if n % 2 else y

@op
def power(a, b):
    """a^b, element by element. The derivative with respect to b is 0 where a = 0 and b ≥ 0."""
    kinds = "iuf" if type(b) is int else "f" if type(b) is float else ""
    if kinds and a.dtype.kind in kinds and b in range(2, 17):
        return _product(a, int(b))
    return a ** b  # unlike np.power, ** has fast paths for 1, 0.5 and −1
@power.vjp
def power(g, y, a, b):
    def ga():
        if isinstance(b, Tensor):
            return g * where((a == 0) & (b == 0), 0.0, b * power(a, b - 1))
        return None if b == 0 else g * b * (a if b == 2 else power(a, b - 1))
    def gb():
        if isinstance(a, Tensor):
            return g * y * log(where(a == 0, 1.0, a))
        return g * y * (math.log(a or 1) if a >= 0 else math.nan)
    return ga, gb

def as_float(x):
    """x, with integers as float32: for bytes, NumPy's functions return float16, three digits."""
    return x if x is None or x.dtype in FLOATS else x.astype(np.float32)

def elementary(kernel, x):
    """A kernel's function of x; of few numbers NumPy's. Kernels give no RuntimeWarning."""
    x = as_float(x)
    return kernel.reference(x) if small(x) else kernel(x)

@op
def exp(x): return elementary(kernels.exp, x)
@exp.vjp
def exp(g, y): return g * y

@op
def expm1(x):
    """e^x − 1, accurate near 0."""
    return elementary(kernels.expm1, x)
@expm1.vjp
def expm1(g, y): return g * (y + 1)

@op
def log(x): return elementary(kernels.log, x)
@log.vjp
def log(g, x): return g / x

@op
def log1p(x):
    """log(1 + x), accurate near 0."""
    return elementary(kernels.log1p, x)
@log1p.vjp
def log1p(g, x): return g / (1 + x)

@op
def sqrt(x): return elementary(kernels.sqrt, x)
@sqrt.vjp
def sqrt(g, y): return g * 0.5 / y

@op
def square(x): return multiply.forward(x, x)
@square.vjp
def square(g, x): return g * (2 * x)

@op
def sin(x): return elementary(kernels.sin, x)
@sin.vjp
def sin(g, x): return g * cos(x)

@op
def cos(x): return elementary(kernels.cos, x)
@cos.vjp
def cos(g, x): return -g * sin(x)

@op
def tan(x): return elementary(kernels.tan, x)
@tan.vjp
def tan(g, y): return g * (1 + y * y)

@op
def arctan(x): return elementary(kernels.arctan, x)
@arctan.vjp
def arctan(g, x): return g / (1 + x * x)

@op
def tanh(x): return elementary(kernels.tanh, x)
@tanh.vjp
def tanh(g, y): return _tanh_backward(g, y)

@op
def _tanh_backward(g, t):
    """g (1 − t²), for t = tanh(x)."""
    return (kernels.tanh_backward.reference if small(t) else kernels.tanh_backward)(g, t)
@_tanh_backward.vjp
def _tanh_backward(gg, g, t): return lambda: _tanh_backward(gg, t), lambda: gg * g * (-2 * t)

@op
def abs(x): return kernels.absolute(x) if kernel_pair(x, 0) else xp(x).abs(x)
@abs.vjp
def abs(g, x): return g * sign(x.detach())  # 0 at 0

@op
def maximum(a, b):
    """The larger of a and b; where they are equal, each receives half of the gradient."""
    return kernels.maximum(*pair) if (pair := kernel_pair(a, b)) else xp(a, b).maximum(a, b)
@maximum.vjp
def maximum(g, y, a, b): return lambda: _tie_grad(g, a, y, b), lambda: _tie_grad(g, b, y, a)

@op
def minimum(a, b):
    """The smaller of a and b; where they are equal, each receives half of the gradient."""
    return kernels.minimum(*pair) if (pair := kernel_pair(a, b)) else xp(a, b).minimum(a, b)
@minimum.vjp
def minimum(g, y, a, b): return lambda: _tie_grad(g, a, y, b), lambda: _tie_grad(g, b, y, a)

def _tie_grad(g, a, y, b):
    """g where y came from a, half of it where it came from both, 0 where it came from b."""
    half = (a == b).data * y.dtype.type(0.5)
    return apply_mask(g * (1 - half), mask=(y == a).data)

@op
def clip(x, *, min=None, max=None):
    """x limited to [min, max]; the gradient passes inside, bounds included, and is 0 outside."""
    if kernel_pair(x, 0) and {type(min), type(max)} <= NUMBERS:
        return kernels.clip(x, -math.inf if min is None else min, math.inf if max is None else max)
    y = x if min is None else maximum.forward(x, min)
    return y if max is None else minimum.forward(y, max)
@clip.vjp
def clip(g, y, x, **kw): return apply_mask(g, mask=(y == x).data)

@op
def apply_mask(x, *, mask):
    """x where the boolean `mask` holds, 0 elsewhere."""
    return kernels.select(x, xp(x).zeros((), x.dtype), xp(x).asarray(mask))
@apply_mask.vjp
def apply_mask(g, *, mask): return apply_mask(g, mask=mask)

@op
def _where(a, b, *, condition):
    if pair := kernel_pair(a, b):
        return kernels.select(*pair, condition)
    m = xp(condition, a, b)
    return m.where(m.asarray(condition), a, b)
@_where.vjp
def _where(g, *, condition):
    return lambda: apply_mask(g, mask=condition), lambda: apply_mask(g, mask=~condition)

def where(condition, a, b):
    """a where `condition` holds, b elsewhere; the three broadcast together."""
    condition = condition.data if isinstance(condition, Tensor) else condition
    if isinstance(condition, np.generic) or not hasattr(condition, "dtype"):
        condition = np.asarray(condition)
    if condition.dtype != bool:
        raise TypeError(f"where: condition must be boolean, got {condition.dtype}: compare it, "
                        "for example x != 0")
    if a is None or b is None:
        raise TypeError("where: expected tensors, arrays or numbers to choose from, got None")
    return _where(a, b, condition=condition)

def check_floats(name, *arrays):
    """TypeError unless one of the arrays, the first of which is called x, holds floats: differences
    and squares of bytes do not fit into bytes."""
    if all(a.dtype not in FLOATS for a in arrays):
        raise TypeError(f"{name}: x is {arrays[0].dtype}, expected float32 or float64")

# Ops without a derivative: `grad` refuses to go through them.

@op
def sign(x):
    """−1, 0 or 1."""
    return kernels.sign(x) if kernel_pair(x, 0) else xp(x).sign(x)

@op
def floor(x): return xp(x).floor(x)

@op
def ceil(x): return xp(x).ceil(x)

@op
def round(x, *, decimals=0): return xp(x).round(x, decimals)
