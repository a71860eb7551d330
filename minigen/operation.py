"""Operations: functions on arrays that make nodes of a graph.

An operation is a function on arrays, followed by its vector-Jacobian product (vjp)::

    @op
    def sqrt(x): return xp(x).sqrt(x)
    @sqrt.vjp
    def sqrt(g, y): return g * 0.5 / y

Positional parameters are differentiable arrays; keyword-only parameters are options. The vjp
receives the cotangent g = ∂L/∂y and, as tensors, whichever of the result y and the inputs its
signature names. It returns the cotangent of each input, or in its place a function without
arguments that is called only if that cotangent is needed. The vjp is written in operations, so a
gradient can be differentiated again, and it is pure mathematics: `grad` (autodiff.py) undoes
broadcasting, sums cotangents, and skips those that nobody asked for.

An op that takes a part of an array may also have a function ``accumulate_into(out, g, **options)``,
set as an attribute, which adds g to the array's cotangent in place: each of many parts then costs
its own size, not the whole array's.

Values that a vjp does not name are not kept in memory for it. It may name an input x as `_x`: it
then gets the `shape`, `ndim` and `dtype` of x, which are always kept, but not its values. The same
holds for the result as `_y`, which also has `_y.saved`.

A fused backward pass written on arrays (attention, norms) cannot be differentiated again. Such an
op also has a composite, the same function in ordinary ops, which `grad` uses under `create_graph`.
"""

import functools
import inspect
import sys
from operator import itemgetter

import numpy as np
from numpy import asarray, ndarray

from minigen.operands import NUMBERS, PLAIN, as_operands, describe
from minigen.tensor import F32, FLOATS, Node, Tensor, last_write, tracking

ALL_POSITIONS = range(sys.maxsize)  # all input positions, for an op with any number of inputs
SCALARS = (np.generic, float, int)
NO_OPTIONS = {}


def op(forward):
    """Turn a function on arrays into an operation. The function returns an array, or ``(array,
    saved)`` if its vjp reads `saved` as ``y.saved``. See ``help("minigen.operation")``."""
    name, spec = forward.__name__.lstrip("_"), inspect.signature(forward)
    kinds = {p.kind: p.name for p in spec.parameters.values()}
    inputs = {p.name: p.default for p in spec.parameters.values()
              if p.kind is p.POSITIONAL_OR_KEYWORD}
    options = [p.name for p in spec.parameters.values() if p.kind is p.KEYWORD_ONLY]
    variadic = kinds.get(inspect.Parameter.VAR_POSITIONAL)  # an op with any number of inputs
    if bool(variadic) == bool(inputs) or "y" in inputs:
        raise TypeError(f"{name}{spec}: an op has inputs by name, none called y, which is the "
                        "result in its vjp, or any number: *xs")
    arity = None if variadic else len(inputs)
    signature = arity and spec.replace(parameters=[  # a caller may also pass options by position
        p if p.kind is p.VAR_KEYWORD else p.replace(kind=p.POSITIONAL_OR_KEYWORD)
        for p in spec.parameters.values()])

    def bind(args, kw):
        named = dict(zip(options, args[arity:], strict=False))  # x.sum(0): the usual case
        if arity < len(args) == arity + len(named) and named.keys().isdisjoint(kw):
            return args[:arity], named | kw
        try:
            kw = signature.bind(*args, **kw).arguments
        except TypeError as e:
            raise TypeError(f"{name}{signature}: {e}") from None
        kw |= kw.pop(kinds.get(inspect.Parameter.VAR_KEYWORD), {})
        return tuple(kw.pop(key, default) for key, default in inputs.items()), kw

    unread, reads_y = (), True  # unread: positions of the inputs whose values the vjp does not read

    @functools.wraps(forward)
    def call(*args, **kw):
        if len(args) != arity and arity:
            args, kw = bind(args, kw)
        on_device = False  # whether an option is an array on a device
        for key, value in kw.items() if kw else ():
            kind = type(value)
            if kind is Tensor:
                if value.requires_grad:
                    raise TypeError(f"{name} has no derivative with respect to {key}: "
                                    f"pass {key}.detach()")
                kw[key] = value = value.data
                kind = type(value)
            if kind in PLAIN:
                continue
            if isinstance(value, np.generic):
                kw[key] = value.item()
            else:
                on_device |= hasattr(value, "strides")
        arrays, dtype, tracked = [], None, False
        for a in args:  # usually CPU tensors of one dtype, and numbers: nothing to convert
            if type(a) is Tensor:
                if a.requires_grad:
                    tracked = True
                a = a.data
                if type(a) is not ndarray:
                    break
                if a.dtype is not dtype:
                    if dtype is not None:
                        break
                    dtype = a.dtype
            elif type(a) not in NUMBERS:
                break
            arrays.append(a)
        if len(arrays) < len(args) or dtype is None or on_device:
            args, kw = as_operands(args, kw, name, inputs)
            arrays = [a.data if type(a) is Tensor else a for a in args]
            dtypes = [p.dtype for p in args if type(p) is Tensor]
            dtype = next((d for d in dtypes if d in FLOATS), dtypes[0] if dtypes else F32)
            tracked = any(type(p) is Tensor and p.requires_grad for p in args)
        try:
            y = forward(*arrays, **kw)
        except (AttributeError, IndexError, OverflowError, TypeError, ValueError) as e:
            classes = ValueError, TypeError, IndexError, OverflowError, AttributeError
            text = str(e)
            if not text.startswith(name):
                text = f"{describe(name, args, kw, inputs)}: {text}"
            raise next(kind for kind in classes if isinstance(e, kind))(text) from e
        saved = written = None
        if type(y) is not ndarray:
            if type(y) is tuple and len(y) == 2:
                y, saved = y
            if isinstance(y, SCALARS):
                y, arrays = asarray(y), ()  # shares no input's memory
            elif type(y) is Tensor or not hasattr(y, "dtype"):
                raise TypeError(f"{name} gave a {type(y).__name__}, expected an array, or an array "
                                "and what the vjp reads as y.saved: an op computes on arrays")
        if y.dtype is not dtype:
            made = y.dtype
            if made.kind == "f" and made != dtype and "dtype" not in kw:
                # a float result has the inputs' float dtype, or float32 if all are integers
                y = y.astype(dtype if dtype in FLOATS else F32)
        view = y.base is not None
        for a in arrays:
            if a is y:
                view = True
        if view:  # y shares an input's memory, and so the record of when that was last written
            written = next((last_write(p) for p in args if type(p) is Tensor and (
                y is p.data or y.base is p.data or y.base is p.data.base is not None)), None)
        if tracked and tracking() and y.dtype in FLOATS:
            if unread:
                args = tuple([a.node or a if i in unread and type(a) is Tensor else a
                              for i, a in enumerate(args)])
            if reads_y and written is None:
                written = [0]
            kw = defaults | kw if defaults else kw or NO_OPTIONS  # one dict for all calls without
            return Tensor(y, Node(call, args, kw, saved, y, reads_y, written), saved, written)
        return Tensor(y, None, saved, written)

    def vjp(f):
        nonlocal unread, reads_y
        names = [p.name for p in inspect.signature(f).parameters.values()
                 if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)][1:]
        known = ["y", *inputs] if arity else [variadic]
        if unknown := [n for n in names if n.removeprefix("_") not in known]:
            raise TypeError(f"the vjp of {name} asks for {', '.join(unknown)}: there are "
                            f"{' and '.join(known)}")
        call.vjp_fn = f
        positions = [known.index(n.removeprefix("_")) for n in names]
        call.vjp_args = (itemgetter(slice(1, None)) if variadic else itemgetter(*positions)
                         if len(positions) > 1 else lambda values: [values[i] for i in positions])
        unread = {i for i, n in enumerate(inputs) if n not in names and not call.composite_fn}
        if variadic and variadic not in names:
            unread = ALL_POSITIONS
        reads_y = "y" in names
        return call

    def composite(f):
        nonlocal unread
        call.composite_fn, unread = f, ()  # f reads all inputs
        return call

    call.__doc__ = forward.__doc__ or f"NumPy's `{name}`, for tensors, arrays and numbers."
    call.forward, call.vjp, call.composite = forward, vjp, composite
    call.vjp_fn = call.composite_fn = call.accumulate_into = None
    defaults = {p.name: p.default for p in spec.parameters.values()
                if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
    return call
