"""QLoRA: the frozen matrices that LoRA adapts take four bits a number (Dettmers et al. 2023).

    y = Ŵ x + (α/r) B A x        Ŵ: W, rounded to 4-bit NormalFloat

Each block of 64 numbers w of W is divided by its largest absolute value c, and of each quotient the
index of the nearest of 16 values q is stored, two in a byte:

    i = argmin_i |q_i − w / c|,    ŵ = c q_i

W is roughly normal, and so NF4's values are quantiles of N(0, 1), whose largest is scaled to 1: 7
below 0 and 8 above, at equal steps of probability on either side, and 0 itself,

    q ∝ Φ⁻¹(½ ± j s),    s = (p − ½) / 8 above 0 and (p − ½) / 7 below,    p = 1 − (1/32 + 1/30)/2

As W is scaled by c, not by its standard deviation, the indices are not quite equally frequent.

The constants c are quantised too, minus their mean, in the same way: 8-bit floats, and a constant
c₂ for each block of 256. In all W takes 4 + 8/64 + 32/(64·256) = 4.127 bits per number; with the
constants as 32-bit floats it would be 4.5.

Gradients flow through Ŵ to the inputs, and so to the adapters below, but not to Ŵ, which is
computed anew, for the backward pass as well, and not kept.

Differs from the paper: embeddings, norms and biases are 32-bit floats, as are all computations (16
bits there); the optimiser's state is not paged.
"""

from statistics import NormalDist

import numpy as np

from minigen import kernels, matmul, tensor
from minigen.models.multimodal.lora import LoRA, frozen, replace
from minigen.operation import op
from minigen.tensor import to_device_of, xp


def normal_float():
    """NF4's 16 values, ascending."""
    p = 1 - (1 / 32 + 1 / 30) / 2  # eq: nf4-values
    below, above = np.linspace(1 - p, 0.5, 8), np.linspace(0.5, p, 9)  # eq: nf4-values
    q = np.array([NormalDist().inv_cdf(p) for p in (*below, *above[1:])])
    return (q / q[-1]).astype(np.float32)  # eq: nf4-values


def float8():
    """The values of an 8-bit float, with 4 bits of exponent and 3 of mantissa, scaled to [−1, 1],
    ascending."""
    exponent, mantissa = np.arange(1, 16), np.arange(8) / 8
    x = np.append(2.0 ** exponent[:, None] * (1 + mantissa), 2 * mantissa)  # the latter subnormal
    x = np.delete(x, 15 * 8 - 1)  # this one stands for NaN
    return np.unique([-x, x]).astype(np.float32) / np.float32(x.max())


NF4, FP8 = normal_float(), float8()
BLOCK, CONSTANTS = 64, 256  # the sizes of the blocks of W, and of the constants


def quantise(x, code, size):
    """Numbers x (n,) in blocks of `size`: the indices, uint8 (n,), of those values of `code` that
    are nearest to x / c, and c, the largest absolute value of each block."""
    blocks = np.pad(x, (0, -len(x) % size)).reshape(-1, size)
    c = np.abs(blocks).max(1)
    scaled = blocks / np.where(c > 0, c, 1)[:, None]  # eq: blockwise-quantisation
    index = np.searchsorted((code[1:] + code[:-1]) / 2, scaled)  # eq: blockwise-quantisation
    return index.ravel()[:len(x)].astype(np.uint8), c


def dequantise(index, c, code, size):
    """The inverse of `quantise`, up to rounding: (n,)."""
    c = xp(index).repeat(c, size)[:len(index)]
    return c * to_device_of(code, index)[index]  # eq: blockwise-quantisation


class NF4Matrix:
    """A matrix W in four bits a number: `packed` holds two indices in a byte, `constants` the
    indices of c − `mean`, `scales` the c₂. `data`: Ŵ, float32, of `shape`."""

    def __init__(self, W):
        if W.size % 2:
            raise ValueError(f"NF4Matrix: W is {W.shape}, expected an even number of entries: two "
                             "are stored in a byte")
        self.shape = W.shape
        index, c = quantise(W.numpy().ravel(), NF4, BLOCK)
        mean = c.mean(keepdims=True)
        constants, scales = quantise(c - mean, FP8, CONSTANTS)  # eq: double-quantisation
        self.packed = tensor(index[::2] << 4 | index[1::2])
        self.constants, self.scales, self.mean = tensor(constants), tensor(scales), tensor(mean)

    @property
    def data(self):
        packed = self.packed.data
        index = xp(packed).stack([packed >> 4, packed & 15], axis=1).reshape(-1)
        c = dequantise(self.constants.data, self.scales.data, FP8, CONSTANTS)
        c = c + self.mean.data  # eq: double-quantisation
        return dequantise(index, c, NF4, BLOCK).reshape(self.shape)


@op
def nf4_linear(x, *, W): return kernels.matmul(x, W.data.astype(x.dtype).T, None)  # eq: qlora
@nf4_linear.vjp
def nf4_linear(g, *, W): return matmul(g, W.data.astype(g.dtype))  # eq: qlora


class NF4Linear:
    """y = Ŵ x + b, frozen: what an `nn.Linear` becomes."""

    def __init__(self, layer):
        self.weight, self.bias = NF4Matrix(layer.weight), layer.bias

    def __call__(self, x):
        """(..., k) → (..., d)."""
        y = nf4_linear(x.reshape(-1, x.shape[-1]), W=self.weight)
        return y.reshape(*x.shape[:-1], -1) + self.bias


def qlora(lm, r=4, alpha=8.0, rng=None):
    """A frozen copy of the language model `lm` with LoRA, whose blocks' matrices are quantised."""
    lm = frozen(lm)
    replace(lm, lambda layer: LoRA(NF4Linear(layer), r, alpha, rng))
    return lm
