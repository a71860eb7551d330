"""What the kernels share: argument checks and the choice of a version, arrays, threads.

Dimension letters: images N C H W, filters K D R S (D = C / groups), outputs P Q, sequences B T D.
"""

import ctypes
import functools
import inspect
import math
import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numba import njit
from numba.extending import register_jitable

from .compiler import FLAGS
from .once import num_threads, once

LINE = 64  # bytes in a cache line and in a vector; LLVM splits it if the CPU's are shorter
MAX_CHECKED = 4096  # combinations of types and shapes that a kernel remembers as checked
HOST = ("reference", "cpu")  # versions for NumPy arrays only; the others take CuPy arrays
# Read once: os.environ takes 1.5 µs, a sixth of what calling a kernel costs.
DEFAULT_VERSION = os.environ.get("MINIGEN_KERNELS")
_version = ContextVar("version", default=DEFAULT_VERSION)


@contextmanager
def with_value(variable, value):
    """A context in which the context variable has the given value."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def version(name):
    """A context in which every kernel runs its version of this name: "reference", "cpu" or "cuda".
    By default MINIGEN_KERNELS names it for the whole process or, if that is not set when minigen is
    imported, the array type decides: "cpu" for NumPy, "cuda" for CuPy."""
    return with_value(_version, name)


class Kernel:
    """One operation on arrays. Calling it checks the arguments, then runs a version: see `version`.

    The decorated function is the reference; `@name.version("cpu")` adds a version with the same
    signature, and `name.cpu` is that version itself, without checks.

    `shapes` gives the dimensions of each array argument as letters; a letter has one size
    throughout a call. "..." is any number of leading dimensions, equal in all arrays, "*" any
    number, which may differ. Words may follow: "or None"; "int" (an integer array); "mask" (boolean
    or float); "in place" (the array is written); "strided" (passed with its strides; arrays without
    this word are made contiguous). `check`, called with the kernel's arguments, raises the errors
    that letters cannot express. Combinations of types and shapes that have passed are remembered:
    looking one up takes 1 µs, checking it 10.
    """

    def __init__(self, reference, shapes, check):
        functools.update_wrapper(self, reference)
        self.__doc__ = sys.modules[reference.__module__].__doc__  # the module describes this kernel
        self.name, self.check = reference.__name__, check
        self.signature = inspect.signature(reference)
        self.arity = len(self.signature.parameters)
        words = {name: spec.split() for name, spec in shapes.items()}
        self.arrays = [(i, name, [d for d in words[name] if len(d) == 1 or d == "..."],
                        set(words[name]))
                       for i, name in enumerate(self.signature.parameters) if name in words]
        self.positions = [i for i, *_ in self.arrays]
        self.contiguous = [(i, words) for i, _, _, words in self.arrays if "strided" not in words]
        self.versions, self.checked = {}, {}
        self.version("reference")(reference)

    def version(self, name):
        def add(function):
            self.versions[name] = function
            setattr(self, name, function)
            return self
        return add

    def __call__(self, *args, **kw):
        if kw or len(args) != self.arity:
            try:
                args = self.signature.bind(*args, **kw).args
            except TypeError as error:
                raise TypeError(f"{self.name}: {error}") from None
        kinds = tuple([(type(a), getattr(a, "dtype", None), getattr(a, "shape", None))
                       for a in map(args.__getitem__, self.positions)])
        device = self.checked.get(kinds)
        if device is None:  # types and shapes not seen yet
            device = self._check_arrays(args)
            if len(self.checked) >= MAX_CHECKED:
                self.checked.clear()
            self.checked[kinds] = device
        copies = []
        for i, words in self.contiguous:
            if args[i] is not None and not args[i].flags.c_contiguous:
                args = [*args]
                a, args[i] = args[i], args[i].copy(order="C")
                if "place" in words:
                    copies.append((a, args[i]))
        if self.check:
            self.check(*args)
        result = self._pick(device)(*args)
        for a, copy in copies:
            a[...] = copy
        return result

    def _check_arrays(self, args):
        """The array type of all arguments. TypeError or ValueError if one of them does not fit."""
        sizes, first, device = {}, None, None
        for i, name, dims, words in self.arrays:
            a = args[i]
            if a is None and "None" in words:
                continue
            if type(a).__module__.partition(".")[0] not in ("numpy", "cupy") or np.isscalar(a):
                raise TypeError(f"{self.name}: {name} is a {type(a).__name__}, expected an array")
            if first is None:
                first, device = (name, a.dtype), type(a)
                if "int" not in words and a.dtype not in (np.float32, np.float64):
                    raise TypeError(f"{self.name}: {name} is {a.dtype}, "
                                    "expected float32 or float64")
            self._check_array(name, a, words, first, device)
            self._bind(name, a.shape, dims, sizes)
        return device

    def _check_array(self, name, a, words, first, device):
        if type(a) is not device:
            raise TypeError(f"{self.name}: {name} is a {type(a).__module__} array, "
                            f"expected {device.__module__} like {first[0]}")
        if "int" in words:
            if a.dtype.kind not in "iu":
                raise TypeError(f"{self.name}: {name} is {a.dtype}, expected integers")
        elif a.dtype != first[1] and not ("mask" in words and a.dtype == bool):
            raise TypeError(f"{self.name}: {name} is {a.dtype}, "
                            f"expected {first[1]} like {first[0]}")

    def _bind(self, name, shape, dims, sizes):
        """Match a shape against its letters, whose sizes are recorded when first seen."""
        letters = [d for d in dims if d.isalpha()]
        lead = len(shape) - len(letters)
        fits = lead >= 0 if len(dims) > len(letters) else lead == 0
        if fits:
            bound = list(zip(letters, shape[lead:], strict=True))
            if dims[:1] == ["..."]:
                bound.append(("...", shape[:lead]))
            fits = all(sizes.setdefault(d, n) == n for d, n in bound)
        if not fits:
            known = ", ".join(f"{d} = {sizes[d]}" for d in dims if d in sizes)
            raise ValueError(f"{self.name}: {name} has shape {shape}, expected "
                             f"({', '.join(dims)}){' with ' + known if known else ''}")

    def _pick(self, device):
        numpy, forced = device.__module__ == "numpy", _version.get()
        version = forced or ("cpu" if numpy else "cuda")
        if version not in self.versions:
            if version == "cuda":
                raise NotImplementedError(f"{self.name} has no CUDA version")
            raise ValueError(f"kernels.version or MINIGEN_KERNELS={forced}: {self.name} has "
                             f"{', '.join(self.versions)}")
        if not numpy and version in HOST:
            raise TypeError(f"kernels.version or MINIGEN_KERNELS={forced}: it takes NumPy arrays, "
                            "not CuPy's")
        return self.versions[version]


def kernel(check=None, **shapes):
    """Turn the decorated reference into a Kernel."""
    return lambda reference: Kernel(reference, shapes, check)


PAGE = 4096


def empty(shape, dtype):
    """An uninitialised array, aligned to a page if it is large.

    When two arrays of whole pages are allocated one behind the other, the second starts 16 bytes
    further into its page. An element of it then shares the low 12 bits of its address with an
    element of the first that comes a little later, and the CPU, which compares only these bits,
    makes loads wait for unrelated stores (4K aliasing): group_norm_backward took 2.1 ms instead of
    0.55. Between arrays that start at a page this does not happen.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < 4 * PAGE:
        return np.empty(shape, dtype)
    memory = np.empty(size + PAGE, np.uint8)
    return np.ndarray(shape, dtype, memory, -ctypes.addressof(start(memory)) % PAGE)


# A ctypes object at the start of an array's data; getting its address takes a third of the time of
# a.ctypes.data. TypeError for an array that is strided or read-only.
start = (ctypes.c_char * 0).from_buffer


# Threads. Numba's pool is the only one: compiled code calls no BLAS, which would have its own.
# A thread that waits for the others spins 10,000 times before it sleeps. GNU's default is 300,000
# times, while another thread may be waiting for the core: with two DDPM demos at once on two cores,
# each took 1,750 ms a step instead of 224. A single demo takes 98 ms, or 95 with GNU's default;
# with 5,000 it takes 103, as threads that Python kept waiting have to be woken. The variable is
# read when the pool starts.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

compiled = njit(**FLAGS)
inlined = register_jitable(error_model="numpy", fastmath={"contract"})


@once
def buffer(size, like):
    """An uninitialised array of `size` elements with the dtype of `like`, aligned to a cache line:
    vectors of 64 bytes that straddle two lines take twice as long."""
    numbers = np.empty(size + LINE // like.itemsize, like.dtype)
    start = -numbers.ctypes.data % LINE // like.itemsize
    return numbers[start:start + size]


@compiled
def part(x, chunk, chunks):
    """Part number `chunk` of the flat array x, cut into `chunks`. A loop over the part counts from
    0. In a loop over x from the part's begin to its end, an index might be negative, which in
    Python counts from the end of the array; vectors are then gathered and scattered element by
    element: a sum of two arrays took seven times as long."""
    return x[chunk * len(x) // chunks:(chunk + 1) * len(x) // chunks]


@compiled
def share(items, chunk, chunks):
    """The share of part number `chunk` of range(items), cut into `chunks`."""
    return range(chunk * items // chunks, (chunk + 1) * items // chunks)


@compiled
def row_bands(N, P, chunks):
    """The rows of each band, and the bands of each of N images of P rows, of which every chunk gets
    its share even if there are fewer images than chunks."""
    rows = -(-P // -(-chunks // max(N, 1)))
    return rows, -(-P // rows)


PART = 1 << 14  # elements that justify one more thread for a pass over memory


@compiled
def chunks(items):
    """The number of chunks, one call of a threaded function each. Partial sums are indexed by chunk
    and added in order, so that for a given number of threads every run gives the same bits."""
    return max(1, min(items, num_threads()))


def row_chunks(x):
    """The number of chunks into which the rows of x are divided: more than one if they have PART
    elements each. Of 32×10 numbers, a softmax takes 1 µs, and waking a thread 40 to 70."""
    return chunks(min(len(x), 1 + x.size // PART))
