"""InstructGPT: a language model learns to follow instructions, and then what people prefer.

    python demos/instruct_gpt.py                          offline, on sentences that it draws

A sentence describes how two objects lie. A language model first learns such sentences, in English
and Esperanto, some of them after another with the same meaning, so that the tasks are implicit in
the text. Then it learns to follow instructions about a sentence, one of four or several at once,
from answers that (simulated) people wrote (SFT). One in three of these has a wrong word, and the
model learns that too. But people see which of two answers has fewer wrong words; a reward model
learns their preferences (RM). Last, the model generates answers, and their words become more or
less probable according to the reward (PPO).

samples.png: prompts with the answers after SFT and after PPO, green if they are right; answers.txt
has more of them, with the reward model's scores. Numbers are over 500 new prompts of each kind:
with combinations of instructions seen in training (@taught), or with combinations never seen, whose
single instructions were (@never).

right: the share of sampled answers that are right in every word; preferred: how often people prefer
the answer after PPO to the one after SFT, ties counting half; reward_model: how often, of two
answers after SFT that are not equally good, the reward model prefers the better; kl: how far PPO
has moved from π_SFT, in nats per answer; text_nats: −log p of a sentence that follows nothing, as
it was learnt first.
"""

import copy
from itertools import combinations

import numpy as np

from minigen import metrics, nn, no_grad, optim, pictures, sum, train
from minigen.data import scenes
from minigen.data.esperanto import ESPERANTO, esperanto
from minigen.demo import Demo, cli
from minigen.models.multimodal.instruct_gpt import PPO, Prompted, ScalarHeadLM, preference_loss
from minigen.models.multimodal.language_model import LanguageModel
from minigen.nn.parameters import write_bytes

INSTRUCTIONS = ("short", "reversed", "mirrored", "esperanto")  # carried out in this order
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
NEVER = [("short", "mirrored"), ("reversed", "esperanto"), ("short", "reversed", "mirrored"),
         ("reversed", "mirrored", "esperanto")]
TAUGHT = [kind for count in range(1, 5) for kind in combinations(INSTRUCTIONS, count)
          if kind not in NEVER]
ALIKE = (scenes.SIZES, tuple(scenes.COLOURS), scenes.SHAPES, ("left", "right", "above", "below"))
MISTAKES = 1 / 3  # the share of people's answers that have a wrong word
ANSWERS = 4  # per prompt; people compare all pairs of them
GAMMA = 0.1
VOCABULARY = ("", ":", *INSTRUCTIONS, *sorted(
    {*scenes.VOCABULARY[1:], *" ".join(ESPERANTO.values()).split()}))
LENGTH = 22  # words of a prompt with four instructions; answers are shorter
STAGES = {"text": 0, "sft": 0.2, "rm": 0.5, "ppo": 0.7}  # the share of the steps before each
EPOCHS = 2  # gradient steps of PPO on one batch of answers
SHOWN, DRAWN = 60, 8  # prompts of each kind in answers.txt and in samples.png


def random_scene(rng):
    """A random scene: an object (size, colour, shape), its relation to another, that object,
    and the ground."""
    colours = rng.choice(list(scenes.COLOURS), 2, replace=False)
    first, second = ((rng.choice(scenes.SIZES), colour, rng.choice(scenes.SHAPES))
                     for colour in colours)
    return first, rng.choice(list(OPPOSITE)), second, rng.choice(scenes.GROUNDS)


def describe(scene, instructions=()):
    """A scene in words, as the instructions ask for."""
    first, relation, second, ground = scene
    if "reversed" in instructions:
        first, relation, second = second, OPPOSITE[relation], first
    if "mirrored" in instructions and relation.endswith("of"):
        relation = OPPOSITE[relation]
    skip = 1 if "short" in instructions else 0
    words = f"a {' '.join(first[skip:])} {relation} a {' '.join(second[skip:])}"
    if "short" not in instructions:
        words += f" on a {ground} background"
    return esperanto(words) if "esperanto" in instructions else words


def prompts(rng, n, kinds):
    """n prompts, each with instructions that are one of the `kinds`, and the right answers."""
    texts, targets = [], []
    for _ in range(n):
        instructions, scene = rng.permutation(kinds[rng.integers(len(kinds))]), random_scene(rng)
        texts.append(f"{' and '.join(instructions)} : {describe(scene)}")
        targets.append(describe(scene, instructions))
    return texts, targets


def corrupt(answer, rng):
    """An answer in which one size, colour, shape or relation is replaced by another."""
    words = answer.split()
    kinds = [*ALIKE, *(tuple(map(esperanto, kind)) for kind in ALIKE)]
    positions = [(t, kind) for t, word in enumerate(words) for kind in kinds if word in kind]
    t, kind = positions[rng.integers(len(positions))]
    words[t] = rng.choice([word for word in kind if word != words[t]])
    return " ".join(words)


def encode(texts):
    return scenes.encode(texts, VOCABULARY, LENGTH)


def errors(y, target):
    """The number of positions at which answers y (N, T) differ from the right ones (N, T): (N,)."""
    return (y != target).sum(1)


def implicit(rng, n):
    """Sentences for n scenes, and others with the same meaning; without instructions."""
    before, after = [], []
    for _ in range(n):
        scene = random_scene(rng)
        instructions = [[name for name in ("short", "reversed", "esperanto") if rng.random() < 0.5]
                        for _ in range(2)]
        before.append(describe(scene, instructions[0]))
        after.append(describe(scene, instructions[1]))
    return encode(before), encode(after)


def main(argv=None):
    run = Demo("instruct_gpt", __doc__, argv, data=("sentences",), batch=64, steps=2000,
               staged=True)
    policy = Prompted(LanguageModel(len(VOCABULARY), LENGTH, 64, 1 if run.quick else 2, std=0.2))
    nn.init(policy, run.rng)
    sft = copy.deepcopy(policy)
    reward_model, value = (ScalarHeadLM(copy.deepcopy(policy.lm), run.rng) for _ in range(2))
    ppo = PPO(policy, sft, reward_model, value)
    opts = {"lm": optim.Adam(nn.parameters(policy)), "value": optim.Adam(value.trained()),
            "reward_model": optim.Adam(reward_model.trained())}
    stages, shares = list(STAGES), (*STAGES.values(), 1)

    def step(t, rng):
        k, start, end = optim.stage_at(t, shares, run.args.steps)
        stage, n = stages[k - 1], run.args.batch
        rate = 3e-3 * optim.warmup_cosine(t, start, end, floor=0.02)
        if t == int(STAGES["rm"] * run.args.steps):
            for part in (sft.lm, reward_model.lm, value.lm):
                nn.load_state_dict(part, nn.state_dict(policy.lm))
        if stage == "text":
            opts["lm"].lr = rate
            before, after = implicit(rng, n)
            prefix = [policy.prefix(before)] if t % 2 else []
            return train.descend(opts["lm"], policy.lm.loss(after, *prefix), max_norm=1.0,
                                 name="after_another" if t % 2 else "text")
        if stage == "sft":
            opts["lm"].lr = rate
            texts, targets = prompts(rng, n, TAUGHT)
            answers = [corrupt(y, rng) if rng.random() < MISTAKES else y for y in targets]
            loss = policy.loss(encode(answers), encode(texts))
            return train.descend(opts["lm"], loss, name="sft", max_norm=1.0)
        x, target = map(encode, prompts(rng, n, TAUGHT))
        if stage == "rm":
            opts["reward_model"].lr = rate
            x, target = (np.repeat(a, ANSWERS, 0) for a in (x, target))
            y = sft.sample(len(x), rng, x)
            r = sum(reward_model.rewards(y, x), 1)
            better, worse = preferred(errors(y, target))
            loss = preference_loss(r[better], r[worse])
            return train.descend(opts["reward_model"], loss, name="rm", max_norm=1.0)
        rollout = ppo.rollout(x, rng)
        opts["lm"].lr, opts["value"].lr = rate / 10, rate / 3
        for _ in range(EPOCHS):
            loss, value_loss = ppo.loss(rollout)
            loss = loss + GAMMA * policy.lm.loss(implicit(rng, n)[1])  # eq: rlhf-objective
            numbers = train.descend(opts["lm"], loss, name="ppo", max_norm=1.0)
            train.descend(opts["value"], value_loss, name="value", max_norm=1.0)
        return numbers | {"value": value_loss.item(), "reward": rollout.r.mean(),
                          "kl": rollout.kl.mean(),
                          "right": (errors(rollout.y, target) == 0).mean()}

    run.fit(step, policy=policy, sft=sft, reward_model=reward_model, value=value,
            **{f"opt_{name}": opt for name, opt in opts.items()})

    rng, lines, shown = np.random.default_rng((run.args.seed, 1)), [], []
    sentences = implicit(rng, 32 if run.quick else 500)[1]
    numbers = {f"text_nats@{name}": metrics.nll(p.lm, sentences)
               for name, p in (("sft", sft), ("ppo", policy))}
    for kind, kinds in (("taught", TAUGHT), ("never", NEVER)):
        texts, targets = prompts(rng, 32 if run.quick else 500, kinds)
        x, target = encode(texts), encode(targets)
        with no_grad():
            one, again, two = (p.sample(len(x), rng, x) for p in (sft, sft, policy))
            kl = sft.token_nll(two, x).numpy().sum() - policy.token_nll(two, x).numpy().sum()
            r = [reward_model.rewards(y, x).numpy().sum(1) for y in (one, again, two)]
        a, b, c = (errors(y, target) for y in (one, again, two))
        generated = [scenes.decode(y, VOCABULARY) for y in (one, two)]
        numbers |= {f"right_sft@{kind}": (a == 0).mean(), f"right_ppo@{kind}": (c == 0).mean(),
                    f"preferred@{kind}": ((c < a) + 0.5 * (c == a)).mean(),
                    f"reward_model@{kind}": ((r[0] > r[1]) == (a < b))[a != b].mean(),
                    f"kl@{kind}": kl / len(x)}
        for n in range(min(SHOWN, len(x))):
            answers = [("SFT", generated[0][n], a[n], r[0][n]),
                       ("PPO", generated[1][n], c[n], r[2][n])]
            lines += [texts[n], *(f"  {name}, {'wrong' if off else 'right'}, {reward:5.1f}: {y}"
                                  for name, y, off, reward in answers), ""]
            if n < DRAWN:
                shown += [(texts[n], "black"), *(
                    (f"    {y}", "firebrick" if off else "green") for _, y, off, _ in answers)]
    with train.writing(run.out):
        write_bytes(run.out / "answers.txt", "\n".join(lines).encode())
        pictures.text_image(run.out / "samples.png", shown)
    run.finish(numbers)


def preferred(mistakes):
    """All pairs of answers to one prompt, ANSWERS in a row, between which people have a preference:
    rows of the better and of the worse."""
    rows = np.arange(len(mistakes)).reshape(-1, ANSWERS)
    pairs = [rows[:, pair] for pair in combinations(range(ANSWERS), 2)]
    pairs = np.concatenate([*pairs, *(pair[:, ::-1] for pair in pairs)])
    return pairs[mistakes[pairs[:, 0]] < mistakes[pairs[:, 1]]].T


if __name__ == "__main__":
    cli(main)
