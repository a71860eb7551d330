"""InstructGPT (slide "Pixel to Paper Summaries"): rewards are learnt, and answers maximise
them. Answers here have at most three words, from a vocabulary of three, so all can be listed."""

import copy

import numpy as np
import pytest
from small_worlds import all_of

from demos.instruct_gpt import (
    ALIKE,
    INSTRUCTIONS,
    NEVER,
    OPPOSITE,
    TAUGHT,
    corrupt,
    describe,
    errors,
    preferred,
    prompts,
)
from minigen import grad, nn, optim, sum, tensor
from minigen.data.esperanto import esperanto
from minigen.models.multimodal.instruct_gpt import (
    PPO,
    Prompted,
    ScalarHeadLM,
    advantages,
    preference_loss,
    token_mask,
)
from minigen.models.multimodal.language_model import LanguageModel, TextModel, shift_right
from minigen.train import descend

RNG = np.random.default_rng
V, T, D = 4, 3, 8
EVERY = all_of(V, T)
EVERY = EVERY[((EVERY[:, :-1] > 0) | (EVERY[:, 1:] == 0)).all(1)]
X = np.repeat([[2, 3]], len(EVERY), 0)  # the same prompt for each of them


def language_model(seed):
    lm = LanguageModel(V, T, D, depth=2, heads=2, rng=RNG(seed))
    nn.astype(lm, np.float64)
    lm.out.weight.data *= 4
    return lm


def scalar_head(seed):
    model = ScalarHeadLM(language_model(seed), RNG(seed))
    nn.astype(model, np.float64)
    model.out.weight.data *= 4
    return model


def exact(lam=1.0, beta=0.3):
    """A PPO whose policy answers with every text and whose values are 0, and those answers."""
    policy, value = Prompted(language_model(1)), scalar_head(4)
    value.out.weight.data[...] = value.out.bias.data[...] = 0
    ppo = PPO(policy, Prompted(language_model(2)), scalar_head(3), value, beta, lam=lam)
    policy.sample = lambda n, rng, x: EVERY
    return ppo, ppo.rollout(X, None)


# Rewards ------------------------------------------------------------------------------------------


def test_rewards_are_read_after_each_word_and_the_end():
    model = scalar_head(0)
    r = model.rewards(EVERY, X).numpy()
    w, b = model.out.weight.numpy()[0], model.out.bias.numpy()[0]
    for n, y in enumerate(EVERY):
        last = min((y > 0).sum(), T - 1)  # the end counts as a word
        assert not r[n, last + 1:].any()
        for t in range(last + 1):
            h = model.lm.hidden(y[None, :t + 1], model.lm.embed_tokens(X[:1])).numpy()[0, -1]
            assert r[n, t] == pytest.approx(h @ w + b)
    assert len(set(r.sum(1).round(9))) == len(EVERY)
    assert np.abs(model.rewards(EVERY, X[:, ::-1]).numpy().sum(1) - r.sum(1)).min() > 1e-6


def test_a_value_knows_what_stands_before_its_word():
    model = scalar_head(0)
    y = np.array([[1, 2, 3]])
    V_t = model.values(y, X[:1]).numpy()[0]
    for t in range(T):
        other = y.copy()
        other[0, t] = 3 - y[0, t] % 3
        moved = np.abs(model.values(other, X[:1]).numpy()[0] - V_t) > 1e-9
        assert moved.tolist() == [False] * (t + 1) + [True] * (T - t - 1)


def test_the_preference_loss_is_that_of_the_logistic_law():
    better, worse = RNG(0).normal(size=(2, 50)) * 3
    p = np.exp(better) / (np.exp(better) + np.exp(worse))  # the Bradley–Terry model
    loss = preference_loss(tensor(better), tensor(worse)).item()
    assert loss == pytest.approx(-np.log(p).mean())  # eq: reward-model-loss


def test_rewards_tend_to_how_often_people_prefer_an_answer():
    """Three answers: people prefer 0 to 1 in three of four comparisons, 1 to 2 in two of three."""
    pairs = np.array([[0, 1], [0, 1], [0, 1], [1, 0], [1, 2], [1, 2], [2, 1]])
    r = tensor(np.zeros(3), True)
    opt = optim.Adam({"r": r}, 0.05)
    for _ in range(800):
        descend(opt, preference_loss(r[pairs[:, 0]], r[pairs[:, 1]]))
    odds = np.exp(-np.diff(r.numpy()))
    assert np.allclose(odds, [3, 2], atol=1e-3)  # eq: reward-model-loss


# Advantages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_an_advantage_is_a_sum_of_surprises(lam):
    R, V_t = RNG(0).normal(size=(2, 5, 6))
    A = advantages(R, V_t, lam)
    for n, t in np.ndindex(5, 6):
        after = [*V_t[n, 1:], 0]
        delta = [R[n, k] + after[k] - V_t[n, k] for k in range(6)]
        by_hand = np.sum([lam ** (k - t) * delta[k] for k in range(t, 6)])
        assert A[n, t] == pytest.approx(by_hand)  # eq: gae
        if lam == 1:  # the return minus its expectation
            assert A[n, t] == pytest.approx(R[n, t:].sum() - V_t[n, t])  # eq: gae


# PPO ----------------------------------------------------------------------------------------------


def objective(ppo):
    """E [r − β log (π / π_SFT)], a sum over all answers."""
    log_pi, log_sft = (p.log_prob(EVERY, X) for p in (ppo.policy, ppo.sft))
    r = sum(ppo.reward_model.rewards(EVERY, X), 1).detach()
    pi = np.exp(log_pi.numpy())
    assert pi.sum() == pytest.approx(1)
    # the weights depend on θ too: ∇π = π ∇log π
    return sum(pi * (1 + log_pi - log_pi.detach()) * (r - ppo.beta * (log_pi - log_sft.detach())))


def test_words_earn_rewards_and_pay_for_leaving_the_first_policy():
    ppo, a = exact()
    r = ppo.reward_model.rewards(EVERY, X).numpy()
    one = -(ppo.policy.token_nll(EVERY, X) - ppo.sft.token_nll(EVERY, X)).numpy()
    assert np.allclose(a.kl, one.sum(1)) and np.allclose(a.r, r.sum(1))
    for n, t in np.ndindex(EVERY.shape):
        followed = r[n, t:].sum() - ppo.beta * one[n, t:].sum()
        assert a.returns[n, t] == pytest.approx(followed, abs=1e-9)  # eq: rlhf-objective
    assert token_mask(EVERY).sum(1).tolist() == [min((y > 0).sum() + 1, T) for y in EVERY]


def test_the_slope_at_the_old_policy_is_that_of_the_objective():
    """Exactly, because every answer is present, weighted by its probability: so neither a constant
    subtracted from all advantages nor the rewards before a word change the slope."""
    ppo, a = exact()
    theta = nn.parameters(ppo.policy)
    want = grad(objective(ppo), theta)
    spread, n = a.returns[token_mask(EVERY)].std(), token_mask(EVERY).sum()
    a.A = a.A * spread * n * np.exp(a.log_old.sum(1, keepdims=True))
    got = grad(ppo.loss(a)[0], theta)
    size = max(np.abs(g.numpy()).max() for g in want.values())
    assert size > 0.01
    for name in theta:
        apart = np.abs(got[name].numpy() + want[name].numpy()).max()
        assert apart < 1e-6 * size  # eq: ppo-clip  # eq: rlhf-objective


@pytest.mark.parametrize("A, rho, value, slope", [
    (2, 1.1, 2.2, 2), (2, 1.5, 2.4, 0), (2, 0.5, 1.0, 2),  # no gain beyond ρ = 1.2
    (-2, 1.1, -2.2, -2), (-2, 1.5, -3.0, -2), (-2, 0.5, -1.6, 0)])
def test_a_ratio_that_went_far_to_the_better_is_not_pushed_on(A, rho, value, slope):
    ppo, a = exact()
    log_pi, a.A[...] = a.log_old.copy(), 0
    a.A[5, 0], a.log_old[5, 0] = A * token_mask(EVERY).sum(), a.log_old[5, 0] - np.log(rho)
    s = tensor(-log_pi, True)  # the NLL, treated as the parameter
    ppo.policy.token_nll = lambda y, x: s
    loss = ppo.loss(a)[0]
    assert loss.item() == pytest.approx(-value)  # eq: ppo-clip
    g = grad(loss, s).numpy()
    assert g[5, 0] == pytest.approx(rho * slope) and np.count_nonzero(g) == (slope != 0)


def test_the_values_loss_is_the_mean_square_of_what_was_not_expected():
    ppo, a = exact(lam=0.7)
    ppo.value.out.bias.data[...] = 0.5
    error = ppo.loss(a)[1].item()
    assert error == pytest.approx(np.mean((0.5 - a.returns[token_mask(EVERY)]) ** 2))


class Table(TextModel):
    """A policy with free scores after every prefix of a text."""

    V, T = V, T
    index = {begin: k for k, begin in enumerate(
        sorted({tuple(y[:t]) for y in EVERY for t in range(T)}))}

    def __init__(self):
        self.s = tensor(np.zeros((len(self.index), V)), True)

    def scores(self, w, x):
        rows = [self.index[tuple(row[1:t + 1])] for row in w for t in range(T)]
        return self.s[np.array(rows)].reshape(*w.shape, V)


def test_the_best_policy_is_the_first_one_tilted_by_the_reward():
    ppo, _ = exact()
    ppo.policy = Table()
    opt, first = optim.Adam({"s": ppo.policy.s}, 0.1), objective(ppo).item()
    for _ in range(600):
        descend(opt, -objective(ppo))
    tilted = np.exp(ppo.sft.log_prob(EVERY, X).numpy()
                    + ppo.reward_model.rewards(EVERY, X).numpy().sum(1) / ppo.beta)
    pi = np.exp(ppo.policy.log_prob(EVERY, X).numpy())
    assert np.abs(pi - tilted / tilted.sum()).max() < 1e-3  # eq: rlhf-objective
    best = ppo.beta * np.log(tilted.sum())
    assert first < best - 1 and objective(ppo).item() == pytest.approx(best, abs=1e-3)


def test_answers_become_better():
    """With sampled, not listed, answers, and a reward through which no gradient flows."""
    policy = Prompted(language_model(1))
    ppo = PPO(policy, copy.deepcopy(policy), scalar_head(3), scalar_head(4), beta=0.05)
    ppo.reward_model.rewards = lambda y, x: tensor((y == 2).astype(float))
    opts = [optim.Adam(nn.parameters(policy), 1e-2), optim.Adam(ppo.value.trained(), 1e-2)]
    x, rewards = np.repeat([[2, 3]], 64, 0), []
    for t in range(40):
        answers = ppo.rollout(x, RNG(t))
        rewards.append(answers.r.mean())
        for _ in range(2):
            for opt, loss in zip(opts, ppo.loss(answers), strict=True):
                descend(opt, loss)
    assert rewards[0] < 1.5 and rewards[-1] > 2.5
    assert np.isin(shift_right(policy.sample(9, RNG(0), x[:9])), (0, 2)).all()


# The demo's people --------------------------------------------------------------------------------


def test_instructions_are_done_as_they_say():
    scene = (("small", "red", "ring"), "left of", ("large", "blue", "cross"), "dark")
    assert describe(scene) == "a small red ring left of a large blue cross on a dark background"
    assert describe(scene, ["reversed"]) == \
        "a large blue cross right of a small red ring on a dark background"
    assert describe(scene, ["mirrored"]) == \
        "a small red ring right of a large blue cross on a dark background"
    assert describe(scene, ["short"]) == "a red ring left of a blue cross"
    assert describe(scene, INSTRUCTIONS) == "blua kruco maldekstre de ruĝa ringo"
    assert describe((scene[0], "above", *scene[2:]), ["mirrored", "short"]) == \
        "a red ring above a blue cross"
    assert all(OPPOSITE[OPPOSITE[relation]] == relation for relation in OPPOSITE)


def test_prompts_tell_what_is_asked():
    assert len({*TAUGHT, *NEVER}) == 15 and {name for kind in NEVER for name in kind} \
        == {some for some, *more in TAUGHT if not more} == set(INSTRUCTIONS)
    for kind in TAUGHT + NEVER:
        for prompt, right in zip(*prompts(RNG(0), 20, [kind]), strict=True):
            instructions, given = prompt.split(" : ")
            instructions = instructions.split(" and ")
            assert sorted(instructions) == sorted(kind)
            relation = next(r for r in OPPOSITE if f" {r} " in given)
            things, ground = given.removesuffix(" background").rsplit(" on a ", 1)
            first, second = (tuple(thing.split()[-3:]) for thing in things.split(relation))
            scene = first, relation, second, ground
            assert describe(scene) == given and describe(scene, instructions) == right


def test_a_mistake_is_one_word_of_its_kind():
    for instructions in ((), ["esperanto"], ["short"]):
        scene = (("small", "red", "ring"), "left of", ("large", "blue", "cross"), "dark")
        right = describe(scene, instructions)
        places = set()
        for seed in range(200):
            pairs = zip(right.split(), corrupt(right, RNG(seed)).split(), strict=True)
            (t, word, other), = ((t, *pair) for t, pair in enumerate(pairs) if pair[0] != pair[1])
            places.add(word)
            words = [w for kind in ALIKE for w in kind if word in (*kind, *map(esperanto, kind))]
            assert other in (*words, *map(esperanto, words))
        assert len(places) == (5 if instructions == ["short"] else 7)


def test_people_prefer_fewer_wrong_words():
    """Two prompts, four answers to each."""
    mistakes = np.array([0, 2, 2, 1, 5, 0, 0, 0])
    better, worse = preferred(mistakes)
    assert sorted(zip(better.tolist(), worse.tolist(), strict=True)) == [
        (0, 1), (0, 2), (0, 3), (3, 1), (3, 2), (5, 4), (6, 4), (7, 4)]
    assert errors(np.array([[1, 2, 0], [1, 2, 3]]), np.array([1, 3, 0])).tolist() == [1, 2]
