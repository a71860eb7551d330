"""The time-consuming operations, written by hand: one callable per kernel (common.Kernel).

    kernels.conv2d(x, w, b, stride, padding, dilation, groups)   picks a version by array type
    kernels.conv2d.reference, kernels.conv2d.cpu                 the versions themselves
    with kernels.version("reference"): ...                       forces one, as does the variable
    MINIGEN_KERNELS=reference                                    for the whole process
"""

from .activation import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softplus,
    tanh,
    tanh_backward,
)
from .arithmetic import add, divide, maximum, minimum, multiply, subtract
from .attention import attention, attention_backward
from .batch_norm import batch_norm, batch_norm_backward
from .common import version
from .conv2d import conv2d
from .conv2d_weight import conv2d_weight
from .conv_transpose2d import conv_transpose2d
from .cross_entropy import cross_entropy, cross_entropy_backward
from .cuda import PRECISIONS, precision
from .cumsum import cumsum
from .elementary import absolute, clip, erf, exp, expm1, log, log1p, sign, sqrt
from .group_norm import group_norm, group_norm_backward
from .join import join
from .layer_norm import layer_norm, layer_norm_backward
from .matmul import matmul
from .optim import adam, ema, rmsprop, sgd
from .philox import random_bits, random_normal, random_uniform
from .pool import avg_pool2d, avg_pool2d_transpose, max_pool2d, max_pool2d_at, max_unpool2d
from .select import select
from .softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from .sums import axis_sum, channel_sum, square_sum
from .trigonometric import arctan, cos, sin, tan
from .upsample import (
    upsample_bilinear,
    upsample_bilinear_transpose,
    upsample_nearest,
    upsample_nearest_transpose,
)

__all__ = [
    "PRECISIONS", "absolute", "adam", "add", "arctan", "attention", "attention_backward",
    "avg_pool2d", "avg_pool2d_transpose", "axis_sum", "batch_norm", "batch_norm_backward",
    "channel_sum", "clip", "conv2d", "conv2d_weight", "conv_transpose2d", "cos", "cross_entropy",
    "cross_entropy_backward", "cumsum", "divide", "elu", "elu_backward", "ema", "erf", "exp",
    "expm1", "gelu", "gelu_backward", "group_norm", "group_norm_backward", "join", "layer_norm",
    "layer_norm_backward", "leaky_relu", "leaky_relu_backward", "log", "log1p", "log_softmax",
    "log_softmax_backward", "matmul", "max_pool2d", "max_pool2d_at", "max_unpool2d", "maximum",
    "minimum", "multiply", "precision", "random_bits", "random_normal", "random_uniform", "relu",
    "relu_backward", "rmsprop", "select", "sgd", "sigmoid", "sigmoid_backward", "silu",
    "silu_backward", "sign", "sin", "softmax", "softmax_backward", "softplus", "sqrt", "square_sum",
    "subtract", "tan", "tanh", "tanh_backward", "upsample_bilinear", "upsample_bilinear_transpose",
    "upsample_nearest", "upsample_nearest_transpose", "version",
]
