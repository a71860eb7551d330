"""The engine: `grad`, operations, `no_grad`. What graphs keep in memory: test_graph.py."""

import math
import threading

import numpy as np
import pytest
from leaves import F32, leaf

import minigen as mg
from minigen import grad, no_grad, op, tensor

# ---------------------------------------------------------------------------------------- gradients

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
    assert not grad(x + 1, x, cotangent=v).requires_grad
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
    with pytest.raises(ValueError, match="for wrt of shape .*: wrt has no history"):
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
    def f(g, a, b): return lambda: calls.append("a") or g * b, lambda: calls.append("b") or g * a
    a, b = leaf(1.0), leaf(2.0)
    grad(f(a, b), b)
    assert calls == ["b"]
    grad(f(a.detach(), f(a.detach(), b)), b)
    assert "a" not in calls


def test_wrong_vjps_are_named():
    @op
    def twice(x): return 2 * x
    with pytest.raises(TypeError, match="twice has no derivative"):
        grad(twice(x := leaf(1.0)), x)
    twice.vjp(lambda g: (g, g))
    with pytest.raises(ValueError, match="the vjp of twice gave 2 cotangents for 1 input"):
        grad(twice(x), x)
    twice.vjp(lambda g: mg.concatenate([g, g]))
    with pytest.raises(ValueError, match=r"vjp of twice gave shape \(6,\) for .* \(3,\)"):
        grad(twice(x := leaf(1.0, 2.0, 3.0)).sum(), x)
    turned = op(lambda x: 2 * x.T)
    turned.vjp(lambda g: 2 * g)  # of the same size, but not of the same shape
    x = leaf([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    with pytest.raises(ValueError, match=r"gave shape \(3, 2\) for an input of shape \(2, 3\)"):
        grad(turned(x).sum(), x)
    with pytest.raises(TypeError, match="the vjp of twice asks for z: there are y and x"):
        twice.vjp(lambda g, _y, z: g)
    for f in (lambda g, y: g * y, lambda x, *xs: x, lambda *, k: k):
        with pytest.raises(TypeError, match="has inputs by name, none called y, which is the res"):
            op(f)
    with pytest.raises(TypeError, match="lambda> gave a Tensor, expected an array"):
        op(lambda x: mg.exp(x))(x)
    twice.vjp(lambda g: [2 * g])
    with pytest.raises(TypeError, match="the vjp of twice gave a list: .* are a tuple"):
        grad(twice(x := leaf(1.0)), x)
    twice.vjp(lambda g: 2 * g.astype(F32))
    with pytest.raises(ValueError, match="the vjp of twice gave float32 for an input of float64"):
        grad(twice(x), x)


def test_backward_says_what_to_use():
    with pytest.raises(AttributeError, match="minigen.grad"):
        leaf(1.0).backward()


# ------------------------------------------------------------------------------------------ no_grad

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
