"""Every fast version of a kernel against its reference, its adjoint, and PyTorch."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minigen.kernels.columns import conv_size

from minigen import kernels

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
        most = tol * max(1, np.nanmax(np.abs(b)))
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
    """(x, w, b, g) with the options of a convolution of x that gives g's shape."""
    groups = draw(st.integers(1, 3))
    N, D, M = draw(st.integers(0, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kernel, stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 2))
    padding, extra = draw(pairs(0, 4)), draw(pairs(0, 9))
    if draw(st.booleans()):  # the usual one
        kernel, stride, dilation, padding = (3, 3), (1, 1), (1, 1), (1, 1)
    size = tuple(max(1, d * (k - 1) + 1 - 2 * p) + e
                 for k, d, p, e in zip(kernel, dilation, padding, extra, strict=True))
    rng, dtype = np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from(DTYPES))
    out = conv_size(size, kernel, stride, padding, dilation)
    return (normal(rng, dtype, N, D * groups, *size), normal(rng, dtype, M * groups, D, *kernel),
            normal(rng, dtype, M * groups), normal(rng, dtype, N, M * groups, *out),
            (stride, padding, dilation, groups))


@check
@given(convolutions())
def test_convolutions(case):
    x, w, b, g, options = case
    y = same(kernels.conv2d, x, w, b, *options)
    gx = same(kernels.conv_transpose2d, g, w, None, x.shape[2:], *options)
    gw = same(kernels.conv2d_weight, g, x, w.shape[2:], *options)
    y = y - b[:, None, None]
    assert np.isclose(np.vdot(y, g), np.vdot(x, gx), rtol=1e-4, atol=1e-3)
    assert np.isclose(np.vdot(y, g), np.vdot(w, gw), rtol=1e-4, atol=1e-3)
    bias = np.arange(x.shape[1], dtype=x.dtype)
    close(kernels.conv_transpose2d(g, w, bias, x.shape[2:], *options), gx + bias[:, None, None])


@pytest.mark.parametrize("case", [
    (5, 40, 30, 28, 3, 1, 1), (37, 32, 24, 7, 4, 2, 1), (2, 1, 8, 28, 5, 1, 2),
    (1, 70, 5, 64, 3, 2, 1), (3, 8, 1, 28, 3, 1, 1), (33, 20, 12, 4, 1, 1, 0), (2, 6, 4, 150, 3, 1, 1)])
def test_convolutions_of_many_blocks(case):
    N, C, K, size, kernel, stride, padding = case
    rng = np.random.default_rng(0)
    x, w = normal(rng, np.float32, N, C, size, size), normal(rng, np.float32, K, C, kernel, kernel)
    options = (stride, stride), (padding, padding), (1, 1), 1
    g = normal(rng, np.float32, *same(kernels.conv2d, x, w, None, *options).shape)
    same(kernels.conv_transpose2d, g, w, None, x.shape[2:], *options)
    same(kernels.conv2d_weight, g, x, w.shape[2:], *options)


@pytest.mark.parity
@check
@given(convolutions())
def test_convolutions_are_torchs(case):
    torch = pytest.importorskip("torch")
    x, w, b, g, (stride, padding, dilation, groups) = case
    options = stride, padding, dilation, groups
    if len(x) == 0:
        return
    tx, tw, tb, tg = (torch.tensor(a, dtype=torch.float64, requires_grad=True)
                      for a in (x, w, b, g))
    ty = torch.nn.functional.conv2d(tx, tw, tb, *options)
    tgx, tgw = torch.autograd.grad(ty, (tx, tw), tg)
    for ours, theirs in ((kernels.conv2d(x, w, b, *options), ty),
                         (kernels.conv_transpose2d(g, w, None, x.shape[2:], *options), tgx),
                         (kernels.conv2d_weight(g, x, w.shape[2:], *options), tgw)):
        close(ours, theirs.detach().numpy().astype(x.dtype))


def layouts(rng, dtype, *shape):
    """The same kind of matrix as it may come: contiguous, transposed, every second column."""
    *lead, m, n = shape
    return (normal(rng, dtype, *shape), normal(rng, dtype, *lead, n, m).swapaxes(-1, -2),
            normal(rng, dtype, *lead, m, 2 * n)[..., ::2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", [
    ((300, 70), (70, 90)), ((3, 5), (5, 2)), ((40, 3000), (3000, 50)), ((90, 200), (200, 400)),
    ((0, 3), (3, 4)), ((5, 0), (0, 4)), ((3, 40, 50), (50, 70)), ((7, 40, 50), (7, 50, 70)),
    ((4, 1, 40, 50), (3, 50, 70)), ((60, 50), (4, 50, 70)), ((1, 300, 80), (1, 80, 70)),
    ((1, 80000), (80000, 5))])
def test_matmul(shapes, dtype):
    rng = np.random.default_rng(0)
    for a in layouts(rng, dtype, *shapes[0]):
        for b in layouts(rng, dtype, *shapes[1]):
            same(kernels.matmul, a, b)


OPTIMISERS = {
    "adam": (3, [(1e-2, 0.9, 0.99, 1e-8, 0.1, d) for d in (False, True)]),
    "sgd": (2, [(1e-2, 0.0, 0.0, 0.1, False), (1e-2, 0.9, 0.1, 0.1, False),
                (1e-2, 0.9, 0.0, 0.0, True)]),
    "rmsprop": (3, [(1e-2, 0.99, 1e-8, 0.1, 0.9), (1e-2, 0.9, 1e-8, 0.0, 0.0)]),
}


def steps(kernel, options, states, p, grads):
    """The parameter and states after a step for each gradient."""
    p, states = p.copy(), [np.zeros_like(p) for _ in range(states - 1)]
    for t, g in enumerate(grads, 1):
        last = {"adam": (t,), "sgd": (t == 1,), "rmsprop": ()}[kernel.__name__]
        kernel(p, g, *states, *options, *last)
    return p, *states


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3, 5), (257, 100)])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers(name, shape, dtype):
    rng, (states, cases) = np.random.default_rng(0), OPTIMISERS[name]
    kernel = getattr(kernels, name)
    for options in cases:
        p, *grads = (normal(rng, dtype, *shape) for _ in range(4))
        p = np.asarray(p, dtype)
        grads = [np.asarray(g, dtype) for g in grads]
        close(steps(kernel, options, states, p, grads),
              steps(kernel.reference, options, states, p, grads))


@pytest.mark.parity
@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_are_torchs(name):
    torch = pytest.importorskip("torch")
    rng, (states, cases) = np.random.default_rng(0), OPTIMISERS[name]
    for options in cases:
        p, *grads = (normal(rng, np.float64, 50, 7) for _ in range(6))
        tp = torch.tensor(p, requires_grad=True)
        if name == "adam":
            lr, beta1, beta2, eps, decay, decoupled = options
            make = torch.optim.AdamW if decoupled else torch.optim.Adam
            opt = make([tp], lr, (beta1, beta2), eps, decay)
        else:
            opt = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}[name]([tp], *options)
        for g in grads:
            tp.grad = torch.tensor(g)
            opt.step()
        ours = steps(getattr(kernels, name), options, states, p, grads)[0]
        assert np.allclose(ours, tp.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_optimisers_write_through_views():
    p, g = np.ones((4, 6), np.float32), np.ones((6, 4), np.float32)
    kernels.sgd(p.T, g, None, 1.0, 0.0, 0.0, 0.0, False, True)
    assert not p.any()


def test_arguments_are_checked():
    x, w, b = np.ones((2, 4, 8, 8), np.float32), np.ones((6, 4, 3, 3), np.float32), np.ones(6)
    options = (1, 1), (1, 1), (1, 1), 1
    for error, args, message in (
            (TypeError, ([1.0], w, None), "conv2d: x is a list, expected an array"),
            (TypeError, (x, w, b), "conv2d: b is float64, expected float32 like x"),
            (TypeError, (x.astype(int), w, None), "x is int64, expected float32 or float64"),
            (ValueError, (x, w[0], None), r"w has shape \(4, 3, 3\), expected \(K, D, R, S\)"),
            (ValueError, (x, w, np.ones(5, np.float32)),
             r"conv2d: b has shape \(5,\), expected \(K\) with K = 6"),
            (ValueError, (x[:, :3], w, None), "conv2d: 3 channels, 6 filters of 4 channels"),
            (ValueError, (x[..., :0], w, None), "conv2d: filters of .* are larger")):
        with pytest.raises(error, match=message):
            kernels.conv2d(*args, *options)
    with pytest.raises(ValueError, match=r"an image of \(9, 9\) gives an output of \(9, 9\), "):
        kernels.conv_transpose2d(np.ones((2, 6, 8, 8), np.float32), w, None, (9, 9), *options)
    with pytest.raises(TypeError, match="conv2d: missing a required argument: 'groups'"):
        kernels.conv2d(x, w, None, (1, 1), (1, 1), (1, 1))
    with pytest.raises(ValueError, match="matmul: the leading dimensions of a"):
        kernels.matmul(np.ones((2, 3, 4)), np.ones((3, 4, 5)))
    with pytest.raises(ValueError, match=r"matmul: b has shape \(5, 2\), expected .* K = 4"):
        kernels.matmul(np.ones((3, 4)), np.ones((5, 2)))


def test_other_arrays():
    x, w = np.ones((2, 4, 8, 8), np.float32), np.ones((6, 4, 3, 3), np.float32)
    other = type("ndarray", (), {"__module__": "cupy", "dtype": x.dtype, "shape": x.shape,
                                 "flags": x.flags})()
    with pytest.raises(TypeError, match="conv2d: w is a numpy array, expected cupy like x"):
        kernels.conv2d(other, w, None, (1, 1), (1, 1), (1, 1), 1)
    other_w = type(other)()
    other_w.shape = w.shape
    with pytest.raises(NotImplementedError, match="no CUDA version of conv2d yet"):
        kernels.conv2d(other, other_w, None, (1, 1), (1, 1), (1, 1), 1)


def test_named_arguments_and_strided_input():
    rng = np.random.default_rng(0)
    x = normal(rng, np.float32, 3, 8, 9, 4).transpose(0, 3, 1, 2)
    w = normal(rng, np.float32, 5, 4, 3, 3)
    y = kernels.conv2d(x, w, b=None, groups=1, stride=(1, 1), padding=(0, 0), dilation=(1, 1))
    close(y, kernels.conv2d.reference(x, w, None, (1, 1), (0, 0), (1, 1), 1))


@pytest.mark.parametrize("forced, said", [
    ("reference", "reference"), ("cpu", "cpu"), ("", "cpu"),
    ("tpu", "MINIGEN_KERNELS=tpu: matmul has reference, cpu"),
    ("cuda", "no CUDA version of matmul yet")])
def test_a_version_can_be_forced(forced, said):
    code = """if True:
        import numpy as np
        from minigen import kernels
        for name in list(kernels.matmul.versions):
            kernels.matmul.versions[name] = lambda a, b, name=name: print(name)
        kernels.matmul(np.ones((2, 2)), np.ones((2, 2)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "MINIGEN_KERNELS": forced})
    assert said in done.stdout + done.stderr
