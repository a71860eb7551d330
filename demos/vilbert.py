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
from minigen.data import scenes, signed, unsigned
from minigen.demo import Demo, cli
from minigen.models.clip.retrieval import embed
from minigen.models.multimodal.llava import Encoder
from minigen.models.multimodal.vilbert import ViLBERT

ENCODER = 0.25  # the share of the steps in which the region features are learnt
SHOWN, FEW = 12, 100  # images in samples.png, and how many are processed at a time
ASKED = {"colour": tuple(scenes.COLOURS), "shape": scenes.SHAPES,
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
            Z, found = encoder.features(x), encoder.scores(x)
        return train.descend(opt, *model.loss(Z, found, c, rng), max_norm=1.0)

    run.fit(step, encoder=encoder, model=model, opt_encoder=opt_e, opt=opt)

    test = run.data.first(n_test=500)
    x, rng = signed(test.test_x), np.random.default_rng(0)
    w = scenes.encode(test.test_captions)
    Z = embed(encoder.features, x, batch=FEW)
    other = np.roll(Z, 1, axis=0)
    fits = lambda Z, w: embed(lambda Z, w: model.matches(*model.read(Z, w)), Z, w, batch=FEW)
    numbers = {"aligned": np.mean([(fits(Z, w) > 0).mean(), (fits(other, w) < 0).mean()])}
    for kind in ASKED:
        rows, places = asked(w, kind, rng)
        said, own = w[rows], w[rows, places]
        changed = put(said, places, [another(i, kind, rng) for i in own])
        numbers |= {
            f"word_right@{kind}": (guess(model, Z[rows], said, places) == own).mean(),
            f"other_picture@{kind}": (guess(model, other[rows], said, places) == own).mean(),
            f"changed_{kind}": (fits(Z[rows], said) > fits(Z[rows], changed)).mean()}
    few = min(100, len(w))
    pairs = np.stack([fits(np.repeat(Z[n:n + 1], few, 0), w[:few]) for n in range(few)])
    numbers["r_precision@1"] = (pairs.argmax(1) == np.arange(few)).mean()

    texts = []
    for n in range(SHOWN):
        places = [t for kind in ASKED for t in those(w[n], kind)]
        rows = np.full(len(places), n)
        found = dict(zip(places, guess(model, Z[rows], w[rows], places), strict=True))
        text = " ".join(f"[{word(found[t])}]" if t in found else word(w[n, t])
                        for t in range((w[n] > 0).sum()))
        texts.append((fill(text, 56), "green" if all(found[t] == w[n, t] for t in places)
                      else "firebrick"))
    with train.writing(run.out / "samples.png"):
        pictures.captioned(run.out / "samples.png", unsigned(x[:SHOWN]), texts)
    run.finish(numbers)


def guess(model, Z, w, places):
    """The most probable word in one place of each text, which is masked."""
    s = embed(model.scores, Z, put(w, places, model.MASK), batch=FEW)
    return s[np.arange(len(w)), places].argmax(-1)


def put(w, places, words):
    """A copy of texts (N, T) with the words (N,) put in the places (N,)."""
    w = w.copy()
    w[np.arange(len(w)), places] = words
    return w


def word(i):
    return scenes.VOCABULARY[i]


def those(caption, kind):
    """The places in a caption (T,) of words of a kind; of "left" and "right" only those that relate
    two objects."""
    return [t for t, i in enumerate(caption) if word(i) in ASKED[kind]
            and (word(i) not in ("left", "right") or word(caption[t + 1]) == "of")]


def asked(w, kind, rng):
    """For each caption (N, T) with words of a kind, the place of one of them: rows and places."""
    every = [(n, those(row, kind)) for n, row in enumerate(w)]
    return tuple(np.array([(n, rng.choice(places)) for n, places in every if places]).T)


def another(i, kind, rng):
    """A replacement for word i that makes its caption false."""
    said = word(i)
    others = [OPPOSITE[said]] if kind == "relation" else [w for w in ASKED[kind] if w != said]
    return scenes.VOCABULARY.index(rng.choice(others))


if __name__ == "__main__":
    cli(main)
