"""CLIP: matching images and sentences get similar codes, so that each can be found by the other.

    python demos/clip.py                                   offline, on drawn scenes with captions
    python demos/clip.py --data cifar10 --data-dir DIR     on CIFAR-10 (--download fetches it)

samples.png: for each of the first test captions, which are printed, the image that it describes,
then the four test images that CLIP finds nearest. labels.png, a row per label: the images that CLIP
most confidently classifies as it. r_precision@1 is how often an image retrieves its own caption
among 100, text_to_image@1 the other way round; one in a hundred by chance.

zero_shot: the accuracy of classifying images into ten labels by sentences that describe the labels;
supervised: that of a network of the same kind trained on the labels. Only scenes with one object
are classified. Five pairs of a colour and a shape occur in no training scene: pair_unseen is the
accuracy on objects of these pairs, named among all 30: CLIP knows both words, but has never met
them together; pair_seen is the accuracy on the other objects.

CIFAR-10's captions are made from its labels: at test time only the sentences around them are new.
Ten of 99 other captions name the same class, so r_precision@1 cannot be much above a tenth.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from minigen import cross_entropy, data, log_softmax, metrics, nn, optim, tensor, train
from minigen.data.scenes import COLOURS, GROUNDS, PLACES, SHAPES, SIZES, encode
from minigen.demo import Demo, cli
from minigen.models.clip.clip import CLIP, ImageEncoder, TextEncoder
from minigen.models.clip.retrieval import label_scores, retrieve, zero_shot

UNSEEN = ("red ring", "orange circle", "yellow cross", "green triangle", "blue square")
TEMPLATES = ("a photo of {}", "a small picture of {}", "this is {}", "here we see {}")
PROMPTS = ("a small photo of {}", "this is a picture of {}", "here we see a photo of {}")
SHOWN, NEAREST = 20, 4
LR = 3e-3


@dataclass
class Sentences:
    """The captions of a data set's images, and classification tasks.

    train: captions (N, V), one of which is drawn at each use; test: captions (N,)
    kept: the indices of the training images to learn from
    tasks: by name, the descriptions of each label (K, P), the indices of the test images to be
        classified by them, and the right labels
    """

    train: np.ndarray
    test: np.ndarray
    kept: np.ndarray
    tasks: dict


def of_scenes(scenes):
    captions = scenes.test_captions
    kept = [not any(pair in caption for pair in UNSEEN) for caption in scenes.train_captions]
    single = np.flatnonzero([caption.split().count("a") == 2 for caption in captions])
    labels = [described([size], COLOURS, [shape]) for size, shape in map(str.split, scenes.classes)]
    names = [f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES)]
    pairs = [described(SIZES, [colour], [shape]) for colour, shape in product(COLOURS, SHAPES)]
    pair = np.array([names.index(" ".join(caption.split()[2:4])) for caption in captions[single]])
    new = np.isin(np.array(names)[pair], UNSEEN)
    return Sentences(scenes.train_captions[:, None], captions, np.flatnonzero(kept), {
        "zero_shot": (labels, single, scenes.test_y[single]),
        "pair_seen": (pairs, single[~new], pair[~new]),
        "pair_unseen": (pairs, single[new], pair[new])})


def described(sizes, colours, shapes):
    """All captions of scenes with one object of these sizes, colours and shapes."""
    return [f"a {size} {colour} {shape} {place} on a {ground} background" for
            size, colour, shape, place, ground in product(sizes, colours, shapes, sum(PLACES, ()),
                                                          GROUNDS)]


def of_labels(dataset, seed):
    things = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in dataset.classes]
    captions = np.array([[template.format(thing) for template in TEMPLATES]
                         for thing in things])
    drawn = np.random.default_rng(seed).integers(len(TEMPLATES), size=len(dataset.test_y))
    return Sentences(captions[dataset.train_y], captions[dataset.test_y, drawn],
                     np.arange(len(dataset.train_y)), {
        "zero_shot": ([[prompt.format(thing) for prompt in PROMPTS] for thing in things],
                      np.arange(len(dataset.test_y)), dataset.test_y)})


def main(argv=None):
    run = Demo("clip", __doc__, argv, data=("scenes", "cifar10"), batch=128,
               steps={"scenes": 800, "cifar10": 500}, min_batch=2)
    texts = of_scenes(run.data) if run.data.name == "scenes" else of_labels(run.data, run.args.seed)
    sentences = [*texts.train.flat, *(sentence for labels, *_ in texts.tasks.values()
                                      for sentence in np.ravel(labels))]
    vocabulary = ("", *sorted({word for sentence in sentences for word in sentence.split()}))
    longest = max(len(sentence.split()) for sentence in sentences)
    words = lambda sentences: encode(sentences, vocabulary, longest)

    shape, d, widths = run.data.shape, 64, (8, 8) if run.quick else (16, 32, 64, 128)
    model = CLIP(ImageEncoder(shape, d, widths), TextEncoder(len(vocabulary), longest, d))
    classifier = ImageEncoder(shape, len(run.data.classes), widths)
    nn.init([model, classifier], run.rng)
    opts = [optim.AdamW(nn.parameters(part), lr=LR) for part in (model, classifier)]
    tokens = words(texts.train.flat).reshape(*texts.train.shape, longest)

    def step(t, rng):
        for opt in opts:
            opt.lr = LR * optim.warmup_cosine(t, 0, run.args.steps)
        i = texts.kept[data.batch_indices(len(texts.kept), run.args.batch, run.args.seed, t)]
        x = tensor(run.xp.asarray(data.signed(run.data.train_x[i])))
        c = tokens[i, rng.integers(tokens.shape[1], size=len(i))]
        loss, parts = model.loss(x, run.xp.asarray(c))
        numbers = train.descend(opts[0], loss, parts, max_norm=1.0)
        loss = cross_entropy(classifier(x), run.data.train_y[i])
        return numbers | train.descend(opts[1], loss, name="supervised_loss")

    run.fit(step, model=model, classifier=classifier, opt=opts[0], opt_c=opts[1])

    x, y = run.data.test_x, run.data.test_y
    f, g = data.in_batches(model.f, data.signed(x)), data.in_batches(model.g, words(texts.test))
    tau = model.tau().item()
    codes = {name: data.in_batches(model.g, words(np.ravel(prompts))).reshape(*np.shape(prompts), d)
             for name, (prompts, *_) in texts.tasks.items()}
    accuracy = {name: (zero_shot(f[i], codes[name], tau) == labels).mean()
                for name, (_, i, labels) in texts.tasks.items()}
    i = texts.tasks["zero_shot"][1]
    log_p = log_softmax(tensor(label_scores(f[i], codes["zero_shot"], tau)), axis=1).numpy()
    surest = np.argsort(-log_p, axis=0)[:10].T
    supervised = data.in_batches(classifier, data.signed(x[i])).argmax(1) == y[i]
    few, rng = min(100, len(x)), np.random.default_rng(0)
    similar = np.diag(metrics.visual_similarity(g[:1000], f[:1000]))
    run.picture("samples", np.concatenate([x[[n, *found]] for n, found in enumerate(
        retrieve(g[:SHOWN], f, NEAREST))]), columns=2 * (1 + NEAREST))
    run.picture("labels", x[i[surest.ravel()]])
    print("captions of samples.png:", *texts.test[:SHOWN], sep="\n  ")
    run.finish(accuracy | {
        "supervised": supervised.mean(),
        "r_precision@1": metrics.r_precision(g, f, 1, rng, few - 1),
        "text_to_image@1": metrics.r_precision(f, g, 1, rng, few - 1),
        "visual_similarity": similar.mean(), "tau": tau})


if __name__ == "__main__":
    cli(main)
