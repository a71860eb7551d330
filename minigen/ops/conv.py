"""Convolution, transposed convolution, and the gradient of the weight.

A convolution is linear in its input, y = C x (C depends on the weight); transposed convolution is
multiplication by Cᵀ, which is also what back-propagation through a convolution does. y is linear in
the weight too, and the gradient of the weight is the third op. The derivatives of each of the three
are the other two, so three kernels give derivatives of every order.
"""

import numpy as np

from minigen import kernels
from minigen.kernels.columns import conv_output_size
from minigen.operands import accepts_arrays
from minigen.operation import op
from minigen.ops.reduce import sum

__all__ = ["conv2d", "conv2d_weight", "conv_output_size", "conv_transpose2d",
           "conv_transpose_output_size"]


@op
def _conv2d(x, w, b, *, stride, padding, dilation, groups):
    return kernels.conv2d(x, w, b, stride, padding, dilation, groups)
@_conv2d.vjp
def _conv2d(g, x, w, **kw):
    size = x.shape[2:]
    return (lambda: _conv_transpose2d(g, w, None, size=size, **kw),  # eq: tconv-is-conv-backward
            lambda: _conv2d_weight(g, x, size=w.shape[2:], **kw),
            lambda: sum(g, axis=(0, 2, 3)))

@op
def _conv_transpose2d(x, w, b, *, size, stride, padding, dilation, groups):
    # Cᵀ x, or equivalently: zeros between the pixels of x, then convolution with the flipped filter
    return kernels.conv_transpose2d(
        x, w, b, size, stride, padding,
        dilation, groups)  # eq: tconv-as-transpose, fractional-stride-conv
@_conv_transpose2d.vjp
def _conv_transpose2d(g, x, w, *, size, **kw):
    return (lambda: _conv2d(g, w, None, **kw),
            lambda: _conv2d_weight(x, g, size=w.shape[2:], **kw),
            lambda: sum(g, axis=(0, 2, 3)))

@op
def _conv2d_weight(g, x, *, size, stride, padding, dilation, groups):
    return kernels.conv2d_weight(g, x, size, stride, padding, dilation, groups)
@_conv2d_weight.vjp
def _conv2d_weight(gw, g, x, *, size, **kw):
    return (lambda: _conv2d(x, gw, None, **kw),
            lambda: _conv_transpose2d(g, gw, None, size=x.shape[2:], **kw))


@accepts_arrays("x", "w")
def conv2d(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolution (in the sense of deep learning: the filter is not flipped)

        y[n,k,p,q] = b[k] + Σ_{c,r,s} x[n, c, p·stride + r·dilation − padding, q·…] w[k,c,r,s]

    x is (N, C, H, W), w is (K, C/groups, R, S), b is (K,); the result (N, K, P, Q). Each option is
    a number or a pair (height, width); padding may be "valid" or "same" (at stride 1).
    """
    stride, dilation = pair("stride", stride), pair("dilation", dilation)
    if padding == "same":
        if w.ndim != 4:
            raise ValueError(f"conv2d: expected w (K, C/groups, R, S), got {w.shape}")
        if stride != (1, 1):
            raise ValueError(f'conv2d: padding="same" needs stride 1, got {stride}')
        total = [d * (k - 1) for d, k in zip(dilation, w.shape[2:], strict=True)]
        if any(t % 2 for t in total):
            raise ValueError(f'conv2d: padding="same" needs an odd filter, got {w.shape[2:]}: '
                             "pad x first with minigen.pad")
        padding = [t // 2 for t in total]
    elif padding == "valid":
        padding = 0
    elif isinstance(padding, str):
        raise ValueError(f'conv2d: padding must be "valid", "same", an integer or a pair of them, '
                         f"got {padding!r}")
    padding = pair("padding", padding, 0)
    return _conv2d(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv2d_weight(g, x, size, stride=1, padding=0, dilation=1, groups=1):
    """The gradient of a convolution's weight: g is (N, K, P, Q), x is (N, C, H, W), `size` is (R,
    S), the result (K, C/groups, R, S)."""
    return _conv2d_weight(g, x, size=pair("size", size), stride=pair("stride", stride),
                          padding=pair("padding", padding, 0), dilation=pair("dilation", dilation),
                          groups=groups)


@accepts_arrays("x", "w")
def conv_transpose2d(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution: multiplication by the transpose of the matrix that `conv2d` with the
    same options multiplies by.

    x is (N, K, P, Q), w is (K, C/groups, R, S), b is (C,), the result (N, C, H, W). Its size is
    `conv_transpose_output_size`; `output_padding` < stride chooses among the sizes that the
    convolution maps to (P, Q).
    """
    stride, dilation = pair("stride", stride), pair("dilation", dilation)
    padding, extra = pair("padding", padding, 0), pair("output_padding", output_padding, 0)
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(f"conv_transpose2d: expected x (N, K, P, Q) and w (K, C/groups, R, S), "
                         f"got {x.shape} and {w.shape}")
    if any(e >= s for e, s in zip(extra, stride, strict=True)):
        raise ValueError(f"conv_transpose2d: output_padding {extra} must be smaller than stride "
                         f"{stride}")
    size = tuple(conv_transpose_output_size(i, k, s, p, e, d) for i, k, s, p, e, d in zip(
        x.shape[2:], w.shape[2:], stride, padding, extra, dilation, strict=True))
    if min(size) < 1:
        raise ValueError(f"conv_transpose2d: padding {padding} is too large: x is {x.shape}, w "
                         f"{w.shape}, the result would be of {size} pixels")
    return _conv_transpose2d(x, w, b, size=size, stride=stride, padding=padding,
                             dilation=dilation, groups=groups)


def conv_transpose_output_size(i, k, s=1, p=0, p_out=0, d=1):
    """The length of a transposed convolution's output: (i − 1)s − 2p + d(k − 1) + 1 + p_out.

    For a 2×2 input, a 3×3 filter and stride 1, the slide prints an output of 3×3; it is 4×4. For
    3×3 take s = 2, p = 1."""
    return (i - 1) * s - 2 * p + d * (k - 1) + 1 + p_out  # eq: tconv-output-size


def pair(name, value, minimum=1):
    """`value` as (height, width)."""
    both = value if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2 or not all([isinstance(n, (int, np.integer)) and n >= minimum for n in both]):
        raise ValueError(f"{name} must be an integer or a pair of them, at least {minimum}, "
                         f"got {value!r}")
    return int(both[0]), int(both[1])
