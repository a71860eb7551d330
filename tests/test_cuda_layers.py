"""The CUDA kernels other than the products: optimisers, activations, norms, pools, up-sampling,
each equal to its reference up to the rounding of a few operations."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from kernel_checks import DTYPES, OPTIMISERS, check, close, normal, pools, steps

from minigen import kernels

some = settings(check, max_examples=12)


def same(on, kernel, *args):
    """A kernel on a device or in the emulator equals its reference, and itself when run again."""
    y, want = on.run(kernel, *args), kernel.reference(*args)
    each = lambda x: x if isinstance(x, tuple) else (x,)
    for a, b, again in zip(each(y), each(want), each(on.run(kernel, *args)), strict=True):
        if a is not b or a is not None:
            close(a, b)
            assert a.tobytes() == again.tobytes()
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3, 5), (257, 3), (0, 2)])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers(on, name, shape, dtype):
    rng, kernel = np.random.default_rng(0), getattr(kernels, name)
    states, cases = OPTIMISERS[name]
    p, *grads = (np.asarray(normal(rng, dtype, *shape), dtype) for _ in range(4))

    def ours(p, *args):
        arrays = [on.put(a) for a in (p, *args)]
        kernel.versions["cuda"](*arrays)
        for a, b in zip((p, *args), arrays, strict=True):
            if isinstance(a, np.ndarray):
                a[...] = on.get(b)
    ours.__name__ = name
    for options in cases:
        close(steps(ours, options, states, p, grads),
              steps(kernel.reference, options, states, p, grads))


def numbers(dtype):
    x = np.random.default_rng(0).normal(0, 4, (300,)).astype(dtype)
    x[:9] = 0.0, -0.0, 1e-8, -1e-8, 88.0, -88.0, 1e4, -1e4, np.nan
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, options", [("sigmoid", ()), ("tanh", ()), ("silu", ()),
                                           ("gelu", ()), ("elu", (0.5,)), ("leaky_relu", (0.2,)),
                                           ("relu", ())])
def test_activations(on, name, options, dtype):
    x = numbers(dtype)
    with np.errstate(all="ignore"):
        y = same(on, getattr(kernels, name), x, *options)
        at = y if name in ("sigmoid", "tanh", "elu") else x
        same(on, getattr(kernels, f"{name}_backward"), x[::-1].copy(), at, *options)
    again = on.run(getattr(kernels, name), x, *map(np.float64, options))
    assert again.tobytes() == y.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_softplus(on, dtype):
    x = numbers(dtype)
    with np.errstate(all="ignore"):
        same(on, kernels.softplus, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums(on, dtype):
    x = normal(np.random.default_rng(0), dtype, 3, 5, 1001)
    same(on, kernels.channel_sum, x)
    for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
        same(on, getattr(kernels, name), x, x[:, :, :1])
    squares = on.run(kernels.square_sum, x)
    close(np.asarray(squares, dtype), np.asarray(kernels.square_sum.reference(x), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 7, 50), (4, 300, 1)])
def test_cross_entropy(on, shape, dtype):
    rng = np.random.default_rng(0)
    x, t = rng.normal(0, 9, shape).astype(dtype), rng.integers(0, shape[1], (shape[0], shape[2]))
    _, *saved = same(on, kernels.cross_entropy, x, t)
    same(on, kernels.cross_entropy_backward, normal(rng, dtype, *t.shape), x, t, *saved)


def test_select(on):
    x, mask = np.array([1, np.inf, np.nan, -0.0], np.float32), np.array([True, False, False, True])
    same(on, kernels.select, x, x[::-1].copy(), mask)
    same(on, kernels.select, x, np.zeros(1, np.float32), mask)


def test_join(on):
    same(on, kernels.join, np.arange(6.0).reshape(2, 3), -np.arange(8.0).reshape(2, 4))


def test_cumsum(on):
    same(on, kernels.cumsum, np.arange(24.0).reshape(2, 3, 4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(2, 6, 7), (1, 6, 50), (9, 6, 1), (2, 6, 200)])
@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "layer_norm"])
def test_norms(on, name, shape, affine, dtype):
    rng = np.random.default_rng(0)
    shape = (shape[0] * shape[1], shape[2] + 1) if name == "layer_norm" else shape
    x, g = 3 + normal(rng, dtype, *shape), normal(rng, dtype, *shape)
    forward, backward = getattr(kernels, name), getattr(kernels, f"{name}_backward")
    if name == "group_norm":
        for rows, silu in itertools.product((1, len(x)), (False, True)):
            group_norms(on, x, g, affine * rows, silu)
        return
    weight, bias = (normal(rng, dtype, shape[1]) if affine else None for _ in range(2))
    _, mean, *_, rstd = same(on, forward, x, weight, bias, 1e-5)
    same(on, backward, g, x, weight, mean, rstd)


@pytest.mark.parametrize("kept, shape", [(0, (2, 6, 200)), (1000, (2, 6, 200)),
                                         (48 << 10, (1, 9, 4096)), (96 << 10, (2, 9, 4100))])
@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "layer_norm"])
def test_norms_of_groups_larger_than_shared_memory(on, name, kept, shape, monkeypatch):
    monkeypatch.setattr(sys.modules["minigen.kernels.norm"], "KEPT", kept)
    test_norms(on, name, shape, True, np.float32)


def test_what_cannot_be_counted_is_refused():
    x = np.broadcast_to(np.float32(1), (1, 2, 2**30))
    with pytest.raises(ValueError, match="at most 2147475455 numbers may share a mean"):
        kernels.group_norm.cuda(x, 1, None, None, 1e-5, False)
    with pytest.raises(ValueError, match="2147483648 numbers in a channel, on CUDA at most"):
        kernels.channel_sum.cuda(np.broadcast_to(np.float32(1), (2**16, 1, 2**15)))
    row = np.broadcast_to(np.float32(1), (0, 2**31 - 1, 1))
    for kernel, *t in ((kernels.log_softmax,), (kernels.cross_entropy, np.zeros((0, 1), int))):
        with pytest.raises(ValueError, match=f"{kernel.name} of .*: on CUDA an axis has at most"):
            kernel.cuda(row, *t)


def group_norms(on, x, g, rows, silu):
    """Group norm with one row of weights, with one for each sample, or without weights."""
    rng = np.random.default_rng(1)
    weight, bias = (normal(rng, x.dtype, rows, x.shape[1]) if rows else None for _ in range(2))
    _, mean, rstd = same(on, kernels.group_norm, x, 3, weight, bias, 1e-5, silu)
    same(on, kernels.group_norm_backward, g, x, 3, weight, bias, mean, rstd, silu)


def test_norms_are_accurate_far_from_zero(on):
    x = normal(np.random.default_rng(0), np.float32, 16, 4, 100) + np.float32(1000)
    var = on.run(kernels.batch_norm, x, None, None, 0)[2]
    assert np.allclose(var, x.astype(np.float64).var((0, 2)), rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 7, 1), (9, 100, 1), (3, 4, 50), (0, 3, 1), (2, 1, 3)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(on, name, shape, dtype):
    x = 30 * normal(np.random.default_rng(0), dtype, *shape)
    if len(x) > 1:
        x[1, 0] = np.nan
        x[0, 1:] = -np.inf
    y = same(on, getattr(kernels, name), x)
    same(on, getattr(kernels, name + "_backward"), normal(np.random.default_rng(1), dtype, *shape),
         y)


def draw(on, name, dtype, n, seed, first):
    y, state = on.put(np.zeros(n, dtype)), on.put(np.array([seed, first], np.uint64))
    getattr(kernels, name).versions["cuda"](y, state)
    want = np.zeros(n, dtype)
    getattr(kernels, name).reference(want, np.array([seed, first], np.uint64))
    return on.get(y), want


@pytest.mark.parametrize("seed, first", [(0, 0), (2**64 - 1, 2**32 - 5), (123456789012345, 2**63)])
def test_random_numbers(on, seed, first):
    y, want = draw(on, "random_bits", np.uint32, 1027, seed, first)
    np.testing.assert_array_equal(y, want)
    for name in ("random_uniform", "random_normal"):
        for dtype in DTYPES:
            close(*draw(on, name, dtype, 1027, seed, first))


def test_philox_is_the_published_one():
    """The first of the known answers that come with the authors' Random123."""
    y = np.zeros(4, np.uint32)
    kernels.random_bits(y, np.zeros(2, np.uint64))
    assert [hex(w) for w in y] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    for kinds in ((np.int64, np.uint64), (np.uint32, np.int32)):
        with pytest.raises(TypeError, match="expected 32-bit integers or floats, and 64-bit"):
            kernels.random_bits(*(np.zeros(2, kind) for kind in kinds))


def test_random_numbers_have_their_distribution():
    y, state = np.zeros(100_000), np.array([7, 0], np.uint64)
    kernels.random_uniform(y, state)
    assert abs(y.mean() - 0.5) < 0.004 and abs(y.var() - 1 / 12) < 0.001
    kernels.random_normal(y, state)
    assert abs(y.mean()) < 0.01 and abs(y.var() - 1) < 0.02 and abs((y**4).mean() - 3) < 0.1


@some
@given(case=pools())
def test_pools(on, case):
    x, *options = case
    y, index = same(on, kernels.max_pool2d, *case)
    same(on, kernels.max_pool2d_at, x, index)
    g, x = normal(np.random.default_rng(0), x.dtype, *y.shape), np.where(np.isfinite(x), x, 0)
    same(on, kernels.max_unpool2d, g, index, x.shape[2:], *options)
    same(on, kernels.avg_pool2d, x, *options)
    same(on, kernels.avg_pool2d_transpose, g, x.shape[2:], *options)


def test_max_pool_hands_nan_on(on):
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 1] = np.nan
    same(on, kernels.max_pool2d, x, (2, 2), (2, 2), (0, 0))


@pytest.mark.parametrize("size, out", [((4, 5), (8, 10)), ((7, 3), (5, 11)), ((1, 1), (3, 4)),
                                       ((12, 2), (1, 1)), ((13, 9), (20, 27)), ((9, 9), (9, 9))])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling(on, size, out, mode):
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        same(on, getattr(kernels, f"upsample_{mode}"), normal(rng, dtype, 3, 2, *size), out)
        same(on, getattr(kernels, f"upsample_{mode}_transpose"), normal(rng, dtype, 3, 2, *out),
             size)


def test_nearest_rounds_the_ratio_as_the_reference_does(on):
    x = normal(np.random.default_rng(0), np.float32, 1, 1, 129, 129)
    same(on, kernels.upsample_nearest, x, (207, 207))
