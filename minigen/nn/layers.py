"""Layers: the parameters of an op and a call to it, with PyTorch's names, options, weight layouts
and initial distributions. A layer is a plain object; ``rng`` draws its initial weights."""

from numbers import Integral

import numpy as np

from minigen import ops
from minigen.nn import initializers
from minigen.ops.conv import pair
from minigen.tensor import tensor, write, xp


class Linear:
    """y = x Wᵀ + b on the last axis; weight (out, in), bias (out,)."""

    def __init__(self, in_features, out_features, bias=True, rng=None):
        self.weight = initializers.parameter(out_features, in_features)
        self.bias = initializers.parameter(out_features) if bias else None
        self.init(initializers.generator(rng))

    def init(self, rng):
        initializers.linear(self.weight, self.bias, rng)

    def __call__(self, x):
        return ops.linear(x, self.weight, self.bias)


class Conv2d:
    """`minigen.conv2d`: (N, in, H, W) → (N, out, P, Q); weight (out, in/groups, R, S)."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1,
                 groups=1, bias=True, rng=None):
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv2d: groups {groups} must divide in_channels {in_channels} and "
                             f"out_channels {out_channels}")
        self.weight = initializers.parameter(out_channels, in_channels // groups,
                                         *pair("kernel_size", kernel_size))
        self.bias = initializers.parameter(out_channels) if bias else None
        self.options = {"stride": stride, "padding": padding, "dilation": dilation,
                        "groups": groups}
        self.init(initializers.generator(rng))

    def init(self, rng):
        initializers.linear(self.weight, self.bias, rng)

    def __call__(self, x):
        return ops.conv2d(x, self.weight, self.bias, **self.options)


class ConvTranspose2d:
    """`minigen.conv_transpose2d`: (N, in, P, Q) → (N, out, H, W); weight (in, out/groups, R, S)."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0,
                 output_padding=0, groups=1, bias=True, dilation=1, rng=None):
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"ConvTranspose2d: groups {groups} must divide in_channels "
                             f"{in_channels} and out_channels {out_channels}")
        self.weight = initializers.parameter(in_channels, out_channels // groups,
                                         *pair("kernel_size", kernel_size))
        self.bias = initializers.parameter(out_channels) if bias else None
        self.options = {"stride": stride, "padding": padding, "output_padding": output_padding,
                        "groups": groups, "dilation": dilation}
        self.init(initializers.generator(rng))

    def init(self, rng):
        initializers.linear(self.weight, self.bias, rng)

    def __call__(self, x):
        return ops.conv_transpose2d(x, self.weight, self.bias, **self.options)


class BatchNorm2d:
    """`minigen.batch_norm` over (N, C, H, W), or (N, C). In training it uses the batch's statistics
    and moves the running ones towards them by `momentum`; in evaluation it uses the latter."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True):
        if momentum is None:
            raise ValueError("BatchNorm: momentum must be a number, got None")
        self.eps, self.momentum, self.training = eps, momentum, True
        self.weight = initializers.parameter(num_features) if affine else None
        self.bias = initializers.parameter(num_features) if affine else None
        self.running_mean = tensor(np.zeros(num_features, np.float32))
        self.running_var = tensor(np.ones(num_features, np.float32))
        self.num_batches_tracked = tensor(np.zeros((), np.int64))
        self.init(None)

    def init(self, rng):
        initializers.affine(self.weight, self.bias)
        initializers.constant(self.running_mean, 0)
        initializers.constant(self.running_var, 1)
        initializers.constant(self.num_batches_tracked, 0)

    def __call__(self, x):
        if x.ndim < 2 or x.shape[1] != self.running_mean.size:
            raise ValueError(f"BatchNorm: x is {x.shape}, expected (N, {self.running_mean.size}, "
                             "...)")
        y = ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                           self.training, self.eps)
        if self.training:
            mean, _, var = y.saved
            n = x.size // x.shape[1]
            unbiased = var * (n / (n - 1))
            for buffer, new in ((self.running_mean, mean), (self.running_var, unbiased)):
                write(buffer, lambda a, new=new: a.__iadd__(self.momentum * (new - a)))
            write(self.num_batches_tracked, lambda a: a.__iadd__(1))
        return y


class BatchNorm1d(BatchNorm2d):
    """`BatchNorm2d` under PyTorch's name for inputs (N, C)."""


class GroupNorm:
    """`minigen.group_norm` over (N, C, ...)."""

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True):
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: {num_groups} groups do not divide {num_channels} "
                             "channels")
        self.num_groups, self.eps = num_groups, eps
        self.weight = initializers.parameter(num_channels) if affine else None
        self.bias = initializers.parameter(num_channels) if affine else None
        self.init(None)

    def init(self, rng):
        initializers.affine(self.weight, self.bias)

    def __call__(self, x):
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class GroupNormSiLU(GroupNorm):
    """`minigen.group_norm_silu` over (N, C, ...): the norm, then SiLU, in one pass."""

    def __call__(self, x):
        return ops.group_norm_silu(x, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm:
    """`minigen.layer_norm` over the last axes, of shape `normalized_shape`."""

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True):
        shape = (normalized_shape,) if isinstance(normalized_shape, Integral) else normalized_shape
        self.normalized_shape, self.eps = tuple(shape), eps
        self.weight = initializers.parameter(*shape) if elementwise_affine else None
        self.bias = initializers.parameter(*shape) if elementwise_affine else None
        self.init(None)

    def init(self, rng):
        initializers.affine(self.weight, self.bias)

    def __call__(self, x):
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class Embedding:
    """A learnt vector for each of `num_embeddings` integers: (...) → (..., embedding_dim). `std`:
    the standard deviation of its initial values."""

    def __init__(self, num_embeddings, embedding_dim, rng=None, std=1.0):
        self.weight, self.std = initializers.parameter(num_embeddings, embedding_dim), std
        self.init(initializers.generator(rng))

    def init(self, rng):
        initializers.normal(self.weight, self.std, rng)

    def __call__(self, indices):
        return ops.embedding(indices, self.weight)


class Parameter:
    """A learnt tensor `weight` of a shape, whose entries are all `value` at first. It has no call:
    what owns it computes with its weight. PyTorch's class of this name is the tensor itself."""

    def __init__(self, *shape, value=0.0):
        self.weight, self.value = initializers.parameter(*shape), value
        self.init(None)

    def init(self, rng):
        initializers.constant(self.weight, self.value)


class MultiheadAttention:
    """Several attention heads side by side, each on its own projection of the inputs (Vaswani et
    al. 2017): query (N, T, D), key and value (N, S, D) → (N, T, D), as PyTorch's with
    batch_first=True.

    `attn_mask` is that of `minigen.scaled_dot_product_attention`, boolean (True: may attend) or
    float, and broadcasts to (N, heads, T, S). In PyTorch's layer of this name a boolean mask means
    the opposite, and the attention weights are returned as well.
    """

    def __init__(self, embed_dim, num_heads, *, bias=True, rng=None):
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: {num_heads} heads do not divide {embed_dim}")
        self.num_heads = num_heads
        self.in_proj_weight = initializers.parameter(3 * embed_dim, embed_dim)
        self.in_proj_bias = initializers.parameter(3 * embed_dim) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        self.init(initializers.generator(rng))

    def init(self, rng):
        initializers.xavier_uniform(self.in_proj_weight, rng)
        self.out_proj.init(rng)
        if self.in_proj_bias is not None:
            initializers.constant(self.in_proj_bias, 0)
            initializers.constant(self.out_proj.bias, 0)

    def __call__(self, query, key, value, attn_mask=None, is_causal=False):
        shapes = [np.shape(x) for x in (query, key, value)]
        if any(len(shape) != 3 for shape in shapes):
            raise ValueError("MultiheadAttention: expected query (N, T, D), key and value (N, S, "
                             f"D), got {', '.join(map(str, shapes))}")
        biases = [None] * 3 if self.in_proj_bias is None else ops.split(self.in_proj_bias, 3)
        q, k, v = (ops.linear(x, w, b) for x, w, b in zip(
            (query, key, value), ops.split(self.in_proj_weight, 3), biases, strict=True))
        return self._attend(q, k, v, attn_mask, is_causal)

    def forward_cached(self, x, cache, is_causal=True):
        """The attention of positions x (N, T, D) to themselves and to the S positions before them,
        whose keys and values, concatenated, are the `cache` (N, S, 2 D): (N, T, D), and the cache
        for the positions that follow, (N, S + T, 2 D)."""
        q, kv = ops.split(self._in_proj(x), [x.shape[2]], -1)
        cache = ops.concatenate([cache, kv], axis=1)
        T, S = x.shape[1], cache.shape[1]
        attn_mask = None  # position t attends to all, or to those up to S − T + t
        if is_causal:
            attn_mask = xp(cache.data).tri(T, S, S - T, dtype=bool)
        return self._attend(q, *ops.split(cache, 2, -1), attn_mask), cache

    def _in_proj(self, x):
        return ops.linear(x, self.in_proj_weight, self.in_proj_bias)

    def _attend(self, q, k, v, attn_mask, is_causal=False):
        o = ops.scaled_dot_product_attention(*map(self._heads, (q, k, v)), attn_mask,
                                             is_causal=is_causal)
        return self.out_proj(ops.reshape(ops.swapaxes(o, 1, 2), q.shape))

    def _heads(self, x):
        N, T, D = x.shape
        return ops.swapaxes(ops.reshape(x, (N, T, self.num_heads, D // self.num_heads)), 1, 2)


class Dropout:
    """In training each element is set to 0 with probability p, the others are divided by 1 − p."""

    takes_rng = True

    def __init__(self, p=0.5):
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must lie in [0, 1), got {p}")
        self.p, self.training = p, True

    def __call__(self, x, rng=None):
        return ops.dropout(x, self.p, self.training, rng)


class Sequential(list):
    """Layers and plain functions, one after the other; a slice is a Sequential too. `rng` is passed
    to those with an attribute `takes_rng`, as `Dropout` has."""

    takes_rng = True

    def __init__(self, *layers):
        super().__init__(layers)

    def __getitem__(self, index):
        found = super().__getitem__(index)
        return Sequential(*found) if isinstance(index, slice) else found

    def __call__(self, x, rng=None):
        for layer in self:
            draws = rng is not None and getattr(layer, "takes_rng", False)
            x = layer(x, rng) if draws else layer(x)
        return x
