"""A stand-in for CuPy, for machines without a device: arrays that live in NumPy's memory but, like
CuPy's, refuse to be mixed with NumPy's, in a module that knows the functions CuPy knows; kernels
run in the emulator. So what fails on a device because an array was left on the host fails here."""

import inspect
import operator
import re
import types

import numpy as np
from minigen.kernels import emulate

try:
    import cupy as real  # imports without a device; asked only for names and signatures
except ImportError:
    real = None


class ndarray:
    """An array of the device."""

    def __init__(self, a):
        self.a = np.asarray(a)

    def __array_ufunc__(self, ufunc, method, *args, **kw):
        return call(getattr(ufunc, method), *args, **kw)

    def __array__(self, *args, **kw):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __getattr__(self, name):
        value = getattr(self.a, name)
        if real and not hasattr(real.ndarray, name):
            raise AttributeError(f"cupy.ndarray has no {name}")
        return (lambda *args, **kw: call(value, *args, **kw)) if callable(value) else wrap(value)

    device = types.SimpleNamespace(id=0)
    __dlpack_device__ = lambda self: (2, 0)  # of CUDA, in DLPack's numbering

    def get(self):
        return self.a.copy()

    def item(self, *args):
        return self.a.item(*args)

    def __setitem__(self, index, value):
        self.a[unwrap(index)] = unwrap(value)

    def __len__(self):
        return len(self.a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        return bool(self.a)

    __float__ = lambda self: float(self.a)
    __int__ = lambda self: int(self.a)
    __index__ = lambda self: operator.index(self.a)
    __hash__ = None


ndarray.__module__ = "cupy"


def _operator(name):
    return lambda self, *others: call(getattr(self.a, name), *others)


def _in_place(name):
    def run(self, other):
        getattr(self.a, name)(unwrap(other))
        return self
    return run


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor",
              "matmul", "lshift", "rshift"):
    for _side in ("", "r"):
        setattr(ndarray, f"__{_side}{_name}__", _operator(f"__{_side}{_name}__"))
    setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in ("neg", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge", "getitem"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))


def unwrap(x):
    """What NumPy computes with; TypeError for an array of the host, as CuPy says it."""
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
    return wrap(f(*map(unwrap, args), **{key: unwrap(value) for key, value in kw.items()}))


class Ufunc:
    def __init__(self, ufunc):
        self.ufunc = ufunc

    def __call__(self, *args, **kw):
        return call(self.ufunc, *args, **kw)

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
            assert shared_mem <= getattr(launch, "max_dynamic_shared_size_bytes", 48 << 10)
            args = [None if type(a) is np.uint64 and a == 0 else a for a in map(unwrap, args)]
            emulate.run(self.file, self.code, self.macros, name, grid, block, args, shared_mem)
        return launch


class Module(types.ModuleType):
    """The module itself, put in the place of `cupy` among the loaded ones."""

    ndarray, RawModule = ndarray, RawModule
    cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=lambda: 1))

    def asarray(self, a, dtype=None):
        return ndarray(np.array(a.a if isinstance(a, ndarray) else a, dtype))

    array = asarray
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
