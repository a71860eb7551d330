"""Counter-based random numbers: Philox 4×32 with ten rounds (Salmon et al., SC 2011)

    four 32-bit words c = (count, count ≫ 32, 0, 0), two keys k = (seed, seed ≫ 32); ten times

        c ← (hi(M₁·c₂) ⊕ c₁ ⊕ k₀,  lo(M₁·c₂),  hi(M₀·c₀) ⊕ c₃ ⊕ k₁,  lo(M₀·c₀)),   k ← k + (W₀, W₁)

    random_bits     y[4i + j] = c_j of count = state[1] + i
    random_uniform  the upper 24 bits as a fraction in [0, 1)
    random_normal   Box–Muller: √(−2 log u)·(cos, sin)(2π v) of two neighbours, u in (0, 1), or
                    (0, 1] after rounding to float32

    y (n,), written in place (32-bit integers for random_bits); state (2,) 64-bit integers: the seed
    and the first count

Every number depends only on its position: there can be as many threads as numbers, and every
machine gives the same bits. `state` is on the device of y, so that a recorded launch draws new
numbers when it changes; the caller advances state[1] by ⌈n / 4⌉. On the CPU one samples with
NumPy's generators (`rng`); the versions here are the references that the CUDA kernels must match.
"""

import numpy as np

from .common import kernel
from .cuda import blocks, launch, real_macro

M0, M1, W0, W1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
LOW = np.uint64(0xFFFFFFFF)


def _words(n, state):
    """The first n words, as uint64."""
    seed, count = (int(s) % 2**64 for s in state)
    with np.errstate(over="ignore"):
        count = np.uint64(count) + np.arange(-(-n // 4), dtype=np.uint64)
    c = [count & LOW, count >> np.uint64(32), np.zeros_like(count), np.zeros_like(count)]
    k0, k1 = seed % 2**32, seed >> 32
    for _ in range(10):
        a, b = np.uint64(M0) * c[0], np.uint64(M1) * c[2]
        c = [b >> np.uint64(32) ^ c[1] ^ np.uint64(k0), b & LOW,
             a >> np.uint64(32) ^ c[3] ^ np.uint64(k1), a & LOW]
        k0, k1 = (k0 + W0) % 2**32, (k1 + W1) % 2**32
    return np.stack(c, 1).reshape(-1)[:n]


def check(y, state):
    if state.itemsize != 8 or y.dtype.kind != "f" and y.itemsize != 4:
        raise TypeError(f"random numbers: y is {y.dtype}, state {state.dtype}, expected 32-bit "
                        "integers or floats, and 64-bit integers")


@kernel(check, y="n int in place", state="2 int")
def random_bits(y, state):
    y[:] = _words(len(y), state).astype(np.uint32).view(y.dtype)


@kernel(check, y="n in place", state="2 int")
def random_uniform(y, state):
    y[:] = (_words(len(y), state) >> np.uint64(8)) * 2.0**-24


@kernel(check, y="n in place", state="2 int")
def random_normal(y, state):
    u, v = (_words(len(y) + len(y) % 2, state) >> np.uint64(8)).reshape(-1, 2).T * 2.0**-24
    r = np.sqrt(-2 * np.log(u + 2.0**-25))
    y[:] = np.stack([r * np.cos(2 * np.pi * v), r * np.sin(2 * np.pi * v)], 1).reshape(-1)[:len(y)]


def _launch(name):
    def run(y, state):
        macros = real_macro(y.dtype) if y.dtype.kind == "f" else {}
        launch("philox.cu", name, blocks(y.size, 4 * 256), 256, (state, y, np.int64(y.size)),
               **macros)
    return run


for _kernel in (random_bits, random_uniform, random_normal):
    _kernel.version("cpu")(_kernel.reference)
    _kernel.version("cuda")(_launch(_kernel.name))
