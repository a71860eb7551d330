"""Every operation, and the operators and methods of `Tensor`, which are the same functions."""

from minigen.ops import (
    activation,
    attention,
    compare,
    conv,
    indexing,
    linalg,
    loss,
    math,
    pool,
    reduce,
    shape,
    special,
)
from minigen.ops import norm as norms
from minigen.ops.activation import *
from minigen.ops.attention import *
from minigen.ops.compare import *
from minigen.ops.conv import *
from minigen.ops.indexing import *
from minigen.ops.linalg import *
from minigen.ops.loss import *
from minigen.ops.math import *
from minigen.ops.norm import *
from minigen.ops.pool import *
from minigen.ops.reduce import *
from minigen.ops.shape import *
from minigen.ops.special import *
from minigen.tensor import Tensor

__all__ = [name for module in (activation, attention, compare, conv, indexing, linalg, loss, math,
                               norms, pool, reduce, shape, special) for name in module.__all__]

for name in ("abs", "all", "any", "argmax", "argmin", "argsort", "astype", "clip", "cumsum", "exp",
             "expand_dims", "flatten", "log", "logsumexp", "max", "mean", "min", "moveaxis", "norm",
             "prod", "repeat", "reshape", "round", "sigmoid", "softmax", "sort", "sqrt", "squeeze",
             "std", "sum", "swapaxes", "take", "tanh", "transpose", "var"):
    setattr(Tensor, name, globals()[name])

Tensor.__add__ = Tensor.__radd__ = add
Tensor.__mul__ = Tensor.__rmul__ = multiply
Tensor.__sub__, Tensor.__rsub__ = subtract, lambda b, a: subtract(a, b)
Tensor.__truediv__, Tensor.__rtruediv__ = divide, lambda b, a: divide(a, b)
Tensor.__pow__, Tensor.__rpow__ = power, lambda b, a: power(a, b)
Tensor.__matmul__, Tensor.__rmatmul__ = matmul, lambda b, a: matmul(a, b)
def _in_place(operator):
    """An assignment such as a += b, which binds the name a to a new tensor."""
    def call(a, b):
        if a.requires_grad and not a.node:
            raise TypeError("an assignment such as p -= … makes a new tensor and leaves the "
                            "parameter as it was: let an optimiser step, or write p = p - …")
        return operator(a, b)
    return call

for name in ("add", "sub", "mul", "truediv", "pow", "matmul"):
    setattr(Tensor, f"__i{name}__", _in_place(getattr(Tensor, f"__{name}__")))

Tensor.__neg__, Tensor.__pos__, Tensor.__abs__ = negative, lambda x: x, abs
Tensor.__getitem__ = getitem
Tensor.__eq__ = lambda a, b: NotImplemented if b is None or isinstance(b, str) else equal(a, b)
Tensor.__ne__ = lambda a, b: NotImplemented if b is None or isinstance(b, str) else not_equal(a, b)
Tensor.__lt__, Tensor.__le__ = less, less_equal
Tensor.__gt__, Tensor.__ge__ = greater, greater_equal
Tensor.__and__ = Tensor.__rand__ = logical_and
Tensor.__or__ = Tensor.__ror__ = logical_or
Tensor.__invert__ = logical_not
Tensor.T = property(transpose)
