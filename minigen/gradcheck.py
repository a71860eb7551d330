"""Checking a derivative against finite differences."""

import numpy as np

from minigen.autodiff import alias, grad
from minigen.tensor import Tensor, tensor


def gradcheck(f, *arrays, order=2, eps=1e-5, rtol=1e-5, atol=1e-7, rng=None):
    """Check the derivatives of f at the given float64 arrays. Returns True, or raises an
    AssertionError that names the op, the argument and the entry with the largest difference.

    f takes tensors and returns one. Its gradient is compared with central differences along random
    directions: for L(x) = ⟨c + f(x)/2, f(x)⟩ and random c and v, ⟨∇L(x), v⟩ against d/dh L(x + hv).
    (The cotangent of f(x) depends on x, so that the second derivative also tests how a vjp uses g.)
    With ``order=2`` the gradient, computed with `create_graph`, is itself checked as a function of
    x in the same way. Choose points away from kinks; `eps` is the step h.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    arrays = [np.asarray(a) for a in arrays]
    for i, a in enumerate(arrays):
        if a.dtype != np.float64:
            raise TypeError(f"gradcheck: argument {i} is {a.dtype}, it must be float64")
    y = f(*(tensor(a, requires_grad=True) for a in arrays))
    name = getattr(f, "__name__", "<lambda>")
    if name == "<lambda>" and y.node:
        name = y.node.op.__name__
    name = name.lstrip("_")
    c = rng.standard_normal(y.shape)

    def value(*xs):
        y = f(*map(alias, xs))  # as results of an op: a vjp gets no values but those it names
        return ((c + 0.5 * y) * y).sum()

    first = _check(f"{name}, first derivative", value, arrays, False, eps, rtol, atol, rng)
    if order >= 2:
        us = [rng.standard_normal(a.shape) for a in arrays]

        def slope(*xs):
            if not all(x.requires_grad for x in xs):
                xs = [tensor(x, requires_grad=True) for x in xs]
            gs = grad(value(*xs), list(xs), create_graph=True, allow_unused=True)
            return sum((g * u).sum() for g, u in zip(gs, us, strict=True))

        fused = sum((g * u).sum() for g, u in zip(first, us, strict=True))
        composed = float(slope(*map(tensor, arrays)).item())
        if not np.isclose(fused, composed, rtol, atol):
            raise AssertionError(f"gradcheck: {name}: along a random direction the gradient with "
                                 f"create_graph is {composed:.9g}, without it {fused:.9g}")
        _check(f"{name}, second derivative", slope, arrays, True, eps, rtol, atol, rng)
    return True


def _check(what, f, arrays, second, eps, rtol, atol, rng):
    """Compare f's gradients with central differences of f; return them as arrays."""
    xs = [tensor(a, requires_grad=True) for a in arrays]
    y = f(*xs)
    gs = [Tensor(np.zeros(a.shape)) for a in arrays]
    if y.requires_grad:  # a linear function has a constant slope
        gs = grad(y, xs, allow_unused=True)
    elif not second:
        raise AssertionError(f"gradcheck: {what}: the result does not depend on any argument")
    gs = [g.numpy() for g in gs]

    def difference(i, v):
        ends = [f(*(tensor(a + s * eps * v if j == i else a) for j, a in enumerate(arrays))).item()
                for s in (1, -1)]
        return (ends[0] - ends[1]) / (2 * eps)

    for i, (a, g) in enumerate(zip(arrays, gs, strict=True)):
        if not a.size:
            continue
        for _ in range(2):
            v = rng.standard_normal(a.shape)
            got, expected = float((g * v).sum()), difference(i, v)
            scale = max(np.abs(g * v).sum(), abs(expected))
            if abs(got - expected) <= atol + rtol * scale:
                continue
            entries = np.array([difference(i, e.reshape(a.shape)) for e in np.eye(a.size)])
            worst = int(np.abs(entries - g.ravel()).argmax())
            where = tuple(int(k) for k in np.unravel_index(worst, a.shape))
            raise AssertionError(
                f"gradcheck: {what}, argument {i}, entry {where}: the derivative is "
                f"{g.ravel()[worst]:.9g}, finite differences give {entries[worst]:.9g}")
    return gs
