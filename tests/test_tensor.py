"""Tensors as Python objects: how they are made, compared, copied and shown; and with other arrays:
NumPy, DLPack, PyTorch."""

import copy
import operator

import numpy as np
import pytest
from leaves import BINARY, F32, F64, leaf

import minigen as mg
from minigen import grad, gradcheck, no_grad, tensor

COMPARE = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


def test_what_tensor_makes():
    a = np.arange(3.0)
    assert tensor(a).data is a and tensor(a).dtype == F64
    assert tensor([1, 2]).dtype == tensor(3).dtype == tensor((1.5, 2)).dtype == F32
    assert tensor(F64(3)).dtype == F64 and tensor(np.array([1])).dtype == np.int64
    x = tensor(a, requires_grad=True)
    assert x.data is not a and x.requires_grad and tensor(x) is x
    again = tensor(x, requires_grad=True)
    assert again is not x and again.data is not x.data and again.node is None
    with pytest.raises(TypeError, match="requires_grad needs float32 or float64, got int64"):
        tensor(np.array([1]), requires_grad=True)
    with pytest.raises(TypeError, match="expected a tensor, an array or a number, got str"):
        tensor("abc")


# ---------------------------------------------------------------------------- comparisons, identity

@pytest.mark.parametrize("f", COMPARE)
def test_comparisons(f):
    x, a = leaf(1.0, 2.0, 3.0), np.array([3.0, 2.0, 1.0])
    for left, right in ((x, a), (a, x), (x, 2), (2, x), (x, x), (x, [1.0, 2.0, 5.0])):
        y = f(left, right)
        assert y.dtype == bool and not y.requires_grad
        np.testing.assert_array_equal(y.numpy(), f(np.asarray(
            left.data if left is x else left), np.asarray(right.data if right is x else right)))
    with pytest.raises(ValueError, match=r"\(a: \(3,\), b: \(2,\)\)"):
        f(x, np.ones(2))


def test_identity():
    x, y = leaf(1.0), leaf(1.0)
    assert len({x, y, x}) == 2 and {x: 1, y: 2}[y] == 2 and hash(x) != hash(y)
    assert (x == None) is False and (x != None) is True and x != "abc"  # noqa: E711
    assert x in [x, y]


# --------------------------------------------------------------------------------- NumPy and others

@pytest.mark.parametrize("f", BINARY + [operator.matmul])
def test_array_on_the_left(f):
    a, x = np.array([[1.0, 2.0], [3.0, 4.0]]), leaf(0.5, 2.0)
    y = f(a, x)
    assert isinstance(y, mg.Tensor) and y.requires_grad
    np.testing.assert_allclose(y.numpy(), f(a, x.numpy()))
    gradcheck(lambda x: mg.tanh(f(a, x)), x.numpy())


def test_numpy_does_not_swallow():
    x, a = leaf(1.0, 2.0), np.ones(2)
    with pytest.raises(TypeError, match="detach"):
        np.asarray(x)
    with pytest.raises(TypeError):
        np.exp(x)
    with pytest.raises(TypeError):
        a += x
    np.testing.assert_array_equal(np.asarray(x.detach()), [1, 2])
    assert np.asarray(x.detach()) is x.data and np.array(x.detach()) is not x.data
    assert np.asarray(x.detach(), dtype=F32).dtype == F32
    np.testing.assert_array_equal(np.stack([x.detach(), x.detach()]), [[1, 2], [1, 2]])
    assert isinstance(x.numpy(), np.ndarray) and x.numpy() is x.data


def test_dlpack_without_a_copy():
    a = np.arange(6.0).reshape(2, 3)
    t = tensor(a)
    assert np.shares_memory(np.from_dlpack(t), a)
    with pytest.raises(TypeError, match="detach"):
        np.from_dlpack(tensor(a, requires_grad=True))

    class Foreign:
        def __dlpack__(self, **kw): return a.__dlpack__(**kw)
        def __dlpack_device__(self): return a.__dlpack_device__()
    assert np.shares_memory(tensor(Foreign()).data, a)

    class Old:
        def __array__(self, dtype=None, copy=None): return a
    assert np.shares_memory(tensor(Old()).data, a)
    assert mg.exp(Old()).shape == (2, 3) and (t + Old()).shape == (2, 3)


def test_dlpack_with_torch():
    torch = pytest.importorskip("torch")
    a = torch.arange(6.0).reshape(2, 3)
    t = tensor(a)
    assert t.dtype == F32 and t.data.__array_interface__["data"][0] == a.data_ptr()
    assert torch.from_dlpack(t).data_ptr() == a.data_ptr()
    np.testing.assert_array_equal(mg.matmul(a, a.T).numpy(), (a @ a.T).numpy())
    assert tensor(a, requires_grad=True).data.flags.writeable


# ---------------------------------------------------------------------------------- Python protocol

def test_python_protocol():
    x = leaf(1.0, 2.5)
    assert len(x) == 2 and [float(v) for v in x] == [1.0, 2.5]
    assert float(x[1]) == 2.5 and int(x[1]) == 2 and bool(x[:1]) and x[0].item() == 1.0
    assert [10, 20, 30][tensor(np.array(2))] == 30 and range(3)[tensor(np.array(1))] == 1
    assert f"{x[1]:.3f}" == "2.500" and str(x) == repr(x) == f"{x}"
    assert repr(x) == "tensor([1. , 2.5], shape=(2,), dtype=float64, requires_grad=True)"
    assert repr(tensor(3)) == "tensor(3., shape=(), dtype=float32)"
    assert (x.shape, x.ndim, x.size, x.T.shape) == ((2,), 1, 2, (2,))
    assert (+x) is x and (-x).numpy()[0] == -1 and abs(-x).numpy()[0] == 1
    for bad, error, words in [(lambda: len(x[0]), TypeError, "no len"),
                              (lambda: bool(x), ValueError, "neither true nor false"),
                              (lambda: [1, 2][x[0]], TypeError, "integer tensor"),
                              (lambda: iter(x[0]).__next__(), TypeError, "no len")]:
        with pytest.raises(error, match=words):
            bad()


def test_no_assignment():
    x = leaf(1.0, 2.0)
    with pytest.raises(TypeError, match="never assigned into.*where"):
        x[0] = 3.0
    y = z = x * 1
    y += 1  # binds y to a new tensor
    y *= 2
    assert z.numpy()[0] == 1 and grad(y.sum(), x).numpy()[0] == 2
    with no_grad(), pytest.raises(TypeError, match="p -= … makes a new tensor"):
        x -= 1  # PyTorch's way to write into a parameter
    assert x.numpy().tolist() == [1, 2]


def test_deepcopy_of_a_parameter():
    x = leaf(1.0, 2.0)
    y = copy.deepcopy(x)
    assert y is not x and y.requires_grad and not np.shares_memory(x.data, y.data)
    assert grad((y * y).sum(), y).numpy()[1] == 4
