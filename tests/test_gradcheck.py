"""The checker of derivatives: what it accepts, and that it detects each kind of mistake."""

import numpy as np
import pytest
from leaves import F32

import minigen as mg
from minigen import gradcheck, op


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
    cube.vjp(lambda g, x: g.data * 3 * x.data ** 2)
    with pytest.raises(TypeError, match="the vjp of cube computes on arrays, so it cannot be dif"):
        gradcheck(cube, np.array([1.0, 2]))
    cube.vjp(lambda g, x: g.detach() * 3 * x * x)
    with pytest.raises(AssertionError, match="cube, second derivative, argument 0"):
        gradcheck(cube, np.array([1.0, 2]))


def test_gradcheck_sees_a_vjp_that_reads_values_it_does_not_name():
    @op
    def cube(x): return x ** 3
    @cube.vjp
    def cube(g, _x): return g * 3 * _x.data ** 2
    with pytest.raises(TypeError, match="unsupported operand"):
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
