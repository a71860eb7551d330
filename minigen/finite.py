"""Where a number that is not finite came from: the graph still holds every value on the way."""

import numpy as np

from minigen.autodiff import grad
from minigen.tensor import Tensor, owner, xp


def finite(a):
    """Are all numbers in the array finite? One pass over it; a second one only if the sum is not
    (finite numbers can have an infinite sum)."""
    with np.errstate(all="ignore"):
        return bool(xp(a).isfinite(a.sum())) or bool(xp(a).isfinite(a).all())


def origin(y, params):
    """One line on where the values of `y` stopped being finite: the first operation, in order of
    computation, that made a value which is not finite from values that are; with its parameter
    if it used one. `params` is a dict of tensors."""
    graph = _graph(y)
    for node in graph:
        if node.op and not finite(node.data) and all(map(finite, _inputs(node))):
            most = max((float(abs(a).max()) for a in _inputs(node) if a.size), default=0.0)
            return (f"the first values that are not finite come from {_name(node, params)}: "
                    f"{_bad(node.data)}, its inputs reach {most:.3g}")
    for node in graph:  # the operations only passed on what was there
        if not node.op and not finite(node.data):
            key = _parameters(node, (node,), params)
            return f"{key or 'an input'} of shape {node.shape} has {_bad(node.data)}"
    return "it comes from a constant that is not finite"


def gradient_origin(y, params):
    """The same for the gradient of a finite `y`: the last operation, which is the first one on the
    way back, whose derivative is not finite although the cotangent it received is."""
    graph = [node for node in _graph(y) if node.requires_grad]
    cotangents = dict(zip(graph, grad(y, graph, allow_unused=True), strict=True))
    for node in reversed(graph):
        g = cotangents[node]
        if not node.op or not finite(g.data):
            continue
        inputs = [p for p in node.parents if type(p) is Tensor and p.requires_grad]
        if any(not finite(cotangents[p].data) for p in inputs):  # by this node, or by another?
            for p, gp in zip(inputs, grad(node, inputs, cotangent=g, allow_unused=True),
                             strict=True):
                if not finite(gp.data):
                    return (f"the first derivative that is not finite is that of "
                            f"{_name(node, params)}: {_bad(gp.data)}, at inputs from "
                            f"{float(p.data.min()):.3g} to {float(p.data.max()):.3g}")
    return "finite gradients overflow where they are added up"


def _graph(y):
    """y and everything it was computed from, as far as it is recorded, in order of computation."""
    seen, stack = {y}, [y]
    while stack:
        for p in stack.pop().parents:
            if type(p) is Tensor and p not in seen:
                seen.add(p)
                stack.append(p)
    return sorted(seen, key=lambda node: node.stamp)


def _inputs(node):
    return [p.data if type(p) is Tensor else np.asarray(p) for p in node.parents if p is not None]


def _name(node, params):
    used = _parameters(node, [p for p in node.parents if type(p) is Tensor], params)
    return node.op.__name__.strip("_") + (f" with parameter {used}" if used else "")


def _parameters(node, tensors, params):
    keys = {id(p): key for key, p in params.items()}
    return " and ".join(keys[id(owner(t))] for t in tensors if id(owner(t)) in keys)


def _bad(a):
    return f"{int((~xp(a).isfinite(a)).sum())} of {a.size} values nan or infinite"
