"""Every fast version of a kernel against its reference, its adjoint, and PyTorch."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
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
    (1, 70, 5, 64, 3, 2, 1), (3, 8, 1, 28, 3, 1, 1), (33, 20, 12, 4, 1, 1, 0),
    (2, 6, 4, 150, 3, 1, 1)])
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


@st.composite
def pools(draw):
    """An image and (kernel_size, stride, padding) that fit it; values repeat, so maxima tie."""
    kernel, stride = draw(pairs(1, 4)), draw(pairs(1, 3))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(max(1, k - 2 * p) + draw(st.integers(0, 9))
                 for k, p in zip(kernel, padding, strict=True))
    rng, dtype = np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from(DTYPES))
    x = normal(rng, dtype, draw(st.integers(0, 3)), draw(st.integers(1, 3)), *size).round()
    if draw(st.booleans()):
        x[rng.random(x.shape) < 0.1] = -np.inf
    return x, kernel, stride, padding


@check
@given(pools())
def test_pools(case):
    x, *options = case
    y, index = same(kernels.max_pool2d, *case)
    close(same(kernels.max_pool2d_at, x, index), y)
    rng, x = np.random.default_rng(0), np.where(np.isfinite(x), x, 0)
    g = normal(rng, x.dtype, *y.shape)
    size = x.shape[2:]
    gx = same(kernels.max_unpool2d, g, index, size)
    close(np.vdot(gx, x), np.vdot(g, kernels.max_pool2d_at(x, index)))
    close(np.vdot(same(kernels.avg_pool2d_transpose, g, size, *options), x),
          np.vdot(g, same(kernels.avg_pool2d, x, *options)))


@pytest.mark.parity
@check
@given(pools())
def test_pools_are_torchs(case):
    torch = pytest.importorskip("torch")
    x, *options = case
    tx = torch.tensor(x, requires_grad=True)
    if len(x):
        y, index = torch.nn.functional.max_pool2d(tx, *options, return_indices=True)
        close(kernels.max_pool2d(*case), (y.detach().numpy(), index.numpy().astype(np.int32)))
        finite = np.where(np.isfinite(x), x, 0)
        y = torch.nn.functional.avg_pool2d(torch.tensor(finite), *options)
        close(kernels.avg_pool2d(finite, *options), y.numpy())


def test_max_pool_hands_nan_on():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 1] = np.nan
    y, index = same(kernels.max_pool2d, x, (2, 2), (2, 2), (0, 0))
    assert np.isnan(y[0, 0, 0, 0]) and np.isfinite(y).sum() == 3 and index[0, 0, 0, 0] == 5


sizes = pairs(1, 12)


@check
@given(sizes, sizes, st.sampled_from(DTYPES), st.sampled_from(["nearest", "bilinear"]))
def test_upsampling(size, out, dtype, mode):
    rng = np.random.default_rng(0)
    x, g = normal(rng, dtype, 3, 2, *size), normal(rng, dtype, 3, 2, *out)
    y = same(getattr(kernels, f"upsample_{mode}"), x, out)
    gx = same(getattr(kernels, f"upsample_{mode}_transpose"), g, size)
    close(np.vdot(y, g), np.vdot(x, gx))


@pytest.mark.parity
@check
@given(pairs(1, 150), pairs(1, 150), st.sampled_from(DTYPES))
@example((129, 129), (207, 207), np.float32)  # where ⌊p·H/P⌋ depends on the ratio's rounding
def test_upsampling_is_torchs(size, out, dtype):
    torch = pytest.importorskip("torch")
    x = normal(np.random.default_rng(0), dtype, 1, 1, *size)
    for mode in "nearest", "bilinear":
        y = torch.nn.functional.interpolate(torch.tensor(x), out, mode=mode)
        close(getattr(kernels, f"upsample_{mode}")(x, out), y.numpy())


def finite_difference(f, x, g, rng, eps=1e-5):
    """⟨g, df⟩ along a random direction, and that direction."""
    d = normal(rng, x.dtype, *x.shape)
    return np.vdot(g, (f(x + eps * d) - f(x - eps * d)) / (2 * eps)), d


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 50), (40, 6, 1)])
@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "layer_norm"])
def test_norms(name, shape, affine, dtype):
    rng, forward = np.random.default_rng(0), getattr(kernels, name)
    shape = (shape[0] * shape[1], shape[2] + 1) if name == "layer_norm" else shape
    groups = (3,) if name == "group_norm" else ()
    x, g = 3 + normal(rng, dtype, *shape), normal(rng, dtype, *shape)
    weight, bias = (normal(rng, dtype, shape[1]) if affine else None for _ in range(2))
    _, mean, *_, rstd = same(forward, x, *groups, weight, bias, 1e-5)
    assert rstd.dtype == mean.dtype == dtype
    backward = getattr(kernels, f"{name}_backward")
    gx, gw, gb = fast = backward(g, x, *groups, weight, mean, rstd)
    for a, b, c in zip(fast, backward(g, x, *groups, weight, mean, rstd),
                       backward.reference(g, x, *groups, weight, mean, rstd), strict=True):
        if affine or a is not None:
            close(a, c)
            assert a.tobytes() == b.tobytes()
    if dtype == np.float64:
        f = lambda x, w=weight, b=bias: forward(x, *groups, w, b, 1e-5)[0]
        slope, d = finite_difference(f, x, g, rng)
        assert np.isclose(slope, np.vdot(gx, d), rtol=1e-6, atol=1e-6)
        if affine:
            slope, d = finite_difference(lambda w: f(x, w), weight, g, rng)
            assert np.isclose(slope, np.vdot(gw, d))
            slope, d = finite_difference(lambda b: f(x, weight, b), bias, g, rng)
            assert np.isclose(slope, np.vdot(gb, d))


def test_norms_are_accurate_far_from_zero():
    x = normal(np.random.default_rng(0), np.float32, 64, 4, 100) + np.float32(1000)
    exact = x.astype(np.float64)
    for y in (kernels.batch_norm(x, None, None, 0)[2], kernels.group_norm(x, 4, None, None, 0)[2]):
        axes = (0, 2) if y.ndim == 1 else 2
        var = exact.var(axes)
        assert np.allclose(y if y.ndim == 1 else 1 / np.square(y), var, rtol=1e-5)


@pytest.mark.parity
def test_norms_are_torchs():
    torch = pytest.importorskip("torch")
    F, rng = torch.nn.functional, np.random.default_rng(0)
    x, w, b = normal(rng, np.float64, 5, 6, 7), *normal(rng, np.float64, 2, 6)
    tx, tw, tb = map(torch.tensor, (x, w, b))
    close(kernels.batch_norm(x, w, b, 1e-5)[0],
          F.batch_norm(tx, None, None, tw, tb, training=True).numpy())
    close(kernels.group_norm(x, 2, w, b, 1e-5)[0], F.group_norm(tx, 2, tw, tb).numpy())
    rows = np.ascontiguousarray(x.swapaxes(1, 2)).reshape(-1, 6)
    close(kernels.layer_norm(rows, w, b, 1e-5)[0],
          F.layer_norm(torch.tensor(rows), (6,), tw, tb).numpy())


@st.composite
def attentions(draw):
    B, T, S = draw(st.integers(0, 3)), draw(st.integers(1, 150)), draw(st.integers(1, 300))
    D, E = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng, dtype = np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from(DTYPES))
    kind, is_causal = draw(st.sampled_from([None, bool, dtype])), draw(st.booleans())
    mask = kind and normal(rng, dtype, draw(st.sampled_from([1, B])), T, S)
    if kind is bool:
        mask = mask > 0
        mask[:, T // 2] = False
    shapes = (B, T, D), (B, S, D), (B, S, E), (B, T, E)
    return *(normal(rng, dtype, *s) for s in shapes), mask, is_causal


@check
@given(attentions())
def test_attention(case):
    q, k, v, g, mask, is_causal = case
    options = mask, is_causal, 0.4
    o, lse = same(kernels.attention, q, k, v, *options)
    if mask is not None and mask.dtype == bool:
        assert not o[:, q.shape[1] // 2].any() and (lse[:, q.shape[1] // 2] == -np.inf).all()
    grads = same(kernels.attention_backward, g, o, lse, q, k, v, *options)
    if q.dtype == np.float64:
        rng = np.random.default_rng(0)
        for i, slot in enumerate((q, k, v)):
            f = lambda x, i=i: kernels.attention(*(q, k, v)[:i], x, *(q, k, v)[i + 1:], *options)[0]
            slope, d = finite_difference(f, slot, g, rng)
            assert np.isclose(slope, np.vdot(grads[i], d), rtol=1e-5, atol=1e-6)


@pytest.mark.parity
@check
@given(attentions())
def test_attention_is_torchs(case):
    torch = pytest.importorskip("torch")
    q, k, v, g, mask, is_causal = case
    if len(q) == 0 or is_causal and mask is not None:
        return  # PyTorch takes one or the other
    tq, tk, tv = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (q, k, v))
    tmask = None if mask is None else torch.tensor(mask if mask.dtype == bool else mask * 1.0)
    tmask = tmask.double() if mask is not None and mask.dtype != bool else tmask
    to = torch.nn.functional.scaled_dot_product_attention(
        tq, tk, tv, tmask, is_causal=is_causal, scale=0.4)
    grads = torch.autograd.grad(to, (tq, tk, tv), torch.tensor(g, dtype=torch.float64))
    o, lse = kernels.attention(q, k, v, mask, is_causal, 0.4)
    close(o, to.detach().numpy().astype(q.dtype))
    ours = kernels.attention_backward(g, o, lse, q, k, v, mask, is_causal, 0.4)
    close(ours, tuple(a.numpy().astype(q.dtype) for a in grads))


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
