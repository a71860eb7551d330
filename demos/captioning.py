"""Captioning: five ways to turn an image into words, and in-context learning from an example.

    python demos/captioning.py                      Flamingo, offline, on drawn scenes
    python demos/captioning.py --model blip2        or git, simvlm, visual_gpt

First a CLIP learns which images and captions belong together. Then a language model learns texts
without images, in English or Esperanto: in every other step two captions in a row, of one scene or
of two; in the others a caption given another caption of its scene, whose vectors stand in for those
of an image. BLIP-2 and Flamingo freeze both and train what connects them; VisualGPT trains the
language model as well. GIT trains a new language model from scratch, and CLIP's image encoder too;
SimVLM's image encoder is also new, and a random number of a caption's first words is read together
with the image, as a prefix.

The image does not determine the language. Flamingo is trained on texts with one or two images, and
then captions the second image after an example, another image with its caption.

samples.png: test images with generated captions, green if they are true. For Flamingo: after an
example in English, then after one in Esperanto, orange if only one is true. captions.txt has more.
Numbers are over the first 500 test images. A model is given the image @alone, or after an @example
in the language of the caption that it is asked for. As a control, Flamingo's example is also given
with the wrong image (@other_image), or in the @other_language. Generated captions are @alone, or
after an example in @english or @esperanto.

perplexity: e to the mean of −log p over the words of a caption; @unseen is the language model
without an image; without an example no model can be below @best_possible, because objects can be
named in another order and language. colours_right, objects_right: the share of images for which
exactly the right colours are named, or the right sizes with colours and shapes; relations_right:
among the latter, the share with a true caption; true: the share among all. same_language: the share
of captions in the example's language.
"""

from textwrap import fill

import numpy as np

from minigen import nn, optim, pictures, tensor, train
from minigen.data import in_batches, scenes, signed, unsigned
from minigen.data.esperanto import ESPERANTO, esperanto
from minigen.demo import Demo, cli
from minigen.models.clip.clip import CLIP, TextEncoder
from minigen.models.multimodal.blip2 import BLIP2, QFormer
from minigen.models.multimodal.flamingo import Flamingo
from minigen.models.multimodal.git import GIT, PrefixLanguageModel
from minigen.models.multimodal.language_model import LanguageModel
from minigen.models.multimodal.llava import Encoder
from minigen.models.multimodal.simvlm import SimVLM
from minigen.models.multimodal.visual_gpt import VisualGPT
from minigen.nn.parameters import write_bytes

IMAGE_TOKEN = "<image>"  # before each caption
VOCABULARY = ("", IMAGE_TOKEN, *sorted(
    {*scenes.VOCABULARY[1:], *" ".join(ESPERANTO.values()).split()}))
LENGTH = 2 * (1 + scenes.LONGEST)
STAGES = {  # the share of the steps after which each begins
    "git": {"clip": 0, "git": 0.25},
    "simvlm": {"simvlm": 0},
    "visual_gpt": {"clip": 0, "text": 0.25, "visual_gpt": 0.55},
    "blip2": {"clip": 0, "text": 0.25, "stage_1": 0.55, "stage_2": 0.75},
    "flamingo": {"clip": 0, "text": 0.25, "flamingo": 0.55}}
WHOLE = {"git": GIT, "simvlm": SimVLM, "visual_gpt": VisualGPT}  # they train the language model
LANGUAGES = {"english": str, "esperanto": esperanto}
SHOWN = 12


def encode(*captions):
    """Texts, each of one caption from every list, in a row: integers (N, T)."""
    texts = [" ".join(f"{IMAGE_TOKEN} {text}" for text in row)
             for row in zip(*captions, strict=True)]
    return scenes.encode(texts, VOCABULARY, LENGTH)


def caption(w, k):
    """Which of the words of texts (N, T) are in their k-th caption: booleans (N, T)."""
    image = w == VOCABULARY.index(IMAGE_TOKEN)
    return (np.cumsum(image, 1) == k) & ~image & (w > 0)


def build(name, shape, quick):
    """The model, its CLIP, and for each stage the parameters that it trains."""
    widths = (8, 8, 8) if quick else (32, 64, 64)
    P, d = shape[1] // 8 * (shape[2] // 8), 4 * widths[-1]
    V, L = len(VOCABULARY), scenes.LONGEST
    clip = CLIP(Encoder(64, widths), TextEncoder(len(scenes.VOCABULARY), L, 64))
    language_model = PrefixLanguageModel if name in ("git", "simvlm") else LanguageModel
    lm = language_model(V, LENGTH, 96, 1 if quick else 3, std=0.2)
    params = {"clip": nn.parameters(clip), "text": nn.parameters(lm)}
    if name in WHOLE:
        model = WHOLE[name](clip.image, lm, P, d)
        return model, clip, params | {name: model.trained()}
    if name == "blip2":
        model = BLIP2(clip.image, QFormer(V, L, P, d), lm)
        return model, clip, params | {f"stage_{n}": model.trained(n) for n in (1, 2)}
    model = Flamingo(clip.image, lm, VOCABULARY.index(IMAGE_TOKEN), P, d, M=16, depth=1)
    return model, clip, params | {"flamingo": model.trained()}


def main(argv=None):
    run = Demo("captioning", __doc__, argv, data=("scenes",), batch=64, steps=5000,
               staged=True, min_batch=2,
               flags=lambda p: p.add_argument("--model", choices=STAGES, default="flamingo",
                                              help="which of the five models"))
    name = run.args.model
    model, clip, params = build(name, run.data.shape, run.quick)
    nn.init([clip, model], run.rng)
    stages = list(STAGES[name])
    opts = {stage: optim.Adam(params[stage]) for stage in stages}
    shares = (*STAGES[name].values(), 1)
    tokens = scenes.encode(run.data.train_captions)

    def draw_captions(rng, *indices):
        """A true caption of each training image, in a random language that is the same throughout
        a text."""
        languages = rng.choice(list(LANGUAGES.values()), len(indices[0]))
        drawn = [scenes.draw_captions(run.data.train_scenes[i], rng) for i in indices]
        return [[translate(text) for translate, text in zip(languages, texts, strict=True)]
                for texts in drawn]

    def step(t, rng):
        k, start, end = optim.stage_at(t, shares, run.args.steps)
        stage, i = stages[k - 1], run.indices(t)
        opt = opts[stage]
        opt.lr = 3e-3 * optim.warmup_cosine(t, start, end, floor=0.02)
        parts, label = {}, stage
        if stage == "clip":
            # shapes matter only when there are many pairs: with 64 CLIP hardly learns to see them
            i = rng.integers(0, len(tokens), 2 * run.args.batch)
            x = run.xp.asarray(signed(run.data.train_x[i]))
            loss, _ = clip.loss(tensor(x), run.xp.asarray(tokens[i]))
        elif stage == "text":
            same = rng.random(len(i)) < 0.5
            before, after = draw_captions(rng, i, i if t % 2 else np.where(same, i, np.roll(i, 1)))
            if t % 2:
                label = "after_another"
                prefix = model.lm.embed_tokens(encode(before)[:, :LENGTH // 2])
                loss = model.lm.loss(encode(after), prefix)
            else:
                loss = model.lm.loss(encode(before, after))
        elif stage == "flamingo":
            pairs = i[:len(i) // 2 * 2].reshape(-1, 2)
            w = encode(*draw_captions(rng, *pairs.T))
            single = rng.random(len(w)) < 0.5
            w[single] *= caption(w, 1)[single] | (np.arange(LENGTH) == 0)
            loss = model.loss(w, run.xp.asarray(signed(run.data.train_x[pairs])))
        else:
            x, w = signed(run.batch(t)), encode(*draw_captions(rng, i))
            if stage == "stage_1":
                c = w[:, 1:1 + scenes.LONGEST]
                loss, parts = model.q_former.loss_1(model.features(x), c, rng)
            elif stage == "simvlm":
                loss = model.loss(w, x, rng.integers(0, 1 + (w > 0).sum(1)))
            else:
                loss = model.loss(w, x)
        return train.descend(opt, loss, parts, name=label, max_norm=1.0)

    run.fit(step, clip=clip, model=model, **{f"opt_{stage}": opts[stage] for stage in stages})

    trained = {id(p): p.size for stage in stages if stage not in ("clip", "text")
               for p in params[stage].values()}
    numbers = {"parameters": sum(p.size for p in nn.parameters(model).values()),
               "trained_parameters": sum(trained.values())}
    test = run.data.first(n_test=500)
    x, captions = signed(test.test_x), test.test_captions
    w = encode(translated(captions))
    if "text" in stages:
        numbers["perplexity@unseen"] = perplexity(model.lm, w, 1)
    if name != "flamingo":
        generated = {"alone": sentences(model.describe(x), 1)}
        numbers["perplexity@alone"] = perplexity(model, w, 1, x)
    else:
        example = np.roll(captions, 1)
        both = np.stack([np.roll(x, 1, axis=0), x], axis=1)
        prompts = {"alone": (encode([""] * len(x)), x[:, None])} | {
            language: (encode(map(translate, example), [""] * len(x)), both)
            for language, translate in LANGUAGES.items()}
        generated = {at: sentences(model.complete(*prompt), prompt[1].shape[1])
                     for at, prompt in prompts.items()}
        w2, other = encode(translated(example), translated(captions)), both.copy()
        other[:, 0] = np.roll(x, 2, axis=0)
        numbers |= {
            "perplexity@alone": perplexity(model, w, 1, x[:, None]),
            "perplexity@example": perplexity(model, w2, 2, both),
            "perplexity@other_image": perplexity(model, w2, 2, other),
            "perplexity@other_language": perplexity(
                model, encode(translated(example, 1), translated(captions)), 2, both),
            "same_language": np.mean([
                (" fono" in sentence) == (language == "esperanto")
                for language in LANGUAGES for sentence in generated[language]])}

    true = [{translate(text) for text in scenes.true_captions(scene)
             for translate in LANGUAGES.values()} for scene in test.test_scenes]
    numbers["perplexity@best_possible"] = np.exp(np.sum([np.log(len(some)) for some in true])
                                                 / caption(w, 1).sum())
    right = {at: np.array([one in some for one, some in zip(every, true, strict=True)])
             for at, every in generated.items()}
    for at, every in generated.items():
        same = named(every) == named(captions)
        colours = [named(some).reshape(-1, 10, 6).any(1) for some in (every, captions)]
        numbers |= {f"colours_right@{at}": (colours[0] == colours[1]).all(1).mean(),
                    f"objects_right@{at}": same.all(1).mean(),
                    f"relations_right@{at}": right[at].sum() / max(same.all(1).sum(), 1),
                    f"true@{at}": right[at].mean()}

    lines, texts = [], []
    shown = list(LANGUAGES) if name == "flamingo" else ["alone"]
    for n, text in enumerate(captions):
        marks = [bool(right[at][n]) for at in shown]
        lines += [f"caption          {text}", *(
            f"{at:<9}, {'true' if right[at][n] else 'false':<5} {every[n]}"
            for at, every in generated.items()), ""]
        texts.append(("\n".join(fill(generated[at][n], 56) for at in shown),
                      "green" if all(marks) else "darkorange" if any(marks) else "firebrick"))
    with train.writing(run.out):
        write_bytes(run.out / "captions.txt", "\n".join(lines).encode())
        pictures.captioned(run.out / "samples.png", unsigned(x[:SHOWN]), texts[:SHOWN])
    run.finish(numbers)


def translated(captions, shift=0):
    """The captions, in alternating languages."""
    languages = list(LANGUAGES.values())
    return [languages[(n + shift) % len(languages)](text) for n, text in enumerate(captions)]


def sentences(w, k):
    """The k-th captions of texts w (N, T)."""
    return scenes.decode(w * caption(w, k), VOCABULARY)


def named(sentences):
    """Which of scenes.OBJECTS the sentences name, in either language: booleans (N, 60)."""
    return np.array([[any(f" {translate(name)} " in f" {sentence} "
                           for translate in LANGUAGES.values())
                      for name in scenes.OBJECTS] for sentence in sentences])


def perplexity(p, w, k, *given):
    """The perplexity of the words in the k-th captions of texts w (N, T), by p's `token_nll`."""
    nll = in_batches(p.token_nll, w, *given, batch_size=100)
    return np.exp(nll[caption(w, k)].mean())


if __name__ == "__main__":
    cli(main)
