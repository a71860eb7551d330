"""Training few parameters: where each way starts, what it changes; and the demo's questions."""

import copy

import numpy as np
import pytest

from demos import parameter_efficient as demo
from minigen import grad, nn, optim
from minigen.data import scenes
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.multimodal.llama_adapter import llama_adapter, llama_adapter_v2
from minigen.models.multimodal.lora import SelfAttention, frozen_bytes, lora
from minigen.models.multimodal.qlora import NF4Matrix, qlora
from minigen.train import descend

RNG = np.random.default_rng
V, T, D, HEADS = 6, 5, 16, 2
WORDS = RNG(3).integers(1, V, (4, T))
WAYS = {"lora": lora, "qlora": qlora, "adapter": llama_adapter, "adapter v2": llama_adapter_v2}


def language_model():
    return LanguageModel(V, T, D, depth=3, heads=HEADS, rng=RNG(0))


def normal(*shape, seed=1):
    return RNG(seed).normal(size=shape).astype(np.float32)


def rounded(lm):
    """A copy of a language model whose blocks' matrices are Ŵ."""
    lm = copy.deepcopy(lm)
    for block in lm.blocks:
        for p in (block.attention.in_proj_weight, block.attention.out_proj.weight,
                  block.mlp[0].weight, block.mlp[2].weight):
            p.data[...] = NF4Matrix(p).data
    return lm


@pytest.mark.parametrize("way", WAYS)
def test_training_starts_from_the_frozen_model(way):
    """Bit for bit, once the projections of queries, keys and values are one product in both."""
    lm = language_model()
    adapted = WAYS[way](lm, rng=RNG(1)).scores(WORDS).numpy()
    lm = rounded(lm) if way == "qlora" else lm
    assert np.allclose(adapted, lm.scores(WORDS).numpy(), atol=1e-5)  # eq: zero-init-attention
    for block in lm.blocks[1 if way == "adapter" else 0:]:
        block.attention = SelfAttention(block.attention)
    assert np.array_equal(adapted, lm.scores(WORDS).numpy())  # eq: zero-init-attention


@pytest.mark.parametrize("way", WAYS)
def test_only_what_was_added_learns(way):
    lm = language_model()
    before = nn.state_dict(lm)
    adapted = WAYS[way](lm, rng=RNG(1))
    start, opt = nn.state_dict(adapted), optim.Adam(nn.parameters(adapted), 2e-2)
    losses = [descend(opt, adapted.loss(WORDS))["loss"] for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]
    end = nn.state_dict(adapted)
    changed = {key for key in end if not np.array_equal(end[key], start[key])}
    assert changed == set(nn.parameters(adapted)) and set(nn.buffers(adapted)) == {*end} - changed
    names = {"lora": ("A", "B"), "qlora": ("A", "B")}.get(way, ("prompt.weight", "gate.weight"))
    if way == "adapter v2":
        names += ("b.weight", "s.weight", *(f"{norm}.{p}" for norm in ("norm_1", "norm_2", "norm")
                                            for p in ("weight", "bias")))
    assert {key for key in changed if not key.endswith(names)} == set()
    assert all(np.array_equal(a, before[key]) for key, a in nn.state_dict(lm).items())


@pytest.mark.parametrize("way", WAYS)
def test_decoding_reads_the_same(way):
    adapted = WAYS[way](language_model(), rng=RNG(1))
    for n, p in enumerate(nn.parameters(adapted).values()):
        p.data += normal(*p.shape, seed=n) / 4
    whole, (state, _) = adapted.scores(WORDS).numpy(), adapted.start(len(WORDS))
    assert np.abs(whole - language_model().scores(WORDS).numpy()).max() > 0.1
    for part in np.split(WORDS, (1, 3), axis=1):
        s, state = adapted.extend(state, part)
        assert np.allclose(s, whole[:, state[0].shape[1] - 1], atol=1e-4)


def test_its_adapters_learn_as_on_the_rounded_model():
    lm = language_model()
    some, other = qlora(lm, rng=RNG(1)), lora(rounded(lm), rng=RNG(1))
    for _ in range(2):
        one, two = (grad(m.loss(WORDS), nn.parameters(m)) for m in (some, other))
        for (key, a), b in zip(one.items(), two.values(), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-6)
            for m in (some, other):
                nn.parameters(m)[key].data -= 0.1 * a.numpy()
    assert frozen_bytes(some) < frozen_bytes(other) / 3


def test_how_many_parameters_there_are():
    """The paper's 1.2 million: 10 prompts of 4,096 numbers in 30 blocks of LLaMA-7B, 32 heads."""
    count = lambda K, L, D, heads: L * (K * D + heads)
    size = lambda lm: sum(p.size for p in nn.parameters(lm).values())
    lm = language_model()
    assert size(llama_adapter(lm, 4, 2)) == count(4, 2, D, HEADS)
    assert count(10, 30, 4096, 32) == pytest.approx(1.2e6, rel=0.03)
    outputs = 3 * D + D + 4 * D + D  # of the matrices of a block
    assert size(llama_adapter_v2(lm, 4, 2)) == count(4, 2, D, HEADS) + 3 * 2 * outputs + 7 * 2 * D
    rows_and_columns = outputs + (D + D + D + 4 * D)
    assert size(lora(lm, 2)) == size(qlora(lm, 2)) == 3 * 2 * rows_and_columns


def test_answers_are_true_of_the_image():
    """By the record of the scene, not by its caption, from which the demo reads them."""
    data, rng, asked = scenes.load(n_train=1, n_test=300), RNG(0), set()
    for caption, scene in zip(data.test_captions, data.test_scenes, strict=True):
        number, shape, colour, size, centre, ground = scene
        names = [(scenes.SIZES[s], list(scenes.COLOURS)[c], scenes.SHAPES[f])
                 for s, c, f in zip(size, colour, shape, strict=True)][:number]
        kind, question, answer = demo.ask(str(caption), rng)
        words, whole = question.split(), f"{question} {answer}"
        assert scenes.decode(demo.encode([whole]), demo.VOCABULARY) == [whole]
        asked.add(kind)
        if kind == "colour":
            assert [c for s, c, f in names if [s, f] == words[4:6]] == [answer]
        elif kind == "what":
            assert [f"a {s} {f}" for s, c, f in names if c == words[2]] == [answer]
        elif kind == "count":
            assert answer == ("one", "two", "three")[number - 1]
        elif kind == "ground":
            assert answer == scenes.GROUNDS[ground]
        elif number == 1:
            column, row = (int(part) for part in (centre[0] + 0.5) // (32 / 3))
            assert words[3:5] == [*names[0][1:]] and scenes.PLACES[row][column] == answer
        else:
            (i,), (j,) = ([k for k, name in enumerate(names) if [*name[1:]] == words[at:at + 2]]
                          for at in (3, 7))
            dx, dy = centre[i] - centre[j]
            across, along = "left of" if dx < 0 else "right of", "above" if dy < 0 else "below"
            assert answer == (across if abs(dx) > abs(dy) else along)
    assert asked == set(demo.KINDS)
