"""Elementary functions of large arrays: their accuracy, their limits, and who computes them."""

import numpy as np
import pytest
import scipy.special
from kernel_checks import DTYPES, close, same

import minigen
from minigen import kernels, tensor
from minigen.sums import LARGE

INF = np.inf
ODD = (0.0, -0.0, 1.0, -1.0, -2.0, INF, -INF, np.nan, 1e30, -1e30, 1e-39, 89.0, -105.0)
SMALLEST = 2.0**-126  # normal float32
FUNCTIONS = {  # the function in float64, the ranges of x, its largest relative error
    "exp": (np.exp, [(-87.3, 88.7)], 1e-7),
    "expm1": (np.expm1, [(-30, 88), (-0.5, 0.5)], 1.2e-7),
    "log": (np.log, [(1e-3, 3), (0.7, 1.5), (1e-3, 3e38)], 2.3e-7),
    "log1p": (np.log1p, [(-0.999, 3), (-0.6, 0.6), (0, 3e38)], 2.3e-7),
    "erf": (scipy.special.erf, [(-6, 6), (-1.1, 1.1)], 1.8e-7),
    "sin": (np.sin, [(-4, 4), (-1000, 1000), (-2.0**30, 2.0**30)], 1.3e-7),
    "cos": (np.cos, [(-4, 4), (-1000, 1000), (-2.0**30, 2.0**30)], 1.3e-7),
    "tan": (np.tan, [(-4, 4), (-1000, 1000), (-2.0**30, 2.0**30)], 2.3e-7),
    "arctan": (np.arctan, [(-4, 4), (-1000, 1000)], 1.7e-7),
    "tanh": (np.tanh, [(-9.1, 9.1)], 3.2e-7),
}
PERIODIC = {"sin": np.sin, "cos": np.cos, "tan": np.tan}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_they_are_as_exact_as_stated(name):
    true, ranges, bound = FUNCTIONS[name]
    powers = 10.0 ** np.linspace(-37, 0, 100_000)
    x = np.concatenate([*(np.linspace(*ends, 400_000) for ends in ranges), powers,
                        *([-powers[:-1]] if name != "log" else [])]).astype(np.float32)
    exact = true(x.astype(np.float64))
    x, exact = x[exact != 0], exact[exact != 0]
    error = np.abs(getattr(kernels, name).cpu(x) / exact - 1)
    assert 5e-8 < error.max() < bound


@pytest.mark.parametrize("name", FUNCTIONS)
def test_zeros_infinities_and_what_is_not_a_number(name):
    x = np.tile(np.array(ODD, np.float32), 100)  # many, so that vectors compute some of them
    with np.errstate(all="ignore"):
        expected = getattr(kernels, name).reference(x)
    y = getattr(kernels, name).cpu(x)
    np.testing.assert_allclose(y, expected, rtol=4e-7)
    np.testing.assert_array_equal(np.signbit(y[expected == 0]), np.signbit(expected[expected == 0]))


@pytest.mark.parametrize("name", PERIODIC)
def test_numbers_whose_quarters_do_not_fit_into_32_bits(name):
    largest = np.float32(2.0**30)
    x = np.concatenate([np.geomspace(2.0**29, 3e38, 5000), -np.geomspace(2.0**29, 3e38, 5000),
                        [largest, np.nextafter(largest, np.float32(np.inf))]]).astype(np.float32)
    np.testing.assert_allclose(getattr(kernels, name).cpu(x), PERIODIC[name](x.astype(np.float64)),
                               rtol=2.3e-7)


@pytest.mark.parametrize("name, op", [("absolute", minigen.abs), ("sqrt", minigen.sqrt),
                                      ("sign", minigen.sign)])
def test_absolute_values_roots_and_signs_have_numpys_bits(name, op):
    x = np.concatenate([np.tile(ODD, 100), np.linspace(-1, 9, LARGE)])
    for a in (x.astype(np.float32), x, np.arange(LARGE + 1) % 200):
        with np.errstate(all="ignore"):
            exact = getattr(np, name)(a).astype(np.float32 if name == "sqrt" and a is not x else
                                              a.dtype)
            y = op(tensor(a)).numpy()
        np.testing.assert_array_equal(y, exact, strict=True)


@pytest.mark.parametrize("bounds", [(-2, 0.5), (None, 1), (3, None), (2, 1), (-INF, INF)])
def test_limited_numbers_are_numpys(bounds):
    x = np.concatenate([np.tile(ODD, 100), np.linspace(-1, 9, LARGE)])
    for a in (x.astype(np.float32), x, np.arange(LARGE + 1) % 200):
        with np.errstate(invalid="ignore"):
            exact = np.clip(a, *bounds).astype(a.dtype)
        y = minigen.clip(a, *bounds).numpy()
        np.testing.assert_array_equal(y.astype(a.dtype), exact)


def test_tanh_never_exceeds_1():
    x = np.linspace(7, 10, 1_000_000).astype(np.float32)
    assert kernels.tanh.cpu(x).max() == 1 and kernels.tanh.cpu(-x).min() == -1


def test_subnormal_numbers():
    x = np.linspace(-103.9, -87.4, 10_000).astype(np.float32)
    y, exact = kernels.exp.cpu(x), np.exp(x.astype(np.float64))
    assert (y[:-1] > 0).all() and np.abs(y - exact).max() <= 2.0**-149 and y[-1] < SMALLEST
    np.testing.assert_allclose(kernels.log.cpu(y), np.log(y.astype(np.float64)), rtol=2.3e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_shapes_and_types(name, dtype):
    x = (np.random.default_rng(0).random((70, 40, 30)) + 0.1).astype(dtype)
    y = same(getattr(kernels, name), x)
    close(getattr(kernels, name)(x.T), y.T.copy())
    assert getattr(kernels, name)(x[:0]).shape == (0, 40, 30)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_large_arrays_are_computed_by_kernels_and_small_ones_by_numpy(name):
    x = (np.random.default_rng(0).random(LARGE + 1) + 0.1).astype(np.float32)
    function, kernel = getattr(minigen, name), getattr(kernels, name)
    np.testing.assert_array_equal(function(tensor(x)).numpy(), kernel.cpu(x))
    np.testing.assert_array_equal(function(tensor(x[1:])).numpy(), kernel.reference(x[1:]))


def test_logsumexp_of_a_large_array():
    x = 300 * np.random.default_rng(0).standard_normal((40, 1000)).astype(np.float32)
    x[3, :], x[4, 7] = -INF, INF
    for axis in (0, 1, None, (0, 1)):
        y = minigen.logsumexp(tensor(x), axis=axis, keepdims=True)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.numpy(), scipy.special.logsumexp(
            x.astype(np.float64), axis=axis, keepdims=True), rtol=1e-6)
