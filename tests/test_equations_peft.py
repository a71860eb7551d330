"""Section "Parameter-efficient training": matrices of low rank, four bits a number, and prompts."""

import math

import numpy as np
import pytest

from minigen import grad, gradcheck, nn, tensor
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.multimodal.llama_adapter import ScaledLinear, ZeroInitAttention, llama_adapter
from minigen.models.multimodal.lora import LoRA, SelfAttention, frozen, frozen_bytes
from minigen.models.multimodal.qlora import (
    BLOCK,
    CONSTANTS,
    FP8,
    NF4,
    NF4Linear,
    NF4Matrix,
    dequantise,
    nf4_linear,
    quantise,
)

RNG = np.random.default_rng
D, HEADS = 16, 2


def normal(*shape, seed=1):
    return RNG(seed).normal(size=shape).astype(np.float32)


# LoRA ---------------------------------------------------------------------------------------------


def low_rank(layer, r=3):
    adapted = LoRA(layer, r, alpha=6.0, rng=RNG(2))
    adapted.B.data[...] = normal(*adapted.B.shape, seed=4)
    return adapted


def test_the_update_is_one_matrix_of_low_rank():
    layer, x = nn.Linear(10, 8, rng=RNG(0)), normal(4, 5, 10)
    adapted = low_rank(layer)
    W, b, A, B = (t.data.astype(float) for t in (layer.weight, layer.bias, adapted.A, adapted.B))
    by_hand = np.empty((4, 5, 8))
    for n, t, i in np.ndindex(4, 5, 8):
        low = [sum(A[m, j] * x[n, t, j] for j in range(10)) for m in range(3)]
        by_hand[n, t, i] = b[i] + sum(W[i, j] * x[n, t, j] for j in range(10)) \
            + 6 / 3 * sum(B[i, m] * low[m] for m in range(3))
    np.testing.assert_allclose(adapted(x).numpy(), by_hand, atol=1e-5)  # eq: lora
    merged = adapted.merged()
    np.testing.assert_allclose(merged(x).numpy(), by_hand, atol=1e-5)  # eq: lora
    assert np.linalg.matrix_rank(merged.weight.data - layer.weight.data, tol=1e-4) == 3


def test_the_gradients_are_those_of_the_whole_matrix_seen_through_the_narrow_ones():
    layer, x, target = nn.Linear(10, 8, rng=RNG(0)), normal(6, 10), normal(6, 8, seed=5)
    adapted = low_rank(layer)
    whole = adapted.merged()
    whole.weight = tensor(whole.weight.data, True)
    loss = lambda f: ((f(x) - target) ** 2).sum()
    dW = grad(loss(whole), [whole.weight])[0].numpy()
    dA, dB = (g.numpy() for g in grad(loss(adapted), [adapted.A, adapted.B]))
    np.testing.assert_allclose(dB, 2 * dW @ adapted.A.data.T, rtol=1e-3, atol=1e-3)  # eq: lora
    np.testing.assert_allclose(dA, 2 * adapted.B.data.T @ dW, rtol=1e-3, atol=1e-3)  # eq: lora


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match="the rank is 0, expected at least 1"):
        LoRA(nn.Linear(3, 2, rng=RNG(0)), 0)
    with pytest.raises(ValueError, match=r"W is \(3, 5\), expected an even number"):
        NF4Matrix(tensor(normal(3, 5)))
    with pytest.raises(ValueError, match="prompts for the last 4 of 3 blocks"):
        llama_adapter(LanguageModel(6, 5, D, depth=3, rng=RNG(0)), L=4)
    x, y = tensor(normal(1, 2, D)), tensor(normal(1, 2, D))
    with pytest.raises(ValueError, match="must be one tensor"):
        SelfAttention(nn.MultiheadAttention(D, HEADS, rng=RNG(0)))(x, y, y)


# Four bits ----------------------------------------------------------------------------------------


def test_the_values_are_those_that_were_published():
    published = [-1, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004,
                 0, 0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684,
                 1]
    np.testing.assert_allclose(NF4, published, atol=1e-6)  # eq: nf4-values


def test_between_two_values_lies_equal_probability():
    """By the error function; the largest value lies at the mean of the middles of the outermost of
    16 and of 15 equally probable intervals."""
    top = (1 - 1 / 16 / 2 + 1 - 1 / 15 / 2) / 2
    cdf = lambda x: (1 + math.erf(x / math.sqrt(2))) / 2
    low, high = 0, 10
    while high - low > 1e-12:  # Φ⁻¹ by bisection
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(middle) < top else (low, middle)
    steps = np.diff([cdf(low * q) for q in NF4.astype(float)])
    np.testing.assert_allclose(steps[:7], (top - 1 / 2) / 7, atol=1e-7)  # eq: nf4-values
    np.testing.assert_allclose(steps[7:], (top - 1 / 2) / 8, atol=1e-7)  # eq: nf4-values


def test_eight_bit_floats_are_all_that_can_be_written():
    """Sign, exponent (4 bits, bias 7) and mantissa (3 bits); exponent 0 is subnormal, all ones are
    NaN."""
    values = set()
    for bits in range(256):
        sign, exponent, mantissa = bits >> 7, bits >> 3 & 15, bits & 7
        x = 2.0 ** (exponent - 7) * (1 + mantissa / 8) if exponent else 2.0 ** -6 * mantissa / 8
        if bits & 127 < 127:
            values.add(-x if sign else x)
    assert max(values) == 448 and min(v for v in values if v > 0) == 2 ** -9
    np.testing.assert_allclose(FP8, np.array(sorted(values)) / 448, rtol=1e-6)


def test_numbers_become_the_nearest_values_of_their_block():
    x = normal(200)
    x[64:128] = 0
    index, c = quantise(x, NF4, BLOCK)
    back = dequantise(index, c, NF4, BLOCK)
    for n, number in enumerate(x):
        most = np.abs(x[n // BLOCK * BLOCK:][:BLOCK]).max()
        nearest = min(most * NF4, key=lambda v: abs(v - number))
        assert back[n] == pytest.approx(nearest, abs=1e-6)  # eq: blockwise-quantisation
    assert not back[64:128].any() and index.dtype == np.uint8


def test_normal_numbers_lose_less_than_to_equal_steps():
    x = normal(BLOCK * 4096)
    code = {"nf4": NF4, "equal": np.linspace(-1, 1, 16, dtype=np.float32),
            "int4": np.arange(-7, 8, dtype=np.float32) / 7}
    error = {name: np.sqrt(np.mean((dequantise(*quantise(x, q, BLOCK), q, BLOCK) - x) ** 2))
             for name, q in code.items()}
    assert error["nf4"] < 0.93 * error["equal"] < 0.93 * error["int4"] and error["nf4"] < 0.093
    share = np.bincount(quantise(x, NF4, BLOCK)[0]) / len(x)
    assert 3.8 < -np.sum(share * np.log2(share)) < 3.9  # bits of 4: not all equally frequent


def test_the_scales_take_an_eighth_of_a_bit():
    W = normal(1024, 512)
    stored, bits = NF4Matrix(tensor(W)), lambda n: 8 * n / W.size
    index, c = quantise(W.ravel(), NF4, BLOCK)
    single = bits(stored.packed.data.nbytes + c.astype(np.float32).nbytes)
    double = bits(frozen_bytes(stored) - stored.mean.data.nbytes)
    assert single == 4.5 and double == 4 + 8 / 64 + 32 / (64 * 256)
    assert single - double == pytest.approx(0.373, abs=2e-4)
    # by the definition: every constant is the nearest of 253, scaled by the largest of 256
    constants, mean = [], c.mean()
    for part in np.split(c - mean, range(CONSTANTS, len(c), CONSTANTS)):
        values = np.abs(part).max() * FP8
        constants += [mean + values[np.abs(values - number).argmin()] for number in part]
    want = NF4[index].reshape(-1, BLOCK) * np.array(constants)[:, None]
    np.testing.assert_allclose(stored.data, want.reshape(W.shape),
                               rtol=1e-4, atol=1e-6)  # eq: double-quantisation
    once = dequantise(index, c, NF4, BLOCK).reshape(W.shape)
    error = [np.sqrt(np.mean((some - W) ** 2)) for some in (once, stored.data)]
    assert error[1] < 1.005 * error[0]


def test_gradients_pass_four_bits_and_leave_no_matrix_behind():
    layer = nn.Linear(64, 6, rng=RNG(0))
    adapted, x = low_rank(NF4Linear(layer)), normal(3, 64)
    W = adapted.layer.weight.data + 2 * adapted.B.data @ adapted.A.data
    np.testing.assert_allclose(adapted(x).numpy(), x @ W.T + layer.bias.data,
                               atol=1e-5)  # eq: qlora
    x, weight = tensor(x, True), normal(3, 6, seed=8)
    dx = grad((adapted(x) * weight).sum(), [x])[0].numpy()
    np.testing.assert_allclose(dx, weight @ W, atol=1e-5)  # eq: qlora
    gradcheck(lambda x: nf4_linear(x, W=adapted.layer.weight), normal(3, 64).astype(float))
    node = nf4_linear(x, W=adapted.layer.weight).node
    assert node.data is None and node.saved is None and node.kw["W"] is adapted.layer.weight


# LLaMA-Adapter ------------------------------------------------------------------------------------


def test_prompts_are_attended_to_apart_and_through_a_gate():
    attention = frozen(nn.MultiheadAttention(D, HEADS, rng=RNG(0)))
    prompted = ZeroInitAttention(attention, 3, RNG(1))
    g = prompted.gate.weight.data[:] = np.array([0.7, -0.4]).reshape(2, 1, 1)
    x, P = normal(2, 4, D), prompted.prompt.weight.data
    W, b = attention.in_proj_weight.data, attention.in_proj_bias.data
    project = lambda part, a: a @ W[part * D:(part + 1) * D].T + b[part * D:(part + 1) * D]
    softmax = lambda s: np.exp(s) / np.exp(s).sum()
    o, d = np.zeros((2, 4, D)), D // HEADS
    for n, t, head in np.ndindex(2, 4, HEADS):
        part = slice(head * d, (head + 1) * d)
        q, seen = project(0, x[n, t])[part], x[n, :t + 1]
        for a, gate in ((P, np.tanh(g[head, 0, 0])), (seen, 1)):
            k, v = project(1, a)[:, part], project(2, a)[:, part]
            o[n, t, part] += gate * softmax(k @ q / np.sqrt(d)) @ v
    want = o @ attention.out_proj.weight.data.T + attention.out_proj.bias.data
    x = tensor(x)
    np.testing.assert_allclose(prompted(x, x, x, is_causal=True).numpy(), want,
                               atol=1e-5)  # eq: zero-init-attention


def test_a_bias_and_a_scale_for_each_output():
    layer, x = nn.Linear(4, 3, rng=RNG(0)), normal(5, 4)
    adapted = ScaledLinear(layer)
    assert np.array_equal(adapted(x).numpy(), layer(x).numpy())  # eq: adapter-bias-scale
    adapted.b.weight.data[:], adapted.s.weight.data[:] = b, s = [1, -2, 3], [0.5, 2, -1]
    for i in range(3):
        alone = s[i] * (x @ layer.weight.data[i] + layer.bias.data[i] + b[i])
        np.testing.assert_allclose(adapted(x).numpy()[:, i], alone,
                                   atol=1e-5)  # eq: adapter-bias-scale
