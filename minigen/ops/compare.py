"""Comparisons, and operations on booleans. `grad` refuses to go through them."""

import numpy as np

from minigen.operation import op
from minigen.tensor import Tensor, as_array, to_device_of, xp

__all__ = [
    "equal", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_not",
    "logical_or", "not_equal",
]


def _comparison(name, symbol):
    def compare(a, b):
        a, b = (v.data if isinstance(v, Tensor) else v.item() if isinstance(v, np.generic)
                else v if isinstance(v, (int, float)) else as_array(v, f"{name}: {key}: ")
                for key, v in (("a", a), ("b", b)))
        m = xp(a, b)
        if m is not np:
            like = b if xp(a) is np else a
            a, b = (to_device_of(v, like) if isinstance(v, np.ndarray) else v for v in (a, b))
        try:
            return Tensor(m.asarray(getattr(m, name)(a, b)))
        except ValueError as e:
            raise ValueError(f"{name}(a: {np.shape(a)}, b: {np.shape(b)}): {e}") from e
    compare.__name__ = name
    compare.__doc__ = f"a {symbol} b, element by element: untracked booleans."
    return compare

equal = _comparison("equal", "==")
not_equal = _comparison("not_equal", "!=")
less = _comparison("less", "<")
less_equal = _comparison("less_equal", "<=")
greater = _comparison("greater", ">")
greater_equal = _comparison("greater_equal", ">=")

def _check_booleans(*arrays):
    for a in arrays:
        if not (isinstance(a, bool) or hasattr(a, "dtype") and a.dtype == bool):
            raise TypeError("needs booleans: compare first, for example x > 0")

@op
def logical_and(a, b):
    """Whether both hold, for booleans."""
    _check_booleans(a, b)
    return xp(a, b).logical_and(a, b)

@op
def logical_or(a, b):
    """Whether one of them holds, for booleans."""
    _check_booleans(a, b)
    return xp(a, b).logical_or(a, b)

@op
def logical_not(x):
    """Whether x does not hold, for booleans."""
    _check_booleans(x)
    return xp(x).logical_not(x)
