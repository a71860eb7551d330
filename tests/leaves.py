"""What the tests of the engine share: leaves of a graph, and the operators."""

import operator

import numpy as np

from minigen import tensor

F32, F64 = np.float32, np.float64
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


def leaf(*values, dtype=F64):
    return tensor(np.array(values, dtype), requires_grad=True)
