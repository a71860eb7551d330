"""Operations: functions on arrays that make nodes of a graph.

An operation is a function on arrays with its vector-Jacobian product beside it::

    @op
    def exp(x): return xp(x).exp(x)
    @exp.vjp
    def exp(g, y): return g * y

Positional parameters are differentiable arrays, keyword-only parameters are options. The vjp
receives the cotangent g = ∂L/∂y and, as tensors, what it names of the result y and of the inputs;
it returns the cotangent of each input, either itself or as a function without arguments that is
called only if needed. It is written in operations, so a gradient can be differentiated again. It is
pure mathematics: undoing broadcasts, adding up, and skipping what nobody asked for is left to
`grad` (autodiff.py).

An op that takes a part of an array may also say how to add g to the array's cotangent in place,
``into(out, g, **options)``: of many parts each then costs its own size, and not the array's.

What a vjp does not name is not kept in memory for it. It may name an input x as `_x`: then it has
its `shape`, `ndim` and `dtype`, which are kept, but not its values; and `_y` has `_y.saved`.

A fused backward that is written on arrays (attention, norms) cannot be differentiated again. Such
an op names its composite, the same function in ordinary ops, used by `grad` under `create_graph`.
"""

import functools
import inspect
import sys
from operator import itemgetter

import numpy as np
from numpy import asarray, ndarray

from minigen.operands import NUMBERS, PLAIN, as_operands, describe
from minigen.tensor import F32, FLOATS, Node, Tensor, last_write, tracking

EVERY = range(sys.maxsize)  # the places of an op of any number of inputs
SCALARS = (np.generic, float, int)
NONE = {}


def op(forward):
    """Make an operation of a function on arrays. Its result is the array, or ``(array, saved)``
    where the vjp reads `saved` as ``y.saved``. See ``help("minigen.operation")``."""
    name, spec = forward.__name__.lstrip("_"), inspect.signature(forward)
    kinds = {p.kind: p.name for p in spec.parameters.values()}
    inputs = {p.name: p.default for p in spec.parameters.values()
              if p.kind is p.POSITIONAL_OR_KEYWORD}
    several = kinds.get(inspect.Parameter.VAR_POSITIONAL)  # an op of any number of inputs
    if bool(several) == bool(inputs) or "y" in inputs:
        raise TypeError(f"{name}{spec}: an op has inputs by name, none called y, which is the "
                        "result in its vjp, or any number: *xs")
    arity = None if several else len(inputs)
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

    unread, reads_y = (), True  # places of inputs whose values the vjp does not read

    @functools.wraps(forward)
    def call(*args, **kw):
        if len(args) != arity and arity:
            args, kw = bind(args, kw)
        on_device = False  # an option
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
        for a in args:  # mostly tensors of one dtype on the CPU, and numbers: then all is ready
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
        except (IndexError, OverflowError, TypeError, ValueError) as e:
            text, known = str(e), (ValueError, TypeError, IndexError, OverflowError)
            if not text.startswith(name):
                text = f"{describe(name, args, kw, inputs)}: {text}"
            raise next(kind for kind in known if isinstance(e, kind))(text) from e
        saved = written = None
        if type(y) is not ndarray:
            if type(y) is tuple and len(y) == 2:
                y, saved = y
            if isinstance(y, SCALARS):
                y, arrays = asarray(y), ()  # in no input's memory
            elif type(y) is Tensor or not hasattr(y, "dtype"):
                raise TypeError(f"{name} gave a {type(y).__name__}, expected an array, or an array "
                                "and what the vjp reads as y.saved: an op computes on arrays")
        if y.dtype is not dtype:
            made = y.dtype
            if made.kind == "f" and made != dtype and "dtype" not in kw:
                # a float dtype in is the dtype out; integers alone make float32
                y = y.astype(dtype if dtype in FLOATS else F32)
        view = y.base is not None
        for a in arrays:
            if a is y:
                view = True
        if view:  # of what the input whose memory it is remembers: when that was written last
            written = next((last_write(p) for p in args if type(p) is Tensor and (
                y is p.data or y.base is p.data or y.base is p.data.base is not None)), None)
        if tracked and tracking() and y.dtype in FLOATS:
            if unread:
                args = tuple([a.node or a if i in unread and type(a) is Tensor else a
                              for i, a in enumerate(args)])
            if reads_y and written is None:
                written = [0]
            kw = defaults | kw if defaults else kw or NONE  # one dict for all that have no options
            return Tensor(y, Node(call, args, kw, saved, y, reads_y, written), saved, written)
        return Tensor(y, None, saved, written)

    def vjp(f):
        nonlocal unread, reads_y
        names = [p.name for p in inspect.signature(f).parameters.values()
                 if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)][1:]
        known = ["y", *inputs] if arity else [several]
        if odd := [n for n in names if n.removeprefix("_") not in known]:
            raise TypeError(f"the vjp of {name} asks for {', '.join(odd)}: there are "
                            f"{' and '.join(known)}")
        call.pull = f
        places = [known.index(n.removeprefix("_")) for n in names]
        call.read = (itemgetter(slice(1, None)) if several else itemgetter(*places)
                     if len(places) > 1 else lambda values: [values[i] for i in places])
        unread = {i for i, n in enumerate(inputs) if n not in names and not call.unfused}
        if several and several not in names:
            unread = EVERY
        reads_y = "y" in names
        return call

    def composite(f):
        nonlocal unread
        call.unfused, unread = f, ()  # f reads all inputs
        return call

    call.__doc__ = forward.__doc__ or f"NumPy's `{name}`, for tensors, arrays and numbers."
    call.forward, call.vjp, call.composite = forward, vjp, composite
    call.pull = call.unfused = call.into = None
    defaults = {p.name: p.default for p in spec.parameters.values()
                if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
    return call
