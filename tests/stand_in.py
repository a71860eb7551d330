"""A stand-in for CuPy on machines without a device. Its arrays live in NumPy's memory but, like
CuPy's, refuse to be mixed with NumPy's; the module has the functions that CuPy has; kernels run in
the emulator. So code that fails on a device because an array was left on the host fails here, too.

While a stream captures, operations are recorded (stand_in_capture.py), and reading an array or
copying one from the host fails, as on a device."""

import contextlib
import functools
import inspect
import re
import types

import numpy as np
import scipy.special
import stand_in_capture as capture
from minigen.kernels import emulate
from minigen.kernels.common import Kernel
from minigen.kernels.many import ForeachKernel
from stand_in_capture import Stream, do, read

try:
    import cupy as real  # imports without a device; asked only for names and signatures
except ImportError:
    real = None


class ndarray:
    """An array on the device."""

    def __init__(self, a):
        self.a = np.asarray(a)

    def __array_ufunc__(self, ufunc, method, *args, **kw):
        return call_ufunc(ufunc, method, *args, **kw)

    def __array__(self, *args, **kw):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __getattr__(self, name):
        value = getattr(self.a, name)
        if real and not hasattr(real.ndarray, name):
            raise AttributeError(f"cupy.ndarray has no {name}")
        if not callable(value):
            return wrap(value)
        theirs = method(name)

        def run(*args, **kw):
            if theirs:
                theirs.bind(self, *args, **kw)  # TypeError for an unknown option
            return call(value, *args, **kw)
        return run

    device = types.SimpleNamespace(id=0, compute_capability="80")
    __dlpack_device__ = lambda self: (2, 0)  # CUDA, device 0, in DLPack's numbering

    def get(self):
        return read(self).copy()

    def item(self):
        return read(self).item()

    def __getitem__(self, index):
        check_index(index)
        return call(self.a.__getitem__, index)

    def __setitem__(self, index, value):
        check_index(index)
        places = np.arange(self.a.size).reshape(self.a.shape)[unwrap(index)]
        assert len(np.unique(places)) == places.size, "which of several numbers is kept is open"
        do(self.a.__setitem__, (unwrap(index), unwrap(value)), writes=[self.a])

    def __len__(self):
        return len(self.a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        return bool(read(self))

    __float__ = lambda self: float(read(self))
    __int__ = lambda self: int(read(self))
    __hash__ = None


ndarray.__module__ = "cupy"


def _operator(name):
    return lambda self, *others: call(getattr(self.a, name), *others)


def _in_place(name):
    def run(self, other):
        do(getattr(self.a, name), (unwrap(other),), writes=[self.a])
        return self
    return run


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor",
              "matmul", "lshift", "rshift"):
    for _side in ("", "r"):
        setattr(ndarray, f"__{_side}{_name}__", _operator(f"__{_side}{_name}__"))
    setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in ("neg", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))


@functools.cache
def method(name):
    """The signature of a method of CuPy's arrays, parsed from the docstring written by Cython."""
    text = re.match(r"\w+\.\w+\((.*?)\)", getattr(getattr(real, "ndarray", None), name).__doc__
                    or "") if real else None
    if not text:
        return None
    scope = {}
    arguments = re.sub(r"\b(int|bint|_ndarray_base|tuple|Py_ssize_t) (?=\w)", "", text[1])
    exec(f"def f({arguments}): pass", scope)
    return inspect.signature(scope["f"])


def check_index(index):
    """IndexError for two masks. While a stream captures, RuntimeError for a mask, whose true
    elements would be counted, and for a list, which would be copied from the host."""
    index = index if isinstance(index, tuple) else (index,)
    masks = sum(isinstance(i, ndarray) and i.a.dtype == bool for i in index)
    if masks > 1:
        raise IndexError("more than one boolean array")
    if capture.tape is not None and (masks or any(isinstance(i, (list, range)) for i in index)):
        raise RuntimeError("a mask is counted, a list copied, while a stream is capturing")


def call_ufunc(ufunc, method, *args, **kw):
    """Call a ufunc: TypeError for options that CuPy's do not have; new results are in C order."""
    if unknown := set(kw) - {"out", "dtype", "casting"}:
        raise TypeError(f"{ufunc.__name__}: Wrong arguments {unknown}")
    f = getattr(ufunc, method)
    return call(f if "out" in kw else lambda *a, **kw: np.asarray(f(*a, **kw), order="C"),
                *args, **kw)


def unwrap(x):
    """The NumPy arrays inside; TypeError, with CuPy's message, for an array on the host."""
    if isinstance(x, ndarray):
        return x.a
    if isinstance(x, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(x, (list, tuple)):
        return type(x)(map(unwrap, x))
    return x


def wrap(x):
    if isinstance(x, (np.ndarray, np.generic)):
        return ndarray(x)
    return tuple(map(wrap, x)) if type(x) is tuple and any(
        isinstance(y, np.ndarray) for y in x) else x


def call(f, *args, **kw):
    out = kw.get("out")
    return wrap(do(f, [*map(unwrap, args)], {key: unwrap(value) for key, value in kw.items()},
                   [out.a] if isinstance(out, ndarray) else ()))


class Ufunc:
    def __init__(self, ufunc):
        self.ufunc = ufunc

    def __call__(self, *args, **kw):
        return call_ufunc(self.ufunc, "__call__", *args, **kw)

    def at(self, *args):
        return call(self.ufunc.at, *args)


class RawModule:
    """A program, run by the emulator."""

    def __init__(self, code, options):
        self.code, (standard, *macros) = code, options
        self.file = re.match('#line 1 "(.*)"', code)[1]
        assert standard.startswith("-std=")
        self.macros = tuple(tuple(m.removeprefix("-D").split("=")) for m in macros)

    def get_function(self, name):
        def launch(grid, block, args, shared_mem=0):
            assert shared_mem <= launch.max_dynamic_shared_size_bytes
            args = [None if type(a) is np.uint64 and a == 0 else a for a in map(unwrap, args)]
            do(emulate.run, (self.file, self.code, self.macros, name, grid, block, args,
                             shared_mem), writes=[a for a in args if isinstance(a, np.ndarray)])
        launch.max_dynamic_shared_size_bytes = 48 << 10
        return launch


class Module(types.ModuleType):
    """The module itself, which replaces `cupy` in sys.modules."""

    ndarray, RawModule = ndarray, RawModule
    lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(
        as_strided=functools.partial(call, np.lib.stride_tricks.as_strided)))
    cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDeviceCount=lambda: 1), Stream=Stream,
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        using_allocator=lambda malloc: contextlib.nullcontext(),
        get_current_stream=lambda: Stream(True))

    def asarray(self, a, dtype=None):
        if isinstance(a, ndarray) and dtype in (None, a.dtype):
            return a
        return self.array(a, dtype)

    def array(self, a, dtype=None):
        if isinstance(a, ndarray):
            return call(np.array, a, dtype)
        if capture.tape is not None:
            raise RuntimeError("a copy from the host while a stream is capturing")
        return ndarray(np.array(a, dtype))

    def concatenate(self, arrays, axis=0):
        if capture.tape is not None and len(arrays) > 8:
            raise RuntimeError("a copy of addresses from the host while a stream is capturing")
        return call(np.concatenate, arrays, axis)

    from_dlpack = lambda self, a: a

    def asnumpy(self, a):
        return a.get()

    def __getattr__(self, name):
        function = getattr(np, name)
        if real and not hasattr(real, name):
            raise AttributeError(f"cupy has no {name}")
        if not callable(function) or isinstance(function, type):
            return function
        if isinstance(function, np.ufunc):
            return Ufunc(function)
        theirs = getattr(real, name, None)

        def run(*args, **kw):
            if inspect.isfunction(theirs):
                inspect.signature(theirs).bind(*args, **kw)  # TypeError for an unknown option
            return call(function, *args, **kw)
        return run


def with_kernels_of_the_cpu(monkeypatch):
    """Make kernels run their CPU version; those of optimisers, on both devices, their reference,
    which accepts their numbers as arrays. On the device, their arguments and results are still the
    device's arrays."""
    def on_the_cpu(self, device):
        version = self.reference if isinstance(self, ForeachKernel) else self.cpu
        return functools.partial(call, version) if device is ndarray else version
    monkeypatch.setattr(Kernel, "_pick", on_the_cpu)


def modules():
    """The replacements for CuPy's modules: a dict by name."""
    special = types.SimpleNamespace(**{name: functools.partial(call, getattr(scipy.special, name))
                                       for name in ("erf", "erfcx", "log_ndtr")})
    below = types.SimpleNamespace(special=special)
    return {"cupy": Module("cupy"), "cupyx": types.SimpleNamespace(scipy=below),
            "cupyx.scipy": below, "cupyx.scipy.special": special}
