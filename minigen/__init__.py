"""minigen: five university lectures on generative models, as software.

Notation, the same in every file:

    x  data            z  latent          y  label, or an op's result    eps  ε, noise
    mu, logvar         mean and log σ² of a normal distribution
    g, gx, gw          cotangents: ∂L/∂y, ∂L/∂x, ∂L/∂w
    N C H W            batch, channels, height, width of an image
    K R S, P Q         filters, their height and width; height and width of a convolution's output
    B T D              batch, sequence length, features
"""

from pathlib import Path

_root = Path(__file__).resolve().parent.parent
if (_root / "kernels" / "conv2d.py").exists():  # a checkout: kernels/ is beside minigen/
    __path__.append(str(_root))

from minigen import dist, nn, ops, optim  # noqa: E402
from minigen.autodiff import grad  # noqa: E402
from minigen.gradcheck import gradcheck  # noqa: E402
from minigen.operation import op  # noqa: E402
from minigen.ops import *  # noqa: E402, F403
from minigen.tensor import Tensor, no_grad, tensor  # noqa: E402

__all__ = ["Tensor", "dist", "grad", "gradcheck", "nn", "no_grad", "op", "ops", "optim", "tensor",
           *ops.__all__]
