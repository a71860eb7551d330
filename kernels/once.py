"""Compiled functions that are called by name

Numba hands the code of a compiled function to all that call it, and these hand it on: of the body
of a loop with threads it makes machine code four times over, of all that the body calls as well.
What is decorated here is compiled once for each kind of arguments; its callers know only its name,
which LLVM looks up when it loads them. It is called from compiled code only, and does enough at a
time not to mind the call.
"""

import copy
import functools
import hashlib
import inspect

from llvmlite import binding, ir
from numba import config, njit, types
from numba.core.caching import IndexDataCacheFile
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

# Sums may be reordered, so that they use vector instructions; NaN and infinity keep their meaning.
FLAGS = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True,
         "fastmath": {"reassoc", "contract", "nsz"}}
# On Intel's processors LLVM takes vectors of 32 bytes even where they have 64, because the first of
# these slowed down for them. Whole ones make gelu, softmax and attention a fifth to a third faster
# on a Sapphire Rapids.
if binding.get_host_cpu_features().get("avx512f") and config.CPU_FEATURES is None:
    config.CPU_FEATURES = get_host_cpu_features() + ",-prefer-256-bit"
_functions = {}  # those decorated, by name


def _save(cache, key, compiled):
    """Numba numbers a function's files, so that two processes which compile at once may take one
    number for two kinds of arguments, and what is found later is the wrong one's code. Named after
    what it holds, a file that is written twice holds the same."""
    name = f"{cache._index_name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"
    cache._save_data(name, compiled)
    cache._save_index(cache._load_index() | {key: name})


IndexDataCacheFile.save = _save


def once(function):
    """Compile a function once. Whole numbers arrive as np.intp, whatever their type was."""
    return _once(function, lambda kind: kind)


def once_bare(function):
    """Likewise, but of arrays only the addresses arrive, whatever their shapes and strides were."""
    return _once(function, lambda kind:
                 types.CPointer(kind.dtype) if isinstance(kind, types.Array) else kind)


def _once(function, passed):
    name = f"{function.__module__}.{function.__qualname__}"
    _functions[name] = njit(no_cpython_wrapper=True, **FLAGS)(function)

    def call(typing, *args):
        kinds = tuple(map(_plain, args))
        own = tuple(map(passed, kinds))
        compiled = _load(name, own)

        def emit(context, builder, signature, args):
            context.active_code_library._reload_init.add(functools.partial(_load, name, own))
            args = [_lent(context, builder, kind, a) if kind == to else
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


def _lent(context, builder, kind, a):
    """An array that is not counted: it outlives the call, which must not return it. Numba counts
    each slice of an array, with atomic instructions, of which two cost as much as a product of
    16×16 numbers: a tenth of DDPM's step went there."""
    if not isinstance(kind, types.Array):
        return a
    array = context.make_array(kind)(context, builder, a)
    array.meminfo = ir.Constant(array.meminfo.type, None)
    return array._getvalue()


def _plain(kind):
    """The kind of an argument, whose value and width do not matter."""
    if isinstance(kind, types.BaseTuple):
        return types.Tuple([_plain(k) for k in kind])
    return types.intp if isinstance(kind, types.Integer) else types.unliteral(kind)


def _symbol(name, kinds):
    return f"{name}{kinds}"


def _load(name, kinds):
    """Compile a function, or find it in Numba's cache, and tell LLVM its name. Numba, from
    0.63, calls this again before it loads a caller from the cache."""
    if name not in _functions:
        raise RuntimeError(f"{name} is gone, not from Numba's cache: delete kernels/__pycache__")
    dispatcher = _functions[name]
    dispatcher.compile(kinds)
    compiled = dispatcher.overloads[kinds]
    binding.add_symbol(_symbol(name, kinds), compiled.library.get_pointer_to_function(
        compiled.fndesc.llvm_func_name))
    return compiled


def written(define):
    """The code of an intrinsic which define(builder, *args) writes in LLVM's instructions."""
    def emit(context, builder, signature, args):
        define(builder, *args)
        return context.get_dummy_value()
    return emit
