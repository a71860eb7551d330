"""Arithmetic and sums of large arrays whose shapes broadcast, against NumPy's."""

import itertools
import math

import numpy as np
import pytest
from kernel_checks import DTYPES

import minigen
from minigen import kernels


def expected(a, b):
    return (("add", a + b), ("subtract", a - b), ("multiply", a * b), ("divide", a / b),
            ("maximum", np.maximum(a, b)), ("minimum", np.minimum(a, b)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a, b", [
    ((2, 3, 20_000), (2, 3, 20_000)), ((3, 5, 7000), (5, 1)), ((5, 1), (3, 5, 7000)),
    ((2, 9, 90, 40), (1, 9, 1, 1)), ((70_000,), ()), ((1, 1), (300, 200)), ((50, 1, 40), (60, 1)),
    ((9, 100, 64), (100, 64)), ((3, 1, 2, 1, 50), (4, 1, 6, 50)),
    ((2, 1, 3, 1, 2, 33), (5, 1, 2, 1, 33)), ((500, 200, 3), (200, 1)),
    ((0, 3, 50), (3, 1)), ((1, 50), (0, 50)), ((1,), ()), ((), ())])
def test_arithmetic(a, b, dtype):
    """Bit for bit, whichever of the axes are merged, broadcast or left to NumPy."""
    rng = np.random.default_rng(0)
    a, b = (np.asarray(rng.standard_normal(shape), dtype) for shape in (a, b))
    for name, exact in expected(a, b):
        y = getattr(kernels, name)(a, b)
        np.testing.assert_array_equal(y, exact, strict=True)


def test_arithmetic_has_numpys_errors_and_infinities():
    with pytest.raises(ValueError, match=r"shapes \(4,50\) \(3,50\)"):
        kernels.multiply(np.ones((4, 50)), np.ones((3, 50)))
    x = np.resize(np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38], np.float32), 70_000)
    with np.errstate(all="ignore"):
        for name, exact in expected(x, x[::-1]):
            y = getattr(kernels, name)(x, x[::-1])
            assert (np.isnan(y) == np.isnan(exact)).all()
            assert y[~np.isnan(y)].tobytes() == exact[~np.isnan(y)].tobytes()


def test_powers_have_numpys_types():
    for x in (np.array([True]), np.arange(3), np.arange(3, dtype=np.uint8), np.ones(2, np.float32)):
        for n in (2, 3):
            np.testing.assert_array_equal(minigen.power(x, n).numpy(), x**n, strict=True)


def test_views_that_repeat_numbers_are_read_once():
    """As the cotangent of a mean is; the result has their shape, not that of the numbers."""
    x = np.random.default_rng(0).standard_normal((40, 30, 50), np.float32)
    views = [np.broadcast_to(part, x.shape) for part in (
        np.float32(3), x[:1, :1, :1], x[:, :1], x[..., :1], x[:1], x[0, :, :1])]
    views += [x, x[0], x.transpose(0, 2, 1).copy().transpose(0, 2, 1), x[:, ::-1]]
    for a in views:
        for b in views:
            for name, exact in expected(a, b):
                y = getattr(minigen, name)(a, b).numpy()
                np.testing.assert_array_equal(y, exact, strict=True)


@pytest.mark.parametrize("dtype", ["u1", "i4", "i8"])
def test_large_arrays_of_integers_follow_the_rules_of_small_ones(dtype):
    """−1 does not fit into bytes, nor infinity into integers, but float results have both."""
    x = np.arange(70_000).astype(dtype)
    small = lambda f: np.concatenate([f(part).numpy() for part in np.split(x, 7)])
    for f in (minigen.negative, minigen.logsigmoid, lambda x: minigen.divide(x, 1e300),
              lambda x: minigen.multiply(x, -1.0), lambda x: minigen.subtract(-math.inf, x),
              lambda x: minigen.add(x, math.nan)):
        np.testing.assert_allclose(f(x).numpy(), small(f), 1e-6, 1e-7, strict=True)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (300, 200)])
def test_a_list_of_axes_is_refused_whatever_the_shape(shape):
    for f in (minigen.sum, minigen.mean, minigen.norm, minigen.max):
        with pytest.raises(TypeError, match="'list' object cannot be interpreted"):
            f(np.ones(shape), axis=[0, 1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 30, 20, 11), (70_000,), (300, 2, 90)])
def test_sums_over_any_axes(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for size in range(len(shape) + 1):
        for axes in itertools.combinations(range(len(shape)), size):
            for keepdims in (False, True):
                exact = x.sum(axes, np.longdouble, keepdims=keepdims)
                y = minigen.sum(x, axes, keepdims).numpy()
                assert y.shape == exact.shape and y.dtype == dtype
                np.testing.assert_allclose(y, exact, 0, 200 * np.finfo(dtype).eps * x.size**0.5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5, 1), (9, 4, 3), (1, 40, 77), (1, 5, 1), (0, 3, 4),
                                   (2, 0, 4), (3, 3, 0), (17, 33, 1), (2, 1, 2)])
def test_cumsum(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    x[:1, 1:2] = np.inf
    x[-1:, 2:3] = np.nan
    np.testing.assert_array_equal(kernels.cumsum(x), np.cumsum(x, 1), strict=True)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_cumsum_of_a_large_array(axis):
    x = np.random.default_rng(0).standard_normal((40, 50, 60))[:, ::-1]
    t = minigen.tensor(x, requires_grad=True)
    y = minigen.cumsum(t, axis)
    np.testing.assert_array_equal(y.numpy(), np.cumsum(x, axis), strict=True)
    # ∂ Σ_t a_t y_t / ∂x_s = Σ_{t≥s} a_t
    a = np.random.default_rng(1).standard_normal(y.shape)
    g = np.flip(np.cumsum(np.flip(a, axis), axis), axis).reshape(x.shape)
    dx, = minigen.grad((y * a).sum(), [t])
    np.testing.assert_allclose(dx.numpy(), g, rtol=1e-10)
    with pytest.raises(ValueError, match="cumsum.*: axis 3 is out of bounds"):
        minigen.cumsum(t, 3)
