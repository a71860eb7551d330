"""PaLM-E: sentences with observations in them, what their loss counts, and worlds of blocks."""

import colorsys
import itertools

import numpy as np
import pytest

from minigen import nn, optim
from minigen.data import blocks, scenes
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.multimodal.palm_e import ImageEncoder, PaLME
from minigen.train import descend

RNG = np.random.default_rng
V, T, D, EMB = 7, 8, 8, 6
TEXTS = np.array([[1, EMB, EMB, EMB, EMB, EMB, 2, 3], [EMB, EMB, EMB, 4, EMB, EMB, 1, 0]])


def palm_e(depth=2):
    return PaLME(V, T, EMB, {"state": nn.Linear(3, D, rng=RNG(1)),
                             "image": ImageEncoder(4, D, (8, 8, 8), RNG(2))}, D, depth, 2, RNG(0))


def observed(n=2, first="state"):
    some = {"state": RNG(3).normal(size=(n, 1, 3)).astype(np.float32),
            "image": RNG(4).normal(size=(n, 3, 16, 16)).astype(np.float32)}
    return {kind: some[kind] for kind in sorted(some, key=lambda kind: kind != first)}


@pytest.mark.parametrize("first", ["state", "image"])
def test_a_sentence_is_words_and_what_is_perceived_in_order(first):
    model, given = palm_e(), observed(first=first)
    phi = np.concatenate([model.encoders[kind](o).numpy() for kind, o in given.items()], axis=1)
    x = model.sentence(TEXTS, model.encode_observations(2, given)).numpy()
    for n, text in enumerate(TEXTS):
        vectors = iter(phi[n])
        for l, word in enumerate(text):
            of_word = model.embed.weight.numpy()[word]
            want = next(vectors) if word == EMB else of_word
            np.testing.assert_allclose(  # eq: palm-e-sentence
                x[n, l], want + model.position.weight.numpy()[l], rtol=1e-5, atol=1e-6)


def test_without_observations_it_is_the_language_model():
    model, w = palm_e(), np.array([[1, 2, 3, 5, 0, 0, 0, 0]])
    assert model.loss(w).item() == pytest.approx(
        -model.log_prob(w).item() / 5, rel=1e-6)  # four words and the end
    np.testing.assert_array_equal(model.scores(w).numpy(), LanguageModel.scores(model, w).numpy())
    texts = np.where(w == 5, EMB, w)
    for call in (model.scores, model.loss, model.complete):
        with pytest.raises(ValueError, match="have 1 ⟨emb⟩ tokens, .* are 5 vectors"):
            call(texts, observed(1))
    with pytest.raises(ValueError, match="observations are sound, but .* for state, image"):
        model.scores(w, {"sound": w})
    with pytest.raises(ValueError, match="no token follows the first n of 1 texts"):
        model.loss(w, n=[6])
    for p in nn.parameters(model).values():
        p.data = p.data.astype(np.float64)
    assert model.scores(w).dtype == np.float64


def test_a_sign_that_it_writes_itself_is_a_word():
    model, given = palm_e(), observed()
    longer = np.pad(TEXTS[:1, :6], ((0, 0), (0, 2)), constant_values=EMB)
    phi = model.encode_observations(1, {kind: o[:1] for kind, o in given.items()})
    x = model.sentence(longer, phi).numpy()[0, 6:]
    np.testing.assert_allclose(
        x, (model.embed.weight.numpy()[EMB] + model.position.weight.numpy()[6:]), rtol=1e-6)


def test_only_words_behind_the_prompt_count():
    model, given, n = palm_e(), observed(), np.array([6, 5])
    nll, counted = model.token_nll(TEXTS, given).numpy(), []
    for row, text, first in zip(nll, TEXTS, n, strict=True):
        length = (text > 0).sum()
        counted += [row[l] for l in range(T) if first <= l <= length]
    assert len(counted) == 2 + 3
    assert model.loss(TEXTS, given, n).item() == pytest.approx(  # eq: palm-e-loss
        np.mean(counted), rel=1e-5)


def test_what_is_kept_of_a_sentence_is_what_it_was():
    model, given = palm_e(), observed()
    whole, (state, _) = model.scores(TEXTS, given).numpy(), model.start(2, given)
    for part in np.split(TEXTS, (1, 3, 4), axis=1):
        s, state = model.extend(state, part)
        np.testing.assert_allclose(s, whole[:, state[0].shape[1] - 1], atol=1e-5)


def test_a_word_knows_what_was_perceived_before_it():
    model = palm_e()
    s = model.scores(TEXTS, observed()).numpy()
    for kind, places in (("state", (1, 0)), ("image", (2, 1))):
        other = observed()
        other[kind] = other[kind] + 1
        moved = np.abs(model.scores(TEXTS, other).numpy() - s).max(-1) > 1e-6
        assert (moved == (np.arange(T) >= np.reshape(places, (2, 1)))).all()


def test_it_learns_to_tell_states_and_images_apart():
    model, given = palm_e(), observed()
    w, opt = TEXTS.copy(), optim.Adam(nn.parameters(model), 1e-2)
    w[1] = w[0]
    w[1, 6:] = 4, 5
    for _ in range(60):
        descend(opt, model.loss(w, given, 6), {})
    prompt = w * (np.arange(T) < 6)
    assert (model.complete(prompt, given) == w).all()


def test_worlds_stand_and_look_as_they_are():
    worlds = blocks.worlds(RNG(0), 200)
    x = blocks.draw(worlds, RNG(1)).astype(float)
    assert x.shape == (200, 3, scenes.SIZE, scenes.SIZE)
    for world, image in zip(worlds, x, strict=True):
        present = world[:, 1] >= 0
        assert 3 <= present.sum() <= 5 and (world[~present] == -1).all()
        for column in range(blocks.COLUMNS):
            levels = sorted(world[world[:, 0] == column, 1])
            assert levels == list(range(len(levels)))
        vivid = (image.max(0) - image.min(0)) > 80  # the background is not
        assert vivid.sum() == present.sum() * (blocks.SIDE - 1) ** 2
        left = np.flatnonzero(vivid.any(0))[0] - blocks.SIDE * world[present, 0].min()
        for block in np.flatnonzero(present):
            column, level = world[block]
            r, g, b = image[:, scenes.SIZE - 2 - blocks.SIDE * level - 4,
                            left + blocks.SIDE * column + 2] / 255
            hue = 360 * colorsys.rgb_to_hsv(r, g, b)[0]
            off = (hue - scenes.COLOURS[blocks.NAMES[block]] + 180) % 360 - 180
            assert abs(off) < 7


def test_answers_are_true_and_commands_do_what_is_asked_soonest():
    rng = RNG(2)
    for world in blocks.worlds(rng, 60):
        present = np.flatnonzero(world[:, 1] >= 0)
        support = dict(text.split(" on ") for text in blocks.describe(world, rng)[:-2].split(" . "))
        for block in present:
            on_it = [name for name, under in support.items() if under == blocks.NAMES[block]]
            assert [blocks.NAMES[i] for i in blocks.above(world, block)[:1]] == on_it
        one, other = rng.permutation(present)[:2]
        if blocks.under(world, one) == other:
            continue
        assert blocks.steps(world, one, other) == shortest(world, one, other)


def test_questions_are_about_what_is_there_and_answers_are_right():
    rng, kinds = RNG(5), set()
    for world in blocks.worlds(rng, 300):
        support = dict(text.split(" on ") for text in blocks.describe(world, rng)[:-2].split(" . "))
        question, answer = blocks.ask(world, rng)
        first, *onto = (word for word in question.split() if word in blocks.NAMES)
        one, kind = blocks.NAMES.index(first), question.split(first)[0]
        kinds.add(kind)
        if kind == "what is on ":
            right = [f"{name} block" for name, under in support.items() if under == first]
            assert [answer] == (right or ["nothing"])
        else:
            new = blocks.execute(world, answer)
            assert new is not None and support[first] not in onto
            free = not len(blocks.above(world, one))
            if not onto:
                assert (answer == f"grasp {first} block") == free
                assert free or len(blocks.above(new, one)) == len(blocks.above(world, one)) - 1
            else:
                other = blocks.NAMES.index(onto[0])
                assert blocks.steps(world, one, other) == 1 + (
                    0 if blocks.under(new, one) == other else blocks.steps(new, one, other))
    assert kinds == {"what is on ", "how to grasp ", "how to put "}


def shortest(world, one, other):
    """The least number of commands that put one block on another, by a search of all commands."""
    names = [blocks.NAMES[i] for i in np.flatnonzero(world[:, 1] >= 0)]
    commands = [f"first grasp {a} block" for a in names] + [
        f"grasp {a} block and put it on {b} block" for a, b in itertools.permutations(names, 2)]
    layer, n, known = [world], 0, set()
    while not any(blocks.under(w, one) == other for w in layer):
        following = [new for w in layer for command in commands
                     if (new := blocks.execute(w, command)) is not None]
        layer, n = [], n + 1
        for w in following:
            key = tuple((blocks.under(w, i) if w[i, 1] >= 0 else -1) for i in range(6))
            if key not in known:
                known.add(key)
                layer.append(w)
    return n


@pytest.mark.parametrize("command", ["", "nothing", "first grasp red block", "grasp pink block",
                                     "grasp block", "first grasp block", "grasp yellow block green",
                                     "yellow first grasp block", "grasp yellow block and put",
                                     "grasp yellow block and put it on block",
                                     "grasp green block and put it on green block",
                                     "grasp blue block and put it on red block"])
def test_what_cannot_be_obeyed_is_not(command):
    world = np.array([[0, 0], [-1, -1], [0, 1], [1, 0], [2, 0], [-1, -1]])  # yellow is on red
    assert blocks.execute(world, command) is None
