"""Normalisation: every fast version against its reference, finite differences, and PyTorch."""

import numpy as np
import pytest
from kernel_checks import DTYPES, close, finite_difference, normal, same

from minigen import kernels


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
