"""Operations and reverse-mode differentiation.

An operation is a function on arrays with its vector-Jacobian product beside it::

    @op
    def exp(x): return xp(x).exp(x)
    @exp.vjp
    def exp(g, y, x): return g * y

Positional parameters are differentiable arrays, keyword-only parameters are options. The vjp
receives the cotangent g = ∂L/∂y, the result y and the inputs as tensors, and returns the cotangent
of each input, either itself or as a function without arguments that is called only if needed. It is
written in operations, so a gradient can be differentiated again. It is pure mathematics: undoing
broadcasts, adding up, and skipping what nobody asked for is done here, in `grad`.

A fused backward that is written on arrays (attention, norms) cannot be differentiated again. Such
an op names its composite, the same function in ordinary ops, used by `grad` under `create_graph`.
"""

import functools
import inspect
from operator import attrgetter

import numpy as np
from numpy import ndarray

from minigen.operands import NUMBERS, as_operands, describe
from minigen.tensor import F32, FLOATS, Tensor, as_array, owner, track, tracking, xp


def op(forward):
    """Make an operation of a function on arrays. Its result is the array, or ``(array, saved)``
    where the vjp reads `saved` as ``y.saved``. See the top of this file."""
    name, spec = forward.__name__.lstrip("_"), inspect.signature(forward)
    kinds = {p.kind: p.name for p in spec.parameters.values()}
    inputs = {p.name: p.default for p in spec.parameters.values()
              if p.kind is p.POSITIONAL_OR_KEYWORD}
    arity = None if inspect.Parameter.VAR_POSITIONAL in kinds else len(inputs)
    usual = arity and spec.replace(parameters=[  # in a call, options may be given by position too
        p if p.kind is p.VAR_KEYWORD else p.replace(kind=p.POSITIONAL_OR_KEYWORD)
        for p in spec.parameters.values()])

    def bind(args, kw):
        try:
            kw = usual.bind(*args, **kw).arguments
        except TypeError as e:
            raise TypeError(f"{name}{usual}: {e}") from None
        kw |= kw.pop(kinds.get(inspect.Parameter.VAR_KEYWORD), {})
        return tuple(kw.pop(key, default) for key, default in inputs.items()), kw

    @functools.wraps(forward)
    def call(*args, **kw):
        if len(args) != arity and arity:
            args, kw = bind(args, kw)
        for key, value in kw.items():
            if type(value) is Tensor:
                if value.requires_grad:
                    raise TypeError(f"{name} has no derivative with respect to {key}: "
                                    f"pass {key}.detach()")
                kw[key] = value.data
            elif isinstance(value, np.generic):
                kw[key] = value.item()
        arrays, dtype, history = [], None, False
        for a in args:  # mostly tensors of one dtype on the CPU, and numbers: then all is ready
            if type(a) is Tensor:
                history = history or a.requires_grad
                a = a.data
                if type(a) is not ndarray or (dtype is not None and a.dtype is not dtype):
                    break
                dtype = a.dtype
            elif type(a) not in NUMBERS:
                break
            arrays.append(a)
        if len(arrays) < len(args) or dtype is None:
            args, kw = as_operands(args, kw, name, inputs)
            arrays = [a.data if type(a) is Tensor else a for a in args]
            kinds = [p.dtype for p in args if type(p) is Tensor]
            dtype = next((kind for kind in kinds if kind in FLOATS), kinds[0] if kinds else F32)
            history = any(type(p) is Tensor and p.requires_grad for p in args)
        try:
            y = forward(*arrays, **kw)
        except (IndexError, TypeError, ValueError) as e:
            text, known = str(e), (ValueError, TypeError, IndexError)
            if not text.startswith(name):
                text = f"{describe(name, args, kw, inputs)}: {text}"
            raise next(kind for kind in known if isinstance(e, kind))(text) from e
        y, saved = y if type(y) is tuple else (y, None)
        if type(y) is not ndarray and isinstance(y, (np.generic, float, int)):
            y = np.asarray(y)
        made, base = y.dtype, None
        if made is not dtype and made.kind == "f" and made != dtype and "dtype" not in kw:
            # a float dtype in is the dtype out; integers alone make float32
            y = y.astype(dtype if dtype in FLOATS else F32)
        if y.base is not None:
            base = next((owner(p) for p in args if type(p) is Tensor
                         and xp(y).may_share_memory(y, p.data)), None)
        if history and tracking() and y.dtype in FLOATS:
            return Tensor(y, call, args, kw, saved, base)
        return Tensor(y, None, (), None, saved, base)

    def vjp(f):
        call.pull = f
        return call

    def composite(f):
        call.unfused = f
        return call

    call.__doc__ = forward.__doc__ or f"NumPy's `{name}`, for tensors, arrays and numbers."
    call.pull, call.unfused, call.vjp, call.composite = None, None, vjp, composite
    return call


@op
def broadcast_to(x, *, shape):
    """x repeated to `shape`, by NumPy's rule."""
    return xp(x).broadcast_to(x, shape)
@broadcast_to.vjp
def broadcast_to(g, y, x, *, shape): return g  # `grad` sums what was broadcast


@op
def sum_to(x, *, shape):
    """x summed over the axes that broadcasting from `shape` would repeat: its transpose."""
    lead = x.ndim - len(shape)
    axes = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 != x.shape[i + lead]))
    return x.sum(axis=axes, keepdims=True).reshape(shape)
@sum_to.vjp
def sum_to(g, y, x, *, shape): return broadcast_to(g, shape=x.shape)


@op
def alias(x):
    """The same values as a new node of the graph."""
    return x.view()
@alias.vjp
def alias(g, y, x): return g


# ---------------------------------------------------------------------------------- differentiation

def grad(y, wrt, create_graph=False, cotangent=None, allow_unused=False):
    """The gradient of y with respect to `wrt`: a tensor for a tensor, a list for a list, a dict for
    a dict. y is a scalar, unless a `cotangent` of y's shape is given: then the vector-Jacobian
    product. With `create_graph` the result can be differentiated again, otherwise it is untracked.

    Raises ValueError if y does not reach one of `wrt` (`allow_unused=True` gives zeros instead) or
    is not a scalar and no cotangent was given; RuntimeError if the graph is stale: a tensor that
    it was computed from has been written since.
    """
    names = list(wrt) if isinstance(wrt, dict) else [f"wrt[{i}]" for i in range(
        len(wrt) if isinstance(wrt, (list, tuple)) else 1)]
    many = [wrt[name] for name in names] if isinstance(wrt, dict) else list(wrt) if isinstance(
        wrt, (list, tuple)) else [wrt]
    for name, t in zip(["y", *names], [y, *many], strict=True):
        if not isinstance(t, Tensor):
            raise TypeError(f"grad: {name} must be a tensor, got {type(t).__name__}")
    if cotangent is None:
        if y.size != 1:
            raise ValueError(f"grad: y has shape {y.shape}, not one element: "
                             "take its sum or mean, or pass cotangent=")
        cotangent = xp(y.data).ones(y.shape, y.dtype)
    cotangent = cotangent if isinstance(cotangent, Tensor) else Tensor(as_array(cotangent))
    if (cotangent.shape, cotangent.dtype) != (y.shape, y.dtype):
        raise ValueError(f"grad: cotangent is {cotangent.shape} {cotangent.dtype}, "
                         f"y is {y.shape} {y.dtype}: they must be equal")

    path, reached = _paths(y, many)
    for name, t in zip(names, many, strict=True):
        if t not in reached and not allow_unused:
            why = "y does not depend on it" if t.requires_grad and y.requires_grad else (
                f"{name if y.requires_grad else 'y'} has no history: without requires_grad, under "
                "no_grad, detached, or of an op without derivative (argmax, a comparison)")
            raise ValueError(f"grad: no gradient for {name} of shape {t.shape}: {why}. Leave it "
                             "out, or pass allow_unused=True for zeros")
    grads, keep = {y: cotangent}, set(many)
    with track(create_graph):
        for node in reversed(path):
            g = grads.get(node) if node in keep else grads.pop(node, None)
            if g is None:
                continue  # every vjp above said that nothing flows here
            for p, gp in zip(node.parents, _pull(node, g, reached, create_graph), strict=True):
                if type(p) is not Tensor or p not in reached:
                    continue
                gp = gp() if callable(gp) else gp
                if gp is None:
                    continue
                gp = gp if type(gp) is Tensor else Tensor(as_array(gp))
                if gp.data.shape != p.data.shape:
                    try:
                        gp = sum_to(gp, shape=p.shape)
                    except (IndexError, ValueError):
                        raise ValueError(f"grad: the vjp of {node.op.__name__} gave shape "
                                         f"{gp.shape} for an input of shape {p.shape}") from None
                grads[p] = grads[p] + gp if p in grads else gp
        found = [grads[t] if t in grads else Tensor(xp(t.data).zeros_like(t.data)) for t in many]
    if isinstance(wrt, dict):
        return dict(zip(wrt, found, strict=True))
    return found if isinstance(wrt, (list, tuple)) else found[0]


def _paths(y, targets):
    """The nodes on a path from y to a target, inputs first, and the set of all tensors reached."""
    nodes, stack = {y}, [y]
    while stack:
        for p in stack.pop().parents:
            if type(p) is Tensor and p.requires_grad and p not in nodes:
                nodes.add(p)
                stack.append(p)
    path, reached = [], nodes.intersection(targets)
    for node in sorted(nodes, key=attrgetter("stamp")):  # creation order is a topological order
        if not reached.isdisjoint(node.parents):
            for p in node.parents:
                if type(p) is Tensor and owner(p).stamp > node.stamp:
                    raise RuntimeError(
                        f"grad: stale graph: a tensor of shape {p.shape} was written (by an "
                        f"optimiser, EMA or load_state_dict) after {node.op.__name__} used it: "
                        "compute y again")
            path.append(node)
            reached.add(node)
    return path, reached


def _pull(node, g, reached, create_graph):
    """The cotangents of node's parents, given its own."""
    if node.op.pull is None:
        raise TypeError(f"grad: {node.op.__name__} has no derivative")
    if create_graph and node.op.unfused:  # differentiate the composite, on fresh aliases
        fresh = [alias(p) if type(p) is Tensor else p for p in node.parents]
        asked = {i: fresh[i] for i, p in enumerate(node.parents)
                 if type(p) is Tensor and p in reached}
        pulled = grad(node.op.unfused(*fresh, **node.kw), asked, True, g, allow_unused=True)
        return [pulled.get(i) for i in range(len(fresh))]
    out = node.op.pull(g, node, *node.parents, **node.kw)
    out = out if type(out) is tuple else (out,)
    if len(out) != len(node.parents):
        raise ValueError(f"grad: the vjp of {node.op.__name__} gave {len(out)} cotangents for "
                         f"{len(node.parents)} inputs")
    return out
