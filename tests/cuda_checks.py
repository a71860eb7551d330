"""What the tests of the CUDA kernels share: where they run, and how far they may be off.

Every test runs twice: in the emulator on the CPU and, marked `gpu`, on a device.
"""

import ctypes
import hashlib
import re
import shutil
import sys

import numpy as np
import pytest
from minigen.kernels import cuda, emulate

# The relative rounding error of one factor; a product of two has a little more than twice that.
ROUNDING = {"fp32": 0, "tf32": 2**-11, "bf16": 2**-8}
PRECISIONS = (("fp32", np.float64), ("fp32", np.float32), ("tf32", np.float32),
              ("bf16", np.float32))


class Emulated:
    """The emulator: a kernel's cuda version is called with NumPy arrays."""

    def __init__(self):
        if not shutil.which("g++"):
            pytest.skip("CUDA kernels run on the CPU only with g++, which is not installed")

    def put(self, a):
        return a.copy() if isinstance(a, np.ndarray) else a

    def get(self, a):
        return a

    def run(self, kernel, *args):
        """The result of a kernel on copies of the arrays among its arguments, as NumPy arrays."""
        result = kernel.cuda(*map(self.put, args))
        return tuple(map(self.get, result)) if isinstance(result, tuple) else self.get(result)


class Device(Emulated):
    """A CUDA device: given CuPy's arrays, kernels choose their cuda version."""

    def __init__(self):
        import cupy
        self.cupy = cupy

    def put(self, a):
        return self.cupy.asarray(a) if isinstance(a, np.ndarray) else a

    def get(self, a):
        return None if a is None else a.get()

    def run(self, kernel, *args):
        result = kernel(*map(self.put, args))
        return tuple(map(self.get, result)) if isinstance(result, tuple) else self.get(result)


def devices():
    """How many CUDA devices the driver has, without loading CuPy."""
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    except OSError:
        return 0
    return 0 if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def force_hopper(monkeypatch, is_one):
    """Make kernels choose as on a device with (or without) warpgroups, even for few tiles."""
    for module in (cuda, sys.modules["minigen.kernels.attention"]):
        monkeypatch.setattr(module, "is_hopper", lambda a: is_one)
    monkeypatch.setattr(cuda, "MIN_BLOCKS", 1)


def broken(text, pattern, replacement):
    """The text with its `pattern`-th barrier removed, or the text `pattern` replaced."""
    if isinstance(pattern, int):
        barriers = list(re.finditer(r"__syncthreads\(\);", text))
        return text[:barriers[pattern].start()] + text[barriers[pattern].end():]
    assert pattern in text
    return text.replace(pattern, replacement, 1)


def product_agrees(on, kernel, args, terms, precisions=PRECISIONS):
    """Assert that a kernel whose elements are sums of at most `terms` products (or numbers) equals
    its reference in float64, each element within the error bound of the arithmetic: the rounding of
    both factors and of every addition, relative to the sum of the terms' magnitudes."""
    each = lambda f: [f(a) if isinstance(a, np.ndarray) else a for a in args]
    exact = kernel.reference(*each(lambda a: a.astype(np.float64)))
    size = kernel.reference(*each(lambda a: np.abs(a.astype(np.float64))))
    for precision, dtype in precisions:
        with cuda.precision(precision):
            y = on.run(kernel, *each(lambda a, dtype=dtype: a.astype(dtype)))
        assert y.shape == exact.shape and y.dtype == dtype
        factor = ROUNDING[precision] + np.finfo(dtype).eps  # args themselves are rounded to dtype
        bound = (2.01 * factor + (terms + 2) * np.finfo(dtype).eps) * size
        assert (np.abs(y - exact) <= bound).all(), (precision, dtype)


class Compiled:
    """A .cu file compiled by NVRTC for one architecture: the registers of each kernel, and the
    bytes it spills to memory. The compiler's log is kept in the user's cache folder, under a hash
    of all that it depends on."""

    def __init__(self, file, arch, **macros):
        cupy = pytest.importorskip("cupy", reason="CuPy, which calls NVRTC, is not installed")
        try:
            version = cupy.cuda.nvrtc.getVersion()
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"NVRTC is not installed: {error}")
        text, options = cuda.source(file), (
            *cuda.options(tuple(macros.items())), f"-arch={arch}", "--ptxas-options=-v")
        key = hashlib.sha256(repr((text, options, version)).encode()).hexdigest()[:16]
        path = emulate.cache_folder() / f"{file}-{arch}-{key}.log"
        if not path.exists():
            try:
                _, log = cuda.compile_with_nvrtc(file, text, options)
            except RuntimeError as error:
                pytest.fail(f"for {arch}: {error}", pytrace=False)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(log)
        self.registers, self.spilled = {}, {}
        for part in path.read_text().split("Compiling entry function ")[1:]:
            name = re.match(r"'(\w+)'", part)[1]
            self.registers[name] = int(re.search(r"Used (\d+) registers", part)[1])
            stores, loads = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill", part).groups()
            self.spilled[name] = int(stores) + int(loads)
