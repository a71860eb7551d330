"""Compiled functions that are called by name, from compiled code or by all threads

Numba copies the code of a compiled function into all its callers, and from these into theirs. A
function decorated here is compiled once per combination of argument types; its callers know only
its name, which LLVM looks up when it loads them.

    @once        can be called from compiled code, and should do enough work per call for the cost
                 of the call not to matter
    @threaded    f(i, n, *args) becomes a function of (n, *args) that calls it for all i < n, on all
                 threads; Numba's prange would generate machine code for the body of such a loop,
                 with everything that the body calls, four times
"""

import copy
import functools
import inspect

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.ufunc.parallel import _launch_threads

from .compiler import FLAGS

_functions = {}  # the decorated functions, by name


def once(function):
    """Compile a function once. Integers of any type are passed as np.intp."""
    return _once(function, lambda kind: kind)


def once_pointers(function):
    """As `once`, but arrays are passed as bare pointers, without their shapes and strides."""
    return _once(function, lambda kind:
                 types.CPointer(kind.dtype) if isinstance(kind, types.Array) else kind)


def _once(function, convert):
    name = _define(function, function)

    def call(typing, *args):
        kinds = tuple(map(_canonical, args))
        own = tuple(map(convert, kinds))
        compiled = _load(name, own)

        def emit(context, builder, signature, args):
            args = [_borrowed(context, builder, kind, a) if kind == to else
                    context.make_array(kind)(context, builder, a).data
                    for kind, to, a in zip(kinds, own, args, strict=True)]
            callee = _by_name(context, compiled, name, own)
            return context.call_internal(builder, callee, compiled.signature, args)
        return compiled.signature.return_type(*kinds), emit

    parameters = inspect.signature(call).parameters["typing"], *inspect.signature(
        function).parameters.values()
    call.__signature__ = inspect.Signature(parameters)
    return functools.update_wrapper(intrinsic(call), function)


def threaded(function, like=None):
    """Turn function(i, n, *args) into one of (n, *args) that calls it for every i < n, each thread
    for neighbouring i. RuntimeError if one of the calls fails. A function made inside of another
    one is named as its argument `like`."""
    name = _define(function, like or function)

    def launch(n, *args):
        _on_all_threads(name, n, args)

    launch.__qualname__ = name  # names its cache file
    return functools.update_wrapper(njit(**FLAGS)(launch), function, updated=())


@intrinsic(prefer_literal=True)
def _on_all_threads(typing, name, n, args):
    """Call the function called `name` with (i, n, *args) for every i < n, by Numba's pool."""
    if not isinstance(name, types.StringLiteral):
        return None  # Numba tries this after an error, and reports the error if it gets nothing
    name = name.literal_value
    kinds = (types.intp, types.intp, *map(_canonical, args.types))
    compiled = _load(name, kinds)

    def emit(context, builder, signature, values):
        n, args = values[1], cgutils.unpack_tuple(builder, values[2])
        args = [_borrowed(context, builder, kind, context.cast(builder, a, given, kind))
                for a, given, kind in zip(args, signature.args[2].types, kinds[2:], strict=True)]
        failed = cgutils.alloca_once_value(builder, ir.Constant(BYTE, 0))
        data = cgutils.pack_struct(builder, [failed, n, *args])
        callee = _by_name(context, compiled, name, kinds)
        some = _some_calls(context, builder.module, data.type, callee, compiled.signature)
        # The pool divides dims[0] = n calls among its threads. Each finds the number of its first
        # in a "pointer" that starts from 0 and advances by steps[0] = 1.
        dims, steps = (cgutils.alloca_once_value(builder, a) for a in (n, ir.Constant(INT, 1)))
        first = cgutils.alloca_once_value(builder, ir.Constant(POINTER, None))
        pointers = [builder.bitcast(a, POINTER) for a in (
            some, first, dims, steps, cgutils.alloca_once_value(builder, data))]
        with builder.if_else(builder.icmp_signed(">", n, INT(1))) as (many, one):
            with many:
                threads = _call_pool(context, builder, INT, "get_num_threads")
                _call_pool(context, builder, ir.VoidType(), "numba_parallel_for", *pointers,
                           INT(0), INT(1), threads)
            with one:  # without waking the other threads
                builder.call(some, [first, dims, steps, pointers[4]])
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, builder.load(failed))):
            context.call_conv.return_user_exc(builder, RuntimeError, (f"{name} failed",))
        return context.get_dummy_value()
    return types.void(types.literal(name), types.intp, args), emit


@intrinsic
def _pool_size(typing):
    return types.intp(), lambda context, builder, signature, args: (
        _call_pool(context, builder, INT, "get_num_threads"))


@njit(**FLAGS)
def num_threads():
    """numba.get_num_threads(), in a fifth of the time, and for compiled code, which Numba caches.
    """
    return _pool_size()


BYTE, INT = ir.IntType(8), ir.IntType(64)
POINTER = BYTE.as_pointer()


def _call_pool(context, builder, result, name, *args):
    """Call a C function of the pool, which exists once the threads do."""
    _launch_threads()
    context.active_code_library._reload_init.add(_launch_threads)
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _some_calls(context, module, data_type, callee, signature):
    """What a thread of the pool does: the calls from `first` on, dims[0] of them."""
    kind = ir.FunctionType(ir.VoidType(), [POINTER.as_pointer(), INT.as_pointer(),
                                           INT.as_pointer(), POINTER])
    function = ir.Function(module, kind, module.get_unique_name("some_calls"))
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    first, dims, _, data = function.args
    first = builder.ptrtoint(builder.load(first), INT)
    data = builder.load(builder.bitcast(data, data_type.as_pointer()))
    failed, *args = cgutils.unpack_tuple(builder, data)
    with cgutils.for_range(builder, builder.load(dims)) as loop:
        status, _ = context.call_internal_no_propagate(
            builder, callee, signature, [builder.add(first, loop.index), *args])
        with cgutils.if_unlikely(builder, status.is_error):
            builder.store(ir.Constant(BYTE, 1), failed)
    builder.ret_void()
    return function


def _by_name(context, compiled, name, kinds):
    """The descriptor with which the code that is being generated finds a compiled function by its
    name. Numba, from 0.63 on, loads the function before it loads this code from the cache."""
    context.active_code_library._reload_init.add(functools.partial(_load, name, kinds))
    callee = copy.copy(compiled.fndesc)
    callee.mangled_name = _symbol(name, kinds)
    return callee


def _define(function, like):
    """Make a function known by the name of the function `like`, which is returned. Numba names its
    machine code by the qualified name and a number that is unique in one process only."""
    function.__qualname__ = like.__qualname__
    name = f"{like.__module__}.{like.__qualname__}"
    _functions[name] = njit(no_cpython_wrapper=True, **FLAGS)(function)
    return name


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
    """Compile a function, or load it from Numba's cache, and register its name with LLVM."""
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
