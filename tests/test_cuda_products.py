"""The CUDA kernels built on the tile loop, matrix product and convolutions, against references."""

import numpy as np
import pytest
from cuda_checks import force_hopper, product_agrees
from hypothesis import given, settings
from kernel_checks import check, convolutions, normal
from minigen.kernels import cuda

from minigen import kernels

some = settings(check, max_examples=12)


@pytest.mark.parametrize("shapes", [
    ((70, 100), (100, 66)), ((2, 3, 5), (5, 9)), ((3, 33, 20), (3, 20, 17)), ((5, 0), (0, 4)),
    ((4, 1, 7, 8), (3, 8, 9)), ((0, 3), (3, 4)), ((1, 1), (1, 1)), ((64, 64), (64, 128))])
@pytest.mark.parametrize("lies", ["rows", "columns", "broadcast"])
def test_matmul(on, shapes, lies):
    def lay(a):
        if a.ndim == 1:
            return a
        if lies == "columns":
            return np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
        return np.broadcast_to(a[..., :1], a.shape) if lies == "broadcast" else a

    class As:  # lays arrays out after their conversion
        run = staticmethod(lambda kernel, *args: on.run(kernel, *map(lay, args)))
    rng = np.random.default_rng(0)
    args = [normal(rng, np.float64, *shape) for shape in shapes]
    args = [np.broadcast_to(a[..., :1], a.shape) for a in args] if lies == "broadcast" else args
    args.append(normal(rng, np.float64, shapes[1][-1]))
    product_agrees(As, kernels.matmul, args, 1 + shapes[0][-1])


@some
@given(case=convolutions())
def test_convolutions(on, case):
    x, w, b, g, options = case
    product_agrees(on, kernels.conv2d, (x, w, b, *options), 1 + w[0].size)
    bias = normal(np.random.default_rng(0), x.dtype, x.shape[1])
    size, terms = x.shape[2:], 1 + w[:, 0].size
    product_agrees(on, kernels.conv_transpose2d, (g, w, bias, size, *options), terms)
    product_agrees(on, kernels.conv2d_weight, (g, x, w.shape[2:], *options), 1 + g[:, 0].size)


@pytest.mark.parametrize("tile, warpgroups", [(64, False), (256, False), (256, True)])
def test_convolutions_of_many_tiles(on, tile, warpgroups, monkeypatch):
    force_hopper(monkeypatch, warpgroups)
    if tile == 64:
        monkeypatch.setattr(cuda, "MIN_BLOCKS", 10**6)
    rng, options = np.random.default_rng(0), ((2, 1), (1, 0), (1, 2), 1)
    x, w, g = (normal(rng, np.float64, *s) for s in ((2, 9, 13, 14), (150, 9, 3, 3),
                                                     (2, 150, 7, 10)))
    few = (("fp32", np.float64), ("tf32", np.float32)) if tile == 64 else (
        ("tf32" if warpgroups else "fp32", np.float32), ("bf16", np.float32))
    product_agrees(on, kernels.conv2d, (x, w, None, *options), 81, few)
    product_agrees(on, kernels.conv_transpose2d, (g, w, None, (13, 14), *options), 1350, few)
    product_agrees(on, kernels.conv2d_weight, (g, x, (3, 3), *options), 140, few)


def test_long_sums_are_cut_in_parts_and_stay_the_same(on):
    rng = np.random.default_rng(0)
    g, x = normal(rng, np.float32, 5, 2, 16, 16), normal(rng, np.float32, 5, 3, 16, 16)
    args = (g, x, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    product_agrees(on, kernels.conv2d_weight, args, 1280, (("fp32", np.float32),))
    assert on.run(kernels.conv2d_weight, *args).tobytes() == \
        on.run(kernels.conv2d_weight, *args).tobytes()


def test_precision_is_chosen_by_name(on, monkeypatch):
    a = np.full((3, 3), 1 + 2**-12, np.float32)
    for name, value in (("fp32", 1 + 2**-12), ("tf32", 1), ("bf16", 1)):
        with kernels.precision(name):
            y = on.run(kernels.matmul, a, np.eye(3, dtype=np.float32), None)
            assert abs(y[0, 0] - value) < 1e-6
    with pytest.raises(ValueError, match="expected one of fp32, tf32, bf16, got fp8"):
        with kernels.precision("fp8"):
            pass
