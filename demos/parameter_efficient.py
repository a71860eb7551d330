"""Parameter-efficient training: a frozen model that describes images learns to answer questions.

    python demos/parameter_efficient.py                        offline, on drawn scenes

A language model learns texts: captions of scenes, and questions about a caption with their answers.
A LLaVA is made of it, which learns to describe images, and keeps answering questions about
captions. Then it should answer questions about images, which it has never been asked. It learns
that in five ways, each with the same batches: all of its language model's weights are trained
(full); or they are frozen, and few others are trained: LoRA's, QLoRA's, on frozen matrices of 4
bits a number, and those of the LLaMA-Adapter and of its version 2.

samples.png: test images with a question, the right answer, and those of the frozen model and after
each way of training; green if all of the latter are right, orange if some. answers.txt has all.
Numbers are over one question about each of the first 500 test images. right: the share of answers
that are right word by word, also for each kind of question; nats: −log p of the right answer;
caption_nats: −log p of an image's caption, which is no longer trained; trained: the number of
trained parameters; frozen_bytes: of the language model's other weights; training_bytes: these, and
for each trained parameter 16 for it, its gradient and Adam's two moments; seconds_per_step: the
median of five gradients.
"""

import copy
import time
from textwrap import fill, shorten

import numpy as np

from minigen import grad, metrics, nn, no_grad, optim, pictures, sum, train
from minigen.data import in_batches, scenes, signed, unsigned
from minigen.demo import Demo, cli
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.multimodal.llama_adapter import llama_adapter, llama_adapter_v2
from minigen.models.multimodal.llava import Encoder, LLaVA
from minigen.models.multimodal.lora import frozen, frozen_bytes, lora
from minigen.models.multimodal.qlora import qlora
from minigen.nn.parameters import write_bytes

# Each with the one of three or four learning rates that was best on other test images.
METHODS = {"full": (lambda lm, rng: copy.deepcopy(lm), 3e-3),
           "lora": (lora, 1e-2), "qlora": (qlora, 1e-2),
           "llama_adapter": (llama_adapter, 0.1), "llama_adapter_v2": (llama_adapter_v2, 3e-2)}
SHARES = (0, 0.3, 0.77, 1)  # of the steps, at which text, images and questions begin, and the end
KINDS = ("colour", "what", "where", "count", "ground")
NUMBERS = ("one", "two", "three")
VOCABULARY = (*scenes.VOCABULARY, *"what colour is ? where from how many objects which".split(),
              *NUMBERS)
SHOWN = 12


def read(caption):
    """What a caption says: its objects, (size, colour, shape); how the first lies to each of the
    others or, if there are none, in the image; and the ground."""
    body, ground = caption.removesuffix(" background").rsplit(" on a ", 1)
    words = body.split()
    objects, places = [tuple(words[1:4])], []
    for detail in " ".join(words[4:]).split(" and "):
        place, _, other = detail.partition(" a ")
        places.append(place)
        objects += [tuple(other.split())] if other else []
    return objects, places, ground


def ask(caption, rng):
    """A question of a random kind about a caption, or about an image that has it: the kind, the
    question and the answer."""
    objects, places, ground = read(caption)
    (size, colour, shape) = objects[k := rng.integers(len(objects))]
    kind = rng.choice(KINDS)
    if kind == "colour" and [(size, shape) == (s, f) for s, _, f in objects].count(True) > 1:
        kind = "what"
    if kind == "colour":
        return kind, f"what colour is the {size} {shape} ?", colour
    if kind == "what":
        return kind, f"what is {colour} ?", f"a {size} {shape}"
    if kind == "count":
        return kind, "how many objects ?", NUMBERS[len(objects) - 1]
    if kind == "ground":
        return kind, "which background ?", ground
    name = lambda k: f"the {' '.join(objects[k][1:])}"
    if len(objects) == 1:
        return kind, f"where is {name(0)} ?", places[0]
    k = rng.integers(len(places))
    return kind, f"where is {name(0)} from {name(k + 1)} ?", places[k]


def encode(texts):
    return scenes.encode(texts, VOCABULARY)


def questions(captions, rng):
    """One about each caption: the kinds; the questions, integers (N, T); and with their answers."""
    kinds, asked, answers = zip(*(ask(caption, rng) for caption in captions), strict=True)
    texts = [f"{question} {answer}" for question, answer in zip(asked, answers, strict=True)]
    return np.array(kinds), encode(asked), encode(texts)


def answer_nll(lm, asked, w, prefix):
    """−log p of the answers in texts w (N, T), which begin with the questions `asked` (N, T), after
    a prefix: (N,)."""
    return sum(lm.token_nll(w, prefix) * (np.cumsum(asked == 0, 1) > 0), 1)


def main(argv=None):
    run = Demo("parameter_efficient", __doc__, argv, data=("scenes",), batch=48, steps=2600,
               staged=True)
    widths = (8, 8, 8) if run.quick else (32, 64, 64)
    lm = LanguageModel(len(VOCABULARY), scenes.LONGEST, 64, 3, std=0.2)
    P, d = run.data.shape[1] // 8 * (run.data.shape[2] // 8), 4 * widths[-1]
    base = LLaVA(Encoder(len(VOCABULARY), widths), lm, P, d)
    nn.init(base, run.rng)
    adapted = {name: make(lm, rng=run.rng) for name, (make, _) in METHODS.items()}
    opts = {"encoder": optim.Adam(nn.parameters(base.encoder)),
            "lm": optim.Adam(nn.parameters(lm)), "llava": optim.Adam(base.trained(2)),
            **{name: optim.Adam(nn.parameters(some)) for name, some in adapted.items()}}

    def step(t, rng):
        stage, start, end = optim.stage_at(t, SHARES, run.args.steps)
        rate = optim.warmup_cosine(t, start, end, warmup_steps=20, floor=0.02)
        x, drawn = signed(run.batch(t)), run.data.train_scenes[run.indices(t)]
        captions = scenes.draw_captions(drawn, rng)
        _, asked, w = questions(captions, rng)
        if stage == 3:
            if t == start:
                for name, (make, _) in METHODS.items():
                    nn.load_state_dict(adapted[name], nn.state_dict(make(lm, rng=rng)))
            with no_grad():
                H = base.prefix(x)
            numbers = {}
            for name, (_, lr) in METHODS.items():
                opts[name].lr = lr * rate
                loss = sum(answer_nll(adapted[name], asked, w, H)) / len(w)
                numbers |= train.descend(opts[name], loss, name=name, max_norm=1.0)
            return numbers
        opts["encoder"].lr = opts["lm"].lr = opts["llava"].lr = 3e-3 * rate
        numbers = {}
        if stage == 1:
            numbers = train.descend(opts["encoder"], base.encoder.loss(x, encode(captions)),
                                    name="encoder")
        asks = t % 2 if stage == 1 else t % 4 == 0
        if asks:
            loss = sum(answer_nll(lm, asked, w, lm.embed_tokens(encode(captions)))) / len(w)
        elif stage == 1:
            before = encode(scenes.draw_captions(drawn, rng))
            loss = lm.loss(encode(captions), lm.embed_tokens(before))
        else:
            loss = base.loss(encode(captions), x)
        name = "text_questions" if asks else ("text", "captions")[stage - 1]
        opt = opts["llava" if name == "captions" else "lm"]
        return numbers | train.descend(opt, loss, name=name, max_norm=1.0)

    run.fit(step, base=base, **adapted, **{f"opt_{name}": opt for name, opt in opts.items()})

    test, rng = run.data.first(n_test=500), np.random.default_rng((run.args.seed, 1))
    x, captions = signed(test.test_x), test.test_captions
    kinds, asked, w = questions(captions, rng)
    true = words(w, asked)
    H, numbers, answers = in_batches(base.prefix, x), {}, {}
    for name, some in {"frozen": frozen(lm), **adapted}.items():
        params = nn.parameters(some)
        trained = np.sum([p.size for p in params.values()], dtype=int)
        answers[name] = words(some.complete(asked, H), asked)
        right = answers[name] == true
        nll = in_batches(lambda *batch, some=some: answer_nll(some, *batch), asked, w, H)
        numbers |= {f"right@{name}": right.mean(), f"nats@{name}": nll.mean(),
                    f"caption_nats@{name}": metrics.nll(some, encode(captions), H),
                    f"trained@{name}": trained, f"frozen_bytes@{name}": frozen_bytes(some),
                    f"training_bytes@{name}": frozen_bytes(some) + 16 * trained,
                    **{f"{kind}_right@{name}": right[kinds == kind].mean() for kind in KINDS}}
        if params:
            numbers[f"seconds_per_step@{name}"] = seconds_per_step(
                some, params, *(a[:run.args.batch] for a in (asked, w, H)))

    lines, texts = [], []
    for n, question in enumerate(scenes.decode(asked, VOCABULARY)):
        marks = [answers[name][n] == true[n] for name in METHODS]
        lines += [f"{captions[n]}\n{question} {true[n]}", *(
            f"  {name:<17} {'right' if every[n] == true[n] else 'wrong'}  {every[n]}"
            for name, every in answers.items()), ""]
        given = {}  # the ways to each answer
        for name, every in answers.items():
            given.setdefault(every[n], []).append(name.replace("_", " "))
        text = [f"{question}  {true[n]}"]
        for answer, ways in given.items():
            by = "all" if len(ways) == len(answers) else ", ".join(ways)
            text.append(f"    {shorten(answer, 30, placeholder=' …')}  ({by})")
        texts.append(("\n".join(fill(line, 64) for line in text),
                      "green" if all(marks) else "darkorange" if any(marks) else "firebrick"))
    with train.writing(run.out):
        write_bytes(run.out / "answers.txt", "\n".join(lines).encode())
        pictures.captioned(run.out / "samples.png", unsigned(x[:SHOWN]), texts[:SHOWN])
    run.finish(numbers)


def words(w, asked):
    """The answers in texts w (N, T) that begin with the questions `asked` (N, T): str (N,)."""
    return np.array(scenes.decode(w * (asked == 0), VOCABULARY))


def seconds_per_step(lm, params, *batch):
    """The median time of five gradients of the loss of a batch."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        grad(sum(answer_nll(lm, *batch)), params)
        times.append(time.perf_counter() - began)
    return np.median(times)


if __name__ == "__main__":
    cli(main)
