"""SiLU: the fast version against its reference, SciPy and finite differences."""

import numpy as np
import pytest
from kernel_checks import DTYPES, close, finite_difference, normal, same
from scipy.special import expit

from minigen import kernels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 50, 40), (40_000,)])
def test_silu(shape, dtype):
    rng = np.random.default_rng(0)
    x, g = (4 * normal(rng, dtype, *shape) for _ in range(2))
    y, gx = same(kernels.silu, x), same(kernels.silu_backward, g, x)
    close(y, x * expit(x))
    if dtype == np.float64 and x.size:
        slope, d = finite_difference(kernels.silu, x, g, rng)
        assert np.isclose(slope, np.vdot(gx, d), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_is_accurate_to_the_last_digits_and_far_out(dtype):
    x = np.linspace(-80, 80, 100_001).astype(dtype)
    exact = x.astype(np.float64) * expit(x.astype(np.float64))
    assert np.allclose(kernels.silu(x), exact, rtol=4 * np.finfo(dtype).eps, atol=0)
    far = np.array([-1e4, -200, 200, 1e4, np.nan, np.inf], dtype)
    assert np.allclose(kernels.silu(far), [0, 0, 200, 1e4, np.nan, np.inf], equal_nan=True)
    assert np.allclose(kernels.silu_backward(np.ones_like(far), far)[:4], [0, 0, 1, 1])
