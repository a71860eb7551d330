"""Normalisation: every fast version against its reference, finite differences, and PyTorch."""

import numpy as np
import pytest
from kernel_checks import DTYPES, close, finite_difference, normal, same

from minigen import kernels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 50), (40, 6, 1)])
@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_norms(name, shape, affine, dtype):
    rng, forward = np.random.default_rng(0), getattr(kernels, name)
    backward = getattr(kernels, f"{name}_backward")
    shape = (shape[0] * shape[1], shape[2] + 1) if name == "layer_norm" else shape
    agrees(rng, dtype, shape, (shape[1],) if affine else None,
           lambda x, w, b: same(forward, x, w, b, 1e-5),
           lambda version, g, x, w, b, mean, rstd: version(backward)(g, x, w, mean, rstd))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("samples", [None, 1, "all"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 50), (40, 6, 1)])
def test_group_norm(shape, samples, silu, dtype):
    rng = np.random.default_rng(0)
    affine = None if samples is None else (1 if samples == 1 else shape[0], shape[1])
    agrees(rng, dtype, shape, affine,
           lambda x, w, b: same(kernels.group_norm, x, 3, w, b, 1e-5, silu),
           lambda version, g, x, w, b, mean, rstd: (
               version(kernels.group_norm_backward)(g, x, 3, w, b, mean, rstd, silu)))


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("samples", [1, 4])
def test_group_norm_without_biases(samples, silu):
    rng = np.random.default_rng(0)
    (x, g), w = normal(rng, np.float32, 2, 4, 6, 5), normal(rng, np.float32, samples, 6)
    of_none, of_zeros = ([*kernels.group_norm(x, 3, w, b, 1e-5, silu)] for b in (None, 0 * w))
    for back, b in ((of_none, None), (of_zeros, 0 * w)):
        back += kernels.group_norm_backward(g, x, 3, w, b, *back[1:], silu)
    for a, b in zip(of_none, of_zeros, strict=True):
        np.testing.assert_array_equal(a, b)


def agrees(rng, dtype, shape, affine, forward, backward):
    """The fast versions equal the references, finite differences, and themselves when run again."""
    x, g = 3 + normal(rng, dtype, *shape), normal(rng, dtype, *shape)
    weight, bias = (normal(rng, dtype, *affine) if affine else None for _ in range(2))
    _, mean, *_, rstd = forward(x, weight, bias)
    assert rstd.dtype == mean.dtype == dtype
    arrays = g, x, weight, bias, mean, rstd
    gx, gw, gb = fast = backward(lambda kernel: kernel, *arrays)
    for a, b, c in zip(fast, backward(lambda kernel: kernel, *arrays),
                       backward(lambda kernel: kernel.reference, *arrays), strict=True):
        if affine or a is not None:
            close(a, c)
            assert a.tobytes() == b.tobytes()
    if affine and affine[0] == 1:
        gw, gb = gw.sum(0, keepdims=True), gb.sum(0, keepdims=True)
    if dtype == np.float64:
        f = lambda x, w=weight, b=bias: forward(x, w, b)[0]
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
    for y in (kernels.batch_norm(x, None, None, 0)[2],
              kernels.group_norm(x, 4, None, None, 0, False)[2]):
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
    close(kernels.group_norm(x, 2, w[None], b[None], 1e-5, False)[0],
          F.group_norm(tx, 2, tw, tb).numpy())
    rows = np.ascontiguousarray(x.swapaxes(1, 2)).reshape(-1, 6)
    close(kernels.layer_norm(rows, w, b, 1e-5)[0],
          F.layer_norm(torch.tensor(rows), (6,), tw, tb).numpy())


@pytest.mark.parametrize("groups, weight, bias, message", [
    (4, None, None, "6 channels do not fall into 4 groups"),
    (3, 2, 2, "weight is for 2 samples, expected 1 .all alike. or 3"),
    (3, None, 3, "biases of 3 samples, but no weights: pass ones")])
def test_group_norm_refuses_what_does_not_fit(groups, weight, bias, message):
    weight, bias = (None if n is None else np.ones((n, 6), np.float32) for n in (weight, bias))
    with pytest.raises(ValueError, match=message):
        kernels.group_norm(np.ones((3, 6, 4), np.float32), groups, weight, bias, 1e-5, False)
