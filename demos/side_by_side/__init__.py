"""The reference models and ops twice, in minigen and in PyTorch, as demos/bench.py times them.

Each module has two functions, `minigen(shared, target)` and `pytorch(shared, compile)`. Both return
a dict of what is timed: from names to functions without arguments. (For a model, `minigen` also
takes the batch size and the side of the images, for demos/scaling.py.) `minigen` is called first
and leaves the initial weights and the batch in the folder `shared`; `pytorch` takes them from
there. Each runs in its own process, so imports are inside the function of the side that needs them.
PyTorch's side computes on its default device.

The first call of "train" returns the loss before the first update of the weights, with the same
noise on both sides: NumPy's, seed 0. Later calls of PyTorch's side draw PyTorch's own noise, and
those of minigen's side on a device draw minigen's.
"""

import itertools
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def save_shared(shared, **parts):
    """Write dicts of arrays, such as state dicts, for the other side."""
    for name, arrays in parts.items():
        save_file(arrays, Path(shared) / f"{name}.safetensors")


def load_shared(shared, name):
    """What the other side left under `name`: a dict of PyTorch tensors."""
    import torch
    return {key: torch.from_numpy(a).to(torch.get_default_device())
            for key, a in load_file(Path(shared) / f"{name}.safetensors").items()}


class Target:
    """Where minigen's side computes: on the CPU, or on a CUDA device, with recorded steps or not.
    """

    def __init__(self, device="cpu", recorded=False):
        self.device, self.recorded = device, recorded

    def put(self, a):
        """An array of the host, moved to where the side computes."""
        if self.device == "cpu":
            return a
        import cupy
        return cupy.asarray(a)

    def step(self, function):
        """The function, recorded if the side records its steps."""
        if not self.recorded:
            return function
        from minigen.recorded import Recorded
        return Recorded(function)

    def noises(self):
        """An endless iterator of random generators. The first is NumPy's with seed 0, unless steps
        are recorded."""
        if self.device == "cpu":
            return map(np.random.default_rng, itertools.count())
        from minigen.random import Philox
        first = [] if self.recorded else [np.random.default_rng(0)]
        return itertools.chain(first, itertools.repeat(Philox(0, self.device)))


def digits(n, side=28):
    """n drawn digits, uint8 (n, 1, side, side), repeated where they are too few or too small."""
    from minigen.data import glyphs
    x = glyphs.load(n_train=min(n, 256), n_test=1).train_x
    return np.pad(x, ((0, n - len(x)), (0, 0), *[(0, max(0, side - 28))] * 2), "wrap")[
        ..., :side, :side]


class Noise:
    """ε ~ N(0, I) as PyTorch tensors: NumPy's with seed 0 until `use_torch` is called."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def use_torch(self):
        self.rng = None

    def __call__(self, *shape):
        import torch
        if self.rng is None:
            return torch.randn(shape)
        return torch.from_numpy(self.rng.standard_normal(shape, np.float32)).to(
            torch.get_default_device())
