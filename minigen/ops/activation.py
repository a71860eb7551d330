"""The non-linearities of neural networks, with PyTorch's names and defaults."""

import math

from minigen import kernels
from minigen.operands import accepts_arrays
from minigen.operation import op
from minigen.ops.math import apply_mask, as_float, elementary, square, where
from minigen.ops.special import erf
from minigen.tensor import xp

__all__ = ["elu", "gelu", "leaky_relu", "logsigmoid", "relu", "sigmoid", "silu", "softplus"]


@op
def relu(x):
    """max(x, 0)."""
    return kernels.relu(x)
@relu.vjp
def relu(g, y): return _relu_backward(g, y=y.data)

@op
def _relu_backward(g, *, y): return kernels.relu_backward(g, y)  # linear, and its own transpose
@_relu_backward.vjp
def _relu_backward(gg, *, y): return _relu_backward(gg, y=y)

@op
def leaky_relu(x, *, negative_slope=0.01):
    """x where x > 0, negative_slope · x elsewhere."""
    return kernels.leaky_relu(x, negative_slope)
@leaky_relu.vjp
def leaky_relu(g, x, **kw): return _leaky_relu_backward(g, x, **kw)

@op
def _leaky_relu_backward(g, x, *, negative_slope=0.01):  # linear in g, and its own transpose
    return kernels.leaky_relu_backward(g, x, negative_slope)
@_leaky_relu_backward.vjp
def _leaky_relu_backward(gg, x, **kw): return lambda: _leaky_relu_backward(gg, x, **kw), None

@op
def elu(x, *, alpha=1.0):
    """x where x > 0, α(e^x − 1) elsewhere; α > 0."""
    if alpha <= 0:
        raise ValueError(f"elu: alpha must be positive, got {alpha}")
    return kernels.elu(x, alpha)
@elu.vjp
def elu(g, y, *, alpha): return _elu_backward(g, y, alpha=alpha)

@op
def _elu_backward(g, e, *, alpha):
    """g where e = elu(x) > 0, g (e + α) elsewhere."""
    return kernels.elu_backward(g, e, alpha)
@_elu_backward.vjp
def _elu_backward(gg, g, e, *, alpha):
    return lambda: _elu_backward(gg, e, alpha=alpha), lambda: apply_mask(gg * g, mask=e.data <= 0)

@op
def sigmoid(x):
    """σ(x) = 1 / (1 + e^(−x))."""
    return kernels.sigmoid(x)
@sigmoid.vjp
def sigmoid(g, y): return _sigmoid_backward(g, y)

@op
def _sigmoid_backward(g, s):
    """g s (1 − s), for s = σ(x)."""
    return kernels.sigmoid_backward(g, s)
@_sigmoid_backward.vjp
def _sigmoid_backward(gg, g, s):
    return lambda: _sigmoid_backward(gg, s), lambda: gg * g * (1 - 2 * s)

@op
def silu(x):
    """x σ(x), also called swish."""
    return kernels.silu(x)
@silu.vjp
def silu(g, x): return kernels.silu_backward(g.data, x.data)
@silu.composite
def silu(x): return x * sigmoid(x)

@accepts_arrays("x")
def logsigmoid(x):
    """log σ(x) = −softplus(−x), accurate where σ(x) rounds to 0."""
    return -softplus(-1.0 * x, threshold=math.inf)  # −x would wrap around for bytes

@op
def softplus(x, *, beta=1.0, threshold=20.0):
    """log(1 + e^(βx)) / β; x itself where βx > threshold, as in PyTorch."""
    x = as_float(x)
    z = x if beta == 1 else beta * x
    y = elementary(kernels.softplus, z)
    y = y if beta == 1 else y / beta
    return y if threshold == math.inf else xp(x).where(z > threshold, x, y)
@softplus.vjp
def softplus(g, x, *, beta, threshold):
    z = x if beta == 1 else x * beta
    return g * sigmoid(z) if threshold == math.inf else where(z > threshold, g, g * sigmoid(z))

@accepts_arrays("x")
def gelu(x, approximate="none"):
    """x Φ(x), Φ the cumulative distribution function of N(0, 1); "tanh" selects the paper's
    approximation (Hendrycks & Gimpel 2016)."""
    if approximate == "tanh":
        # ½ (1 + tanh u) = σ(2u)
        return x * sigmoid(math.sqrt(8 / math.pi) * x * (1 + 0.044715 * square(x)))
    if approximate != "none":
        raise ValueError(f'gelu: approximate must be "none" or "tanh", got {approximate!r}')
    return _gelu(x)

@op
def _gelu(x):
    """x Φ(x)."""
    return kernels.gelu(x)
@_gelu.vjp
def _gelu(g, x): return kernels.gelu_backward(g.data, x.data)
@_gelu.composite
def _gelu(x): return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))
