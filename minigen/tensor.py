"""Tensors: arrays with a history of how they were computed.

The engine is three files: this one holds the data structures, `operation.py` makes each call of an
operation a node of the graph (`operands.py` converts its inputs), `autodiff.py` walks it in `grad`.
"""

import itertools
from contextvars import ContextVar
from operator import attrgetter

import numpy as np

from minigen.kernels.common import with_value

_tick = itertools.count(1).__next__  # one clock stamps both nodes and writes: see `write`
_tracking = ContextVar("tracking", default=True)
tracking = _tracking.get
_recording = ContextVar("recording", default=None)
recording = _recording.get  # the Recorded that is recording a step (recorded.py), or None
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
FLOATS = {F32, F64}


def xp(*arrays):
    """The module (numpy or cupy) whose functions work on these arrays."""
    for a in arrays:
        if not isinstance(a, (np.ndarray, np.generic, int, float, type(None))):
            if type(a).__module__.partition(".")[0] != "cupy":
                raise TypeError(f"expected an array of NumPy or CuPy, got {type(a).__name__}")
            import cupy
            return cupy
    return np


class Node:
    """How a tensor was computed: ``y = op(*inputs, **kw)``.

    A graph keeps only the values that its derivatives read. An input whose values the vjp reads is
    stored as a tensor, any other as its node; `data` is y's array if the vjp reads it, or None,
    `saved` what the op kept for the vjp, `written` when y's memory was written (see last_write).
    All other results are freed as soon as nobody uses them. A leaf, having no node, stays a tensor.
    """

    __slots__ = ("op", "inputs", "kw", "saved", "data", "shape", "dtype", "written", "stamp")

    def __init__(self, op, inputs, kw, saved, y, reads_y, written):
        self.op, self.inputs, self.kw, self.saved = op, inputs, kw, saved
        self.shape, self.dtype = y.shape, y.dtype
        self.data, self.written = (y, written) if reads_y else (None, None)
        self.stamp = _tick()  # the graph is stale if a tensor it holds was written later

    ndim = property(lambda self: len(self.shape))


class Tensor:
    """An array and, if it has a history, the node that computed it.

    Create one with `tensor`. Operators and the usual methods are minigen's ops; where NumPy and
    PyTorch differ (transpose, repeat, split, var), they follow NumPy.
    """

    __slots__ = ("data", "requires_grad", "node", "saved", "written", "__weakref__")
    __array_ufunc__ = None  # makes NumPy's operators defer to ours
    __hash__ = object.__hash__

    def __init__(self, data, node=None, saved=None, written=None):
        self.data, self.node, self.saved = data, node, saved
        self.requires_grad = node is not None
        self.written = written  # see last_write

    shape, ndim, size, dtype = (property(attrgetter(f"data.{name}"))
                                for name in ("shape", "ndim", "size", "dtype"))

    def item(self):
        """The value of a tensor with one element, as a Python number."""
        _check_readable(self.data)
        return self.data.item()

    def numpy(self):
        """The values as a NumPy array; on the CPU it shares this tensor's memory."""
        _check_readable(self.data)
        return self.data if isinstance(self.data, np.ndarray) else self.data.get()

    def detach(self):
        """A tensor that shares this one's memory but has no history."""
        return Tensor(self.data, written=last_write(self))

    def backward(self, *_, **__):
        raise AttributeError("minigen has no .backward() and no .grad: use minigen.grad(y, wrt)")

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad:
            raise TypeError("NumPy was given a tensor that requires grad and would lose its "
                            "history: use minigen's function, or pass t.detach()")
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **kw):
        if self.requires_grad:
            raise TypeError("a tensor that requires grad cannot be exported: pass t.detach()")
        return self.data.__dlpack__(**kw)

    def __dlpack_device__(self):
        return self.data.__dlpack_device__()

    def __setitem__(self, index, value):
        raise TypeError("a tensor is never assigned into: build a new one with minigen.where, "
                        "concatenate or pad (parameters change through optimisers)")

    def __len__(self):
        if not self.ndim:
            raise TypeError("a 0-d tensor has no len()")
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        if self.size != 1:
            raise ValueError(f"a tensor of shape {self.shape} is neither true nor false: "
                             "use .any() or .all()")
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if self.dtype.kind not in "iu":
            raise TypeError(f"only an integer tensor can be an index, this one is {self.dtype}")
        return int(self.item())

    def __format__(self, spec):
        return format(self.item() if spec else repr(self), spec)

    def __repr__(self):
        values = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=200)
        tail = ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({values}, shape={self.shape}, dtype={self.dtype}{tail})"


def tensor(a, requires_grad=False):
    """A tensor from an array, a list (float32, or booleans), a number, or anything with
    ``__array__`` or DLPack (PyTorch, JAX, CuPy), without a copy; a tensor is returned as it is.
    With ``requires_grad=True`` the data (float32 or float64) are copied: optimisers write there."""
    if isinstance(a, Tensor) and not requires_grad:
        return a
    data = a.data if isinstance(a, Tensor) else as_array(a)
    if requires_grad:
        if data.dtype not in FLOATS:
            raise TypeError(f"tensor: requires_grad needs float32 or float64, got {data.dtype}: "
                            "use a.astype(numpy.float32)")
        data = data.copy()
    t = Tensor(data)
    t.requires_grad = bool(requires_grad)
    return t


def as_array(a, prefix=""):
    if isinstance(a, (np.ndarray, np.generic)) or type(a).__module__.partition(".")[0] == "cupy":
        if a.dtype.kind not in "fiub":
            raise TypeError(f"{prefix}expected real numbers, got {a.dtype}")
        return xp(a).asarray(a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("=")))
    if isinstance(a, (list, tuple, int, float)):
        kind = "f" if np.isscalar(a) else np.asarray(a).dtype.kind
        if kind not in "fiub":
            raise TypeError(f"{prefix}expected real numbers, got {a!r:.60}")
        return np.array(a, None if kind == "b" else np.float32)
    if hasattr(a, "__dlpack_device__"):
        if a.__dlpack_device__()[0] == 2:  # a CUDA device, in DLPack's numbering
            import cupy
            return cupy.from_dlpack(a)
        return as_array(np.from_dlpack(a), prefix)
    if hasattr(a, "__array__"):
        return as_array(np.asarray(a), prefix)
    raise TypeError(f"{prefix}expected a tensor, an array or a number, got {type(a).__name__}")


def last_write(t):
    """When the memory of t was last written: [a tick of the clock], one list for all tensors that
    share the memory. It is created on the first request."""
    if t.written is None:
        t.written = [0]
    return t.written


def write(t, update):
    """The only way to change an array: ``update(t.data)`` writes in place, or ``update(*arrays)``
    for a list t. Tensors are stamped, so that `grad` recognises a graph of old values as stale."""
    tensors = t if isinstance(t, list) else [t]
    for t in tensors:
        if t.node:
            raise TypeError(f"write: a result of {t.node.op.__name__} is no parameter or buffer")
    update(*[t.data for t in tensors])
    for t in tensors:
        last_write(t)[0] = _tick()
        if recording():
            recording().written[t] = t.data


def to_device_of(a, like):
    """The array `a` on the device of the array `like`."""
    m = xp(like)
    if recording() and m is not np and isinstance(a, np.ndarray):
        return recording().constant(a, m)
    return m.asarray(a)


def device_scalars(out, numbers, like):
    """Numbers that change from step to step, on the device of the array `like` for its kernels:
    written into the float64 array `out`, or into a new one if it is None. On the CPU: None."""
    if isinstance(like, np.ndarray):
        return None
    out = xp(like).zeros(len(numbers)) if out is None else out
    out[...] = xp(like).asarray(np.array(numbers, F64))
    return out


def readable(a):
    """Whether the host may read the array's values: not on a device while a step is recorded."""
    return recording() is None or isinstance(a, np.ndarray)


def _check_readable(a):
    if not readable(a):
        raise TypeError("a step that is recorded was about to read a number from the device, which "
                        "no replay would read again: compute with the tensor itself")


def track(on):
    """A context that turns the keeping of history on or off."""
    return with_value(_tracking, on)


def record(recorder):
    """A context in which work on a device is recorded by a recorded.Recorded."""
    return with_value(_recording, recorder)


def no_grad():
    """A context (``with no_grad():``) or decorator in which no history is kept."""
    return track(False)
