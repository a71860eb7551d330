"""alignDRAW: images drawn step by step for a caption, attending to its words.

    python demos/align_draw.py                                  offline, on drawn digits
    python demos/align_draw.py --data mnist --data-dir DIR      on MNIST (--download fetches it)

Captions say where on a canvas of 60×60 pixels one or two digits are, for example "the digit seven
is at the top right of the image" or "the digit three is left of the digit two". A quarter of all
captions, by their content, never occur in training.

samples.png, a column per caption (printed): a test image that it describes, then the canvas after
each step. varied.png: more samples for the same captions, five each. attention.png: how much
the model attends to each word of the first captions, step by step.

named is the share of digits named in a caption that the ruler recognises at the place that the
caption gives (one in ten by chance); in_place is the share of the white that is at the places of
the caption. They are given for test images (truth), for samples for captions of training (seen),
for captions that never occurred (unseen), and, as a baseline, for samples for another image's
caption (other). The bound is given for images with seen and unseen captions of their own, and, as
a baseline, with another image's.
"""

import numpy as np

from minigen import metrics, nn, no_grad, optim, pictures, ruler, train
from minigen.data import placed
from minigen.data.scenes import encode
from minigen.demo import Demo, cli
from minigen.models.text_to_image.align_draw import AlignDRAW

SHAPE = (1, placed.SIZE, placed.SIZE)
SHOWN, VARIED = 10, 5


def main(argv=None):
    run = Demo("align_draw", __doc__, argv, data=("glyphs", "mnist"), batch=48, steps=3000)
    size = {"T": 3, "d_h": 16, "d": 8} if run.quick else {}
    model = AlignDRAW(SHAPE, len(placed.VOCABULARY), **size)
    nn.init(model, run.rng)
    opt = optim.Adam(nn.parameters(model))

    def step(t, rng):
        opt.lr = 4e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.02)
        i = run.indices(t)
        images, contents = placed.compose(run.data.train_x[i], run.data.train_y[i], rng)
        x = run.xp.asarray(metrics.binarise(images / np.float32(255), rng))
        text = model.language(run.xp.asarray(words(contents)))
        return train.descend(opt, *model.loss(x, rng, *text), max_norm=5.0)

    run.fit(step, model=model, opt=opt)

    test, numbers = run.data.first(n_test=1000), {}
    for name in ("seen", "unseen"):
        images, contents = placed.compose(test.test_x, test.test_y, np.random.default_rng(0),
                                          unseen=name == "unseen")
        x = metrics.binarise(images / np.float32(255), np.random.default_rng(0))
        text = describe(model, contents)
        drawn, states = model.trace(len(x), run.rng, *text)
        nats, reconstruction, kl = metrics.neg_elbo(model, x, *text)
        numbers |= {f"neg_elbo_nats_{name}": nats, f"reconstruction_nats_{name}": reconstruction,
                    f"kl_nats_{name}": kl, **agreement(name, drawn[-1].numpy(), contents, run.data)}
    other = np.roll(contents, 1, 0)
    numbers |= {"neg_elbo_nats_other": metrics.neg_elbo(model, x, *describe(model, other))[0],
                **agreement("other", drawn[-1].numpy(), other, run.data),
                **agreement("truth", images / 255, contents, run.data)}

    # what is shown is of the loop's last captions, the unseen ones
    steps = [images[:SHOWN] / 255, *(c.numpy()[:SHOWN] for c in drawn)]
    run.picture("samples", np.concatenate(steps), SHOWN)
    few = describe(model, np.tile(contents[:SHOWN], (VARIED, 1)))
    run.picture("varied", model.sample(len(few[0]), run.rng, *few), SHOWN)
    few = [a[:3] for a in text]
    with no_grad():
        alpha = np.stack([model.align.weights(h[:3], *few).numpy() for h in states], 1)
    texts = placed.captions(contents[:SHOWN])
    pictures.lines(run.out / "attention.png", *(attention(*pair) for pair in zip(
        texts, alpha, strict=False)))
    print("captions of samples.png, which never occurred in training:", *texts, sep="\n  ")
    run.finish(numbers)


def words(contents):
    """The words of the captions of some contents: integers (n, L)."""
    return encode(placed.captions(contents), placed.VOCABULARY, placed.LONGEST)


def describe(model, contents):
    """What the model's methods take for the captions of some contents, untracked."""
    with no_grad():
        h, mask = model.language(words(contents))
    return h.numpy(), mask


def attention(text, alpha):
    """A panel for `pictures.lines`: how much each word of a text is attended to, alpha (T, L)."""
    t = np.arange(1, len(alpha) + 1)
    return {"curves": {f"{i + 1} {word}": (t, alpha[:, i]) for i, word in enumerate(text.split())},
            "title": text.removeprefix("the digit "), "xlabel": "step", "xticks": t,
            "xlim": (0.8, 1.5 * len(alpha))}  # room for the legend


def agreement(name, images, contents, data):
    """Whether images in [0, 1] show what the contents say: a dict of two numbers."""
    digits, labels = placed.crops(images, contents)
    p = ruler.classify(digits.astype(np.float32), data.name)
    return {f"named_{name}": (p.argmax(1) == labels).mean(),
            f"in_place_{name}": placed.share_in_place(images, contents)}


if __name__ == "__main__":
    cli(main)
