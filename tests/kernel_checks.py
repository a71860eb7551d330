"""What the tests of the kernels share: a fast version against its reference, and random cases."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from minigen.kernels.columns import conv_size

DTYPES = (np.float32, np.float64)
check = settings(derandomize=True, deadline=None, max_examples=40)


def close(a, b):
    """Equal up to rounding, relative to the largest finite magnitude in b, or to 1."""
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


@st.composite
def convolutions(draw):
    """(x, w, b, g, options): the convolution of x by w with these options has the shape of g."""
    groups = draw(st.integers(1, 3))
    N, D, M = draw(st.integers(0, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kernel, stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 2))
    padding, extra = draw(pairs(0, 4)), draw(pairs(0, 9))
    if draw(st.booleans()):  # the most common kind
        kernel, stride, dilation, padding = (3, 3), (1, 1), (1, 1), (1, 1)
    size = tuple(max(1, d * (k - 1) + 1 - 2 * p) + e
                 for k, d, p, e in zip(kernel, dilation, padding, extra, strict=True))
    rng, dtype = np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from(DTYPES))
    out = conv_size(size, kernel, stride, padding, dilation)
    return (normal(rng, dtype, N, D * groups, *size), normal(rng, dtype, M * groups, D, *kernel),
            normal(rng, dtype, M * groups), normal(rng, dtype, N, M * groups, *out),
            (stride, padding, dilation, groups))


def finite_difference(f, x, g, rng, eps=1e-5):
    """⟨g, df⟩ along a random direction, and that direction."""
    d = normal(rng, x.dtype, *x.shape)
    return np.vdot(g, (f(x + eps * d) - f(x - eps * d)) / (2 * eps)), d


@st.composite
def pools(draw):
    """Images and (kernel_size, stride, padding) that fit them; values repeat, so maxima tie."""
    kernel, stride = draw(pairs(1, 4)), draw(pairs(1, 3))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(max(1, k - 2 * p) + draw(st.integers(0, 9))
                 for k, p in zip(kernel, padding, strict=True))
    rng, dtype = np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from(DTYPES))
    x = normal(rng, dtype, draw(st.integers(0, 3)), draw(st.integers(1, 3)), *size).round()
    if draw(st.booleans()):
        x[rng.random(x.shape) < 0.1] = -np.inf
    return x, kernel, stride, padding


OPTIMISERS = {
    "adam": (3, [(f, 1e-2, 0.9, 0.99, 1e-8, 0.1, d) for f, d in ((1.0, False), (0.3, True))]),
    "sgd": (2, [(0.3, 1e-2, 0.0, 0.0, 0.1, False), (1.0, 1e-2, 0.9, 0.1, 0.1, False),
                (0.3, 1e-2, 0.9, 0.0, 0.0, True)]),
    "rmsprop": (3, [(0.3, 1e-2, 0.99, 1e-8, 0.1, 0.9), (1.0, 1e-2, 0.9, 1e-8, 0.0, 0.0)]),
    "ema": (1, [(0.9,)]),
}


def steps(kernel, options, states, p, grads):
    """The parameter and states after one step for each gradient: lists, if p and the gradients
    are lists."""
    each = lambda f: [*map(f, p)] if isinstance(p, list) else f(p)
    p, states = each(np.copy), [each(np.zeros_like) for _ in range(states - 1)]
    for t, g in enumerate(grads, 1):
        if kernel.__name__ == "ema":
            kernel(p, g, *options)
        else:
            kernel(p, g, *states, (*options[:2], t), *options[2:])
    return p, *states
