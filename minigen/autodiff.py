"""Reverse-mode differentiation: `grad` walks a graph from a result back to its inputs.

This file undoes broadcasting, sums cotangents over all paths, and skips those that nobody asked
for, so that the vjps beside the operations (operation.py) are pure mathematics.
"""

from operator import attrgetter

import numpy as np

from minigen.operation import op
from minigen.sums import array_sum
from minigen.tensor import Node, Tensor, as_array, tensor, track, xp


@op
def broadcast_to(x, *, shape):
    """x broadcast to `shape` by NumPy's rules."""
    return xp(x).broadcast_to(x, shape)
@broadcast_to.vjp
def broadcast_to(g, *, shape): return g  # `grad` sums what was broadcast


@op
def sum_to(x, *, shape):
    """x summed over the axes that broadcasting from `shape` repeats: broadcasting's transpose."""
    lead = x.ndim - len(shape)
    axes = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 != x.shape[i + lead]))
    y = array_sum(x, axes, keepdims=True)
    if lead < 0 or y.shape[lead:] != tuple(shape):
        raise ValueError(f"sum_to: {x.shape} is not broadcast from {tuple(shape)}")
    return y.reshape(shape)
@sum_to.vjp
def sum_to(g, _x, *, shape): return broadcast_to(g, shape=_x.shape)


@op
def alias(x):
    """The same values as a new node, up to which a part of the graph can be differentiated."""
    return x.view()
@alias.vjp
def alias(g): return g


def grad(y, wrt, create_graph=False, cotangent=None, allow_unused=False):
    """The gradient of y with respect to `wrt`: a tensor for a tensor, a list for a list, a dict for
    a dict. y must be a scalar, unless a `cotangent` of y's shape is given; the result is then the
    vector-Jacobian product. With `create_graph` the result can be differentiated again; otherwise
    it is untracked. Do not write into gradients: they may share memory, with each other and with
    the cotangent.

    Raises ValueError if y does not depend on one of `wrt` (`allow_unused=True` gives zeros instead)
    or if y is not a scalar and no cotangent was given; RuntimeError if the graph is stale: a tensor
    that y was computed from has been written since (by `write`, as optimisers do; writes to options
    of operations and to plain arrays are not detected).
    """
    if isinstance(wrt, dict):
        names, targets = list(wrt), list(wrt.values())
    elif isinstance(wrt, (list, tuple)):
        names, targets = [f"wrt[{i}]" for i in range(len(wrt))], list(wrt)
    else:
        names, targets = ["wrt"], [wrt]
    for name, t in zip(["y", *names], [y, *targets], strict=True):
        if not isinstance(t, Tensor):
            raise TypeError(f"grad: {name} must be a tensor, got {type(t).__name__}")
    if cotangent is None:
        if y.size != 1:
            raise ValueError(f"grad: y has shape {y.shape}, not one element: "
                             "take its sum or mean, or pass cotangent=")
        cotangent = xp(y.data).ones(y.shape, y.dtype)
    cotangent = tensor(cotangent)
    if (cotangent.shape, cotangent.dtype) != (y.shape, y.dtype):
        raise ValueError(f"grad: cotangent is {cotangent.shape} {cotangent.dtype}, "
                         f"y is {y.shape} {y.dtype}: they must be equal")
    if not create_graph:
        cotangent = cotangent.detach()
    root, keys = y.node or y, [t.node or t for t in targets]
    path, reached = _paths(root, [t.node or t for t in targets if t.requires_grad])
    for name, t, key in zip(names, targets, keys, strict=True):
        if key not in reached and not allow_unused:
            why = "y does not depend on it" if t.requires_grad and y.requires_grad else (
                f"{name if y.requires_grad else 'y'} has no history: without requires_grad, under "
                "no_grad, detached, or of an op without derivative (argmax, a comparison)")
            raise ValueError(f"grad: no gradient for {name} of shape {t.shape}: {why}. Leave it "
                             "out, or pass allow_unused=True for zeros")
    grads, keep, add = {root: cotangent}, set(keys), Tensor.__add__ if create_graph else _add
    owned = set()  # sources whose cotangents have their own memory, for `accumulate_into`
    with track(create_graph):
        for node, sources in reversed(path.items()):
            g = grads.get(node) if node in keep else grads.pop(node, None)
            if g is None:
                continue  # every vjp so far gave None for this node
            if node.op.accumulate_into and not create_graph:
                p, = sources
                if p in owned:
                    node.op.accumulate_into(grads[p].data, g.data, **node.kw)
                    continue
                owned.add(p)
            cotangents = _apply_vjp(node, sources, g, reached, create_graph)
            for i, p in enumerate(sources):
                if p not in reached:
                    continue
                gp = cotangents[i]
                gp = gp() if callable(gp) else gp
                if gp is None:
                    continue
                gp = gp if type(gp) is Tensor else _as_cotangent(gp, node, create_graph)
                if gp.data.dtype is not p.dtype and gp.dtype != p.dtype:
                    raise ValueError(f"grad: the vjp of {node.op.__name__} gave {gp.dtype} for an "
                                     f"input of {p.dtype}")
                if gp.data.shape != p.shape:
                    try:
                        gp = sum_to(gp, shape=p.shape)
                    except (IndexError, ValueError):
                        raise ValueError(f"grad: the vjp of {node.op.__name__} gave shape "
                                         f"{gp.shape} for an input of shape {p.shape}") from None
                grads[p] = gp if p not in grads else add(grads[p], gp)
        results = [grads[key] if key in grads else Tensor(xp(t.data).zeros_like(t.data))
                   for t, key in zip(targets, keys, strict=True)]
    if isinstance(wrt, dict):
        return dict(zip(wrt, results, strict=True))
    return results if isinstance(wrt, (list, tuple)) else results[0]


def history(y):
    """The nodes that y, itself a node, was computed from, and y, in order of computation: a dict
    from each node to its sources. The source for an input is its node, or the input if it has none.
    """
    nodes, stack = {}, [y]
    while stack:
        node = stack.pop()
        if type(node) is Node and node not in nodes:
            nodes[node] = sources = []
            for p in node.inputs:
                p = p.node or p if type(p) is Tensor else p
                sources.append(p)
                if type(p) is Node:
                    stack.append(p)
    return {node: nodes[node] for node in sorted(nodes, key=attrgetter("stamp"))}


def _paths(y, targets):
    """A dict of the nodes on a path from y to a target, inputs first, each with its sources; and
    the set of these nodes and of the targets that y depends on."""
    nodes, path = history(y), {}
    reached = {y}.union(*nodes.values()).intersection(targets)
    for node, sources in nodes.items():
        if not reached.isdisjoint(sources):
            for p in (node, *node.inputs):
                if (type(p) is Tensor or p is node) and p.written and p.written[0] > node.stamp:
                    raise RuntimeError(
                        f"grad: stale graph: a tensor of shape {p.shape} was written (by an "
                        f"optimiser, EMA or load_state_dict) after {node.op.__name__} used it: "
                        "compute y again")
            path[node] = sources
            reached.add(node)
    return path, reached


def _add(a, b):
    """a + b without history: only the array function of `add`, because in a long chain of scalars
    calling the whole operation for each sum took a tenth of the total time."""
    y = Tensor.__add__.forward(a.data, b.data)
    return Tensor(np.asarray(y) if isinstance(y, np.generic) else y)


def _as_cotangent(gp, node, create_graph):
    """A cotangent that a vjp gave as an array or a number, as a tensor."""
    if isinstance(gp, list):
        raise TypeError(f"grad: the vjp of {node.op.__name__} gave a list: cotangents of several "
                        "inputs are a tuple")
    if create_graph:
        raise TypeError(f"grad: the vjp of {node.op.__name__} computes on arrays, so it cannot be "
                        "differentiated: write it in operations, or name a composite")
    return Tensor(as_array(gp, f"the vjp of {node.op.__name__}: "))


def _apply_vjp(node, sources, g, reached, create_graph):
    """The cotangents of the node's inputs, given its own, g."""
    if node.op.vjp_fn is None:
        raise TypeError(f"grad: {node.op.__name__} has no derivative")
    if create_graph and node.op.composite_fn:  # differentiate the composite, on fresh aliases
        aliases = [alias(p) if type(p) is Tensor else p for p in node.inputs]
        wrt = {i: aliases[i] for i, p in enumerate(sources) if p in reached}
        y = node.op.composite_fn(*aliases, **node.kw)
        cotangents = grad(y, wrt, True, g, allow_unused=True)
        return [cotangents.get(i) for i in range(len(aliases))]
    y = node if node.data is None else Tensor(node.data, node, node.saved)
    values = (y, *node.inputs)
    out = node.op.vjp_fn(g, *node.op.vjp_args(values), **node.kw)
    out = out if type(out) is tuple else (out,)
    if len(out) != len(node.inputs):
        raise ValueError(f"grad: the vjp of {node.op.__name__} gave {len(out)} cotangents for "
                         f"{len(node.inputs)} inputs")
    return out
