"""Attention in CUDA, forward and backward, against its reference."""

import numpy as np
import pytest
from cuda_checks import PRECISIONS, ROUNDING, force_hopper
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import check, normal

from minigen import kernels


def agrees(on, q, k, v, g, mask, is_causal, precisions=PRECISIONS):
    """Output and gradients are as close to the reference's in float64 as the arithmetic allows.

    With u the rounding error of a factor and A the largest Σ|q·k|·scale, a score is off by at most
    2uA, so p by 4uA relative to itself; ds by that and by 2u of g·v and of its mean δ, which are at
    most G.
    """
    scale, scores = 0.4, np.abs(q) @ np.abs(k).swapaxes(1, 2)
    options = mask, is_causal, scale
    o, lse = exact = kernels.attention.reference(q, k, v, *options)
    exact += kernels.attention_backward.reference(g, o, lse, q, k, v, *options)
    p = np.exp(scale * q @ k.swapaxes(1, 2) + (
        0 if mask is None else np.where(mask, 0, -np.inf) if mask.dtype == bool else mask)
        - np.where(np.isfinite(lse), lse, np.inf)[..., None])
    seen, biggest = p.sum(1)[..., None], lambda a: np.abs(a).max(initial=0)
    G = biggest(np.abs(g) @ np.abs(v).swapaxes(1, 2))
    sizes = (biggest(v), 1, 2 * scale * G * biggest(k), 2 * scale * G * biggest(q) * seen,
             biggest(g) * seen)
    for precision, dtype in precisions:
        to = lambda a, dtype=dtype: a if a is None or a.dtype == bool else a.astype(dtype)
        with kernels.precision(precision):
            o, lse = on.run(kernels.attention, to(q), to(k), to(v), to(mask), *options[1:])
            grads = on.run(kernels.attention_backward, to(g), o, lse, to(q), to(k), to(v), to(mask),
                           *options[1:])
        u = ROUNDING[precision] + np.finfo(dtype).eps * (2 + sum(q.shape[1:]) + v.shape[1])
        relative = u * (4 * (1 + scale * biggest(scores)) + 8)
        for y, want, size in zip((o, lse, *grads), exact, sizes, strict=True):
            assert y.shape == want.shape and y.dtype == dtype
            finite = np.isfinite(want)
            assert (y[~finite] == want[~finite]).all()  # −∞
            error = np.abs(np.where(finite, y, 0) - np.where(finite, want, 0))
            assert (error <= relative * size).all(), (precision, dtype, error.max())


@settings(check, max_examples=10)
@given(data=st.data())
def test_attention(on, data):
    whole = lambda low, high: data.draw(st.integers(low, high))
    B, T, S, D, E = whole(0, 2), whole(1, 90), whole(1, 70), whole(1, 16), whole(1, 16)
    rng, kind = np.random.default_rng(whole(0, 99)), data.draw(st.sampled_from([None, bool, float]))
    mask = kind and normal(rng, np.float64, data.draw(st.sampled_from([1, B])), T, S)
    if kind is bool:
        mask = mask > 0
        mask[:, T // 2] = False
    q, k, v, g = (normal(rng, np.float64, *s) for s in ((B, T, D), (B, S, D), (B, S, E), (B, T, E)))
    agrees(on, q, k, v, g, mask, data.draw(st.booleans()))


@pytest.mark.parametrize("head, precision", [
    (32, "fp32"), (64, "tf32"), (64, "bf16"), (128, "bf16"), (100, "fp32"), (64, "fp64")])
def test_sizes_of_heads(on, head, precision):
    rng = np.random.default_rng(head)
    q, k, v, g = (normal(rng, np.float64, 2, n, head) / 3 for n in (150, 140, 140, 150))
    dtype = np.float64 if precision == "fp64" else np.float32
    agrees(on, q, k, v, g, None, head != 64, ((precision.replace("fp64", "fp32"), dtype),))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_warpgroups(on, is_causal, masked, monkeypatch):
    force_hopper(monkeypatch, True)
    rng = np.random.default_rng(0)
    q, k, v, g = (normal(rng, np.float64, 2, n, 50) for n in (150, 140, 140, 150))
    mask = normal(rng, np.float64, 2, 150, 140) > 0 if masked else None
    agrees(on, q, k, v, g, mask, is_causal, (("bf16", np.float32),))


def test_scores_of_any_size(on):
    """Scores that grow, fall, are far below 0, vary little, or are largest at the end."""
    rng, S = np.random.default_rng(0), 207
    q, k, v, g = (normal(rng, np.float64, 1, n, 16) for n in (40, S, S, 40))
    ends = (0, 199), (199, 0), (-300, -99), (8, 0)
    kinds = [np.linspace(*e, S) for e in ends] + [np.repeat([-np.inf, -150, 7], (130, 67, 10))]
    mask = np.repeat(kinds, 8, 0)[None]
    agrees(on, q, k, v, g, mask, False)
    # a score of 0 for a key beyond S would weigh e^100 times more than the others
    agrees(on, 0 * q + 4, 0 * k - 4, v, g, None, False)


def test_every_run_gives_the_same_bytes(on):
    q, g = normal(np.random.default_rng(0), np.float32, 2, 3, 150, 16)
    with kernels.precision("bf16"):
        o, lse = on.run(kernels.attention, q, q, q, None, False, 0.3)
        args = kernels.attention_backward, g, o, lse, q, q, q, None, False, 0.3
        for a, b in zip(on.run(*args), on.run(*args), strict=True):
            assert a.tobytes() == b.tobytes()


def test_a_head_that_is_too_large_is_refused(on):
    q = np.zeros((1, 4, 129), np.float32)
    with pytest.raises(ValueError, match="heads of 129 float32 numbers; on CUDA at most 128"):
        on.run(kernels.attention, q, q, q, None, False, 1.0)


@pytest.mark.parametrize("where", ["q", "k", "v", "mask"])
def test_nan_is_handed_on(on, where):
    rng = np.random.default_rng(0)
    arrays = {name: normal(rng, np.float32, 1, 40, 16) for name in "qkv"}
    arrays["mask"] = np.zeros((1, 40, 40), np.float32)
    arrays[where][0, 3, 5] = np.nan
    args = *arrays.values(), False, 0.25
    for y, want in zip(on.run(kernels.attention, *args), kernels.attention.reference(*args),
                       strict=True):
        assert (np.isnan(y) == np.isnan(want)).all()
