"""Scaled dot-product attention: softmax(q kᵀ · scale + mask) v (Vaswani et al. 2017)."""

import math

import numpy as np

from minigen import kernels
from minigen.operands import accepts_arrays
from minigen.operation import op
from minigen.ops.linalg import matmul
from minigen.ops.math import where
from minigen.ops.reduce import softmax
from minigen.ops.shape import broadcast_to, swapaxes
from minigen.tensor import FLOATS, xp

__all__ = ["scaled_dot_product_attention"]


@op
def _attention(q, k, v, *, mask, is_causal, scale):
    o, lse = kernels.attention(_flat(q), _flat(k), _flat(v), _flat_mask(mask, q, k), is_causal,
                               scale)  # and log Σ e^scores, per query
    return o.reshape(*q.shape[:-1], v.shape[-1]), lse
@_attention.vjp
def _attention(g, y, q, k, v, *, mask, is_causal, scale):
    gradients = kernels.attention_backward(_flat(g.data), _flat(y.data), y.saved, _flat(q.data),
                                           _flat(k.data), _flat(v.data), _flat_mask(mask, q, k),
                                           is_causal, scale)
    return tuple(gx.reshape(x.shape) for gx, x in zip(gradients, (q, k, v), strict=True))
@_attention.composite
def _attention(q, k, v, *, mask, is_causal, scale):
    scores = matmul(q, swapaxes(k, -1, -2)) * scale
    if mask is not None and mask.dtype != bool:
        allowed = mask != -math.inf
        scores = scores + xp(mask).where(allowed, mask, 0)
    else:
        allowed = mask
    if is_causal:
        causal = xp(q.data).tri(q.shape[-2], k.shape[-2], dtype=bool)
        allowed = causal if allowed is None else allowed & causal
    if allowed is None:
        return matmul(softmax(scores), v)
    any_allowed = allowed.any(-1, keepdims=True)  # a query that may attend to no key gives 0
    scores = where(allowed | ~any_allowed, scores, -math.inf)
    return matmul(where(any_allowed, softmax(scores), 0.0), v)


def _flat(x):
    """An array (..., T, D) as (B, T, D)."""
    return x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


def _flat_mask(mask, q, k):
    """A mask that broadcasts to (..., T, S), if there is one, as (1 or B, T, S)."""
    if mask is None:
        return None
    lead = mask.shape[:-2] if math.prod(mask.shape[:-2]) == 1 else q.shape[:-2]
    return _flat(xp(mask).broadcast_to(mask, (*lead, q.shape[-2], k.shape[-2])))


def _shift_mask(mask, T, S, is_causal):
    """A float mask minus, for each query, its largest value. This changes only log Σ e^scores, in
    which a large offset would swallow the digits that the backward pass needs."""
    m = xp(mask)
    mask = m.where(m.tri(T, S, dtype=bool), mask, -math.inf) if is_causal else m.atleast_1d(mask)
    top = mask.max(-1, keepdims=True) if S else mask
    return mask - m.where(m.isfinite(top), top, 0)


@accepts_arrays("q", "k", "v", "attn_mask")
def scaled_dot_product_attention(q, k, v, attn_mask=None, *, is_causal=False, scale=None):
    """For each query, the mean of the values, weighted by the softmax over keys of q·k · scale.

    q is (..., T, D), k (..., S, D), v (..., S, E), the result (..., T, E); `scale` is 1/√D by
    default. `attn_mask` broadcasts to (..., T, S): boolean (True: may attend) or float (added to
    the scores, a constant). `is_causal` lets query t attend to keys 0…t only; if both are given,
    both must allow a key.
    """
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError("scaled_dot_product_attention: expected q (..., T, D), k (..., S, D), "
                         f"v (..., S, E), got {q.shape}, {k.shape}, {v.shape}")
    lead, mask = q.shape[:-2], attn_mask
    if mask is not None or not lead == k.shape[:-2] == v.shape[:-2]:
        T, S = q.shape[-2], k.shape[-2]
        try:
            lead = np.broadcast_shapes(lead, k.shape[:-2], v.shape[:-2])
            np.broadcast_to(np.empty(getattr(mask, "shape", ()), bool), (*lead, T, S))
        except ValueError:
            raise ValueError(
                f"scaled_dot_product_attention: the leading axes of q {q.shape}, k {k.shape}, v "
                f"{v.shape} must broadcast, attn_mask {getattr(mask, 'shape', '')} to (..., {T}, "
                f"{S})") from None
        q, k, v = (broadcast_to(x, shape=(*lead, *x.shape[-2:])) for x in (q, k, v))
    if mask is not None:
        if mask.requires_grad:
            raise TypeError("scaled_dot_product_attention has no derivative with respect to "
                            "attn_mask: pass attn_mask.detach()")
        if mask.dtype != bool and mask.dtype not in FLOATS:
            raise TypeError(f"scaled_dot_product_attention: attn_mask is {mask.dtype}, expected "
                            "bool, float32 or float64")
        mask = mask.data if mask.dtype == bool else _shift_mask(mask.data.astype(q.dtype), T, S,
                                                                is_causal)
    return _attention(q, k, v, mask=mask, is_causal=is_causal,
                      scale=1 / math.sqrt(q.shape[-1] or 1) if scale is None else float(scale))
