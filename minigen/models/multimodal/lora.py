"""LoRA: a frozen language model learns a task by matrices of low rank (Hu et al. 2021).

    h = W x + (α/r) B A x        W (d, k) frozen; A (r, k) and B (d, r) trained; r ≪ min(d, k)

At first A is random and B = 0, so training starts from the frozen model. The gradient, Adam's
moments and what has to be stored for a task are of the size of A and B alone. To use the model, the
update can be added to the matrix, W + (α/r) B A, and then costs no time.

Differs from the paper: all matrices of each block are adapted, as in QLoRA, not only those of the
queries and values; those of queries, keys and values are one matrix (3 D, D) here, with one A.
"""

import copy
import math

from minigen import nn, split, tensor
from minigen.nn import initializers
from minigen.ops import linear


class LoRA:
    """A frozen `layer`, with `weight` W (d, k), whose output is adapted: (..., k) → (..., d). r:
    the rank; α: the scale of the update, times r."""

    def __init__(self, layer, r=4, alpha=8.0, rng=None):
        d, k = layer.weight.shape
        if r < 1:
            raise ValueError(f"LoRA: the rank is {r}, expected at least 1")
        self.layer, self.scale = layer, alpha / r
        self.A, self.B = initializers.parameter(r, k), initializers.parameter(d, r)
        self.init(initializers.generator(rng))

    def init(self, rng):
        initializers.normal(self.A, 1 / math.sqrt(self.A.shape[1]), rng)
        initializers.constant(self.B, 0)

    def __call__(self, x):
        return self.layer(x) + self.scale * linear(linear(x, self.A), self.B)  # eq: lora

    def merged(self):
        """The same as one `nn.Linear`."""
        layer = nn.Linear(*self.layer.weight.shape[::-1])
        W, update = self.layer.weight.data, self.scale * self.B.data @ self.A.data
        layer.weight, layer.bias = tensor(W + update), self.layer.bias  # eq: lora
        return layer


class SelfAttention(nn.MultiheadAttention):
    """An `nn.MultiheadAttention` of positions to themselves, whose matrices belong to two layers
    that can be replaced: `in_proj`, D → 3 D, and `out_proj`."""

    def __init__(self, attention):
        self.num_heads, self.out_proj = attention.num_heads, attention.out_proj
        self.in_proj = copy.copy(attention.out_proj)
        self.in_proj.weight = attention.in_proj_weight
        self.in_proj.bias = attention.in_proj_bias

    def __call__(self, query, key, value, attn_mask=None, is_causal=False):
        if not query is key is value:
            raise ValueError("SelfAttention: query, key and value must be one tensor")
        return self._attend(*split(self._in_proj(query), 3, -1), attn_mask, is_causal)

    def _in_proj(self, x):
        return self.in_proj(x)


def frozen(model):
    """A copy of a model, whose parameters are buffers: no training changes them."""
    model = copy.deepcopy(model)
    for p in nn.parameters(model).values():
        p.requires_grad = False
    return model


def frozen_bytes(model):
    """The bytes of a model's buffers: of all its tensors that are not trained."""
    return sum(t.data.nbytes for t in nn.buffers(model).values())


def replace(lm, wrap):
    """In each block of the language model `lm`, put wrap(layer) in the place of the four layers
    that have a matrix: in_proj and out_proj of the attention, and the two of the MLP."""
    for block in lm.blocks:
        if type(block.attention) is nn.MultiheadAttention:
            block.attention = SelfAttention(block.attention)
        attention = vars(block.attention)
        for layers, at in ((attention, "in_proj"), (attention, "out_proj"),
                           (block.mlp, 0), (block.mlp, 2)):
            layers[at] = wrap(layers[at])


def lora(lm, r=4, alpha=8.0, rng=None):
    """A frozen copy of the language model `lm` with LoRA; A and B are its parameters."""
    lm = frozen(lm)
    replace(lm, lambda layer: LoRA(layer, r, alpha, rng))
    return lm
