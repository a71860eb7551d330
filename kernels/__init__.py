"""The operations that take the time, written by hand: one callable per kernel (common.Kernel).

    kernels.conv2d(x, w, b, stride, padding, dilation, groups)   picks a version by kind of array
    kernels.conv2d.reference, kernels.conv2d.cpu                 the versions themselves
    MINIGEN_KERNELS=reference                                    forces one, for reading and testing
"""

from .conv2d import conv2d
from .conv2d_weight import conv2d_weight
from .conv_transpose2d import conv_transpose2d
from .matmul import matmul
from .optim import adam, rmsprop, sgd

__all__ = ["adam", "conv2d", "conv2d_weight", "conv_transpose2d", "matmul", "rmsprop", "sgd"]
