"""Launching the CUDA kernels of this folder. On CuPy arrays they run on the device; on NumPy
arrays, and only when asked for by name (`kernels.conv2d.cuda(...)` or MINIGEN_KERNELS=cuda), on the
CPU in the emulator (emulate.py): slowly, for reading, stepping through and tests without a GPU.

A .cu file compiles as it is: every macro has a default. Macros set the dtype (REAL) and sizes that
must be known at compile time; each set of macros is compiled once, at its first use, by CuPy, which
keeps the result in its own cache.
"""

import functools
import hashlib
import os
import re
import sys
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from . import emulate
from .common import with_value

FOLDER = Path(__file__).parent
STATIC_SHARED = 47 << 10  # dynamic bytes a block may use without opting in, beside 1 KB of static
MAX_INT_ELEMENTS = 2**31 - 2**13  # elements that an int can count in steps of a block's width
MIN_BLOCKS = 256  # blocks that keep a device busy

# Formats to which the factors of float32 products are rounded; sums are always float32.
PRECISIONS = ("fp32", "tf32", "bf16")
_precision = ContextVar("precision")


def precision(name):
    """A context in which CUDA products of float32 arrays (matrix product, convolutions, attention)
    use "fp32" factors, or round them to "tf32" or "bf16" (with a relative error of up to 2⁻¹¹ or
    2⁻⁸) for the tensor cores. Sums stay float32. The default is MINIGEN_PRECISION, or "fp32"."""
    if name not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {name}")
    return with_value(_precision, name)


def launch(file, name, grid, block, args, shared=0, **macros):
    """Run the kernel `name` of `file` in `grid` blocks of `block` threads (ints or tuples).

    `args` are arrays, None (a null pointer), NumPy scalars, ints (C's int in the kernel) and bools.
    `shared` is the bytes of dynamic shared memory. Macros: REAL="double", TILE_N=64.
    """
    grid, block = ((*n, 1, 1)[:3] if isinstance(n, tuple) else (n, 1, 1) for n in (grid, block))
    if 0 in grid:
        return
    args = [np.bool_(a) if isinstance(a, bool) else np.int32(a) if isinstance(a, int) else a
            for a in args]
    first = next(a for a in args if hasattr(a, "ndim") and not np.isscalar(a))
    defined = tuple(sorted((key, str(value)) for key, value in macros.items()))
    if isinstance(first, np.ndarray):
        return emulate.run(file, source(file), defined, name, grid, block, args, shared)
    function = _function(file, name, defined, first.device.id)
    if shared > _allowed.get(function, STATIC_SHARED):  # never lower: recorded steps may need more
        function.max_dynamic_shared_size_bytes = _allowed[function] = shared
    function(grid, block, tuple(np.uint64(0) if a is None else a for a in args), shared_mem=shared)


_allowed = {}  # bytes of dynamic shared memory, by function: asking CuPy is a call of the driver


@functools.cache
def _function(file, name, macros, device):
    import cupy
    text = source(file)
    module = {"path": str(_for_hopper(file, text, macros))} if ("WGMMA", "1") in macros else {
        "code": text, "options": options(macros)}
    return cupy.RawModule(**module).get_function(name)


def _for_hopper(file, text, macros):
    """The path, in CuPy's cache, of a program with instructions that only Hopper has: CuPy itself
    compiles for the instructions that all devices from Hopper on share."""
    from cupy.cuda import nvrtc
    flags = *options(macros), "-arch=sm_90a"
    key = hashlib.sha256(repr((text, flags, nvrtc.getVersion())).encode()).hexdigest()[:16]
    path = cupy_cache() / f"minigen-{key}.cubin"
    if not path.exists():
        cubin, _ = compile_with_nvrtc(file, text, flags)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(cubin)
        fresh.replace(path)
    return path


def cupy_cache():
    """The folder in which CuPy keeps compiled programs."""
    return Path(os.environ.get("CUPY_CACHE_DIR", Path.home() / ".cupy" / "kernel_cache"))


def compile_with_nvrtc(file, text, flags):
    """The program `text`, from `file`, compiled for the architecture given in the options `flags`,
    and the compiler's log. RuntimeError, with the log, if it does not compile."""
    from cupy.cuda import nvrtc
    program = nvrtc.createProgram(text, file, (), ())
    try:
        nvrtc.compileProgram(program, flags)
        return nvrtc.getCUBIN(program) + b"\0", nvrtc.getProgramLog(program)  # CuPy drops a byte
    except nvrtc.NVRTCError:
        raise RuntimeError(f"{file}: {nvrtc.getProgramLog(program)}") from None
    finally:
        nvrtc.destroyProgram(program)


def options(macros):
    """NVRTC's options, apart from the architecture."""
    return ("-std=c++17", *(f"-D{key}={value}" for key, value in macros))


@functools.cache
def source(file):
    """The text of a file with its includes inserted, because CuPy's cache identifies a program by
    its text; #line directives keep the line numbers in the compilers' messages right."""
    def read(name):
        if name in seen:
            return ""
        seen.add(name)
        text = (FOLDER / name).read_text(encoding="utf-8").replace("#pragma once\n", "\n")
        parts = [f'#line 1 "{name}"\n']
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            include = re.match(r'#include "(.+\.cuh)"', line)
            parts.append(f'{read(include[1])}#line {number + 1} "{name}"\n' if include else line)
        return "".join(parts)
    seen = set()
    return read(file)


def real_macro(dtype):
    """The macro REAL for arrays of this dtype."""
    return {"REAL": "float" if dtype == np.float32 else "double"}


def launch_elementwise(file, name, y, before, after=(), elements=1):
    """Launch a kernel with a thread for each element of y, or for every 4 if `elements` is 4
    (each.cuh): its arguments are the arrays `before`, y, the size of y, and `after`."""
    launch(file, name, blocks(y.size, 256 * elements), 256,
           (*before, y, np.int64(y.size), *after), **real_macro(y.dtype))


def per_output(element):
    """A kernel written in Python: in run(y, *args), thread i sets y's i-th element to element(i,
    *args). Numba compiles it at its first launch, or simulates it on the CPU if the variable
    NUMBA_ENABLE_CUDASIM=1 was set before Python started."""
    @functools.cache
    def kernel():
        from . import one_each
        return one_each.kernel(element)

    @functools.wraps(element)
    def run(y, *args):
        if y.size:
            kernel()[blocks(y.size, 128), 128](y.reshape(-1), args)
    return run


def input_macros(dtype):
    """The macros REAL and INPUT of mma.cuh for arrays of this dtype, and INPUT's size in bytes."""
    if dtype == np.float64:
        return {"REAL": "double", "INPUT": "double"}, 8
    chosen = _precision.get(os.environ.get("MINIGEN_PRECISION", "fp32"))
    if chosen not in PRECISIONS:
        raise ValueError(f"MINIGEN_PRECISION={chosen}: expected one of {', '.join(PRECISIONS)}")
    kind = "float" if chosen == "fp32" else chosen
    return {"REAL": "float", "INPUT": kind}, 2 if kind == "bf16" else 4


def pack(*operands):
    """The two operands of a product, rounded and laid out as product.cuh's tile loop expects them.
    Each is given as an array with the sizes and strides, in elements, of its matrices (n, rows, L),
    and is returned contiguous, with L padded with zeros to whole chunks of 16 bytes."""
    (first, *_), _ = operands
    macros, itemsize = input_macros(first.dtype)
    chunk, packed, args, counts = 16 // itemsize, [], [], []
    for x, (n, rows, L), (step, row, column) in operands:
        width = blocks(L, chunk) * chunk
        packed.append(xp(x).empty((n, rows, width), np.uint16 if itemsize == 2 else x.dtype))
        args += x, packed[-1], rows, L, width, np.int64(step), row, column
        counts.append(n * blocks(rows, 64) * blocks(width, 64))
    launch("pack.cu", "pack", sum(counts), 256, (*args, counts[0]), **macros)
    return packed


def pixels(x, groups):
    """For `pack`: images (N, C, H, W) as matrices of pixels × channels of a group."""
    N, C, H, W = x.shape
    return x, (N * groups, H * W, C // groups), (C // groups * H * W, 1, H * W)


def tiling(size, others, dtype, parts=1):
    """TILE_N for `others` products of size (M, N), the number of blocks, and the number of parts,
    at most `parts`, into which their sums are split to keep a device busy. The large tile, of which
    a multiprocessor holds one, fetches less than half as many bytes per FLOP, so it pays off even
    on half of the multiprocessors, unless most of it lies beyond the edges."""
    count = lambda tile: blocks(size[0], min(tile, 128)) * blocks(size[1], tile) * others
    large, small = count(256), count(64)
    if dtype == np.float32 and 4 * large <= small and large * parts >= MIN_BLOCKS // 4:
        return 256, large, max(1, min(parts, MIN_BLOCKS // 2 // large))
    return 64, small, max(1, min(parts, MIN_BLOCKS // max(1, small)))


def is_hopper(a):
    """Whether an array is on a Hopper GPU, whose tensor cores multiply for whole warpgroups."""
    return not isinstance(a, np.ndarray) and a.device.compute_capability == "90"


def launch_rows(file, name, x, arrays):
    """Launch a kernel on rows along the middle axis of x (A, C, B) (reduce.cuh): a warp per row
    where B = 1, otherwise a thread per row. ValueError for an axis too long for an int."""
    A, C, B = x.shape
    if max(C, B) >= MAX_INT_ELEMENTS:
        raise ValueError(f"{name} of {x.shape}: on CUDA an axis has at most "
                         f"{MAX_INT_ELEMENTS - 1} numbers")
    threads = A * (32 if B == 1 else B)
    launch(file, name, blocks(threads, 128), 128, (*arrays, np.int64(A * B), C, B),
           **real_macro(x.dtype))


def launch_tiles(file, name, size, others, args, dtype):
    """Launch a kernel built on product.cuh's tile loop, for `others` products of size (M, N)."""
    if any(getattr(a, "size", 0) >= 2**31 for a in args):
        raise ValueError(f"{name}: an array of 2³¹ elements or more")
    (tile, count, _), (macros, _) = tiling(size, others, dtype), input_macros(dtype)
    high = min(tile, 128)
    threads, tiles = 128 * tile // high, 3 * (high + 8 + tile + 8) * 64
    # Factors that are not contiguous along the sum, as in conv2d_weight: wgmma needs bf16 for them.
    grouped = ("bf16",) if name == "conv2d_weight" else ("bf16", "tf32")
    if tile == 256 and macros["INPUT"] in grouped and is_hopper(args[0]):
        tiles, macros["WGMMA"] = 4 * (high + tile) * 128, 1
    launch(file, name, count, threads, args, tiles + threads * (4 + 16), TILE_N=tile, **macros)


def xp(a):
    """The module of an array: numpy or cupy."""
    return np if isinstance(a, (np.ndarray, np.generic)) else sys.modules["cupy"]


def special(a):
    """SciPy's module of special functions, or CuPy's: imported only when needed, to save time."""
    if xp(a) is np:
        import scipy.special as module
    else:
        import cupyx.scipy.special as module
    return module


def blocks(n, block):
    """How many blocks of size `block` cover n."""
    return -(-n // block)
