"""Graphs: the memory they keep, and when they are stale."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from leaves import F32, F64, leaf

import minigen as mg
from minigen import grad, op, tensor
from minigen.ops import indexing
from minigen.tensor import write

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


@pytest.mark.parametrize("f, reads_x, reads_y", [
    (mg.sin, True, False), (mg.exp, False, True), (mg.relu, False, True), (mg.silu, True, False),
    (lambda x: x + 1, False, False), (lambda x: mg.concatenate([x, x]), False, False),
    (lambda x: mg.conv2d(x.reshape(1, 1, 1, -1) + 0, np.ones((1, 1, 1, 1))), False, False)])
def test_graph_holds_what_derivatives_read(f, reads_x, reads_y):
    x = leaf(1.0, 2.0)
    expected = grad(f(x * 2).sum(), x).numpy()
    h = x * 2
    y = f(h)
    arrays, loss = (weakref.ref(h.data), weakref.ref(y.data)), y.sum()
    del h, y
    assert [a() is not None for a in arrays] == [reads_x, reads_y]
    np.testing.assert_array_equal(grad(loss, x).numpy(), expected)


def test_detached_results_hold_no_graph():
    x = leaf(1.0, 2.0)
    h = x * 2
    array, d = weakref.ref(h.data), [mg.exp(h).detach(), mg.cos(h).detach()[:1]]
    del h
    assert array() is None and len(d) == 2


def test_constants_leave_no_cycle():
    """Arguments that have to be converted first: see operands.py."""
    x = leaf(1.0, 2.0)
    gc.collect()
    gc.disable()
    try:
        h = x * 2
        array, y = weakref.ref(h.data), h * np.array([1, 2])
        del h, y
        assert array() is None
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


# ------------------------------------------------------------------------------------- stale graphs

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


def test_stale_through_results():
    """A derivative that reads the result itself, and an op that returns its input."""
    x, w = leaf(1.0, 2.0), leaf(1.0, 1.0)
    y = mg.exp(x)
    double(y.detach())
    with pytest.raises(RuntimeError, match="stale"):
        grad(y.sum(), x)

    @op
    def same(x): return x
    same.vjp(lambda g: g)
    y = (same(x) * w).sum()
    double(x)
    with pytest.raises(RuntimeError, match="stale"):
        grad(y, w)


def test_stale_in_the_derivative_of_a_derivative():
    w, u = leaf(1.0, 2.0), leaf(1.0, 1.0)
    g = grad((mg.leaky_relu(w) * u).sum(), w, create_graph=True)
    write(w, lambda a: np.negative(a, out=a))
    with pytest.raises(RuntimeError, match="stale"):
        grad(g.sum(), u)


def test_copies_are_not_stale():
    x, w = leaf(1.0, 2.0), leaf(1.0, 1.0)
    y = (tensor(x, requires_grad=True) * w + x.detach().astype(F64) * w).sum()
    double(x)
    grad(y, w)


def test_results_cannot_be_written():
    with pytest.raises(TypeError, match="a result of exp is no parameter"):
        double(mg.exp(leaf(1.0)))


def test_several_are_written_at_once():
    x, w = leaf(1.0, 2.0), leaf(3.0)
    y = [mg.exp(t).sum() for t in (x, w)]
    with pytest.raises(TypeError, match="a result of exp is no parameter"):
        write([x, mg.exp(w)], lambda a, b: a.fill(0))
    grad(y[0], x)
    write([x, w], lambda a, b: (a.fill(4), b.fill(5)))
    assert x.numpy().tolist() == [4, 4] and w.numpy().tolist() == [5]
    for loss, t in zip(y, (x, w), strict=True):
        with pytest.raises(RuntimeError, match="stale"):
            grad(loss, t)


@pytest.mark.parametrize("cut", [
    lambda x: mg.split(x, 4), lambda x: [x[0], x[1:], x[::-1], x[:, 2], x[..., None, 0]],
    lambda x: [x[[0, 0, 1]], x[1], x[[1, 1], [0, 0]], x[x.data > 0]],
    lambda x: [x, x[1], x + x[0], x[2] * x[2], x, x.T[0]],
    lambda x: [(y := x * x)[0], y, y[1:], y.sum(0)]], ids=range(5))
def test_parts_of_one_array_add_up_where_they_lie(cut):
    """The gradients are those of parts with their own arrays, as under create_graph; and no array
    that the caller holds is written to."""
    x = tensor(np.random.default_rng(0).normal(size=(4, 3)), True)
    parts = cut(x)
    g = [tensor(np.random.default_rng(n).normal(size=p.shape)) for n, p in enumerate(parts)]
    y = sum((p * g).sum() for p, g in zip(parts, g, strict=True))
    before = [a.numpy().copy() for a in g]
    for wrt in ([x], [x, parts[0]], [parts[1], x]):
        got, want = (grad(y, wrt, create_graph=on) for on in (False, True))
        for a, b in zip(got, want, strict=True):
            assert np.allclose(a.numpy(), b.numpy(), rtol=1e-13, atol=1e-14)
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(g, before, strict=True))
    seed = tensor(np.ones((4, 3)))
    assert grad(x + x[0], x, cotangent=seed).numpy()[:, 0].tolist() == [5, 1, 1, 1]
    assert (seed.numpy() == 1).all()


def test_parts_can_be_differentiated_again():
    x = tensor(np.arange(6.0), True)
    g = grad(sum((p**3).sum() for p in mg.split(x, 3)), x, create_graph=True)
    assert grad(g.sum(), x).numpy().tolist() == (6 * np.arange(6)).tolist()


def test_many_parts_cost_one_array_of_zeros(monkeypatch):
    made, add = [], indexing._scatter_add
    monkeypatch.setattr(indexing, "_scatter_add", lambda *a, **kw: made.append(1) or add(*a, **kw))
    x = tensor(np.arange(12.0), True)
    y = sum(n * p.sum() for n, p in enumerate(mg.split(x, 6)))
    assert grad(y, x).numpy().tolist() == np.repeat(np.arange(6), 2).tolist() and len(made) == 1
