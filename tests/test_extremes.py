"""Ops on extreme inputs: infinite, huge, tied, NaN, empty, repeated."""

import math
import tracemalloc

import numpy as np
import pytest
from cuda_checks import Emulated
from leaves import leaf
from scipy.stats import norm

import minigen as mg
from minigen import grad, kernels, nn, no_grad, optim, tensor
from minigen.models.gan.divergences import js_weighted


def values_and_slopes(f, *x):
    with np.errstate(all="raise", under="ignore"):
        x = leaf(*x)
        y = f(x)
        return y.numpy(), grad(y.sum(), x).numpy()


INF, BIG = math.inf, 1e300


@pytest.mark.parametrize("f, xs, ys, slopes", [
    (mg.sigmoid, (-INF, -BIG, 0, BIG, INF), (0, 0, 0.5, 1, 1), (0, 0, 0.25, 0, 0)),
    (mg.logsigmoid, (-BIG, BIG, INF), (-BIG, 0, 0), (1, 0, 0)),
    (mg.ops.special.wrightomega, (-INF, -BIG, BIG), (0, 0, BIG), (0, 0, 1)),
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
    (lambda x: mg.cross_entropy(x[None], [1], np.array([3.0, 1.0])), (-INF, 0), 0, (0, 0)),
    (lambda x: mg.cross_entropy(x[None], [[0.0, 0.5, 0.5]]), (-INF, 0, 0), math.log(2), (0, 0, 0)),
    (js_weighted(0.3).f_star_g, (-800, 800), (0.7 * math.log(0.7), 0.7 * (800 + math.log(0.21))),
     (0, 0.7)),
    (mg.log_ndtr, (-1e150, 0, 1e150), (-5e299, -math.log(2), 0),
     (1e150, math.sqrt(2 / math.pi), 0)),
])
def test_extremes(f, xs, ys, slopes):
    y, slope = values_and_slopes(f, *xs)
    np.testing.assert_allclose(y, ys, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(slope, slopes, rtol=1e-12, atol=1e-300)


def test_the_second_slope_of_log_ndtr_far_out():
    """It is −1 + 1/x² − 6/x⁴ + …, although there φ/Φ and −x differ only in their last digits."""
    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-8)):
        x = leaf(-1e6, -1e4, -1e3, -60, dtype=dtype)
        second = grad(grad(mg.log_ndtr(x).sum(), x, create_graph=True).sum(), x).numpy()
        r = x.numpy().astype(float) ** -2
        np.testing.assert_allclose(second, -1 + r - 6 * r**2 + 50 * r**3, rtol=0, atol=tolerance)


def test_a_mixed_second_derivative_of_a_power():
    a, b = leaf(2.0, 1.5), leaf(0.0, 1.0)
    for first, then in ((a, b), (b, a)):  # ∂²aᵇ/∂a∂b = aᵇ⁻¹ (1 + b log a)
        found = grad(grad((a ** b).sum(), first, create_graph=True).sum(), then).numpy()
        np.testing.assert_allclose(found, [0.5, 1 + np.log(1.5)])


def test_a_row_that_sees_nothing_has_no_slope_under_either_mask():
    q, k, v = (tensor(np.random.default_rng(i).normal(size=(1, 3, 4)), True) for i in range(3))
    seen = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]], bool)
    for mask in (seen, np.where(seen, 0.0, -np.inf)):
        plain, twice = (grad(mg.scaled_dot_product_attention(q, k, v, mask).sum(), [q, k, v],
                             create_graph=again) for again in (False, True))
        for a, b in zip(plain, twice, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-12)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("low", [-1e9, np.finfo(np.float32).min])
@pytest.mark.parametrize("version", ["reference", "cpu", "cuda"])
def test_what_all_keys_of_a_row_share_changes_nothing(version, low, is_causal):
    if version == "cuda":
        Emulated()  # or skip
    q, k, v = (tensor(np.random.default_rng(i).normal(size=(1, 3, 4)).astype(np.float32), True)
               for i in range(3))
    mask = np.float32([[low, 0, 0], [low, low, 0], [low, low, low]])
    seen = None if is_causal else mask == mask.max(1, keepdims=True)
    for again in (False, True):
        with kernels.version(version):
            given, alone = (grad(y.sum(), [q, k, v], create_graph=again) for y in (
                mg.scaled_dot_product_attention(q, k, v, m, is_causal=is_causal)
                for m in (mask, seen)))
        for a, b in zip(given, alone, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5)
        np.testing.assert_allclose(given[2].numpy().sum(1), 3, rtol=1e-5)  # 1 from each query


def test_the_slope_of_log_ndtr_keeps_its_digits_in_float32():
    x = leaf(-1e5, -1e4, -3e3, -20, -1, 3, dtype=np.float32)
    near = x.numpy()[3:].astype(float)
    exact = [1e5, 1e4, 3e3 + 1 / 3e3, *np.exp(norm.logpdf(near) - norm.logcdf(near))]
    np.testing.assert_allclose(grad(mg.log_ndtr(x).sum(), x).numpy(), exact, rtol=1e-6)


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


def test_the_gradient_of_a_bias_of_no_images_is_0():
    b = tensor(np.ones(4), requires_grad=True)
    y = mg.conv2d(np.ones((0, 3, 8, 8)), np.ones((4, 3, 3, 3)), b)
    assert np.array_equal(grad(y.sum(), b).numpy(), np.zeros(4))
    assert [part.shape for part in mg.split(np.ones((0, 3)), 3)] == [(0, 3)] * 3
    assert mg.embedding([], np.ones((3, 4))).shape == (0, 4)


def test_gradients_without_axes_are_clipped_to_arrays():
    grads = {"tau": leaf(3.0)[0].detach()}
    for clipped in (optim.clip_grad_norm(grads, 1.0)[0], optim.clip_grad_value(grads, 1.0)):
        assert clipped["tau"].numpy().shape == () and clipped["tau"].item() == pytest.approx(1)


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


def test_an_infinite_cotangent_stops_at_a_closed_gate():
    x = tensor(np.array([-1.0, 1.0]), requires_grad=True)
    g = np.array([np.inf, 2.0])
    for y in (mg.relu(x), mg.maximum(x, 0.0), mg.clip(x, 0.0, None), mg.where(x > 0, x, 0.0)):
        np.testing.assert_array_equal(grad(y, x, cotangent=g).numpy(), [0, 2])
    z = tensor(np.array([0.0, 4.0]), requires_grad=True)
    with np.errstate(divide="ignore"):
        slope = grad(mg.sqrt(mg.relu(z - 1)).sum(), z).numpy()
    np.testing.assert_allclose(slope, [0, 0.5 / 3 ** 0.5])


def test_repeated_places_in_an_index_add_up():
    x = tensor(np.ones((2, 3)), requires_grad=True)
    np.testing.assert_array_equal(grad(x[:, (1, 1)].sum(), x).numpy(), [[0, 2, 0]] * 2)
    np.testing.assert_array_equal(grad(x[(0, 0), (1, 1)].sum(), x).numpy(),
                                  [[0, 2, 0], [0, 0, 0]])


def test_the_slope_of_a_constants_deviation_is_zero():
    x = tensor(np.ones(3), requires_grad=True)
    np.testing.assert_array_equal(grad(mg.std(x), x).numpy(), [0, 0, 0])


@pytest.mark.parametrize("B, T, S, D", [(0, 3, 3, 4), (2, 0, 3, 4), (2, 3, 0, 4), (2, 3, 3, 0)])
def test_attention_without_queries_keys_or_features(B, T, S, D):
    y = mg.scaled_dot_product_attention(np.ones((B, T, D)), np.ones((B, S, D)), np.ones((B, S, 5)))
    assert y.shape == (B, T, 5)
    np.testing.assert_allclose(y.numpy(), float(S > 0))


@pytest.mark.parametrize("shape", [(1, 2, 1), (1, 2, 40)])
def test_log_softmax_of_large_scores_is_as_exact_as_of_small_ones(shape):
    """The largest score is subtracted first; a sum with it would be rounded."""
    x = np.full(shape, 1e6, np.float32)
    np.testing.assert_allclose(kernels.log_softmax(x), np.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(kernels.softmax(x), 0.5, rtol=1e-6)


@pytest.mark.parametrize("version", ["reference", "cpu"])
@pytest.mark.parametrize("B", [1, 40])
def test_cross_entropy_of_large_scores_is_as_exact_as_of_small_ones(B, version):
    small = np.repeat(np.float32([[0, -5, -9]])[..., None], B, 2)
    t, g = np.zeros((1, B), int), np.ones((1, B), np.float32)
    forward, backward = (getattr(k, version) for k in (kernels.cross_entropy,
                                                       kernels.cross_entropy_backward))
    for x in (small, small + np.float32(1e6)):
        y, *saved = forward(x, t)
        np.testing.assert_allclose(y, np.log1p(np.exp(-5) + np.exp(-9)), rtol=1e-4)
        gx = backward(g, x, t, *saved)
        np.testing.assert_allclose(gx[:, 1:], np.exp(small[:, 1:]) / 1.0068613, rtol=1e-4)
        np.testing.assert_allclose(gx.sum(1), 0, atol=1e-7)


def test_a_long_product_needs_no_square_of_its_length():
    x = tensor(np.random.default_rng(0).uniform(0.9, 1.1, 50_000), True)
    tracemalloc.start()
    g = grad(mg.prod(x), x).numpy()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.allclose(g * x.numpy(), np.prod(x.numpy()), rtol=1e-10)
    assert most < 40 * x.numpy().nbytes


@pytest.mark.parametrize("softmax", [mg.softmax, mg.log_softmax])
def test_softmax_along_an_axis_of_no_elements_is_empty(softmax):
    for shape, axis in (((2, 0, 1 << 20), 1), ((3, 0), 1), ((0, 3), 1)):
        x = tensor(np.zeros(shape, np.float32), requires_grad=True)
        y = softmax(x, axis=axis)
        assert y.shape == shape and grad(mg.sum(y), x).shape == shape
        with kernels.version("reference"), np.errstate(divide="ignore"):  # log of the empty sum
            assert softmax(x, axis=axis).shape == shape
    assert softmax(np.zeros((1, 0, 10**8), np.float32), axis=1).size == 0  # once read beyond x


def test_booleans_stay_booleans():
    mask = tensor(np.array([True, False, False, True]))
    kept = mg.where(np.array([True, True, False, False]), mask, False)
    assert tensor([10.0, 11, 12, 13])[kept].numpy().tolist() == [10]  # not the positions 1, 0, 0, 0
    for y in (mask * True, mg.maximum(mask, False), mask & True):
        assert y.dtype == bool
    assert (tensor([1.5]) * True).dtype == np.float32


def test_logits_of_bytes_do_not_wrap_around():
    x, t = np.uint8([0, 1, 2]), np.zeros(3, np.float32)
    plain = mg.binary_cross_entropy_with_logits(x, t)
    weighted = mg.binary_cross_entropy_with_logits(x, t, pos_weight=1.0)
    assert np.isclose(plain.item(), weighted.item()) and np.isclose(
        plain.item(), np.log1p(np.exp([0, 1, 2])).mean())


def test_a_number_has_a_logsumexp():
    assert mg.logsumexp(tensor(2.0)).item() == 2


def test_a_step_without_a_factor_leaves_the_parameters():
    p = tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match="NoneType"):
        optim.SGD([p]).step([tensor([1.0, 1.0])], None)
    assert p.numpy().tolist() == [1, 2]


def test_a_model_can_be_loaded_from_views_of_itself():
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    both, old = [a, b], [a.weight.numpy().copy(), b.weight.numpy().copy()]
    swapped = {"0.weight": b.weight.data, "1.weight": a.weight.data, "0.bias": b.bias.data,
               "1.bias": a.bias.data}
    nn.load_state_dict(both, swapped)
    assert np.array_equal(a.weight.numpy(), old[1]) and np.array_equal(b.weight.numpy(), old[0])
