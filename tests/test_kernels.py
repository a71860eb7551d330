"""The kernels: how a version is chosen and arguments are checked; then matrix products and
attention, each fast version against its reference, its derivative, and PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import (
    DTYPES,
    check,
    close,
    finite_difference,
    normal,
    same,
)

import minigen
from minigen import kernels

# ----------------------------------------------------------------------------------------- dispatch

def test_arguments_are_checked():
    x, w, b = np.ones((2, 4, 8, 8), np.float32), np.ones((6, 4, 3, 3), np.float32), np.ones(6)
    options = (1, 1), (1, 1), (1, 1), 1
    for error, args, message in (
            (TypeError, ([1.0], w, None), "conv2d: x is a list, expected an array"),
            (TypeError, (x, w, b), "conv2d: b is float64, expected float32 like x"),
            (TypeError, (x.astype(int), w, None), "x is int64, expected float32 or float64"),
            (ValueError, (x, w[0], None), r"w has shape \(4, 3, 3\), expected \(K, D, R, S\)"),
            (ValueError, (x, w, np.ones(5, np.float32)),
             r"conv2d: b has shape \(5,\), expected \(K\) with K = 6"),
            (ValueError, (x[:, :3], w, None), "conv2d: 3 channels, 6 filters of 4 channels"),
            (ValueError, (x[..., :0], w, None), "conv2d: filters of .* are larger")):
        with pytest.raises(error, match=message):
            kernels.conv2d(*args, *options)
    with pytest.raises(ValueError, match=r"an image of \(9, 9\) gives an output of \(9, 9\), "):
        kernels.conv_transpose2d(np.ones((2, 6, 8, 8), np.float32), w, None, (9, 9), *options)
    with pytest.raises(TypeError, match="conv2d: missing a required argument: 'groups'"):
        kernels.conv2d(x, w, None, (1, 1), (1, 1), (1, 1))
    with pytest.raises(ValueError, match="matmul: the leading dimensions of a"):
        kernels.matmul(np.ones((2, 3, 4)), np.ones((3, 4, 5)), None)
    with pytest.raises(ValueError, match=r"matmul: b has shape \(5, 2\), expected .* K = 4"):
        kernels.matmul(np.ones((3, 4)), np.ones((5, 2)), None)


def test_other_arrays(monkeypatch):
    x, w = np.ones((2, 4, 8, 8), np.float32), np.ones((6, 4, 3, 3), np.float32)
    other = type("ndarray", (), {"__module__": "cupy", "dtype": x.dtype, "shape": x.shape,
                                 "flags": x.flags})()
    with pytest.raises(TypeError, match="conv2d: w is a numpy array, expected cupy like x"):
        kernels.conv2d(other, w, None, (1, 1), (1, 1), (1, 1), 1)
    other_w = type(other)()
    other_w.shape = w.shape
    monkeypatch.delitem(kernels.conv2d.versions, "cuda")
    with pytest.raises(NotImplementedError, match="conv2d has no CUDA version"):
        kernels.conv2d(other, other_w, None, (1, 1), (1, 1), (1, 1), 1)


def test_named_arguments_and_strided_input():
    rng = np.random.default_rng(0)
    x = normal(rng, np.float32, 3, 8, 9, 4).transpose(0, 3, 1, 2)
    w = normal(rng, np.float32, 5, 4, 3, 3)
    y = kernels.conv2d(x, w, b=None, groups=1, stride=(1, 1), padding=(0, 0), dilation=(1, 1))
    close(y, kernels.conv2d.reference(x, w, None, (1, 1), (0, 0), (1, 1), 1))


@pytest.mark.parametrize("forced, message", [
    ("reference", "reference"), ("cpu", "cpu"), ("", "cpu"),
    ("tpu", "MINIGEN_KERNELS=tpu: matmul has reference, cpu"), ("cuda", "cuda")])
def test_a_version_can_be_forced(forced, message, monkeypatch):
    for name in list(kernels.matmul.versions):
        monkeypatch.setitem(kernels.matmul.versions, name, lambda a, b, c, name=name: name)
    product = lambda: kernels.matmul(np.ones((2, 2)), np.ones((2, 2)), None)
    before = product()
    try:
        with kernels.version(forced):
            done = product()
    except ValueError as error:
        done = str(error)
    assert message in done and product() == before


# ----------------------------------------------------------------------------------- matrix product

def layouts(rng, dtype, *shape):
    """Matrices of this shape in memory: contiguous, transposed, every second column of another."""
    *lead, m, n = shape
    return (normal(rng, dtype, *shape), normal(rng, dtype, *lead, n, m).swapaxes(-1, -2),
            normal(rng, dtype, *lead, m, 2 * n)[..., ::2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", [
    ((300, 70), (70, 90)), ((3, 5), (5, 2)), ((40, 3000), (3000, 50)), ((90, 200), (200, 400)),
    ((0, 3), (3, 4)), ((5, 0), (0, 4)), ((3, 40, 50), (50, 70)), ((7, 40, 50), (7, 50, 70)),
    ((4, 1, 40, 50), (3, 50, 70)), ((60, 50), (4, 50, 70)), ((1, 300, 80), (1, 80, 70)),
    ((1, 80000), (80000, 5))])
def test_matmul(shapes, dtype):
    rng = np.random.default_rng(0)
    for a in layouts(rng, dtype, *shapes[0]):
        for b in layouts(rng, dtype, *shapes[1]):
            same(kernels.matmul, a, b, None)
            same(kernels.matmul, a, b, normal(rng, dtype, b.shape[-1]))


def test_a_long_sum_of_products_is_added_up_in_parts():
    a = np.random.default_rng(0).standard_normal((200_000, 16), np.float32)
    exact = a.T.astype(np.float64) @ a
    # added up in one sum, the error would be 4e-5
    assert abs(kernels.matmul(a.T, a, None) - exact).max() < 5e-6 * exact.max()


@pytest.mark.parametrize("dtype, beside", [("f4", "i1"), ("f8", "f4")])
def test_matmul_of_a_field_whose_rows_are_no_whole_numbers_apart(dtype, beside):
    rng, record = np.random.default_rng(0), np.zeros(100, [("a", dtype, (64,)), ("b", beside)])
    record["a"] = rng.standard_normal((100, 64))
    same(kernels.matmul, record["a"], normal(rng, dtype, 64, 300), None)
    same(kernels.matmul, normal(rng, dtype, 300, 64), record["a"].T, None)


# ---------------------------------------------------------------------------------------- attention

@st.composite
def attentions(draw):
    B, T, S = draw(st.integers(0, 3)), draw(st.integers(1, 150)), draw(st.integers(1, 300))
    D, E = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng, dtype = np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from(DTYPES))
    kind, is_causal = draw(st.sampled_from([None, bool, dtype])), draw(st.booleans())
    mask = kind and normal(rng, dtype, draw(st.sampled_from([1, B])), T, S)
    if kind is bool:
        mask = mask > 0
        mask[:, T // 2] = False
    shapes = (B, T, D), (B, S, D), (B, S, E), (B, T, E)
    return *(normal(rng, dtype, *s) for s in shapes), mask, is_causal


@check
@given(attentions())
def test_attention(case):
    q, k, v, g, mask, is_causal = case
    options = mask, is_causal, 0.4
    o, lse = same(kernels.attention, q, k, v, *options)
    if mask is not None and mask.dtype == bool:
        assert not o[:, q.shape[1] // 2].any() and (lse[:, q.shape[1] // 2] == -np.inf).all()
    grads = same(kernels.attention_backward, g, o, lse, q, k, v, *options)
    if q.dtype == np.float64:
        rng = np.random.default_rng(0)
        for i, slot in enumerate((q, k, v)):
            f = lambda x, i=i: kernels.attention(*(q, k, v)[:i], x, *(q, k, v)[i + 1:], *options)[0]
            slope, d = finite_difference(f, slot, g, rng)
            assert np.isclose(slope, np.vdot(grads[i], d), rtol=1e-5, atol=1e-6)


@pytest.mark.parity
@check
@given(attentions())
def test_attention_is_torchs(case):
    torch = pytest.importorskip("torch")
    q, k, v, g, mask, is_causal = case
    if len(q) == 0 or is_causal and mask is not None:
        return  # PyTorch accepts only one of them
    tq, tk, tv = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (q, k, v))
    tmask = None if mask is None else torch.tensor(mask if mask.dtype == bool else mask * 1.0)
    tmask = tmask.double() if mask is not None and mask.dtype != bool else tmask
    to = torch.nn.functional.scaled_dot_product_attention(
        tq, tk, tv, tmask, is_causal=is_causal, scale=0.4)
    grads = torch.autograd.grad(to, (tq, tk, tv), torch.tensor(g, dtype=torch.float64))
    o, lse = kernels.attention(q, k, v, mask, is_causal, 0.4)
    close(o, to.detach().numpy().astype(q.dtype))
    ours = kernels.attention_backward(g, o, lse, q, k, v, mask, is_causal, 0.4)
    close(ours, tuple(a.numpy().astype(q.dtype) for a in grads))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", [((), (), ()), ((0,), (), (0,)), ((7,), (7,), (7,)),
                                    ((3, 50, 40), (40,), (50, 1)), ((1,), (9, 1), (4, 1, 5)),
                                    ((1, 1), (1,), (6, 5)), ((300_000,), (), (300_000,)),
                                    ((), (2, 150_000), (150_000,))])
def test_select(shapes, dtype):
    rng = np.random.default_rng(0)
    a, b = (normal(rng, dtype, *shape) for shape in shapes[:2])
    mask = np.asarray(rng.random(shapes[2]) < 0.5)
    np.testing.assert_array_equal(kernels.select(a, b, mask), np.where(mask, a, b), strict=True)
    a = np.where(mask, a, np.inf).astype(dtype)
    assert np.isfinite(kernels.select(a, np.zeros((), dtype), mask)).all()  # 0 · ∞ would be NaN


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("R, L, M", [(0, 3, 4), (1, 0, 5), (5, 7, 0), (3, 17, 33), (64, 900, 130)])
def test_join(R, L, M, dtype):
    a, b = np.arange(R * L).reshape(R, L).astype(dtype), -np.arange(R * M).reshape(R, M)
    y = kernels.join(a, b.astype(dtype))
    np.testing.assert_array_equal(y, kernels.join.reference(a, b.astype(dtype)), strict=True)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("others", [1, 2])
def test_large_arrays_are_joined(axis, others):
    x, rng = np.ones((30, 40, 50), np.float32), np.random.default_rng(0)
    shape = np.array(x.shape)
    shape[axis] = 7
    arrays = [x, *(rng.standard_normal(shape, np.float32) for _ in range(others))]
    y = minigen.concatenate(arrays, axis).numpy()
    np.testing.assert_array_equal(y, np.concatenate(arrays, axis), strict=True)


def test_large_arrays_that_do_not_fit_are_not_joined():
    x = np.ones((30, 40, 50), np.float32)
    for other, axis in ((x[:, :, 1:], 1), (x[0], 0), (x[0], 2), (x, 3), (x, -4), (1.0, 0)):
        with pytest.raises(ValueError, match="concatenate.*must|axis .* out of bounds|zero-dim"):
            minigen.concatenate([x, other], axis)
    with pytest.raises(ValueError, match="join: b has shape"):
        kernels.join(x[0], x[0, 1:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("where", ["q", "k", "v", "mask", "row", "hidden"])
def test_attention_keeps_nan(where, is_causal, dtype):
    S = 70 if is_causal else 150  # keys after the last query are never read when causal
    rng = np.random.default_rng(0)
    q, k, v, g = (rng.standard_normal((2, n, 16)).astype(dtype) for n in (70, S, S, 70))
    mask = np.zeros((1, 70, S), dtype)
    if where in ("q", "k", "v"):
        {"q": q, "k": k, "v": v}[where][0, 3, 5] = np.nan
    else:
        mask[0, 3, {"mask": 2, "row": slice(None), "hidden": 60}[where]] = np.nan
    options = mask, is_causal, 0.25
    for version in (kernels.attention.reference, kernels.attention.cpu):
        o, lse = version(q, k, v, *options)
        assert np.isnan(o).any() == (where != "hidden" or not is_causal)
    want, got = (
        (o, lse, *backward(g, o, lse, q, k, v, *options)) for backward, (o, lse) in (
            (kernels.attention_backward.reference, kernels.attention.reference(q, k, v, *options)),
            (kernels.attention_backward.cpu, kernels.attention.cpu(q, k, v, *options))))
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4)  # NaN in the same places
