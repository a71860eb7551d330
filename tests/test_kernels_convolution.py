"""Every fast version of a convolution against its reference, its adjoint, and PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from kernel_checks import DTYPES, check, close, convolutions, normal, same
from minigen.kernels import winograd

from minigen import kernels


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
    (2, 6, 4, 150, 3, 1, 1), (64, 32, 48, 14, 4, 2, 1), (5, 16, 20, 13, 4, 2, 2),
    (3, 17, 16, 12, 4, 2, 3), (2, 16, 16, 11, 4, 2, 0), (2, 17, 20, 13, 3, 1, 0),
    (3, 16, 16, 9, 3, 1, 2), (2, 18, 16, 9, 3, 1, 3)])
def test_convolutions_of_many_blocks(case):
    N, C, K, size, kernel, stride, padding = case
    rng = np.random.default_rng(0)
    x, w = normal(rng, np.float32, N, C, size, size), normal(rng, np.float32, K, C, kernel, kernel)
    options = (stride, stride), (padding, padding), (1, 1), 1
    g = normal(rng, np.float32, *same(kernels.conv2d, x, w, None, *options).shape)
    same(kernels.conv_transpose2d, g, w, None, x.shape[2:], *options)
    same(kernels.conv2d_weight, g, x, w.shape[2:], *options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("C, K, groups", [(1, 20, 1), (40, 3, 1), (6, 40, 2), (34, 34, 2)])
@pytest.mark.parametrize("kernel, stride, dilation", [
    ((1, 1), (1, 1), (1, 1)), ((3, 5), (1, 1), (1, 1)), ((3, 3), (2, 3), (1, 2)),
    ((4, 2), (1, 2), (2, 3))])
def test_convolutions_of_few_channels(C, K, groups, kernel, stride, dilation, dtype):
    rng, options = np.random.default_rng(0), (stride, (0, 3), dilation, groups)
    x, w = normal(rng, dtype, 3, C, 21, 37), normal(rng, dtype, K, C // groups, *kernel)
    g = normal(rng, dtype, *same(kernels.conv2d, x, w, normal(rng, dtype, K), *options).shape)
    same(kernels.conv_transpose2d, g, w, None, x.shape[2:], *options)
    same(kernels.conv2d_weight, g, x, w.shape[2:], *options)


@pytest.mark.parametrize("size, kernel, stride, padding", [
    ((1, 1), (1, 1), (1, 1), (20, 20)), ((2, 64), (3, 3), (2, 1), (9, 0))])
def test_convolutions_of_rows_that_are_all_padding(size, kernel, stride, padding):
    rng, options = np.random.default_rng(0), (stride, padding, (1, 1), 1)
    x, w = normal(rng, np.float32, 1, 512, *size), normal(rng, np.float32, 20, 512, *kernel)
    g = normal(rng, np.float32, *same(kernels.conv2d, x, w, None, *options).shape)
    same(kernels.conv_transpose2d, g, w, None, size, *options)
    same(kernels.conv2d_weight, g, x, kernel, *options)


@pytest.mark.parametrize("kernel, stride", [(3, 1), (4, 2)])
def test_winograds_error_is_as_stated(kernel, stride):
    rng = np.random.default_rng(0)
    options = (stride, stride), (1, 1), (1, 1), 1
    x, w = normal(rng, np.float64, 8, 128, 28, 28), normal(rng, np.float64, 64, 128, kernel, kernel)
    g = kernels.conv2d.reference(x, w, None, *options)
    fits = lambda N, pixels: winograd.fits(N, 128, 64, pixels, (kernel,) * 2, *options[::2], 1)
    assert fits(8, g.shape[2:]) and not fits(8, (2, 2)) and not fits(1, (7, 7))
    for name, args in (("conv2d", (x, w, None)), ("conv_transpose2d", (g, w, None, (28, 28))),
                       ("conv2d_weight", (g, x, (kernel, kernel)))):
        single = [a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in args]
        exact = getattr(kernels, name).reference(*args, *options)
        error = getattr(kernels, name)(*single, *options) - exact
        assert 5e-7 < np.sqrt(np.mean(error**2) / np.mean(exact**2)) < 2.5e-6  # less: not Winograd
        assert np.abs(error).max() < 1.5e-5 * np.abs(exact).max()


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
