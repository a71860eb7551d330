"""What the machine offers: versions, threads, compilers, the CUDA driver, devices and toolkit."""

import ctypes
import importlib
import os
import platform
import shutil
import site
import subprocess
from pathlib import Path

import numba
import numpy as np
import threadpoolctl

from minigen.kernels import PRECISIONS, emulate
from minigen.kernels.cuda import cupy_cache
from minigen.train import UserError


def facts():
    """Yield (name, what was found, the one command that fixes it or None)."""
    yield "python", f"{platform.python_version()} on {platform.machine()}", None
    yield "numpy", np.__version__, None
    yield "numba", f"{numba.__version__}, {numba.get_num_threads()} threads", None
    for pool in threadpoolctl.threadpool_info():
        if pool["user_api"] == "blas":
            yield "blas", (f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} "
                           f"threads, {Path(pool['filepath']).name}"), None
    for name, value, allowed in settings("cpu"):
        yield name, value, None if value in allowed else f"unset {name}"
    yield _compiler()
    version, devices = driver()
    extra = "cuda12" if version and version < (13, 0) else "cuda13"
    fix = f"pip install '.[{extra}]'"
    yield ("driver", "none: no device can be used" if version is None else
           f"for CUDA {version[0]}.{version[1]}", None)
    for i, name in enumerate(devices):
        yield f"device {i}", name, None
    yield from _toolkit(fix if devices else "pip install '.[nvrtc]'")
    for folder in (emulate.cache_folder().parent, cupy_cache()):
        yield "cache", f"{folder}, {_size(folder)}", None


def settings(device):
    """Yield (name, value, allowed values) for each environment variable that is set and concerns a
    program computing on "cpu" or "cuda"."""
    kernels = ("reference", "cpu", "cuda") if device == "cpu" else ("cuda",)  # for all kernels
    for name, allowed in (("MINIGEN_KERNELS", kernels), ("MINIGEN_PRECISION", PRECISIONS)):
        if os.environ.get(name):
            yield name, os.environ[name], allowed


def module(device):
    """numpy for "cpu", cupy for "cuda"; UserError if there is no CuPy or no device, or if an
    environment variable has a value that cannot be used there."""
    for name, value, allowed in settings(device):
        if value not in allowed:
            raise UserError(f"{name}={value}: --device {device} takes {', '.join(allowed)}; unset "
                            f"{name} for the default")
    if device == "cpu":
        return np
    try:
        import cupy
        cupy.cuda.runtime.getDeviceCount()
    except ImportError:
        raise UserError("--device cuda needs CuPy: pip install '.[cuda13]' "
                        "(or cuda12)") from None
    except Exception as e:  # CuPy's own exceptions: naming them takes CuPy
        raise UserError(f"--device cuda: no CUDA device can be used ({e})") from None
    return cupy


def driver():
    """The CUDA version (major, minor) that the driver supports (None without one), and the names of
    the devices."""
    try:
        cuda, number = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    except OSError:
        return None, []
    cuda.cuDriverGetVersion(ctypes.byref(number))
    version = number.value // 1000, number.value % 1000 // 10
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(number)):
        return version, []
    names, text = [], ctypes.create_string_buffer(100)
    for i in range(number.value):
        cuda.cuDeviceGetName(text, len(text), i)
        names.append(text.value.decode())
    return version, names


def _compiler():
    path = shutil.which("g++")
    if not path:
        return "g++", "none: CUDA kernels cannot be emulated", "sudo apt-get install g++"
    result = subprocess.run([path, "--version"], capture_output=True, text=True)
    return "g++", result.stdout.partition("\n")[0], None


def _toolkit(fix):
    """CuPy, the compiler it calls, and the headers that CuPy's own kernels include."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as e:
        yield "cupy", f"none ({e})", fix
        return
    yield "cupy", cupy.__version__, None
    try:
        yield "nvrtc", "{}.{}".format(*cupy.cuda.nvrtc.getVersion()), None
    except (ImportError, RuntimeError) as e:
        yield "nvrtc", f"none ({e})", fix
    roots = [Path(p) / "nvidia" for p in site.getsitepackages()]
    roots += [Path(p) for p in (cupy.cuda.get_cuda_path(),) if p]
    found = next((h for root in roots for h in sorted(root.rglob("cuda_fp16.h"))), None)
    yield ("headers", str(found.parent), None) if found else ("headers", "none", fix)


def _size(folder):
    """The number of files in a folder and their size, as text."""
    files = [f.stat().st_size for f in folder.rglob("*") if f.is_file()]
    return f"{len(files)} files, {sum(files) / 2**20:.1f} MiB"
