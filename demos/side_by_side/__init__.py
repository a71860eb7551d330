"""The reference models and ops twice, in minigen and in PyTorch, as demos/bench.py times them.

Each module has two functions, `minigen(shared)` and `pytorch(shared, compile)`. Both give a dict of
what is timed: names to functions without arguments. (minigen's of a model also takes the batch size
and the side of the images, for demos/scaling.py.) minigen's is called first and leaves the first
weights and the batch in the folder `shared`; PyTorch's takes them from there. Each runs in its own
process, so every import stands in the function of the side that needs it.

The first call of "train" gives the loss, before the first update of the weights, with noise that is
the same on both sides: NumPy's, seed 0. Later calls of PyTorch's draw its own.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def leave(shared, **parts):
    """Write dicts of arrays, such as state dicts, for the other side."""
    for name, arrays in parts.items():
        save_file(arrays, Path(shared) / f"{name}.safetensors")


def take(shared, name):
    """What the other side left under `name`: a dict of PyTorch tensors."""
    import torch
    return {key: torch.from_numpy(a)
            for key, a in load_file(Path(shared) / f"{name}.safetensors").items()}


def digits(n, side=28):
    """n drawn digits, uint8 (n, 1, side, side), repeated where they are too few or too small."""
    from minigen.data import glyphs
    x = glyphs.load(n_train=min(n, 256), n_test=1).train_x
    return np.pad(x, ((0, n - len(x)), (0, 0), *[(0, max(0, side - 28))] * 2), "wrap")[
        ..., :side, :side]


class Noise:
    """ε ~ N(0, I) as PyTorch tensors: the first draws are NumPy's, seed 0, until `free`."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def free(self):
        self.rng = None

    def __call__(self, *shape):
        import torch
        if self.rng is None:
            return torch.randn(shape)
        return torch.from_numpy(self.rng.standard_normal(shape, np.float32))
