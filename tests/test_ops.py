"""Every operation: its value against an independent expression, its derivatives of first and second
order against finite differences, dtypes, strides. The rows are in op_table.py, and
`test_table_is_complete` fails when an op has none."""

import numpy as np
import pytest
from op_table import APART, ARITHMETIC_ON_SIZES, STEPS, TABLE, UNTRACKED

import minigen as mg
from minigen import grad, gradcheck, tensor

rows = pytest.mark.parametrize("name, f, arrays, expected", TABLE, ids=[
    f"{row[0]}-{i}" for i, row in enumerate(TABLE)])


def test_table_is_complete():
    have = {row[0] for row in TABLE} | set(STEPS) | set(UNTRACKED) | ARITHMETIC_ON_SIZES
    assert have - {"sum_to", "alias"} == set(mg.ops.__all__)
    assert len(set(mg.ops.__all__)) == len(mg.ops.__all__)
    assert all(getattr(mg, name).__doc__ or getattr(mg, name).vjp_fn for name in mg.ops.__all__
               if name not in STEPS and name not in ("argmax", "argmin", "argsort"))


@rows
def test_value(name, f, arrays, expected):
    before = [a.copy() for a in arrays]
    y = f(*map(tensor, arrays))
    want = expected(*arrays)
    assert y.shape == np.shape(want)
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-9, atol=1e-11)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)  # an op does not write to its inputs
        assert y.data is not a, "a result is a new array, if of old memory"


@rows
def test_plain_arrays_are_taken(name, f, arrays, expected):
    y = f(*arrays)
    if isinstance(y, np.ndarray):
        pytest.skip("the row is written with operators or methods")
    np.testing.assert_allclose(y.numpy(), expected(*arrays), 1e-9, 1e-11)


def test_take_wants_integers():
    with pytest.raises(TypeError, match=r"take: indices are a mask, .*: write x\[mask\]"):
        mg.take(np.ones(3), np.array([True, False, True]))


@rows
def test_float32_stays_float32(name, f, arrays, expected):
    xs = [tensor(a.astype(np.float32), requires_grad=True) for a in arrays]
    y = f(*xs)
    assert y.dtype == np.float32 and y.requires_grad
    np.testing.assert_allclose(y.numpy(), expected(*arrays), rtol=2e-4, atol=2e-4)
    first = grad(y.sum(), xs)
    second = grad(sum((g * g).sum() for g in grad(mg.tanh(y).sum(), xs, create_graph=True)), xs,
                  allow_unused=True)
    assert all(g.dtype == np.float32 for g in first + second)
    assert [g.shape for g in first] == [x.shape for x in xs]


@rows
def test_derivatives(name, f, arrays, expected):
    gradcheck(lambda *xs: mg.tanh(f(*xs)), *arrays)


@rows
def test_derivatives_of_strided_views(name, f, arrays, expected):
    def strided(*xs):
        return mg.tanh(f(*(mg.flip(mg.transpose(x)) for x in xs)))
    gradcheck(strided, *(np.array(np.flip(a).T, order="C") for a in arrays))


@pytest.mark.parametrize("name", STEPS)
def test_steps_have_no_derivative(name):
    f, x = getattr(mg, name), tensor([0.4, -1.2], requires_grad=True)
    np.testing.assert_array_equal(f(x).numpy(), STEPS[name](x.numpy()))
    with pytest.raises(TypeError, match=f"{name} has no derivative"):
        grad(f(x).sum(), x)


@pytest.mark.parametrize("name", UNTRACKED)
def test_discrete_results_are_untracked(name):
    x = tensor(APART, requires_grad=True)
    f, expected = UNTRACKED[name]
    y = f(x)
    np.testing.assert_array_equal(y.numpy(), expected(APART))
    assert not y.requires_grad
    with pytest.raises(ValueError, match="op without derivative"):
        grad(y.sum(), x)


FUSED = [row for row in TABLE if row[0] in ("layer_norm", "group_norm", "group_norm_silu",
                                            "batch_norm", "scaled_dot_product_attention")]


@pytest.mark.parametrize("name, f, arrays, expected", FUSED, ids=[
    f"{row[0]}-{i}" for i, row in enumerate(FUSED)])
def test_fused_equals_composite(name, f, arrays, expected):
    """The kernel's gradient equals that of the composite, which is used under create_graph."""
    xs = [tensor(a, requires_grad=True) for a in arrays]
    y = f(*xs)
    c = np.random.default_rng(1).standard_normal(y.shape)
    for a, b in zip(grad(y, xs, cotangent=c), grad(y, xs, True, c), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-12)
        assert not a.requires_grad
