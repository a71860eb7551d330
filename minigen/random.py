"""Random numbers that are drawn on the device that needs them.

    rng = Philox((seed, t), "cuda")
    eps = rng.standard_normal((64, 1, 28, 28), np.float32)       an array on the device

NumPy's generators draw on the host, so each draw for a device costs a copy. This generator has
those of their methods that the models call, and draws with kernels.philox, which gives the same
integers on the CPU. Its count is kept on the device too, so that a recorded step (recorded.py)
draws new numbers each time it is replayed.
"""

import math

import numpy as np

from minigen import kernels
from minigen.tensor import recording


class Philox:
    """Philox 4×32 (Salmon et al. 2011), seeded with integers, as `numpy.random.default_rng` is.

    Attributes: `t`, how many times four numbers were drawn; `state`, the key and t on the device,
    (2,) uint64.
    """

    def __init__(self, seed, device="cpu"):
        if device not in ("cpu", "cuda"):
            raise ValueError(f"Philox: expected cpu or cuda, got {device}")
        if device == "cuda":
            import cupy
        self.xp = cupy if device == "cuda" else np
        self.state = self.xp.zeros(2, np.uint64)
        self.seed(seed)

    def seed(self, seed):
        """Start again from another seed, in place."""
        (self.key,) = np.random.SeedSequence(seed).generate_state(1, np.uint64)
        self.t = 0
        self.upload()

    def upload(self):
        """Put the key and t where the kernels read them."""
        self.state[...] = self.xp.asarray(np.array([self.key, self.t], np.uint64))

    def standard_normal(self, size=(), dtype=np.float64):
        """Samples from N(0, 1)."""
        return self._draw(kernels.random_normal, size, dtype)

    def random(self, size=(), dtype=np.float64):
        """Uniform on [0, 1), multiples of 2⁻²⁴."""
        return self._draw(kernels.random_uniform, size, dtype)

    def uniform(self, low=0.0, high=1.0, size=()):
        """Uniform between `low` and `high`."""
        return low + (high - low) * self.random(size)

    def integers(self, low, high=None, size=()):
        """Integers from low to high − 1 (from 0 if only one argument is given), int64. The range is
        at most 2³²; the probabilities of the integers differ by at most 2⁻³²."""
        low, high = (0, low) if high is None else (low, high)
        if not 0 < high - low <= 2**32:
            raise ValueError(f"integers: expected low < high, at most 2³² apart, got {low}, {high}")
        bits = self._draw(kernels.random_bits, size, np.uint32).astype(np.uint64)
        return low + (bits * np.uint64(high - low) >> np.uint64(32)).astype(np.int64)

    def _draw(self, kernel, size, dtype):
        if recording():
            recording().register(self)
        y = self.xp.empty(size, dtype)
        kernel(y.reshape(-1), self.state)
        draws = math.ceil(y.size / 4)
        self.state[1:] += np.uint64(draws)
        self.t += draws
        return y
