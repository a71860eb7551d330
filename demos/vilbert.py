"""ViLBERT: images and captions attend to each other, to predict what is masked and what matches.

    python demos/vilbert.py                                offline, on drawn scenes

First a small network learns which words an image's caption contains; the squares of its feature map
are the regions. Then ViLBERT is trained on images with captions, half of them another image's, to
predict masked words, masked regions, and whether image and caption belong together.

samples.png: test images with their captions, in which each colour, shape and relation is masked in
turn: the prediction is in brackets, and the caption is green if all of them are right. Numbers are
over the first 500 test images. word_right@colour, @shape, @relation: how often a masked word of
this kind is predicted correctly; other_picture@… is the same from the caption alone, as the image
given is that of another scene.

aligned: how often matching and mismatched pairs are told apart; changed_colour, changed_shape and
changed_relation: how often a caption fits its image better than the same caption with one word
changed, which makes it false; all of these are one half by chance. r_precision@1: how often an
image's own caption fits it best among 100.
"""

from textwrap import fill

import numpy as np

from minigen import nn, no_grad, optim, pictures, tensor, train
from minigen.data import in_batches, scenes, signed, unsigned
from minigen.demo import Demo, cli
from minigen.models.multimodal.llava import Encoder
from minigen.models.multimodal.vilbert import ViLBERT

ENCODER = 0.25  # the share of the steps in which the region features are learnt
SHOWN, FEW = 12, 100  # images in samples.png, and how many are processed at a time
KINDS = {"colour": tuple(scenes.COLOURS), "shape": scenes.SHAPES,
         "relation": ("left", "right", "above", "below")}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def main(argv=None):
    run = Demo("vilbert", __doc__, argv, data=("scenes",), batch=64, steps=4000, min_batch=2)
    widths = (8, 8, 8) if run.quick else (32, 64, 64)
    V, (_, H, W) = len(scenes.VOCABULARY), run.data.shape
    encoder = Encoder(V, widths)
    model = ViLBERT(V, scenes.LONGEST, H // 8 * (W // 8), 4 * widths[-1], 64,
                    1 if run.quick else 3)
    nn.init([encoder, model], run.rng)
    opt_e, opt = optim.Adam(nn.parameters(encoder)), optim.Adam(nn.parameters(model))
    begins = int(ENCODER * run.args.steps)

    def step(t, rng):
        x, drawn = tensor(signed(run.batch(t))), run.data.train_scenes[run.indices(t)]
        c = scenes.encode(scenes.draw_captions(drawn, rng))
        if t < begins:
            opt_e.lr = 3e-3 * optim.warmup_cosine(t, 0, begins, floor=0.02)
            return train.descend(opt_e, encoder.loss(x, c), name="encoder")
        opt.lr = 2e-3 * optim.warmup_cosine(t, begins, run.args.steps, floor=0.02)
        with no_grad():
            Z, logits = encoder.features(x), encoder.scores(x)
        return train.descend(opt, *model.loss(Z, logits, c, rng), max_norm=1.0)

    run.fit(step, encoder=encoder, model=model, opt_encoder=opt_e, opt=opt)

    test = run.data.first(n_test=500)
    x, rng = signed(test.test_x), np.random.default_rng(0)
    w = scenes.encode(test.test_captions)
    Z = in_batches(encoder.features, x, batch_size=FEW)
    other = np.roll(Z, 1, axis=0)
    matches = lambda Z, w: model.match_logits(*model.hidden(Z, w))
    match_logits = lambda Z, w: in_batches(matches, Z, w, batch_size=FEW)
    numbers = {"aligned": np.mean([(match_logits(Z, w) > 0).mean(),
                                   (match_logits(other, w) < 0).mean()])}
    for kind in KINDS:
        rows, positions = sample_positions(w, kind, rng)
        true, target = w[rows], w[rows, positions]
        changed = replace_words(true, positions, [corrupt_word(i, kind, rng) for i in target])
        numbers |= {
            f"word_right@{kind}": (predict(model, Z[rows], true, positions) == target).mean(),
            f"other_picture@{kind}":
                (predict(model, other[rows], true, positions) == target).mean(),
            f"changed_{kind}":
                (match_logits(Z[rows], true) > match_logits(Z[rows], changed)).mean()}
    few = min(100, len(w))
    scores = np.stack([match_logits(np.repeat(Z[n:n + 1], few, 0), w[:few]) for n in range(few)])
    numbers["r_precision@1"] = (scores.argmax(1) == np.arange(few)).mean()

    texts = []
    for n in range(SHOWN):
        positions = [t for kind in KINDS for t in positions_of_kind(w[n], kind)]
        rows = np.full(len(positions), n)
        y = dict(zip(positions, predict(model, Z[rows], w[rows], positions), strict=True))
        text = " ".join(f"[{word(y[t])}]" if t in y else word(w[n, t])
                        for t in range((w[n] > 0).sum()))
        texts.append((fill(text, 56), "green" if all(y[t] == w[n, t] for t in positions)
                      else "firebrick"))
    with train.writing(run.out / "samples.png"):
        pictures.captioned(run.out / "samples.png", unsigned(x[:SHOWN]), texts)
    run.finish(numbers)


def predict(model, Z, w, positions):
    """The most probable word at one position of each text, which is masked."""
    s = in_batches(model.scores, Z, replace_words(w, positions, model.MASK), batch_size=FEW)
    return s[np.arange(len(w)), positions].argmax(-1)


def replace_words(w, positions, words):
    """A copy of texts (N, T) with other words (N,) at the positions (N,)."""
    w = w.copy()
    w[np.arange(len(w)), positions] = words
    return w


def word(i):
    return scenes.VOCABULARY[i]


def positions_of_kind(caption, kind):
    """The positions in a caption (T,) of words of a kind; of "left" and "right" only those that
    relate two objects."""
    return [t for t, i in enumerate(caption) if word(i) in KINDS[kind]
            and (word(i) not in ("left", "right") or word(caption[t + 1]) == "of")]


def sample_positions(w, kind, rng):
    """For each caption (N, T) with words of a kind, the position of one of them: rows and
    positions."""
    every = [(n, positions_of_kind(row, kind)) for n, row in enumerate(w)]
    return tuple(np.array([(n, rng.choice(positions)) for n, positions in every if positions]).T)


def corrupt_word(i, kind, rng):
    """A replacement for word i that makes its caption false."""
    true = word(i)
    others = [OPPOSITE[true]] if kind == "relation" else [w for w in KINDS[kind] if w != true]
    return scenes.VOCABULARY.index(rng.choice(others))


if __name__ == "__main__":
    cli(main)
