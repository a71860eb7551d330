"""LLaVA: a language model trained on text alone learns to describe images.

    python demos/llava.py                                      offline, on drawn scenes

First the language model learns the captions of scenes without their images, in every other step
after another caption of the same scene, and an encoder learns which words an image's caption
contains. Stage 1 then puts the image in place of the other caption and trains only the map from
image features to the language model's inputs; stage 2 trains the language model as well.

samples.png: test images with generated captions, green if they are true; captions.txt has more of
them, from both stages. Numbers are over the first 500 test images: @text is the language model
without an image, @other_picture pairs images and captions that do not belong together. Nats are per
caption: no model can have fewer than best_possible_nats, because a scene with two or three objects
has several true captions, with the objects in different orders.
"""

import copy
from textwrap import fill

import numpy as np

from minigen import metrics, nn, optim, pictures, text_metrics, train
from minigen.data import in_batches, scenes, signed, unsigned
from minigen.demo import Demo, cli
from minigen.models.multimodal.llava import llava
from minigen.nn.parameters import write_bytes

SHARES = (0, 0.35, 0.45, 1)  # of the steps, at which text, stage 1 and stage 2 begin, and the end
SHOWN = 12


def main(argv=None):
    run = Demo("llava", __doc__, argv, data=("scenes",), batch=64, steps=2000, staged=True)
    size = (len(scenes.VOCABULARY), scenes.LONGEST)
    first = llava(run.data.shape, *size)
    nn.init(first, run.rng)
    second = copy.deepcopy(first)  # first will hold the result of stage 1, second that of stage 2
    encoder, lm = first.encoder, first.lm
    opt_encoder, opt_lm = optim.Adam(nn.parameters(encoder)), optim.Adam(nn.parameters(lm))
    opt_1, opt_2 = optim.Adam(first.trained(1)), optim.Adam(second.trained(2))

    def step(t, rng):
        stage, start, end = optim.stage_at(t, SHARES, run.args.steps)
        rate = optim.warmup_cosine(t, start, end, warmup_steps=20, floor=0.02)
        x, drawn = signed(run.batch(t)), run.data.train_scenes[run.indices(t)]
        w = true_words(drawn, rng)
        if stage == 1:
            opt_encoder.lr = opt_lm.lr = 3e-3 * rate
            prefix = [lm.embed_tokens(true_words(drawn, rng))] if t % 2 else []
            numbers = train.descend(opt_lm, lm.loss(w, *prefix), max_norm=1.0,
                                    name="after_another" if t % 2 else "text")
            return numbers | train.descend(opt_encoder, encoder.loss(x, w), name="encoder")
        if stage == 2:
            opt_1.lr = 1e-2 * rate
            return train.descend(opt_1, first.loss(w, x), name="stage_1", max_norm=1.0)
        if t == start:
            nn.load_state_dict(second, nn.state_dict(first))
        opt_2.lr = 3e-3 * rate
        return train.descend(opt_2, second.loss(w, x), name="stage_2", max_norm=1.0)

    run.fit(step, first=first, second=second, opt_encoder=opt_encoder, opt_lm=opt_lm, opt_1=opt_1,
            opt_2=opt_2)

    test = run.data.first(n_test=500)
    x, captions = signed(test.test_x), test.test_captions
    w, true = scenes.encode(captions), [scenes.true_captions(scene) for scene in test.test_scenes]
    numbers = {"best_possible_nats": np.mean([np.log(len(some)) for some in true]),
               "test_nats@text": metrics.nll(lm, w),
               "test_nats@stage_1": metrics.nll(first, w, x),
               "test_nats@stage_2": metrics.nll(second, w, x),
               "test_nats@other_picture": metrics.nll(second, w, np.roll(x, 1, axis=0))}
    generated = {"text": scenes.decode(lm.sample(len(x), run.rng)),
                 "stage_1": scenes.decode(first.describe(x)),
                 "stage_2": scenes.decode(second.describe(x))}
    for name, sentences in generated.items():
        numbers |= {
            f"true@{name}": np.mean([s in some for s, some in zip(sentences, true, strict=True)]),
            f"objects_right@{name}": (named(sentences) == named(captions)).all(1).mean(),
            f"bleu@{name}": text_metrics.bleu(sentences, true)}

    objects = scenes.encode(scenes.OBJECTS)[:, :3]
    found = in_batches(lambda part: encoder.detects(part, objects), x)
    for name, shift in (("", 0), ("@other_picture", 1)):
        shown = np.roll(captions, shift)
        numbers |= {
            f"captioning_score{name}": text_metrics.captioning_score(
                lambda x: generated["stage_2"], x, shown),
            f"soa{name}": text_metrics.semantic_object_accuracy(found, named(shown))}

    lines, texts = [], []
    for caption, some, one, two in zip(captions, true, generated["stage_1"],
                                       generated["stage_2"], strict=True):
        mark = {sentence: "true" if sentence in some else "false" for sentence in (one, two)}
        lines += [f"caption         {caption}", f"stage 1, {mark[one]:<5}  {one}",
                  f"stage 2, {mark[two]:<5}  {two}", ""]
        texts.append((fill(two, 52), "green" if two in some else "firebrick"))
    with train.writing(run.out):
        write_bytes(run.out / "captions.txt", "\n".join(lines).encode())
        pictures.captioned(run.out / "samples.png", unsigned(x[:SHOWN]), texts[:SHOWN])
    run.finish(numbers)


def true_words(drawn, rng):
    """For each of the scenes `drawn`, one of its true captions at random: integers (N, T)."""
    return scenes.encode(scenes.draw_captions(drawn, rng))


def named(captions):
    """Which of scenes.OBJECTS the captions name: booleans (N, 60)."""
    return np.array([[name in caption for name in scenes.OBJECTS] for caption in captions])


if __name__ == "__main__":
    cli(main)
