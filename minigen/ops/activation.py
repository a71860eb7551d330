"""The non-linearities of neural networks, with PyTorch's names and defaults."""

import math

from minigen import kernels
from minigen.autodiff import op
from minigen.operands import lifted
from minigen.ops.math import abs, erf, exp, expm1, keep, minimum, tanh, where
from minigen.tensor import xp

__all__ = ["elu", "gelu", "leaky_relu", "logsigmoid", "relu", "sigmoid", "silu", "softplus"]


@op
def relu(x):
    """max(x, 0)."""
    return kernels.relu(x)
@relu.vjp
def relu(g, y, x): return kernels.relu_backward(g.data, y.data)
@relu.composite
def relu(x): return keep(x, mask=~(x.data <= 0))

@op
def leaky_relu(x, *, negative_slope=0.01):
    """x where x > 0, negative_slope · x elsewhere."""
    return kernels.leaky_relu(x, negative_slope)
@leaky_relu.vjp
def leaky_relu(g, y, x, *, negative_slope=0.01):
    return kernels.leaky_relu_backward(g.data, x.data, negative_slope)
@leaky_relu.composite
def leaky_relu(x, *, negative_slope=0.01): return where(x > 0, x, negative_slope * x)

@op
def elu(x, *, alpha=1.0):
    """x where x > 0, α(e^x − 1) elsewhere; α > 0."""
    if alpha <= 0:
        raise ValueError(f"elu: alpha must be positive, got {alpha}")
    return kernels.elu(x, alpha)
@elu.vjp
def elu(g, y, x, *, alpha=1.0): return kernels.elu_backward(g.data, y.data, alpha)
@elu.composite
def elu(x, *, alpha=1.0): return relu(x) + alpha * expm1(minimum(x, 0.0))

@op
def sigmoid(x):
    """σ(x) = 1 / (1 + e^(−x))."""
    return kernels.sigmoid(x)
@sigmoid.vjp
def sigmoid(g, y, x): return kernels.sigmoid_backward(g.data, y.data)
@sigmoid.composite
def sigmoid(x): return exp(minimum(x, 0.0)) / (1 + exp(-abs(x)))

@op
def silu(x):
    """x σ(x), also called swish."""
    return kernels.silu(x)
@silu.vjp
def silu(g, y, x): return kernels.silu_backward(g.data, x.data)
@silu.composite
def silu(x): return x * sigmoid(x)

@lifted("x")
def logsigmoid(x):
    """log σ(x) = −softplus(−x), accurate where σ(x) rounds to 0."""
    return -softplus(-x, threshold=math.inf)

@op
def softplus(x, *, beta=1.0, threshold=20.0):
    """log(1 + e^(βx)) / β; the line x where βx > threshold, as in PyTorch."""
    z = beta * x
    soft = xp(x).maximum(z, 0) + xp(x).log1p(xp(x).exp(-xp(x).abs(z)))
    return xp(x).where(z > threshold, x, soft / beta)
@softplus.vjp
def softplus(g, y, x, *, beta=1.0, threshold=20.0):
    return where(x * beta > threshold, g, g * sigmoid(x * beta))

@lifted("x")
def gelu(x, approximate="none"):
    """x Φ(x), Φ the distribution function of N(0, 1); "tanh" is the paper's approximation
    (Hendrycks & Gimpel 2016)."""
    if approximate == "tanh":
        return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    if approximate != "none":
        raise ValueError(f'gelu: approximate must be "none" or "tanh", got {approximate!r}')
    return 0.5 * x * (1 + erf(x * (1 / math.sqrt(2))))
