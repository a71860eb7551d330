"""Pooling and up-sampling: every fast version against its reference, its adjoint, and PyTorch."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kernel_checks import DTYPES, check, close, normal, pairs, pools, same

from minigen import kernels

# -------------------------------------------------------------------------------------------- pools

@check
@given(pools())
def test_pools(case):
    x, *options = case
    y, index = same(kernels.max_pool2d, *case)
    close(same(kernels.max_pool2d_at, x, index), y)
    rng, x = np.random.default_rng(0), np.where(np.isfinite(x), x, 0)
    g = normal(rng, x.dtype, *y.shape)
    size = x.shape[2:]
    gx = same(kernels.max_unpool2d, g, index, size, *options)
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


def test_an_image_without_pixels_has_no_pool():
    for pool in kernels.max_pool2d, kernels.avg_pool2d:
        with pytest.raises(ValueError, match=r"do not fit an image of \(0, 4\)"):
            pool(np.ones((1, 1, 0, 4)), (2, 2), (1, 1), (1, 1))


# -------------------------------------------------------------------------------------- up-sampling

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
