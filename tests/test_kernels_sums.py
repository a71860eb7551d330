"""Sums along axes, and the cross-entropy, against NumPy in higher precision."""

import numpy as np
import pytest
from kernel_checks import DTYPES, close, normal

import minigen
from minigen import kernels


@pytest.mark.parametrize("axis", [None, -1, (0, 1, 2), (0, 2), 0, 1, (1, 2), (0, 3), ()])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(30, 40, 50, 1), (90, 71, 1, 33), (99_999, 1, 1, 1)])
def test_large_sums_and_means(shape, axis, keepdims):
    x = 1 + np.random.default_rng(0).standard_normal(shape, np.float32)
    for f, exact in ((minigen.sum, np.sum), (minigen.mean, np.mean)):
        y, want = f(x, axis, keepdims).numpy(), exact(x.astype(np.float64), axis, keepdims=keepdims)
        assert y.shape == want.shape and y.dtype == np.float32
        np.testing.assert_allclose(y, want, rtol=5e-7)


@pytest.mark.parametrize("shape, twice", [
    ((4, 5, 6), "duplicate value in 'axis'"), ((40, 50, 60), "repeated axis")])
def test_axes_of_sums_and_means_are_there_and_different(shape, twice):
    x = np.ones(shape, np.float32)
    for f in (minigen.sum, minigen.mean, minigen.var):
        for axis, message in (((0, 2, -1), twice), ((0, 2, 7), "out of bounds"),
                              ((1, -1, -1), twice), (-4, "out of bounds")):
            with pytest.raises(ValueError, match=message):
                f(x, axis)
        with pytest.raises(TypeError, match="axis=1.0"):
            f(x, 1.0)


@pytest.mark.parametrize("n", [32768, 32769, 10**6])
def test_sums_of_one_number_many_times(n):
    """Their rounding errors add up, whereas those of random numbers cancel."""
    x = np.full(n, 0.1, np.float32)
    assert minigen.mean(x).item() == pytest.approx(float(x[0]), rel=5e-7)
    assert sum(kernels.square_sum([x])) == pytest.approx(n * float(x[0]) ** 2, rel=5e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [
    (0, 3, 5), (3, 5, 7), (40, 3, 5000), (1, 7, 5000), (3000, 70, 1), (1, 70_000, 1), (2, 999, 41)])
def test_sums(shape, dtype):
    x = 1 + np.random.default_rng(0).standard_normal(shape).astype(dtype)
    exact = x.astype(np.longdouble)
    y, s = kernels.channel_sum(x), kernels.square_sum(x)
    rtol = 40 * float(np.finfo(dtype).eps)
    assert y.dtype == dtype and np.allclose(y, exact.sum((0, 2)), rtol=rtol, atol=rtol)
    y = kernels.axis_sum(x)
    assert y.dtype == dtype and np.allclose(y, exact.sum(1), rtol=rtol, atol=rtol)
    assert s == pytest.approx(float((exact * exact).sum()), rel=rtol)
    assert np.isnan(kernels.square_sum(np.array([np.nan, 1], dtype)))
    some = [x, x[:, :0], x[:1, :1]]
    exact = [float((a * a).sum()) for a in (exact, exact[:, :0], exact[:1, :1])]
    assert kernels.square_sum(some) == pytest.approx(exact, rel=rtol)
    assert kernels.square_sum([]) == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 7, 50), (4, 300, 1), (0, 3, 2), (2, 1, 3)])
def test_cross_entropy(shape, dtype):
    rng = np.random.default_rng(0)
    x, t = rng.normal(0, 9, shape).astype(dtype), rng.integers(0, shape[1], (shape[0], shape[2]))
    for kernel, args in ((kernels.cross_entropy, (x, t)), (kernels.cross_entropy_backward, (
            normal(rng, dtype, *t.shape), x, t, *kernels.cross_entropy.reference(x, t)[1:]))):
        found, expected = kernel(*args), kernel.reference(*args)
        close(np.asarray(found), np.asarray(expected))
        for wrong in (t - shape[1], t + shape[1]) if t.size else ():
            with pytest.raises(IndexError, match=rf"^{kernel.name}: targets reach from"):
                kernel(*[wrong if a is t else a for a in args])
