"""The inputs of an operation: converted to tensors of one dtype, and described in messages."""

import functools
import inspect
import re

import numpy as np

from minigen.tensor import F64, Tensor, as_array, recording, to_device_of, xp

ERRORS = (ValueError, TypeError, IndexError, AttributeError, ZeroDivisionError, OverflowError)
NUMBERS = {float, int, bool, type(None)}  # an op's inputs, once converted, are these or tensors
PLAIN = {*NUMBERS, str, tuple, list, np.ndarray, np.dtype}  # the types of most options


def as_operands(args, kw, name, inputs):
    """The inputs of a call, a tuple of numbers, None, and tensors of one dtype on one device; and
    its options, on that device."""
    parents = [a if type(a) is Tensor or type(a) in NUMBERS else operand(a, name, i, inputs)
               for i, a in enumerate(args)]
    parents, kw = to_common_device(to_common_dtype(parents, name, inputs), kw, name, inputs)
    return tuple(parents), kw


def operand(a, name, i, inputs):
    """The i-th input of the op `name` as a tensor or a Python number. NumPy scalars become Python
    numbers, so that none of them promotes a float32."""
    if isinstance(a, np.generic) and not np.iscomplexobj(a):
        return a.item()
    return Tensor(as_array(a, f"{name}: {[*inputs, i][min(i, len(inputs))]}: "))


def to_common_dtype(parents, name, inputs):
    """If all inputs are numbers, they become float32. Integer and boolean tensors take the float
    dtype of the other inputs, and so does a 0-d constant; otherwise two float dtypes do not mix."""
    tensors = [p for p in parents if type(p) is Tensor]
    if not tensors:
        return [p if p is None else Tensor(as_array(p)) for p in parents]
    floats = {p.dtype for p in tensors if p.dtype.kind == "f"}
    if len(floats) > 1:
        floats = {p.dtype for p in tensors if p.dtype.kind == "f" and (p.ndim or p.requires_grad)}
        floats = floats or {F64}
    if len(floats) > 1:
        raise TypeError(f"{describe(name, parents, {}, inputs)}: all must have one float dtype: "
                        "convert one with .astype(...)")
    for dtype in floats:
        parents = [Tensor(p.data.astype(dtype)) if type(p) is Tensor and p.dtype != dtype else p
                   for p in parents]
    return parents


def to_common_device(parents, kw, name, inputs):
    """Constants used with a tensor on the device (indices, masks, targets, noise, plain arrays) are
    copied there, much as a number takes the tensor's dtype; a tensor that requires grad is not."""
    like = next((a for a in _arrays([*parents, *kw.values()]) if xp(a) is not np), None)
    if like is None:
        return parents, kw
    if recording():
        recording().read |= {p: p.data for p in parents
                             if type(p) is Tensor and p.requires_grad and p.node is None}
    if any(type(p) is Tensor and p.requires_grad and isinstance(p.data, np.ndarray)
           for p in parents):
        raise TypeError(f"{describe(name, parents, {}, inputs)}: all that requires grad must "
                        "be on one device: move the model with nn.to")
    return ([_to_device(p, like) for p in parents],
            {key: _to_device(value, like) for key, value in kw.items()})


def _arrays(values):
    """The arrays among the values, including those inside tensors and tuples."""
    for value in values:
        if type(value) is tuple:
            yield from _arrays(value)
        elif type(value) is Tensor:
            yield value.data
        elif hasattr(value, "strides"):
            yield value


def _to_device(a, like):
    """A constant, a number or a tuple of these, on the device of the array `like`."""
    if type(a) is tuple:
        return tuple(_to_device(b, like) for b in a)
    if type(a) is Tensor:
        return Tensor(to_device_of(a.data, like)) if isinstance(a.data, np.ndarray) else a
    return to_device_of(a, like) if isinstance(a, np.ndarray) else a


def describe(name, parents, kw, inputs):
    """A call as text, for error messages: ``add(a: (2, 3) float32, b: (2,) float32)``."""
    names = [*inputs, *range(len(inputs), len(parents))]
    texts = [f"{n}: {p.shape} {p.dtype}" if type(p) is Tensor else f"{n}={p}"
             for n, p in zip(names, parents, strict=True)]
    return f"{name}({', '.join(texts + [f'{k}={_short_repr(v)}' for k, v in kw.items()])})"


def _short_repr(v):
    if type(v) is tuple:
        return f"({', '.join(map(_short_repr, v))})"
    return f"{v.dtype} {v.shape}" if hasattr(v, "strides") else repr(v)[:60]


def accepts_arrays(*names):
    """Let a function made of ops accept what ops accept: its arguments `names` become tensors. Its
    name is put before its error messages, unless they already name it or an op."""
    def wrap(f):
        name, parameters = f.__name__, inspect.signature(f).parameters
        positions = [(i, key, parameters[key].default) for i, key in enumerate(parameters)
                     if key in names]

        @functools.wraps(f)
        def call(*args, **kw):
            args = list(args)
            try:
                for i, key, default in positions:
                    arguments, at = (args, i) if i < len(args) else (kw, key)
                    if i < len(args) or key in kw:
                        if type(arguments[at]) is not Tensor and arguments[at] is not default:
                            arguments[at] = Tensor(as_array(arguments[at], f"{name}: {key}: "))
                return f(*args, **kw)
            except ERRORS as e:
                if re.match(rf"{name}\b|\w+(\(.*\))?: ", str(e)):
                    raise
                kind = next(kind for kind in ERRORS if isinstance(e, kind))
                raise kind(f"{name}: {e}") from e
        return call
    return wrap
