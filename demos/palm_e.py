"""PaLM-E: a language model that perceives blocks plans which of them to grasp first.

    python demos/palm_e.py                                     offline, on drawn blocks

A world of blocks on a table is described in words, or shown as an image, or given as the numbers of
its state; a question and its answer follow (blocks.py). First the language model is trained on
worlds in words, then, together with the encoders, on worlds of all three kinds in equal parts.

With worlds given as @words, @state or @image, the model answers 500 questions about new ones; an
answer must be right word by word: what_right, what lies on a block; grasp_right, how to grasp one;
put_right, how to put one block on another. plans_done: the model is asked the last of these again
and again, each time given the world after its last command, until the block lies where it should;
the share of 200 tasks completed in no more steps than needed.

samples.png: tasks given as images, and the model's answers, step by step.
"""

import numpy as np

from minigen import gelu, nn, optim, pictures, train
from minigen.data import blocks, scenes, signed, unsigned
from minigen.demo import Demo, cli
from minigen.models.multimodal.palm_e import ImageEncoder, PaLME

EMB = "<emb>"
VOCABULARY = (*blocks.VOCABULARY, EMB)
PATCHES = (scenes.SIZE // 8) ** 2
VECTORS = {"state": blocks.COLUMNS, "image": PATCHES}
KINDS = ("words", *VECTORS)
LENGTH = 40  # words: a description of five blocks, the longest question and answer
TEXT_ONLY = 0.25  # of the steps, in which worlds are given only in words
SHOWN = 6  # tasks in samples.png


def prompts(kind, worlds, questions, rng):
    """The texts before the answers: each a description of the world, or ⟨emb⟩s, and a question."""
    emb = " ".join([EMB] * VECTORS.get(kind, 0))
    return [f"{emb or blocks.describe(world, rng)} {question}"
            for world, question in zip(worlds, questions, strict=True)]


def observations(kind, worlds, rng, xp=np):
    """The observations of worlds (N, 6, 2), in the form in which `PaLME` takes them."""
    if kind == "image":
        return {kind: xp.asarray(signed(blocks.draw(worlds, rng)))}
    return {kind: xp.asarray(one_hot(worlds))} if kind == "state" else {}


def one_hot(worlds):
    """The state of worlds (N, 6, 2): for each column, for all pairs of a level and a block, whether
    that block is at that level: (N, 5, 5 · 6)."""
    state = np.zeros((len(worlds), *[blocks.COLUMNS] * 2, len(blocks.NAMES)), np.float32)
    n, block = np.nonzero(worlds[..., 1] >= 0)
    state[n, *worlds[n, block].T, block] = 1
    return state.reshape(len(worlds), blocks.COLUMNS, -1)


def encode(texts):
    return scenes.encode(texts, VOCABULARY, LENGTH)


def main(argv=None):
    run = Demo("palm_e", __doc__, argv, data=("blocks",), batch=96, steps=5000,
               staged=True, min_batch=3)
    D, widths = 64, (8, 8, 8) if run.quick else (32, 64, 64)
    encoders = {"state": nn.Sequential(nn.Linear(blocks.COLUMNS * len(blocks.NAMES), 4 * D), gelu,
                                       nn.Linear(4 * D, D)),
                "image": ImageEncoder(PATCHES, D, widths)}
    model = PaLME(len(VOCABULARY), LENGTH, VOCABULARY.index(EMB), encoders, D,
                  1 if run.quick else 3)
    nn.init(model, run.rng)
    params, begin = nn.parameters(model), int(TEXT_ONLY * run.args.steps)
    opt = optim.Adam(params)
    opt_lm = optim.Adam({name: p for name, p in params.items() if "encoders" not in name})

    def loss(kind, n, rng):
        """The loss of the answers to n questions."""
        worlds = blocks.worlds(rng, n)
        questions, answers = zip(*(blocks.ask(world, rng) for world in worlds), strict=True)
        texts = prompts(kind, worlds, questions, rng)
        w = encode([f"{text} {answer}" for text, answer in zip(texts, answers, strict=True)])
        return model.loss(w, observations(kind, worlds, rng, run.xp), (encode(texts) > 0).sum(1))

    def step(t, rng):
        if t < begin:
            opt_lm.lr = 2e-3 * optim.warmup_cosine(t, 0, begin, floor=0.02)
            return train.descend(opt_lm, loss("words", run.args.batch, rng), name="text",
                                 max_norm=1.0)
        opt.lr = 2e-3 * optim.warmup_cosine(t, begin, run.args.steps, floor=0.02)
        parts = {kind: loss(kind, run.args.batch // len(KINDS), rng) for kind in KINDS}
        return train.descend(opt, sum(parts.values()) / len(KINDS), parts, max_norm=1.0)

    run.fit(step, model=model, opt_lm=opt_lm, opt=opt)

    rng, metrics = np.random.default_rng((run.args.seed, 1)), {}
    count, tasks = (16, 8) if run.quick else (500, 200)

    def answer(kind, worlds, questions):
        """The model's answers, and the observations it was given."""
        w = encode(prompts(kind, worlds, questions, rng))
        observed = observations(kind, worlds, rng)
        texts = scenes.decode(model.complete(w, observed), VOCABULARY)
        return np.array([text.partition("? ")[2] for text in texts]), observed

    worlds, goals = blocks.worlds(rng, count), blocks.worlds(rng, tasks)
    questions, answers = zip(*(blocks.ask(world, rng) for world in worlds), strict=True)
    for kind in KINDS:
        right = answer(kind, worlds, questions)[0] == answers
        metrics |= {f"{name}_right@{kind}": right[[f"{name} " in text for text in questions]].mean()
                    for name in ("what", "grasp", "put")}
        done, episodes = rollout(lambda *args, kind=kind: answer(kind, *args), goals, rng)
        metrics[f"plans_done@{kind}"] = done.mean()
    images, texts = zip(*(step for episode in episodes[:SHOWN] for step in episode), strict=True)
    with train.writing(run.out):
        pictures.captioned(run.out / "samples.png", unsigned(np.stack(images)), texts)
    run.finish(metrics)


def rollout(answer, worlds, rng):
    """Carry out tasks of putting one block on another, by executing the answers. Gives
    which tasks were done in no more steps than needed, booleans (N,), and for each the observations
    and answers, step by step: green if it could be executed, and the last if the task is done."""
    worlds, episodes = worlds.copy(), [[] for _ in worlds]
    pairs = [rng.permutation(np.flatnonzero(world[:, 1] >= 0))[:2] for world in worlds]
    pairs = [pair[::-1] if blocks.under(world, pair[0]) == pair[1] else pair
             for world, pair in zip(worlds, pairs, strict=True)]
    done = lambda i: blocks.under(worlds[i], pairs[i][0]) == pairs[i][1]
    left = [blocks.steps(*some) for some in zip(worlds, *zip(*pairs, strict=True), strict=True)]
    while trying := [i for i, steps in enumerate(left) if steps]:
        questions = [blocks.how_to_put(*pairs[i]) for i in trying]
        commands, observed = answer(worlds[trying], questions)
        for k, i in enumerate(trying):
            new, left[i] = blocks.execute(worlds[i], commands[k]), left[i] - 1
            if new is None:
                left[i] = 0
            else:
                worlds[i] = new
            good = new is not None and (left[i] or done(i))
            text = f"{questions[k]}\n{commands[k]}", "green" if good else "firebrick"
            episodes[i].append((observed["image"][k] if "image" in observed else None, text))
    return np.array([done(i) for i in range(len(worlds))]), episodes


if __name__ == "__main__":
    cli(main)
