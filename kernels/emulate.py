"""Running the CUDA kernels of this folder on the CPU: g++ compiles a .cu file, unchanged, with
emulate.h to a program; each launch is a run of it, which reads the arrays and writes them back.

Under sanitized("address") the program watches for indices out of bounds, under sanitized("thread")
for data races between the threads of a block. Programs are kept in the user's cache folder, each
named by the hash of everything that went into it.
"""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from llvmlite import binding

from .common import with_value

FLAGS = ["-std=c++20", "-O1", "-g1", "-fno-strict-aliasing", "-Wall", "-Wno-unknown-pragmas"]
if binding.get_host_cpu_features().get("fma"):
    FLAGS.append("-mfma")  # a·b + c is rounded once, as on the device
_sanitizer = ContextVar("sanitizer", default=None)


def sanitized(by):
    """A context in which emulated kernels run under the sanitizer "address" or "thread"."""
    return with_value(_sanitizer, by)


def run(file, text, macros, name, grid, block, args, shared):
    """Run a kernel of the program `text`, from `file`, on NumPy arrays, which it writes in place.
    RuntimeError, with the report, if it hangs or a sanitizer finds something."""
    arguments = [_bytes(a) if isinstance(a, np.ndarray) else a for a in args]
    payload = b"".join(np.int64(-1).tobytes() if a is None else np.int64(a.nbytes).tobytes()
                       + a.tobytes() for a in arguments)
    path = program(file, text, macros, _sanitizer.get())
    options = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1"}
    result = subprocess.run([path, name, *map(str, (*grid, *block, shared))], input=payload,
                            capture_output=True, env=os.environ | options)
    if result.returncode:
        report = result.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"{file}: {name}: exit status {result.returncode}\n{report}")
    out = memoryview(result.stdout)
    for a in arguments:
        if isinstance(a, np.ndarray):
            size = int(np.frombuffer(out[:8], np.int64)[0])  # 0 for a const array
            a[:size] = np.frombuffer(out[8:8 + size], np.uint8)
            out = out[8 + size:]


def _bytes(a):
    """All bytes from the first element of an array to its last, as they lie in memory."""
    if any(n < 0 for n in a.strides):
        raise ValueError("an array with a negative stride")
    size = a.itemsize + sum((n - 1) * s for n, s in zip(a.shape, a.strides, strict=True))
    if not a.size:
        return np.empty(0, np.uint8)
    return np.frombuffer((ctypes.c_char * size).from_address(a.ctypes.data), np.uint8)


@functools.cache
def program(file, text, macros, sanitizer):
    """The path of the program compiled from a .cu file's text."""
    compiler = shutil.which("g++")
    if not compiler:
        raise RuntimeError(f"{file} runs on the CPU only with g++: install it, or pass CuPy arrays")
    header = Path(__file__).with_name("emulate.h")
    flags = [*FLAGS, *(f"-D{key}={value}" for key, value in macros),
             *([f"-fsanitize={sanitizer}"] if sanitizer else [])]
    entries = ", ".join(f'{{"{name}", emulate::kernel({name})}}' for name in kernel_names(text))
    code = (f'#include "{header.name}"\n{text}\n'
            f"int main(int, char** argv) {{ return emulate::main(argv, {{{entries}}}); }}\n")
    key = hashlib.sha256("\0".join([code, header.read_text(), *flags]).encode()).hexdigest()[:16]
    path = cache_folder() / f"{Path(file).stem}-{key}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        result = subprocess.run([compiler, *flags, "-x", "c++", f"-I{header.parent}", "-o", fresh,
                                 "-"], input=code, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"g++ does not compile {file}:\n{result.stderr}")
        fresh.replace(path)
    return path


def cache_folder():
    """Where compiled programs are kept."""
    import pooch
    return Path(pooch.os_cache("minigen")) / "emulated"


def kernel_names(text):
    """The kernels that a source defines."""
    return re.findall(r"__global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(", text)
