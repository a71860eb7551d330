"""Find where a number that is not finite came from, by computing every value on the way again."""

import numpy as np

from minigen.autodiff import grad, history
from minigen.tensor import FLOATS, Tensor, last_write, track, xp


def finite(a):
    """Whether all numbers in the array are finite. Takes one pass over it, and a second one only if
    the sum is not finite (finite numbers can have an infinite sum)."""
    with np.errstate(all="ignore"):
        return bool(xp(a).isfinite(a.sum())) or bool(xp(a).isfinite(a).all())


def origin(y, params):
    """One line on where the values of `y` stopped being finite: the first operation, in order of
    computation, whose result is not finite although its inputs are, and its parameter if it used
    one. `params` is a dict of tensors."""
    if y.node is None:
        return "it has no history: a constant, detached, or made under no_grad"
    leaves, results = _replay(y)
    for t, inputs in results.items():
        values = [p.data if type(p) is Tensor else np.asarray(p) for p in inputs if p is not None]
        values += [a for a in t.node.kw.values() if getattr(a, "dtype", None) in FLOATS]
        if not finite(t.data) and all(map(finite, values)):
            largest = max((float(abs(a).max()) for a in values if a.size), default=0.0)
            return (f"the first values that are not finite come from {_op(t, inputs, params)}: "
                    f"{_bad(t.data)}, its inputs reach {largest:.3g}")
    for t in leaves:  # the operations only passed on what they were given
        if not finite(t.data):
            return f"{_names([t], params) or 'an input'} of shape {t.shape} has {_bad(t.data)}"
    if all(finite(t.data) for t in results):
        return "it was finite when all was computed again, with other random numbers"
    return "it comes from a constant that is not finite"


def gradient_origin(y, params):
    """One line on where the gradient of a finite `y` stopped being finite: the last operation, thus
    the first on the way back, whose derivative is not finite although the cotangent it received is.
    """
    leaves, results = _replay(y)
    tensors = [t for t in (*leaves, *results) if t.requires_grad]
    cotangents = dict(zip(tensors, grad(tensors[-1], tensors, allow_unused=True), strict=True))
    for t, inputs in reversed(results.items()):
        g = cotangents[t]
        if not finite(g.data):
            continue
        inputs = [p for p in inputs if type(p) is Tensor and p.requires_grad]
        if any(not finite(cotangents[p].data) for p in inputs):  # due to this node or another?
            for p, gp in zip(inputs, grad(t, inputs, cotangent=g, allow_unused=True), strict=True):
                if not finite(gp.data):
                    return (f"the first derivative that is not finite is that of "
                            f"{_op(t, inputs, params)}: {_bad(gp.data)}, at inputs from "
                            f"{float(p.data.min()):.3g} to {float(p.data.max()):.3g}")
    return "finite gradients overflow where they are added up"


def _replay(y):
    """All tensors in the graph of y: a list of leaves and constants, and a dict of results, in
    order of computation, each with its inputs. The operations are run again, because the graph has
    freed the values that no derivative reads."""
    replayed, leaves, results = {}, {}, {}
    for node, sources in history(y.node).items():
        inputs = [replayed.get(s, p) for s, p in zip(sources, node.inputs, strict=True)]
        with track(True):
            replayed[node] = t = node.op(*inputs, **node.kw)
        results[t] = inputs
        leaves |= dict.fromkeys(p for p in inputs if type(p) is Tensor and not p.node)
    return list(leaves), results


def _op(t, inputs, params):
    used = _names([p for p in inputs if type(p) is Tensor], params)
    return t.node.op.__name__.strip("_") + (f" with parameter {used}" if used else "")


def _names(tensors, params):
    keys = {id(last_write(p)): key for key, p in params.items()}
    return " and ".join(dict.fromkeys(keys[id(t.written)] for t in tensors
                                      if id(t.written) in keys))


def _bad(a):
    return f"{int((~xp(a).isfinite(a)).sum())} of {a.size} values nan or infinite"
