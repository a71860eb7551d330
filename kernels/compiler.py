"""Numba's options for the kernels, and four corrections of its cache of compiled functions

    _save        two processes may compile one function at the same time
    _stamp       a function is compiled again if a file from which it copied code has changed
    _rebuild     what code needs loaded before it is remembered by its callers
    _optimise    a function from the cache rounds as it did in the process that compiled it
"""

import functools
import hashlib
import re
from pathlib import Path

from llvmlite import binding
from numba import config
from numba.core.caching import IndexDataCacheFile, _SourceFileBackedLocatorMixin
from numba.core.codegen import CPUCodeLibrary, get_host_cpu_features
from numba.core.compiler import CompileResult

# Sums may be reordered, so that they can be vectorised; NaN and infinity keep their meaning.
FLAGS = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True,
         "fastmath": {"reassoc", "contract", "nsz"}}
# On Intel processors LLVM uses vectors of 32 bytes even if there are 64-byte ones, because the
# first processors with these slowed down when using them. The full width makes gelu, softmax and
# attention a fifth to a third faster on a Sapphire Rapids.
if binding.get_host_cpu_features().get("avx512f") and config.CPU_FEATURES is None:
    config.CPU_FEATURES = get_host_cpu_features() + ",-prefer-256-bit"


def _save(cache, key, compiled):
    """Numba numbers the cache files of a function, so that two processes compiling at once may use
    one number for different argument types, and later runs find the wrong code. Here a file is
    named by a hash of its key, so that a file that is written twice has the same content."""
    name = f"{cache._index_name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"
    cache._save_data(name, compiled)
    cache._save_index(cache._load_index() | {key: name})


IndexDataCacheFile.save = _save


@functools.cache
def _sources(folder, module):
    """The modules of a folder whose code a function of this module may contain."""
    code = (folder / f"{module}.py").read_text()
    used = re.findall(r"^from \.(\w+) import", code, re.M)
    for names in re.findall(r"^from \. import (.+)", code, re.M):
        used += names.split(", ")
    return {module}.union(*[_sources(folder, name) for name in used])


def _stamp(locator):
    """Numba compiles a function again if the file that defines it has changed, but not if another
    one has, from which it copied code. Here both count."""
    path = Path(locator._py_file)
    if path.parent != Path(__file__).parent:
        return _own_stamp(locator)
    files = [path.with_stem(name) for name in sorted(_sources(path.parent, path.stem))]
    return hashlib.sha256(b"".join([file.read_bytes() for file in files])).digest()


_own_stamp = _SourceFileBackedLocatorMixin.get_source_stamp
_SourceFileBackedLocatorMixin.get_source_stamp = _stamp


def _rebuild(*cached):
    """What compiled code needs loaded before it, all code that contains a copy of it needs too.
    Numba passes this on when both are compiled in one process, but forgets it if the first comes
    from the cache: the second then calls address 0 in later processes."""
    compiled = _rebuild_cached(*cached)
    compiled.library._reload_init.update(compiled.reload_init)
    return compiled


_rebuild_cached = CompileResult._rebuild
CompileResult._rebuild = _rebuild


def _optimise(library):
    """Numba links copies of all that a function calls into its module and optimises them once more,
    after which they may round differently. The copies are weak symbols: of all with one name, LLVM
    executes the first that was loaded, which differs between a process that compiles a function and
    one that finds it in the cache. Internal symbols are known only to their own module."""
    copies = {function.name for other in library._linking_libraries
              for function in other._get_module_for_linking().functions}
    for function in library._final_module.functions:
        if function.name in copies and not function.is_declaration:
            function.linkage = "internal"
    _optimise_module(library)


_optimise_module = CPUCodeLibrary._optimize_final_module
CPUCodeLibrary._optimize_final_module = _optimise
