"""Scaled dot-product attention: softmax(q kᵀ · scale + mask) v (Vaswani et al. 2017)."""

import math

import numpy as np

from minigen import kernels
from minigen.autodiff import op
from minigen.operands import lifted
from minigen.ops.linalg import matmul
from minigen.ops.math import where
from minigen.ops.reduce import softmax
from minigen.ops.shape import broadcast_to, reshape, swapaxes
from minigen.tensor import xp

__all__ = ["scaled_dot_product_attention"]


@op
def _attention(q, k, v, *, mask, is_causal, scale):
    return kernels.attention(q, k, v, mask, is_causal, scale)  # o and log Σ e^scores, per query
@_attention.vjp
def _attention(g, y, q, k, v, *, mask, is_causal, scale):
    return kernels.attention_backward(g.data, y.data, y.saved, q.data, k.data, v.data,
                                      mask, is_causal, scale)
@_attention.composite
def _attention(q, k, v, *, mask, is_causal, scale):
    scores = matmul(q, swapaxes(k, -1, -2)) * scale
    if mask is not None and mask.dtype != bool:
        scores = scores + mask
    allowed = mask if mask is not None and mask.dtype == bool else None
    if is_causal:
        causal = xp(q.data).tri(q.shape[-2], k.shape[-2], dtype=bool)
        allowed = causal if allowed is None else allowed & causal
    if allowed is None:
        return matmul(softmax(scores), v)
    some = allowed.any(-1, keepdims=True)  # a query that may look at nothing gives 0
    return matmul(where(some, softmax(where(allowed | ~some, scores, -math.inf)), 0.0), v)


@lifted("q", "k", "v", "attn_mask")
def scaled_dot_product_attention(q, k, v, attn_mask=None, *, is_causal=False, scale=None):
    """For each query a mean of the values, weighted by softmax over the keys of q·k · scale.

    q is (..., T, D), k (..., S, D), v (..., S, E), the result (..., T, E); `scale` is 1/√D by
    default. `attn_mask` broadcasts to (..., T, S): boolean (True: may look) or float (added to the
    scores, a constant). `is_causal` lets query t look at keys 0…t; both together must allow.
    """
    if q.ndim < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError("scaled_dot_product_attention: expected q (..., T, D), k (..., S, D), "
                         f"v (..., S, E), got {q.shape}, {k.shape}, {v.shape}")
    T, S, D, E = *q.shape[-2:-1], *v.shape[-2:-1], q.shape[-1], v.shape[-1]
    try:
        lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        if attn_mask is not None:
            np.broadcast_to(np.empty(attn_mask.shape, bool), (*lead, T, S))
    except ValueError:
        raise ValueError(
            f"scaled_dot_product_attention: the leading axes of q {q.shape}, k {k.shape}, v "
            f"{v.shape} must broadcast, attn_mask {getattr(attn_mask, 'shape', '')} to (..., {T}, "
            f"{S})") from None
    B = math.prod(lead)
    q, k, v = (reshape(broadcast_to(x, shape=(*lead, *x.shape[-2:])), (B, *x.shape[-2:]))
               for x in (q, k, v))
    mask = attn_mask if attn_mask is None else attn_mask.data
    if mask is not None:
        if attn_mask.requires_grad:
            raise TypeError("scaled_dot_product_attention has no derivative with respect to "
                            "attn_mask: pass attn_mask.detach()")
        if math.prod(mask.shape[:-2]) == 1:
            mask = xp(mask).broadcast_to(mask, (*mask.shape[:-2], T, S)).reshape(1, T, S)
        else:
            mask = xp(mask).broadcast_to(mask, (*lead, T, S)).reshape(B, T, S)
        mask = mask if mask.dtype == bool else mask.astype(q.dtype)
    y = _attention(q, k, v, mask=mask, is_causal=is_causal,
                   scale=1 / math.sqrt(D or 1) if scale is None else scale)
    return reshape(y, (*lead, T, E))
