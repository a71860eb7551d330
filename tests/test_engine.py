"""The engine: graphs, `grad`, dtypes, interoperability, what it says when used wrongly."""

import copy
import gc
import math
import operator
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import minigen as mg
from minigen import grad, gradcheck, no_grad, op, tensor
from minigen.tensor import write

F32, F64 = np.float32, np.float64
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
COMPARE = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


def leaf(*values, dtype=F64):
    return tensor(np.array(values, dtype), requires_grad=True)


# --------------------------------------------------------------------------------- graph and memory

def test_graph_is_freed_by_reference_counting():
    x = leaf(1.0, 2.0)
    gc.collect()
    gc.disable()
    try:
        y = mg.exp(x * 2)
        g = grad((y * y).sum(), x, create_graph=True)
        alive = weakref.ref(y), weakref.ref(g)
        del y, g
        assert [r() for r in alive] == [None, None]
    finally:
        gc.enable()


def test_chain_of_50_000_ops():
    y = x = leaf(1.0)
    for _ in range(50_000):
        y = y * 1.00001
    assert grad(y, x).item() == pytest.approx(1.00001 ** 50_000)
    del y  # a chain is freed without recursion


def test_memory_is_flat_over_1000_steps():
    x, w = np.ones((8, 16), F32), leaf(*np.linspace(-1, 1, 16), dtype=F32)

    def step():
        g = grad(mg.mean(mg.square(x @ w - 1)), w)
        write(w, lambda a: np.subtract(a, 0.01 * g.numpy(), out=a))
    tracemalloc.start()
    step()
    gc.collect()  # empties Python's free lists
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(1000):
        step()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 4096


# ------------------------------------------------------------------------------------- gradients

def test_broadcasting_is_undone():
    a, b = tensor(np.ones((3, 1)), True), tensor(np.ones(4), True)
    c = tensor(np.array(2.0), True)
    ga, gb, gc_ = grad((a * b * c).sum(), [a, b, c])
    np.testing.assert_array_equal(ga.numpy(), np.full((3, 1), 8.0))
    np.testing.assert_array_equal(gb.numpy(), np.full(4, 6.0))
    assert gc_.shape == () and gc_.item() == 12


def test_paths_add_up():
    x = leaf(3.0)
    y = x * x + x * x * x + x
    assert grad(y, x).item() == 6 + 27 + 1
    assert grad(mg.multiply(x, x), x).item() == 6
    h = x * 2
    assert grad(h * h + h, [x, h, x])[0].item() == 2 * (2 * 6 + 1)


def test_result_has_the_form_of_wrt():
    x, y = leaf(2.0), leaf(3.0)
    z = (x * y).sum()
    assert grad(z, x).item() == 3
    assert [g.item() for g in grad(z, [x, y])] == [3, 2]
    assert [g.item() for g in grad(z, (y, x))] == [2, 3]
    assert {k: g.item() for k, g in grad(z, {"a": x, "b": y}).items()} == {"a": 3, "b": 2}
    assert grad(z, {}) == {} and grad(z, []) == []


def test_intermediate_results_and_y_itself():
    x = leaf(2.0)
    h = x * x
    y = mg.exp(h).sum()
    gh, gx, gy = grad(y, [h, x, y])
    assert gh.item() == pytest.approx(math.exp(4)) and gy.item() == 1
    assert gx.item() == pytest.approx(4 * math.exp(4))


def test_cotangent():
    x = leaf(1.0, 2.0)
    g = grad(x * x, x, cotangent=np.array([1.0, 10.0]))
    np.testing.assert_array_equal(g.numpy(), [2, 40])
    with pytest.raises(ValueError, match=r"cotangent is \(3,\) float64, y is \(2,\) float64"):
        grad(x * x, x, cotangent=np.ones(3))
    with pytest.raises(ValueError, match="float32.*must be equal"):
        grad(x * x, x, cotangent=np.ones(2, F32))
    with pytest.raises(ValueError, match=r"y has shape \(2,\), not one element"):
        grad(x * x, x)


def test_third_order():
    x = leaf(0.7)
    y = mg.sin(x)
    for expected in (math.cos(0.7), -math.sin(0.7), -math.cos(0.7)):
        y = grad(y.sum(), x, create_graph=True)
        assert y.item() == pytest.approx(expected) and y.requires_grad
    assert not grad(mg.sin(x).sum(), x).requires_grad


def test_cotangent_can_be_differentiated():
    x, v = leaf(2.0), leaf(5.0)
    g = grad(x * x, x, create_graph=True, cotangent=v)
    assert grad(g.sum(), v).item() == 4


def test_unused():
    x, w = leaf(1.0), leaf(2.0, 3.0)
    y = (x * 2).sum()
    with pytest.raises(ValueError, match=r"no gradient for w of shape \(2,\): y does not depend"):
        grad(y, {"x": x, "w": w})
    with pytest.raises(ValueError, match=r"wrt\[1\]"):
        grad(y, [x, w])
    g = grad(y, {"x": x, "w": w}, allow_unused=True)
    assert g["w"].shape == (2,) and not g["w"].numpy().any() and g["x"].item() == 2
    with pytest.raises(ValueError, match="wrt.0. has no history"):
        grad(y, tensor(1.0))
    with pytest.raises(ValueError, match="y has no history"):
        grad(tensor(1.0), x)
    with pytest.raises(TypeError, match="a must be a tensor, got ndarray"):
        grad(y, {"a": np.ones(2)})
    with pytest.raises(TypeError, match="y must be a tensor, got float"):
        grad(1.0, x)


def test_vjps_run_only_where_asked():
    calls = []

    @op
    def f(a, b): return a * b
    @f.vjp
    def f(g, y, a, b): return lambda: calls.append("a") or g * b, lambda: calls.append("b") or g * a
    a, b = leaf(1.0), leaf(2.0)
    grad(f(a, b), b)
    assert calls == ["b"]
    grad(f(a.detach(), f(a.detach(), b)), b)
    assert "a" not in calls


def test_backward_says_what_to_use():
    with pytest.raises(AttributeError, match="minigen.grad"):
        leaf(1.0).backward()


# ----------------------------------------------------------------------------------- stale graphs

def double(t):
    write(t, lambda a: np.multiply(a, 2, out=a))


@pytest.mark.parametrize("use", [
    lambda x: x, lambda x: x[:1], lambda x: x.reshape(1, 2), lambda x: x.T[::-1][1:],
    lambda x: mg.broadcast_to(x, (3, 2)), lambda x: mg.flip(x)])
def test_stale_graph(use):
    x = leaf(1.0, 2.0)
    y = mg.exp(use(x)).sum()
    double(x)
    with pytest.raises(RuntimeError, match="stale graph: .* written .* after"):
        grad(y, x)
    grad(mg.exp(use(x)).sum(), x)


def test_stale_through_detach_and_through_a_written_view():
    x, w = leaf(1.0, 2.0), leaf(1.0, 1.0)
    for writes in (lambda: double(x), lambda: double(x.detach()), lambda: double(x.detach()[:1])):
        y = (x.detach()[1:] * w[1:]).sum()
        writes()
        with pytest.raises(RuntimeError, match="stale"):
            grad(y, w)
    y = (w * 2).sum()
    double(x)  # another tensor: no harm
    grad(y, w)


def test_copies_are_not_stale():
    x, w = leaf(1.0, 2.0), leaf(1.0, 1.0)
    y = (tensor(x, requires_grad=True) * w + x.detach().astype(F64) * w).sum()
    double(x)
    grad(y, w)


def test_results_cannot_be_written():
    with pytest.raises(TypeError, match="not a result of exp"):
        double(mg.exp(leaf(1.0)))


# ---------------------------------------------------------------------------------------- no_grad

def test_no_grad():
    x = leaf(1.0)
    with no_grad():
        with no_grad():
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @no_grad()
    def f(n):
        return f(n - 1) if n else x * 2
    assert not f(2).requires_grad and not f(0).requires_grad and (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), no_grad():
        _ = 1 / 0
    assert (x * 2).requires_grad


def test_threads():
    found, inside, go = {}, threading.Event(), threading.Event()

    def hold():
        with no_grad():
            inside.set()
            go.wait(5)

    def work(i):
        x = leaf(float(i))
        for _ in range(50):
            found[i] = grad((x * x).sum(), x).item()
    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(5)
    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in workers:
        t.start()
    for t in workers:
        t.join()
    go.set()
    holder.join()
    assert found == {i: 2.0 * i for i in range(4)}


# ----------------------------------------------------------------------------------------- dtypes

@pytest.mark.parametrize("f", BINARY)
@pytest.mark.parametrize("other", [2, 2.5, True, F64(2.5), F32(2), np.int64(2), np.array(2.5),
                                   np.array(2), np.array([1, 2]), np.array([True, True])])
def test_numbers_integers_and_bools_promote_nothing(f, other):
    for dtype in (F32, F64):
        x = leaf(1.5, 2.5, dtype=dtype)
        y, z = f(x, other), f(other, x)
        assert y.dtype == z.dtype == dtype
        np.testing.assert_allclose(y.numpy(), f(x.numpy(), np.asarray(other).astype(dtype)), 1e-6)
        np.testing.assert_allclose(z.numpy(), f(np.asarray(other).astype(dtype), x.numpy()), 1e-6)
        assert grad(y.sum(), x).dtype == dtype and grad(z.sum(), x).dtype == dtype


@pytest.mark.parametrize("f", BINARY + [operator.matmul])
def test_float32_with_float64_raises(f):
    name = {"sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power"}.get(
        f.__name__, f.__name__)
    with pytest.raises(TypeError, match=rf"{name}\(a: \(1, 2\) float32, b: \(2, 2\) float64\)"):
        f(leaf([1.0, 2.0], dtype=F32), np.ones((2, 2)))


def test_integers_alone():
    x = tensor(np.array([0, 255], np.uint8))
    for y in (x / 255, mg.exp(x / 100), mg.sqrt(x), mg.mean(x), x.mean(), mg.std(x), mg.gelu(x),
              mg.exp(2), mg.mse_loss(x, x), mg.sigmoid(1), x * 0.5, x * F64(0.5), F64(0.5) / x[1:]):
        assert y.dtype == F32, y
    assert (x + 0).dtype == np.uint8 and x.sum().dtype.kind == "u"
    assert x.astype(F64).dtype == F64 and x.astype(F32).dtype == F32
    assert tensor([1.0]).astype(F64).dtype == F64  # asked for: nothing narrows it again


def test_what_tensor_makes():
    a = np.arange(3.0)
    assert tensor(a).data is a and tensor(a).dtype == F64
    assert tensor([1, 2]).dtype == tensor(3).dtype == tensor((1.5, 2)).dtype == F32
    assert tensor(F64(3)).dtype == F64 and tensor(np.array([1])).dtype == np.int64
    x = tensor(a, requires_grad=True)
    assert x.data is not a and x.requires_grad and not tensor(x).requires_grad
    with pytest.raises(TypeError, match="requires_grad needs float32 or float64, got int64"):
        tensor(np.array([1]), requires_grad=True)
    with pytest.raises(TypeError, match="expected a tensor, an array or a number, got str"):
        tensor("abc")


def test_options_promote_nothing():
    x = leaf(1.0, 2.0, dtype=F32)
    assert mg.clip(x, F64(0.5), np.array([1.5, 1.5])).dtype == F32
    assert mg.leaky_relu(x, F64(0.5)).dtype == F32
    assert mg.pad(x, 1, constant_values=F64(2)).dtype == F32


# --------------------------------------------------------------------------- comparisons, identity

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


# ------------------------------------------------------------------------------- NumPy and others

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


# --------------------------------------------------------------------------------- Python protocol

def test_python_protocol():
    x = leaf(1.0, 2.5)
    assert len(x) == 2 and [float(v) for v in x] == [1.0, 2.5]
    assert float(x[1]) == 2.5 and int(x[1]) == 2 and bool(x[:1]) and x[0].item() == 1.0
    assert [10, 20, 30][tensor(np.array(2))] == 30 and range(3)[tensor(np.array(1))] == 1
    assert f"{x[1]:.3f}" == "2.500" and str(x) == repr(x) == f"{x}"
    assert repr(x) == "tensor([1. , 2.5], shape=(2,), dtype=float64, requires_grad=True)"
    assert repr(tensor(3)) == "tensor(3., shape=(), dtype=float32)"
    assert (x.shape, x.ndim, x.size, x.T.shape) == ((2,), 1, 2, (2,))
    assert (-x).numpy()[0] == -1 and abs(-x).numpy()[0] == 1
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
    y = x
    y += 1  # binds y to a new tensor
    y *= 2
    assert y is not x and x.numpy()[0] == 1 and grad(y.sum(), x).numpy()[0] == 2


def test_deepcopy_of_a_parameter():
    x = leaf(1.0, 2.0)
    y = copy.deepcopy(x)
    assert y is not x and y.requires_grad and not np.shares_memory(x.data, y.data)
    assert grad((y * y).sum(), y).numpy()[1] == 4


# --------------------------------------------------------------------------------- calls, messages

def test_options_by_position_and_arrays_by_name():
    x = tensor(np.arange(6.0).reshape(2, 3))
    assert mg.sum(x, 1).shape == mg.sum(x, axis=1).shape == mg.sum(x=x, axis=1).shape == (2,)
    assert mg.sum(x, 1, True).shape == (2, 1)
    assert mg.multiply(b=x, a=x).shape == (2, 3) and mg.clip(x, 1, max=3).numpy().max() == 3
    y = mg.conv2d(np.ones((1, 1, 3, 3)), w=np.ones((1, 1, 2, 2)), padding=1)
    assert y.shape == (1, 1, 4, 4)


x23, x4 = np.ones((2, 3)), np.ones(4)


@pytest.mark.parametrize("call, error, words", [
    (lambda: mg.exp(), TypeError, r"exp\(x\): missing a required argument: 'x'"),
    (lambda: mg.multiply(x4), TypeError, r"multiply\(a, b\): missing a required argument: 'b'"),
    (lambda: mg.exp(x4, x4), TypeError, r"exp\(x\): too many positional arguments"),
    (lambda: mg.sum(x4, dim=0), TypeError, "sum.*unexpected keyword argument 'dim'"),
    (lambda: mg.sum(x4, 0, dim=0), TypeError, "sum.*unexpected keyword argument 'dim'"),
    (lambda: mg.sum(x4, 0, axis=0), TypeError, "sum.*multiple values for argument 'axis'"),
    (lambda: mg.exp("abc"), TypeError, "exp: x: expected a tensor.*got str"),
    (lambda: mg.exp(None), TypeError, r"exp\(x=None\)"),
    (lambda: tensor(x4) + None, TypeError, r"add\(a: \(4,\) float64, b=None\)"),
    (lambda: tensor(x4) + "a", TypeError, "add: b: expected.*got str"),
    (lambda: tensor(x4) < "a", TypeError, "less: b: expected.*got str"),
    (lambda: mg.gelu("abc"), TypeError, "gelu: x: expected a tensor.*got str"),
    (lambda: mg.matmul(x23, object()), TypeError, "matmul: b: expected.*got object"),
    (lambda: mg.concatenate([x4, None, "a"]), TypeError, "concatenate: 2: expected.*got str"),
    (lambda: tensor(x23) + x4, ValueError,
     r"add\(a: \(2, 3\) float64, b: \(4,\) float64\): .*broad"),
    (lambda: mg.matmul(x23, x4), ValueError, r"matmul.*expected.*K.*3|matmul.*\(2, 3\).*\(4"),
    (lambda: mg.matmul(x23, 2.0), ValueError, r"matmul: needs at least one axis each"),
    (lambda: mg.where(x4, 1.0, 2.0), TypeError, "where: condition must be boolean, got float64"),
    (lambda: mg.where(x4 > 0, x23, 2.0), ValueError, r"where\(.*condition=bool \(4,\)\)"),
    (lambda: tensor(x23)[5], IndexError, r"getitem\(x: \(2, 3\) float64, index=\(5\)\)"),
    (lambda: tensor(x23)[x4], IndexError, r"getitem\(.*index=\(float64 \(4,\)\)\)"),
    (lambda: mg.sum(x4, 3), ValueError, r"sum\(x: \(4,\) float64, axis=3\): axis 3 is out of"),
    (lambda: mg.expand_dims(x4, 5), ValueError, "axis 5 is out of bounds"),
    (lambda: mg.take(x23, [0], 2), ValueError, "axis 2 is out of bounds"),
    (lambda: mg.swapaxes(x23, 0, 2), ValueError, "axis 2 is out of bounds"),
    (lambda: mg.squeeze(x23, 0), ValueError, r"squeeze: axis 0 of shape \(2, 3\)"),
    (lambda: mg.reshape(x23, 4), ValueError, r"reshape\(x: \(2, 3\) float64, shape=\(4\)\)"),
    (lambda: mg.concatenate([x23, x4]), ValueError, r"concatenate\(0: \(2, 3\) .*1: \(4,\)"),
    (lambda: mg.split(x4, 3), ValueError, "split: axis 0 of length 4"),
    (lambda: mg.pad(x4, 1, "mean"), ValueError, "pad: mode must be.*'mean'"),
    (lambda: mg.pad(x4, -1), ValueError, "pad: pad_width"),
    (lambda: mg.einsum("ii,i->i", x23, x4), ValueError, "einsum: a letter stands twice in 'ii'"),
    (lambda: mg.einsum("ij,j->i", x23, x4), ValueError, "einsum.*subscripts='ij,j->i'"),
    (lambda: mg.clip(x4, leaf(1.0)), TypeError, "clip has no derivative with respect to min"),
    (lambda: mg.mse_loss(x4, x23), ValueError,
     r"mse_loss: input has shape \(4,\), target \(2, 3\)"),
    (lambda: mg.mse_loss(x4, x4, "avg"), ValueError, "reduction must be"),
    (lambda: mg.cross_entropy(x23, [0, 3]), IndexError, "cross_entropy: indices.*0…2, got 0…3"),
    (lambda: mg.cross_entropy(x23, [0]), ValueError,
     r"integer targets of shape \(2,\), got \(1,\)"),
    (lambda: mg.cross_entropy(x23, [0, 1], x4), ValueError, r"weight has shape \(4,\)"),
    (lambda: mg.embedding(x4, x23), TypeError, "embedding: indices must be integers, got float64"),
    (lambda: mg.embedding([-1], x23), IndexError, "embedding: indices must lie in 0…1, got -1…-1"),
    (lambda: mg.dropout(x4), ValueError, "dropout: pass rng="),
    (lambda: mg.conv2d(x23, x23), ValueError, r"conv2d: x has shape \(2, 3\), expected \(N, C"),
    (lambda: mg.conv2d(np.ones((1, 2, 5, 5)), np.ones((1, 2, 3, 3)), stride=0), ValueError,
     "stride"),
    (lambda: mg.conv2d(np.ones((1, 2, 5, 5)), np.ones((1, 2, 3, 3)), padding=(1, 2, 3)), ValueError,
     "padding must be an integer or a pair"),
    (lambda: mg.conv_transpose2d(x23, x23), ValueError, r"conv_transpose2d: expected x \(N, K"),
    (lambda: mg.layer_norm(x23, 4), ValueError, r"layer_norm: the last axes of x must be \(4,\)"),
    (lambda: mg.scaled_dot_product_attention(x23, x23, x23, np.ones((5, 5), bool)), ValueError,
     r"attn_mask \(5, 5\) to \(\.\.\., 2, 2\)"),
])
def test_wrong_calls_give_one_clear_line(call, error, words):
    with pytest.raises(error, match=words) as e:
        call()
    assert "\n" not in str(e.value)


def test_wrong_vjps_are_named():
    @op
    def twice(x): return 2 * x
    with pytest.raises(TypeError, match="twice has no derivative"):
        grad(twice(x := leaf(1.0)), x)
    twice.vjp(lambda g, y, x: (g, g))
    with pytest.raises(ValueError, match="the vjp of twice gave 2 cotangents for 1 input"):
        grad(twice(x), x)
    twice.vjp(lambda g, y, x: mg.concatenate([g, g]))
    with pytest.raises(ValueError, match=r"vjp of twice gave shape \(6,\) for .* \(3,\)"):
        grad(twice(x := leaf(1.0, 2.0, 3.0)).sum(), x)


# -------------------------------------------------------------------------------------- gradcheck

def test_gradcheck_passes_and_takes_order():
    assert gradcheck(mg.exp, np.array([0.5]))
    with pytest.raises(TypeError, match="argument 0 is float32, it must be float64"):
        gradcheck(mg.exp, np.ones(2, F32))


def test_gradcheck_names_op_argument_and_entry():
    @op
    def product(a, b): return a * b
    @product.vjp
    def product(g, y, a, b):
        return g * b, g * a * np.array([1.0, 1.0, 1.01])
    with pytest.raises(AssertionError, match=r"product, first .*, argument 1, entry \(2,\)"):
        gradcheck(product, np.array([1.0, 2, 3]), np.array([4.0, 5, 6]))


def test_gradcheck_sees_a_derivative_that_is_zero():
    @op
    def cube(x): return x ** 3
    @cube.vjp
    def cube(g, y, x): return g * 0
    with pytest.raises(AssertionError, match="cube, first derivative, argument 0"):
        gradcheck(cube, np.array([1.0, 2]))
    with pytest.raises(AssertionError, match="does not depend"):
        gradcheck(lambda x: mg.exp(x.detach()), np.array([1.0]))


def test_gradcheck_sees_a_vjp_that_cannot_be_differentiated():
    @op
    def cube(x): return x ** 3
    @cube.vjp
    def cube(g, y, x): return g * (3 * x.data ** 2)
    assert gradcheck(cube, np.array([1.0, 2]), order=1)
    with pytest.raises(AssertionError, match="cube, second derivative, argument 0"):
        gradcheck(cube, np.array([1.0, 2]))


def test_gradcheck_sees_a_wrong_composite():
    @op
    def cube(x): return x ** 3
    @cube.vjp
    def cube(g, y, x): return g.data * 3 * x.data ** 2
    @cube.composite
    def cube(x): return x * x * x * 1.01
    with pytest.raises(AssertionError, match="cube: .* the gradient with create_graph is"):
        gradcheck(cube, np.array([1.0, 2]))
    cube.composite(lambda x: x * x * x)
    assert gradcheck(cube, np.array([1.0, 2]))


def test_composite_counts_an_input_passed_twice_once_each():
    @op
    def product(a, b): return a * b
    @product.vjp
    def product(g, y, a, b): return g.data * b.data, g.data * a.data
    @product.composite
    def product(a, b): return a * b
    assert gradcheck(lambda x: product(x, x), np.array([1.0, 2]))
    assert gradcheck(lambda x: product(mg.tanh(x), 2 * x), np.array([1.0, 2]))


# --------------------------------------------------------------------------------------- extremes

def values_and_slopes(f, *x):
    with np.errstate(all="raise", under="ignore"):
        x = leaf(*x)
        y = f(x)
        return y.numpy(), grad(y.sum(), x).numpy()


INF, BIG = math.inf, 1e300


@pytest.mark.parametrize("f, xs, ys, slopes", [
    (mg.sigmoid, (-INF, -BIG, 0, BIG, INF), (0, 0, 0.5, 1, 1), (0, 0, 0.25, 0, 0)),
    (mg.logsigmoid, (-BIG, BIG, INF), (-BIG, 0, 0), (1, 0, 0)),
    (mg.softplus, (-INF, -BIG, BIG, INF), (0, 0, BIG, INF), (0, 0, 1, 1)),
    (mg.tanh, (-INF, INF), (-1, 1), (0, 0)),
    (mg.erf, (-1e100, 1e100), (-1, 1), (0, 0)),
    (mg.elu, (-BIG, BIG), (-1, BIG), (0, 1)),
    (mg.relu, (-INF, INF), (0, INF), (0, 1)),
    (mg.logsumexp, (-INF, -INF), -INF, (0, 0)),
    (mg.logsumexp, (1000, -INF, 1000), 1000 + math.log(2), (0.5, 0, 0.5)),
    (mg.logsumexp, (-1000, -1000), -1000 + math.log(2), (0.5, 0.5)),
    (lambda x: mg.softmax(x)[:1], (1e3, -INF, 1e3), (0.5,), (0.25, 0, -0.25)),
    (lambda x: mg.log_softmax(x)[:1], (-1e4, 0), (-1e4,), (1, -1)),
    (mg.norm, (0, 0), 0, (0, 0)),
    (mg.abs, (-2, 0, 2), (2, 0, 2), (-1, 0, 1)),
    (lambda x: x ** 2, (0, -3), (0, 9), (0, -6)),
    (lambda x: x ** 0, (0, -3), (1, 1), (0, 0)),
    (lambda x: x ** 1, (0, -3), (0, -3), (1, 1)),
    (lambda x: mg.power(0.0, x), (1, 2), (0, 0), (0, 0)),
    (lambda x: mg.power(x, np.array([2.0, 3.0])), (0, -2), (0, -8), (0, 12)),
    (mg.max, (1, 3, 3), 3, (0, 0.5, 0.5)),
    (mg.min, (1, 1, 3), 1, (0.5, 0.5, 0)),
    (lambda x: mg.maximum(x, 0.0), (-1, 0, 1), (0, 0, 1), (0, 0.5, 1)),
    (lambda x: mg.clip(x, 0, 1), (-1, 0, 1, 2), (0, 0, 1, 1), (0, 1, 1, 0)),
    (mg.prod, (0, 2, 3), 0, (6, 0, 0)),
    (mg.prod, (0, 0, 3), 0, (0, 0, 0)),
    (lambda x: mg.binary_cross_entropy_with_logits(x, np.array([1, 0, 1]), reduction="sum"),
     (BIG, -BIG, -1000), 1000, (0, 0, -1)),
    (lambda x: mg.cross_entropy(x[None], [-100, 1][1:]), (-INF, 0), 0, (0, 0)),
    (lambda x: mg.cross_entropy(x.reshape(2, 2), [-100, 1]), (-INF, 0, 0, 0), math.log(2),
     (0, 0, 0.5, -0.5)),
])
def test_extremes(f, xs, ys, slopes):
    y, slope = values_and_slopes(f, *xs)
    np.testing.assert_allclose(y, ys, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(slope, slopes, rtol=1e-12, atol=1e-300)


def test_nan_passes_through():
    for f in (mg.relu, mg.sigmoid, mg.softplus, mg.max, mg.softmax, lambda x: mg.clip(x, 0, 1)):
        assert np.isnan(f(tensor([math.nan, 1.0])).numpy()).any()


@pytest.mark.parametrize("f", [
    mg.exp, mg.sum, mg.cumsum, mg.relu, mg.flip, mg.sort, mg.transpose, mg.prod, mg.norm,
    lambda x: x[:, :1], lambda x: x[[]], lambda x: x[x > 0], lambda x: x @ np.ones((3, 2)),
    lambda x: mg.concatenate([x, x]), lambda x: mg.pad(x, 1), lambda x: mg.take(x, [], 0),
    lambda x: mg.softmax(x), lambda x: mg.logsumexp(x, 1), lambda x: mg.max(x, 1),
    lambda x: mg.tile(x, 2), lambda x: mg.repeat(x, 2, 1), lambda x: x[:, [0, 0]],
    lambda x: mg.linear(x, np.ones((2, 3)))])
def test_empty_arrays(f):
    x = tensor(np.ones((0, 3)), requires_grad=True)
    y = f(x)
    assert grad(y.sum(), x).shape == (0, 3)
    with no_grad():
        assert f(x).shape == y.shape


def test_empty_reductions_say_so():
    for f in (mg.max, mg.min, mg.argmax):
        with pytest.raises(ValueError, match=f"{f.__name__}\\(x: \\(0,\\) float64"):
            f(np.ones(0))
    assert mg.embedding(np.ones((0, 2), int), np.ones((3, 4))).shape == (0, 2, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_repeated_rows_add_up(dtype):
    w, i = tensor(np.ones((300, 2)), requires_grad=True), np.array([[1, 255], [1, 1]], dtype)
    g = grad(mg.embedding(i, w).sum(), w).numpy()
    assert g[1, 0] == 3 and g[255, 1] == 1 and g.sum() == 8
    g = grad(w[-i.astype(int)].sum(), w).numpy()
    assert g[299, 0] == 3 and g[45, 1] == 1 and g.sum() == 8
