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

import numpy as np

from minigen.tensor import F64, FLOATS, Tensor, as_array, owner, track, tracking, xp


def op(forward):
    """Make an operation of a function on arrays. Its result is the array, or ``(array, saved)``
    where the vjp reads `saved` as ``y.saved``. See the top of this file."""
    spec = inspect.signature(forward).parameters.values()
    options = [p.name for p in spec if p.kind is p.KEYWORD_ONLY]
    inputs = [p for p in spec if p.kind is p.POSITIONAL_OR_KEYWORD]
    arity = None if any(p.kind is p.VAR_POSITIONAL for p in spec) else len(inputs)
    name = forward.__name__.lstrip("_")

    def bind(args, kw):  # inputs given by name, options given by position, defaults
        args, extra = list(args[:arity]), args[arity:]
        if len(extra) > len(options):
            raise TypeError(f"{name} takes {arity + len(options)} arguments, "
                            f"got {arity + len(extra)}")
        for key, value in zip(options, extra, strict=False):
            if key in kw:
                raise TypeError(f"{name} got two values for {key}")
            kw[key] = value
        for p in inputs[len(args):]:
            value = kw.pop(p.name, p.default)
            if value is p.empty:
                raise TypeError(f"{name} needs the argument {p.name}")
            args.append(value)
        return args

    @functools.wraps(forward)
    def call(*args, **kw):
        if arity is not None and len(args) != arity:
            args = bind(args, kw)
        for key, value in kw.items():
            if type(value) is Tensor:
                if value.requires_grad:
                    raise TypeError(f"{name} has no derivative with respect to {key}: "
                                    f"pass {key}.detach()")
                kw[key] = value.data
        parents = [a if type(a) in (Tensor, float, int) else _operand(a) for a in args]
        dtypes = {p.data.dtype for p in parents if type(p) is Tensor}
        if len(dtypes) > 1:
            parents = _one_dtype(parents, dtypes, name, inputs)
        try:
            y = forward(*[p.data if type(p) is Tensor else p for p in parents], **kw)
        except (ValueError, TypeError, IndexError) as e:
            text = str(e)
            raise type(e)(text if text.startswith(name) else
                          f"{name}({_describe(parents, kw, inputs)}): {text}") from e
        saved = None
        if type(y) is tuple:
            y, saved = y
        if isinstance(y, (np.generic, float, int, bool)):
            y = np.asarray(y)
        if y.dtype == F64 and F64 not in dtypes:
            y = y.astype(np.float32)  # integers and Python numbers alone make float32
        base = None
        if y.base is not None:
            base = next((owner(p) for p in parents if type(p) is Tensor
                         and xp(y).may_share_memory(y, p.data)), None)
        if y.dtype in FLOATS and tracking() and any(
                type(p) is Tensor and p.requires_grad for p in parents):
            return Tensor(y, call, tuple(parents), kw, saved, base)
        return Tensor(y, saved=saved, base=base)

    def vjp(f):
        call.pull = f
        return call

    def composite(f):
        call.unfused = f
        return call

    call.pull, call.unfused, call.vjp, call.composite = None, None, vjp, composite
    return call


def _operand(a):
    """An argument as the engine keeps it: tensor, Python number or None. NumPy's scalars and bools
    count as Python numbers, so that none of them promotes a float32."""
    if a is None or type(a) is Tensor:
        return a
    if isinstance(a, (np.generic, bool)):
        a = a.item() if isinstance(a, np.generic) else int(a)
    return a if isinstance(a, (int, float)) else Tensor(as_array(a))


def _one_dtype(parents, dtypes, name, inputs):
    """Integers and booleans take the float dtype they meet; two float dtypes do not mix."""
    floats = [d for d in dtypes if d.kind not in "iub"]
    if len(floats) > 1:
        raise TypeError(f"{name}({_describe(parents, {}, inputs)}): all must have one float dtype: "
                        "convert one with .astype(...)")
    if not floats:
        return parents
    return [Tensor(p.data.astype(floats[0])) if type(p) is Tensor and p.dtype.kind in "iub" else p
            for p in parents]


def _describe(parents, kw, inputs):
    names = [p.name for p in inputs] + [f"[{i}]" for i in range(len(parents) - len(inputs))]
    texts = [f"{n}: {p.shape} {p.dtype}" if type(p) is Tensor else f"{n}={p}"
             for n, p in zip(names, parents, strict=True) if p is not None]
    return ", ".join(texts + [f"{k}={np.shape(v) if hasattr(v, 'shape') else v}"
                              for k, v in kw.items() if v is not None])


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
    names = list(wrt) if isinstance(wrt, dict) else None
    many = list(wrt.values()) if names else list(wrt) if isinstance(wrt, (list, tuple)) else [wrt]
    for t in [y, *many]:
        if not isinstance(t, Tensor):
            raise TypeError(f"grad: expected tensors, got {type(t).__name__}")
    if cotangent is None:
        if y.size != 1:
            raise ValueError(f"grad: y has shape {y.shape}, not one element: "
                             "take its sum or mean, or pass cotangent=")
        cotangent = xp(y.data).ones(y.shape, y.dtype)
    cotangent = cotangent if isinstance(cotangent, Tensor) else Tensor(as_array(cotangent))
    if cotangent.shape != y.shape:
        raise ValueError(f"grad: cotangent has shape {cotangent.shape}, y has {y.shape}")

    path, reached = _paths(y, many)
    missing = [t for t in many if t not in reached]
    if missing and not allow_unused:
        which = next(k for k, t in enumerate(many) if t is missing[0])
        label = repr(names[which]) if names else f"wrt[{which}]"
        raise ValueError(f"grad: y does not depend on {label} of shape {missing[0].shape}: "
                         "leave it out, or pass allow_unused=True for zeros")
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
                gp = gp if type(gp) is Tensor else Tensor(gp)
                if gp.shape != p.shape:
                    gp = sum_to(gp, shape=p.shape)
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
    for node in sorted(nodes, key=lambda n: n.stamp):  # creation order is a topological order
        inputs = [p for p in node.parents if type(p) is Tensor]
        if any(p in reached for p in inputs):
            for p in inputs:
                if owner(p).stamp > node.stamp:
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
    return out if type(out) is tuple else (out,)
