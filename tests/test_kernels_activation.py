"""The fused non-linearities against references; the exponential and normal tail they use."""

import numpy as np
import pytest
import scipy.special
from kernel_checks import DTYPES, close, same
from minigen.kernels.exponential import exp, expm1, log1p
from minigen.kernels.normal import tail
from numba import njit

from minigen import kernels

INF = np.inf
ODD = (0.0, -0.0, 1e-8, -1e-8, 1e-30, 88.0, -88.0, 1e4, -1e4, INF, np.nan)


def numbers(dtype, size=70_000):  # enough for two threads, and a remainder
    x = np.random.default_rng(0).normal(0, 4, size).astype(dtype)
    x[:len(ODD)] = ODD
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, options", [("sigmoid", ()), ("tanh", ()), ("silu", ()),
                                           ("gelu", ()), ("elu", (1.0,)), ("elu", (0.5,)),
                                           ("leaky_relu", (0.2,)), ("relu", ())])
def test_activations(name, options, dtype):
    x = numbers(dtype)
    with np.errstate(all="ignore"):
        y = same(getattr(kernels, name), x, *options)
        g = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
        at = y if name in ("sigmoid", "tanh", "elu") else x
        same(getattr(kernels, name + "_backward"), g, at, *options)
        assert getattr(kernels, name)(x[:0], *options).shape == (0,)
        close(getattr(kernels, name)(x[:60].reshape(3, 4, 5).T, *options),
              y[:60].reshape(3, 4, 5).T.copy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_softplus(dtype):
    x = numbers(dtype)
    y = same(kernels.softplus, x)
    with np.errstate(invalid="ignore"):
        exact = np.logaddexp(0, x.astype(np.longdouble))
    np.testing.assert_allclose(y, exact, rtol=2 * np.finfo(dtype).eps if dtype == np.float64 else
                               7e-7, atol=np.finfo(dtype).tiny)


def compiled(f):
    """The function of arrays that applies f, a function for compiled loops, to each number."""
    @njit(error_model="numpy")
    def each(x):
        y = np.empty_like(x)
        for i in range(len(x)):
            y[i] = f(x[i])
        return y
    return each


def test_log1p_is_as_exact_as_stated():
    each = compiled(log1p)
    x = np.concatenate([np.linspace(0, 1, 1_000_000), 10.0 ** -np.arange(1, 38)]).astype(np.float32)
    exact = np.log1p(x[1:].astype(np.float64))
    assert 1e-8 < np.abs(each(x)[1:] / exact - 1).max() < 2.4e-7 and each(x)[0] == 0


@pytest.mark.parametrize("ours, true", [(exp, np.exp), (expm1, np.expm1)])
def test_exponentials_are_as_exact_as_stated(ours, true):
    each = compiled(ours)
    x = np.concatenate([np.linspace(-87.3, 88.7, 1_000_000), np.linspace(-0.5, 0.5, 100_000),
                        10.0 ** -np.arange(1, 30)]).astype(np.float32)
    exact = true(x.astype(np.float64))
    error = np.abs(each(x) / exact - 1)
    assert 1e-8 < error[x < 88.3].max() < 1.5e-7 and error.max() < 5e-6
    ends = each(np.array([-1e30, -INF, 89.0, INF, np.nan], np.float32))
    np.testing.assert_array_equal(ends, [true(-INF)] * 2 + [INF, INF, np.nan])


def test_the_normals_tail_is_as_exact_as_stated():
    each = compiled(njit(error_model="numpy")(lambda z: tail(z)[1]))
    z = np.linspace(0, 12, 1_000_000).astype(np.float32)
    exact = scipy.special.ndtr(-z.astype(np.float64))
    error, q = np.abs(each(z) / exact - 1), each(z)
    assert 1e-8 < np.abs(q - exact).max() < 2.5e-7
    assert error[z <= 5].max() < 1e-6 and error.max() < 5e-6
    np.testing.assert_array_equal(each(np.array([1e30, INF, np.nan], np.float32)), [0, 0, np.nan])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 70, 1), (3, 7, 40), (0, 3, 1), (2, 1, 3)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_and_its_adjoint(name, shape, dtype):
    rng = np.random.default_rng(0)
    x, g = (10 * rng.standard_normal((2, *shape))).astype(dtype)
    same(getattr(kernels, name + "_backward"), g, same(getattr(kernels, name), x))


@pytest.mark.parametrize("shape", [(1, 3, 1), (1, 3, 40)])
def test_softmax_of_minus_infinity_is_0(shape):
    x = np.zeros(shape, np.float32)
    x[:, 1] = -INF
    assert (kernels.softmax(x)[0, :, 0] == [0.5, 0, 0.5]).all()
