"""The parameters and buffers of a model. A model is any object: its tensors are found by walking
its attributes, sequences and dicts. Tensors that require grad are parameters, others are buffers;
plain arrays (a noise schedule) are neither, nor are results that have a history.

The keys are PyTorch's: ``encoder.0.weight``.
"""

import contextlib
import os
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minigen import kernels
from minigen.tensor import FLOATS, Tensor, device_scalars, recording, tensor, write, xp

_LEAVES = (np.ndarray, np.generic, str, bytes, bytearray, memoryview, range, int, float, complex,
           type, types.FunctionType, types.ModuleType, types.BuiltinFunctionType, type(None),
           np.random.Generator)


def walk(model, prefix="", seen=None):
    """Yield (key, object) for the model and every layer and tensor in it, each object once. `seen`
    holds what has been visited: ids of objects, and keys of tensors."""
    seen = set() if seen is None else seen
    if isinstance(model, _LEAVES) or id(model) in seen:
        return
    seen.add(id(model))
    if isinstance(model, Tensor):
        if model.node:
            return  # a result of an op, kept by somebody
        if prefix in seen:
            raise ValueError(f"two tensors of the model have the key {prefix!r}")
        seen.add(prefix)
        yield prefix, model
        return
    yield prefix, model
    items = enumerate(model) if isinstance(model, Sequence) else (
        model.items() if isinstance(model, dict) else ())
    slots = [name for kind in type(model).__mro__ for name in _slots(kind) if hasattr(model, name)]
    for name, child in (*items, *((name, getattr(model, name)) for name in slots),
                        *getattr(model, "__dict__", {}).items()):
        yield from walk(child, f"{prefix}.{name}" if prefix else str(name), seen)


def _slots(kind):
    """The attributes that a class names in __slots__, private ones by their mangled names."""
    names = vars(kind).get("__slots__", ())
    names = [names] if isinstance(names, str) else names
    return [f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            for name in names if name not in ("__dict__", "__weakref__")]


def parameters(model):
    """The model's parameters: a dict from key to tensor, in walk order, each tensor once."""
    return {key: t for key, t in walk(model) if isinstance(t, Tensor) and t.requires_grad}


def like(model):
    """The array of the model's first parameter, whose dtype and device are taken to be the model's.
    A model without parameters computes in float32 on the CPU."""
    found = (t.data for _, t in walk(model) if isinstance(t, Tensor) and t.requires_grad)
    return next(found, np.empty(0, np.float32))


def buffers(model):
    """The model's untracked tensors (running statistics): a dict from key to tensor."""
    return {key: t for key, t in walk(model) if isinstance(t, Tensor) and not t.requires_grad}


def _tensors(model):
    return {key: t for key, t in walk(model) if isinstance(t, Tensor)}


def state_dict(model):
    """Copies of all parameters and buffers: a dict from key to NumPy array."""
    return {key: np.array(t.numpy()) for key, t in _tensors(model).items()}


def load_state_dict(model, arrays):
    """Copy arrays into the model's tensors, in place. Strict: ValueError names every key that is
    missing, unexpected, of another shape or of numbers that do not fit the model's dtype, and
    nothing is changed in that case."""
    mine, fit = _tensors(model), {}
    wrong = [f"{key} is missing" for key in mine.keys() - arrays.keys()]
    wrong += [f"{key} is unexpected" for key in arrays.keys() - mine.keys()]
    for key in mine.keys() & arrays.keys():
        t = mine[key]
        try:
            with np.errstate(over="raise"):
                a = tensor(arrays[key]).numpy().astype(t.dtype, casting="same_kind")
        except (TypeError, ValueError, FloatingPointError) as e:
            wrong.append(f"{key}: {e}")
        else:
            fit[key] = a
            if a.shape != t.shape:
                wrong.append(f"{key} is {a.shape}, the model's {t.shape}")
    if wrong:
        raise ValueError(f"load_state_dict: {'; '.join(sorted(wrong))}")
    for key, t in mine.items():
        write(t, lambda a, new=fit[key]: a.__setitem__(..., xp(a).asarray(new)))


def save_arrays(path, arrays, metadata=None):
    """Write named arrays to a safetensors file. `metadata` is a dict of strings."""
    from safetensors.numpy import save  # save_file makes files that only their owner can read
    write_bytes(path, save({k: np.asarray(a, order="C") for k, a in arrays.items()}, metadata))


def write_bytes(path, content):
    """Write a file under a temporary name, then rename it, so that a file of the final name is
    always complete."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_arrays(path):
    """The arrays and the metadata of a safetensors file. ValueError if it is not one, or truncated;
    the file is left as it is."""
    from safetensors import SafetensorError, safe_open
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, "numpy") as f:
            return {key: f.get_tensor(key) for key in f.keys()}, f.metadata() or {}
    except (TypeError, AttributeError) as e:  # dtypes that safetensors does not find in NumPy
        raise ValueError(f"{path} holds a dtype that NumPy does not have ({e}): save it as "
                         "float32; it was left as it is") from e
    except SafetensorError as e:
        raise ValueError(f"{path} is not a complete safetensors file ({e}): it may be cut short; "
                         "it was left as it is") from e


def save(model, path):
    """Write the model's state dict as safetensors, with PyTorch's keys."""
    save_arrays(path, state_dict(model))


def load(model, path):
    """Read a state dict from a safetensors file into the model (strict, see `load_state_dict`)."""
    arrays, _ = load_arrays(path)
    try:
        load_state_dict(model, arrays)
    except ValueError as e:
        raise ValueError(f"{path} is of another model: {e}") from e


def init(model, rng):
    """Draw all weights of all layers anew, in walk order. A layer's own `init` takes care of the
    layers inside it."""
    done = None
    for key, layer in walk(model):
        inside = done is not None and key.startswith(f"{done}." if done else "")
        if hasattr(layer, "init") and not inside:
            layer.init(rng)
            done = key


def _set_training(model, training):
    for _, layer in walk(model):
        if hasattr(layer, "training"):
            layer.training = training


def train(model):
    """Put every layer in training mode (dropout, batch norm)."""
    _set_training(model, True)


def eval(model):
    """Put every layer in evaluation mode."""
    _set_training(model, False)


@contextlib.contextmanager
def evaluation(model):
    """A context in which every layer is in evaluation mode; afterwards each is in its old mode."""
    before = [(layer, layer.training) for _, layer in walk(model) if hasattr(layer, "training")]
    eval(model)
    try:
        yield
    finally:
        for layer, training in before:
            layer.training = training


def astype(model, dtype):
    """Convert the model's floating-point tensors, in place, to float32 or float64."""
    if np.dtype(dtype) not in FLOATS:
        raise TypeError(f"nn.astype: expected float32 or float64, got {np.dtype(dtype)}")
    for t in _tensors(model).values():
        if t.dtype.kind == "f":
            t.data, t.written = t.data.astype(dtype), None
            write(t, lambda a: None)  # marks what was computed from it as stale


def to(model, device):
    """Move everything a model, an optimiser or an EMA holds to "cuda" or back to "cpu", in place:
    tensors, and arrays in dicts (moments, averages). Plain arrays (noise schedules) stay: an op
    copies what it needs of them. ValueError for another device."""
    if device not in ("cpu", "cuda"):
        raise ValueError(f"nn.to: expected cpu or cuda, got {device}")
    if device == "cuda":
        import cupy
        put = cupy.asarray
    else:
        put = lambda a: a if isinstance(a, np.ndarray) else a.get()
    for _, part in walk(model):
        if isinstance(part, Tensor) and put(part.data) is not part.data:
            part.data, part.written = put(part.data), None
            write(part, lambda a: None)  # marks what was computed from it elsewhere as stale
        elif isinstance(part, dict):
            part.update((key, put(a)) for key, a in part.items()
                        if isinstance(a, np.ndarray) or hasattr(a, "get") and hasattr(a, "dtype"))


class EMA:
    """An exponential moving average of parameters, θ̄ ← d θ̄ + (1 − d) θ, with the warm-up
    d = min(decay, (1 + t) / (10 + t)), so that the initial values are soon forgotten.

    Call `update` after each step of the optimiser; ``with ema.applied():`` evaluates with the
    averages and puts the trained weights back afterwards.
    """

    def __init__(self, params, decay=0.999):
        if not isinstance(params, dict):
            raise TypeError(f"EMA: expected a dict of parameters (nn.parameters(model)), got a "
                            f"{type(params).__name__}")
        if not params or not 0 <= decay <= 1:
            raise ValueError(f"EMA: {len(params)} parameters and decay = {decay}, expected one or "
                             "more, and a decay in [0, 1]")
        self.params, self.decay, self.t, self.scalars = params, decay, 0, None
        self.average = {key: p.data.copy() for key, p in params.items()}

    def update(self):
        """Take the current parameters into the average."""
        recording().register(self) if recording() else self.upload()
        self.t += 1
        t = self.t
        if self.scalars is not None:
            self.scalars += 1
            t = self.scalars
        d = xp(t).minimum(self.decay, (1 + t) / (10 + t))
        kernels.ema([self.average[key] for key in self.params],
                    [p.data for p in self.params.values()], d)

    def upload(self):
        """On a device, store t where a recorded update reads it: scalars (1,)."""
        p = next(iter(self.params.values()))
        self.scalars = device_scalars(self.scalars, [self.t], p.data)

    @contextlib.contextmanager
    def applied(self):
        """A context in which the parameters hold their averages, not their trained values."""
        trained = {key: p.data.copy() for key, p in self.params.items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(trained)

    def _put(self, arrays):
        for key, p in self.params.items():
            write(p, lambda a, new=arrays[key]: a.__setitem__(..., new))
