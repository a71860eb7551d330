"""Compiled functions that are called by name

Numba copies the code of a compiled function into all its callers, and from these into theirs; and
it generates machine code for the body of a threaded loop, with everything that the body calls, four
times. A function decorated here is compiled once per combination of argument types; its callers
know only its name, which LLVM looks up when it loads them. It can be called only from compiled
code, and should do enough work per call for the cost of the call not to matter.
"""

import copy
import functools
import hashlib
import inspect
import re
from pathlib import Path

from llvmlite import binding, ir
from numba import config, njit, types
from numba.core.caching import IndexDataCacheFile, _SourceFileBackedLocatorMixin
from numba.core.codegen import CPUCodeLibrary, get_host_cpu_features
from numba.extending import intrinsic

# Sums may be reordered, so that they can be vectorised; NaN and infinity keep their meaning.
FLAGS = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True,
         "fastmath": {"reassoc", "contract", "nsz"}}
# On Intel processors LLVM uses vectors of 32 bytes even if there are 64-byte ones, because the
# first processors with these slowed down when using them. The full width makes gelu, softmax and
# attention a fifth to a third faster on a Sapphire Rapids.
if binding.get_host_cpu_features().get("avx512f") and config.CPU_FEATURES is None:
    config.CPU_FEATURES = get_host_cpu_features() + ",-prefer-256-bit"
_functions = {}  # the decorated functions, by name


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


def once(function):
    """Compile a function once. Integers of any type are passed as np.intp."""
    return _once(function, lambda kind: kind)


def once_pointers(function):
    """As `once`, but arrays are passed as bare pointers, without their shapes and strides."""
    return _once(function, lambda kind:
                 types.CPointer(kind.dtype) if isinstance(kind, types.Array) else kind)


def _once(function, convert):
    name = f"{function.__module__}.{function.__qualname__}"
    _functions[name] = njit(no_cpython_wrapper=True, **FLAGS)(function)

    def call(typing, *args):
        kinds = tuple(map(_canonical, args))
        own = tuple(map(convert, kinds))
        compiled = _load(name, own)

        def emit(context, builder, signature, args):
            context.active_code_library._reload_init.add(functools.partial(_load, name, own))
            args = [_borrowed(context, builder, kind, a) if kind == to else
                    context.make_array(kind)(context, builder, a).data
                    for kind, to, a in zip(kinds, own, args, strict=True)]
            callee = copy.copy(compiled.fndesc)
            callee.mangled_name = _symbol(name, own)
            return context.call_internal(builder, callee, compiled.signature, args)
        return compiled.signature.return_type(*kinds), emit

    parameters = inspect.signature(call).parameters["typing"], *inspect.signature(
        function).parameters.values()
    call.__signature__ = inspect.Signature(parameters)
    return functools.update_wrapper(intrinsic(call), function)


def _borrowed(context, builder, kind, a):
    """An array without reference counting: it outlives the call, which must not return it. Numba
    counts a reference for each slice of an array, with atomic instructions, two of which cost as
    much as a product of 16×16 numbers: a tenth of DDPM's step was spent on them."""
    if not isinstance(kind, types.Array):
        return a
    array = context.make_array(kind)(context, builder, a)
    array.meminfo = ir.Constant(array.meminfo.type, None)
    return array._getvalue()


def _canonical(kind):
    """The type of an argument, regardless of a literal's value and an integer's width."""
    if isinstance(kind, types.BaseTuple):
        return types.Tuple([_canonical(k) for k in kind])
    return types.intp if isinstance(kind, types.Integer) else types.unliteral(kind)


def _symbol(name, kinds):
    return f"{name}{kinds}"


def _load(name, kinds):
    """Compile a function, or load it from Numba's cache, and register its name with LLVM. Numba,
    from 0.63 on, calls this again before it loads a caller from the cache."""
    if name not in _functions:
        raise RuntimeError(f"{name} exists only in Numba's cache: delete kernels/__pycache__")
    dispatcher = _functions[name]
    dispatcher.compile(kinds)
    compiled = dispatcher.overloads[kinds]
    binding.add_symbol(_symbol(name, kinds), compiled.library.get_pointer_to_function(
        compiled.fndesc.llvm_func_name))
    return compiled


def codegen(define):
    """The code generator of an intrinsic: define(builder, *args) emits its LLVM instructions."""
    def emit(context, builder, signature, args):
        define(builder, *args)
        return context.get_dummy_value()
    return emit
