"""Products of matrices and tensors."""

import math

from minigen import kernels
from minigen.operands import accepts_arrays
from minigen.operation import op
from minigen.ops.shape import broadcast_to, expand_dims, reshape, squeeze, swapaxes, transpose
from minigen.tensor import xp

__all__ = ["einsum", "linear", "matmul"]


@op
def _matmul(a, b): return kernels.matmul(a, b, None)
@_matmul.vjp
def _matmul(g, a, b):
    return lambda: _matmul(g, swapaxes(b, -1, -2)), lambda: _matmul(swapaxes(a, -1, -2), g)

@accepts_arrays("a", "b")
def matmul(a, b):
    """The matrix product of (..., M, K) and (..., K, N), with batch axes broadcast; a vector is a
    row on the left and a column on the right, as in NumPy."""
    if a.ndim == b.ndim == 2:
        return _matmul(a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: needs at least one axis each, got {a.shape} and {b.shape}")
    left = expand_dims(a, 0) if a.ndim == 1 else a
    right = expand_dims(b, 1) if b.ndim == 1 else b
    if a.ndim > 2 and right.ndim == 2:  # one product, also in the gradient of b
        left = reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
    y = _matmul(left, right)
    lead, last = a.shape[:-1], b.shape[-1:] if b.ndim > 1 else ()
    return reshape(y, (*lead, *last)) if right.ndim == 2 else squeeze(y, -2) if a.ndim == 1 else y

@op
def _linear(x, w, b): return kernels.matmul(x, w.T, b)
@_linear.vjp
def _linear(g, x, w):  # gᵀx, not (xᵀg)ᵀ: the gradient gets the weight's memory layout
    return lambda: _matmul(g, w), lambda: _matmul(transpose(g), x), g

@accepts_arrays("x", "weight", "bias")
def linear(x, weight, bias=None):
    """x Wᵀ + b on the last axis; weight is (out, in), bias (out,)."""
    if not x.ndim or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: x is {x.shape}, weight {weight.shape} needs "
                         f"{weight.shape[-1]} on the last axis")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: bias is {bias.shape}, expected {weight.shape[:1]}")
    if x.ndim == 2:
        return _linear(x, weight, bias)
    rows = reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    return reshape(_linear(rows, weight, bias), (*x.shape[:-1], weight.shape[0]))

@op
def _einsum(a, b, *, subscripts): return xp(a, b).einsum(subscripts, a, b, optimize=True)
@_einsum.vjp
def _einsum(g, a, b, *, subscripts):
    (left, right), out = subscripts.split("->")[0].split(","), subscripts.split("->")[1]
    return (lambda: _einsum_grad(g, out, b, right, a, left),
            lambda: _einsum_grad(g, out, a, left, b, right))

def _einsum_grad(g, out, other, other_letters, x, x_letters):
    """The cotangent of x, whose letters are `x_letters`. A letter that only x has was summed over,
    so the cotangent is constant along that axis."""
    reduced = [i for i, letter in enumerate(x_letters) if letter not in out + other_letters]
    kept = "".join(letter for letter in x_letters if letter in out + other_letters)
    gx = _einsum(g, other, subscripts=f"{out},{other_letters}->{kept}")
    return broadcast_to(expand_dims(gx, reduced), shape=x.shape) if reduced else gx

@accepts_arrays("a", "b")
def einsum(subscripts, a, b):
    """Einstein summation over two operands, for example ``einsum("bij,bjk->bik", a, b)``. A letter
    may occur only once in each operand."""
    spec = subscripts.replace(" ", "")
    if "..." in spec or spec.count(",") != 1:
        raise ValueError(f"einsum: needs two operands and no ellipsis, got {subscripts!r}")
    inputs, _, out = spec.partition("->")
    if "->" not in spec:  # NumPy's implicit mode: the letters that occur once, sorted
        out = "".join(sorted(c for c in set(inputs) - {","} if inputs.count(c) == 1))
    for letters in (*inputs.split(","), out):
        if len(set(letters)) != len(letters):
            raise ValueError(f"einsum: a letter stands twice in {letters!r}: take a diagonal first")
    sizes = [(c, n) for letters, x in zip(inputs.split(","), (a, b), strict=True)
             for c, n in zip(letters, x.shape, strict=False)]
    if unequal := [c for c, n in sizes if n != dict(sizes)[c]]:  # a size of 1 is not broadcast
        raise ValueError(f"einsum(a: {a.shape}, b: {b.shape}, subscripts={subscripts!r}): "
                         f"{unequal[0]!r} has two lengths")
    return _einsum(a, b, subscripts=f"{inputs}->{out}")
