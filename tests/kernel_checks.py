"""What the tests of the kernels share: a fast version against its reference, and drawn sizes."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

DTYPES = (np.float32, np.float64)
check = settings(derandomize=True, deadline=None, max_examples=40)


def close(a, b):
    """Equal up to rounding, relative to the largest value that went into the result."""
    assert type(a) is type(b)
    if isinstance(a, tuple):
        assert len(a) == len(b)
        return [close(x, y) for x, y in zip(a, b, strict=True)]
    assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
    if a.size and a.dtype.kind == "f":
        tol = 2e-5 if a.dtype == np.float32 else 1e-12
        most = tol * max(1, np.abs(b[np.isfinite(b)]).max(initial=0))
        assert np.allclose(a, b, rtol=tol, atol=most, equal_nan=True), np.nanmax(np.abs(a - b))
    else:
        assert np.array_equal(a, b)


def same(kernel, *args):
    """The fast version equals the reference, and itself bit for bit when run again."""
    fast = kernel(*args)
    close(fast, kernel.reference(*args))
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (fast, kernel(*args))),
                    strict=True):
        assert a.tobytes() == b.tobytes()
    return fast


def normal(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


pairs = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))


def finite_difference(f, x, g, rng, eps=1e-5):
    """⟨g, df⟩ along a random direction, and that direction."""
    d = normal(rng, x.dtype, *x.shape)
    return np.vdot(g, (f(x + eps * d) - f(x - eps * d)) / (2 * eps)), d
