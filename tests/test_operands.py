"""The arguments of ops: which dtypes combine, options and arrays by position and name, and the
messages of wrong calls."""

import operator

import numpy as np
import pytest
from leaves import BINARY, F32, F64, leaf

import minigen as mg
from minigen import grad, tensor
from minigen.tensor import xp

# ------------------------------------------------------------------------------------------- dtypes

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
    for y in (x / 255, mg.exp(x / 100), mg.sqrt(x), mg.mean(x), x.mean(), mg.std(x), mg.softplus(x),
              mg.softplus(2, beta=3), mg.exp(2), mg.mse_loss(x, x / 2), mg.sigmoid(1), x * 0.5,
              x * F64(0.5), F64(0.5) / x[1:]):
        assert y.dtype == F32, y
    assert (x + 0).dtype == np.uint8 and x.sum().dtype.kind == "u"
    assert x.astype(F64).dtype == F64 and x.astype(F32).dtype == F32
    assert tensor([1.0]).astype(F64).dtype == F64  # not narrowed: it was asked for


def test_of_bytes_functions_are_as_precise_as_of_floats():
    x = np.array([0, 1, 11], np.uint8)
    for f in (mg.exp, mg.expm1, mg.log1p, mg.sqrt, mg.sin, mg.cos, mg.tan, mg.arctan, mg.tanh,
              mg.softplus, mg.logsigmoid, mg.logsumexp, mg.ops.special.wrightomega):
        assert np.array_equal(f(x).numpy(), f(x.astype(F32)).numpy()), f
    assert np.array_equal(mg.log(x[1:]).numpy(), mg.log(x[1:].astype(F32)).numpy())
    assert mg.exp(np.array([True])).item() == np.exp(F32(1))


def test_arrays_of_what_is_no_number_are_refused_and_foreign_bytes_turned():
    for a in (["a"], [None, 1], np.array(["2020-01-01"], "M8[D]")):
        with pytest.raises(TypeError, match=r"^expected real numbers, got [\w\[\]<]+$"):
            tensor(np.asarray(a))
    x = tensor(np.array([1.5, 2], ">f4"))
    assert x.dtype == F32 and x.dtype.isnative and x.sum().item() == 3.5


def test_what_only_turns_into_an_array_is_checked_like_one():
    class Words:
        def __array__(self, dtype=None, copy=None):
            return np.array(["a"])
    with pytest.raises(TypeError, match="expected real numbers, got <U1"):
        tensor(Words())


def test_powers_of_integers():
    x = tensor(np.array([10, 20], np.uint8))
    for b, want in ((2.0, [100, 400]), (3.0, [1000, 8000]), (0.5, [10 ** 0.5, 20 ** 0.5])):
        assert (x ** b).dtype == F32 and np.allclose((x ** b).numpy(), want)
    assert (x ** 3).dtype == np.uint8  # as in NumPy
    with pytest.raises(OverflowError, match=r"add\(a: \(2,\) uint8, b=300\): .* out of bounds"):
        x + 300


def test_a_comparison_with_a_numpy_number_is_one_with_a_number():
    assert (tensor(F32([0.1])) == F64(0.1)).all() and (tensor(F32([0.1])) == 0.1).all()


def test_options_promote_nothing():
    x = leaf(1.0, 2.0, dtype=F32)
    assert mg.clip(x, F64(0.5), np.array([1.5, 1.5])).dtype == F32
    assert mg.leaky_relu(x, F64(0.5)).dtype == F32
    assert mg.pad(x, 1, constant_values=F64(2)).dtype == F32


def test_a_condition_may_be_a_numpy_boolean():
    x = leaf(1.0, 2.0)
    for condition, slope in ((np.array([1.0]).any(), 1), (np.bool_(False), 2), (True, 1)):
        assert np.array_equal(grad(mg.where(condition, x, x * 2).sum(), x).numpy(), [slope] * 2)


# ---------------------------------------------------------------------------------- calls, messages

def test_options_by_position_and_arrays_by_name():
    x = tensor(np.arange(6.0).reshape(2, 3))
    assert mg.sum(x, 1).shape == mg.sum(x, axis=1).shape == mg.sum(x=x, axis=1).shape == (2,)
    assert mg.sum(x, 1, True).shape == (2, 1)
    assert mg.multiply(b=x, a=x).shape == (2, 3) and mg.clip(x, 1, max=3).numpy().max() == 3
    y = mg.conv2d(np.ones((1, 1, 3, 3)), w=np.ones((1, 1, 2, 2)), padding=1)
    assert y.shape == (1, 1, 4, 4)
    assert mg.interpolate(y, np.int64(8)).shape == (1, 1, 8, 8)
    x = leaf([1.0, 2.0], [3.0, 4.0])
    y = mg.take_along_axis(x, indices=[[1, 1]], axis=0)
    assert np.array_equal(grad(y.sum(), x).numpy(), [[0, 0], [1, 1]])


x23, x4, u8 = np.ones((2, 3)), np.ones(4), np.ones(4, np.uint8)


@pytest.mark.parametrize("call, error, words", [
    (lambda: mg.exp(), TypeError, r"exp\(x\): missing a required argument: 'x'"),
    (lambda: mg.multiply(x4), TypeError, r"multiply\(a, b\): missing a required argument: 'b'"),
    (lambda: mg.exp(x4, x4), TypeError, r"exp\(x\): too many positional arguments"),
    (lambda: mg.sum(x4, dim=0), TypeError, "sum.*unexpected keyword argument 'dim'"),
    (lambda: mg.sum(x4, 0, dim=0), TypeError, "sum.*unexpected keyword argument 'dim'"),
    (lambda: mg.sum(x4, 0, axis=0), TypeError, "sum.*multiple values for argument 'axis'"),
    (lambda: mg.exp("abc"), TypeError, "exp: x: expected a tensor.*got str"),
    (lambda: mg.sqrt(None), TypeError, "sqrt: x is a NoneType, expected an array"),
    (lambda: mg.floor(None), TypeError, r"floor\(x=None\)"),
    (lambda: mg.abs(None), TypeError, r"abs\(x=None\)"),
    (lambda: mg.exp(None), TypeError, "^exp: x is a NoneType, expected an array$"),
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
    (lambda: tensor(x4) & (x4 > 0), TypeError, r"logical_and\(.*needs booleans: compare first"),
    (lambda: ~tensor(x4), TypeError, r"logical_not\(x: \(4,\) float64\): needs booleans"),
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
    (lambda: mg.pad(x4, 1, constant_values=(1, 2)), ValueError, r"one number, got \(1, 2\)"),
    (lambda: tensor(x4) * (1j * x4), TypeError, "multiply: b: expected real numbers, got complex"),
    (lambda: tensor(x4) * np.complex128(1j), TypeError, "expected real numbers, got complex128"),
    (lambda: mg.linear(x23, np.ones((2, 3)), [0.5]), ValueError, r"linear: bias is \(1,\)"),
    (lambda: mg.layer_norm(x23, (2, 3), np.ones((3, 2))), ValueError,
     r"layer_norm: weight is \(3, 2\), expected \(2, 3\)"),
    (lambda: mg.einsum("ii,i->i", x23, x4), ValueError, "einsum: a letter stands twice in 'ii'"),
    (lambda: mg.einsum("ij,j->i", x23, x4), ValueError, "einsum.*subscripts='ij,j->i'"),
    (lambda: mg.einsum("ij,jk->ik", x23[:, :1], x23), ValueError,
     r"einsum\(a: \(2, 1\), b: \(2, 3\), subscripts='ij,jk->ik'\): 'j' has two lengths"),
    (lambda: mg.clip(x4, leaf(1.0)), TypeError, "clip has no derivative with respect to min"),
    (lambda: mg.mse_loss(x4, x23), ValueError,
     r"mse_loss: input has shape \(4,\), target \(2, 3\)"),
    (lambda: mg.mse_loss(x4, x4, "avg"), ValueError, "reduction must be"),
    (lambda: mg.cross_entropy(x23, [0, 3]), IndexError, "cross_entropy: indices.*0…2, got 0…3"),
    (lambda: mg.cross_entropy(x23, [0]), ValueError,
     r"integer targets of shape \(2,\), got \(1,\)"),
    (lambda: mg.cross_entropy(x23, tensor([0, 1])), ValueError,
     r"integer targets of shape \(2,\) or probabilities.*, got float32 \(2,\)"),
    (lambda: mg.cross_entropy(x23, [0, 1], x4), ValueError, r"weight has shape \(4,\)"),
    *((lambda f=f: f(u8), TypeError, f"{name}: x is uint8, expected float32 or float64$")
      for name, f in (("mse_loss", lambda x: mg.mse_loss(x, x)), ("norm", mg.norm),
                      ("l1_loss", lambda x: mg.l1_loss(x, x.astype(int))), ("relu", mg.relu),
                      ("dropout", lambda x: mg.dropout(x, rng=np.random.default_rng(0))))),
    (lambda: mg.embedding(x4, x23), TypeError, "embedding: indices must be integers, got float64"),
    (lambda: mg.embedding([-1], x23), IndexError, "embedding: indices must lie in 0…1, got -1…-1"),
    (lambda: mg.dropout(x4), ValueError, "dropout: pass rng="),
    (lambda: mg.conv2d(x23, x23), ValueError, r"conv2d: x has shape \(2, 3\), expected \(N, C"),
    (lambda: mg.conv2d(np.ones((1, 2, 5, 5)), np.ones((1, 2, 3, 3)), stride=0), ValueError,
     "stride"),
    (lambda: mg.conv2d(np.ones((1, 2, 5, 5)), np.ones((1, 2, 3, 3)), padding=(1, 2, 3)), ValueError,
     "padding must be an integer or a pair"),
    (lambda: mg.conv2d(np.ones((1, 0, 5, 5)), np.ones((2, 0, 3, 3))), ValueError,
     "conv2d: 0 channels, 2 filters of 0 channels"),
    (lambda: mg.conv_transpose2d(np.ones((1, 0, 5, 5)), np.ones((0, 2, 3, 3))), ValueError,
     "conv_transpose2d: 2 channels, 0 filters of 2 channels"),
    (lambda: mg.conv_transpose2d(np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3)), output_padding=1,
                                 dilation=2), ValueError,
     r"output_padding \(1, 1\) must be smaller than stride \(1, 1\)"),
    (lambda: mg.scaled_dot_product_attention(x23, x23, x23, None, True), TypeError, "positional"),
    (lambda: mg.conv_transpose2d(x23, x23), ValueError, r"conv_transpose2d: expected x \(N, K"),
    (lambda: mg.layer_norm(x23, 4), ValueError, r"layer_norm: normalized_shape .* got \(4,\), x"),
    (lambda: mg.layer_norm(x23, np.int64(4)), ValueError, r"^layer_norm: .* got \(4,\), x"),
    (lambda: mg.layer_norm(tensor(1.0), ()), ValueError, r"^layer_norm: .* or more, got \(\), x"),
    (lambda: mg.batch_norm(x23, x4, x4, training=True), ValueError,
     r"^batch_norm: running_mean is \(4,\), expected \(3,\)"),
    (lambda: mg.conv2d_weight(np.ones((1, 1, 2, 2)), np.ones((1, 1, 4, 4)), 3, groups=0),
     ValueError, "conv2d_weight: 1 channels, 1 filters of 1 channels and groups = 0 do not fit"),
    (lambda: mg.scaled_dot_product_attention(x23, x23, x23, np.ones((5, 5), bool)), ValueError,
     r"attn_mask \(5, 5\) to \(\.\.\., 2, 2\)"),
    (lambda: mg.scaled_dot_product_attention(x23, x23, x23, np.ones((2, 2), int)), TypeError,
     "scaled_dot_product_attention: attn_mask is int64, expected bool, float32 or float64"),
    *((lambda f=f: f(x23, 5), ValueError, f"^{f.__name__}: axis 5 is out of bounds")
      for f in (mg.prod, mg.expand_dims, mg.squeeze)),
    *((lambda f=f: f(x23, 2, 5), ValueError, f"^{f.__name__}: axis 5 is out of bounds")
      for f in (mg.repeat, mg.split, mg.take)),
    (lambda: mg.stack([x4, x4], 5), ValueError, r"^stack\(.*axis=5\): axis 5 is out of bounds"),
    (lambda: mg.std(x23, 5), ValueError, r"^mean\(x: \(2, 3\) float64, axis=5"),
    (lambda: mg.moveaxis(x23, 0, 5), ValueError, "^moveaxis: destination: axis 5 is out of"),
    (lambda: mg.take_along_axis(x23, [[0.5]]), IndexError, "^take_along_axis.*must be .*integer"),
    (lambda: mg.pad(x23, (1, 2, 3)), ValueError, r"pair for each axis of \(2, 3\), got \(1, 2, 3"),
    (lambda: mg.std(x23, 0, ddof=5), ValueError, "^std: ddof 5 is more than the 2 numbers along"),
    (lambda: mg.var(x23, 0, ddof=5), ValueError, "^var: ddof 5 is more than the 2 numbers along"),
    (lambda: tensor(x4).astype("foo"), TypeError, "^astype: data type 'foo' not understood"),
    (lambda: mg.mse_loss(x4, None), TypeError, "^mse_loss: targets: expected a tensor.*NoneType"),
    (lambda: mg.group_norm(x4, 2), ValueError, r"^group_norm: expected x \(N, C, .* got \(4,\)"),
    (lambda: mg.group_norm(x23, 0), ValueError, "^group_norm: 0 groups do not divide 3 channels"),
    (lambda: mg.group_norm(x23, 3, np.ones((2, 1, 3), "f")), ValueError,
     r"^group_norm: weight is \(2, 1, 3\), expected \(3,\) or \(2, 3\)"),
    (lambda: mg.leaky_relu(x4, None), TypeError, "^leaky_relu.*must be .*a real number.*NoneType"),
    (lambda: mg.leaky_relu(x4, np.ones(2)), TypeError, "^leaky_relu.*0-dimensional arrays"),
    (lambda: mg.scaled_dot_product_attention(x23, x23, x23, scale=np.ones(2)), TypeError,
     "^scaled_dot_product_attention: only 0-dimensional arrays"),
    (lambda: mg.cross_entropy(x23, [0, 1], tensor(np.ones(3, "f"), requires_grad=True)), TypeError,
     r"^cross_entropy has no derivative with respect to weight: pass weight.detach\(\)"),
    (lambda: mg.cross_entropy(x23, np.array([True, False])), TypeError, "integers, got bool"),
    (lambda: tensor([1, None]), TypeError, r"expected real numbers, got \[1, None\]"),
    (lambda: mg.add(x4, ["1", "2", "3", "4"]), TypeError, "^add: b: expected real numbers"),
    (lambda: mg.where(np.ones(4, bool), None, x4), TypeError, "^where: .* got None"),
    (lambda: tensor(x4).astype(complex), TypeError, "^astype: expected .* got complex128"),
    (lambda: mg.nn.astype(mg.nn.Linear(2, 2), int), TypeError, "^nn.astype: .* got int64"),
    (lambda: mg.take_along_axis(x4, [0], None), TypeError, "^take_along_axis: axis is None"),
    (lambda: mg.sum(None), AttributeError, r"^sum\(x=None\)"),
    (lambda: mg.dropout(x4, rng=0), ValueError, "^dropout: pass rng=.*got 0"),
    (lambda: mg.logical_and(x4 > 0, 2), TypeError, "^logical_and.*b=2.*needs booleans"),
    (lambda: mg.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 0, 3))), ValueError, "do not fit"),
    (lambda: mg.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), padding="full"), ValueError,
     '^conv2d: padding must be "valid", "same", an integer or a pair of them, got .full'),
    (lambda: mg.batch_norm(x4, x4, x4), ValueError, r"^batch_norm: expected x \(N, C"),
    (lambda: mg.batch_norm(x23, running_mean=x23[0]), ValueError, "expected both running_mean"),
    (lambda: mg.cross_entropy(tensor(1.0), 0), ValueError, r"^cross_entropy: expected logits"),
    (lambda: mg.cross_entropy(x23, [0, 1], label_smoothing=2.0), ValueError,
     r"^cross_entropy: label_smoothing must lie in \[0, 1\], got 2.0"),
    (lambda: mg.scaled_dot_product_attention(x23, x4[:3], x23), ValueError,
     r"expected q \(.*, got \(2, 3\), \(3,\), \(2, 3\)"),
    (lambda: mg.conv2d(np.ones((1, 1, 4, 4)), x23, padding="same"), ValueError,
     r"^conv2d: expected w \(K, C/groups, R, S\), got \(2, 3\)"),
    (lambda: mg.conv_transpose2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3)), padding=5),
     ValueError, r"^conv_transpose2d: padding \(5, 5\) is too large.*\(-6, -6\) pixels"),
    (lambda: mg.interpolate(np.ones((1, 1, 2, 2)), 2.5), ValueError,
     "^interpolate: size must be an integer or a pair"),
    (lambda: mg.max_pool2d(np.ones((1, 1, 2, 2)), 2.5), ValueError,
     "^max_pool2d: kernel_size must be an integer or a pair"),
])
def test_wrong_calls_give_one_clear_line(call, error, words):
    with pytest.raises(error, match=words) as e:
        call()
    assert "\n" not in str(e.value)


def test_distributions_of_arrays():
    mu, logvar = np.ones((2, 3), F32), np.zeros((2, 3), F32)
    z, eps = (f(np.random.default_rng(0)) for f in (
        mg.dist.Normal(mu, logvar).sample, lambda rng: mg.dist.noise(rng, mu)))
    assert z.dtype == F32
    np.testing.assert_array_equal(z.numpy(), 1 + eps.numpy())
    for k in ([0, 3], [-1, 0]):
        with pytest.raises(IndexError, match="Categorical.log_prob: indices must lie in 0…2"):
            mg.dist.Categorical(mu).log_prob(k)
    with pytest.raises(TypeError, match="expected an array of NumPy or CuPy, got memoryview"):
        xp(mu.data)


def test_a_list_of_booleans_is_a_mask():
    q = np.random.default_rng(0).normal(size=(2, 4))
    attend = [mg.scaled_dot_product_attention(q, q, q, attn_mask=mask).numpy()
              for mask in ([[True, False], [True, True]], np.tri(2, dtype=bool))]
    np.testing.assert_array_equal(*attend)
    assert tensor([[1, 2]]).dtype == tensor(True).dtype == np.float32
    with pytest.raises(TypeError, match="^astype: x: expected real numbers, got <U1$"):
        mg.astype(np.array(["a"]), np.float32)
