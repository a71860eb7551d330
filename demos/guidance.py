"""Guidance: a class-conditional diffusion model, sampled under increasing guidance weights.

    python demos/guidance.py                                   offline, on drawn digits
    python demos/guidance.py --data mnist --data-dir DIR       on MNIST (--download fetches it)
    python demos/guidance.py --weight 4                        the guidance weight of samples.png

guidance.png shows what a larger weight buys (more images are recognised by a classifier) and what
it costs (variety). weights.png: samples from the same noise under increasing weights.
thresholds.png: samples under the largest weight, without thresholding, with static and with dynamic
thresholding; the last suits photographs better than digits, whose pixels are rightly black or
white. classifier_guidance.png: samples under classifier guidance instead of classifier-free
guidance.

accuracy is the share of samples that the ruler classifies as the class asked for, diversity the
mean distance between two samples of a class, saturated_share the share of black or white pixels.
"""

import numpy as np

from minigen import data, nn, optim, pictures, ruler, train
from minigen.demo import Demo, cli
from minigen.diffusion_demo import T, few_steps, guidance_weight, sampling_steps
from minigen.dist import noise
from minigen.models.diffusion import schedule, threshold
from minigen.models.diffusion.conditional import conditional
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.guidance import (
    ClassifierFree,
    ClassifierGuided,
    drop_labels,
    no_label,
)
from minigen.models.diffusion.noisy_classifier import NoisyClassifier
from minigen.models.diffusion.velocity import Velocity

WEIGHTS, OMEGA = (0, 1, 2, 4, 8), 5.0
THRESHOLDS = {"none": None, "static": threshold.static, "dynamic": threshold.dynamic(0.9)}


def flags(parser):
    guidance_weight(parser, 2.0, "guidance weight of samples.png")
    sampling_steps(parser)


def main(argv=None):
    run = Demo("guidance", __doc__, argv, data=("glyphs", "mnist"), batch=16, flags=flags,
               steps={"glyphs": 800, "mnist": 3000})
    shape, K, small = run.data.shape, len(run.data.classes), (8, 8, 8)
    net = conditional(shape, K, small if run.quick else (16, 32, 32), D=64)
    classifier = NoisyClassifier(shape, K, small if run.quick else (32, 64, 64))
    noise_schedule = schedule.linear(T)
    nn.init([net, classifier], run.rng)
    net = Velocity(net, noise_schedule)  # learns faster than a network that predicts ε
    model = DDPM(net, noise_schedule)
    opt = optim.Adam(nn.parameters(net), lr=2e-3)
    opt_c = optim.Adam(nn.parameters(classifier), lr=2e-3)
    ema = nn.EMA(opt.params, decay=0.995)

    def step(t, rng):
        x_0, y = data.signed(run.batch(t)), run.data.train_y[run.indices(t)]
        slower = optim.cosine(t, run.args.steps, floor=0.05)
        opt.lr, opt_c.lr = 2e-3 * optim.warmup(t, 50) * slower, 2e-3 * slower
        loss = model.loss(x_0, rng, drop_labels(y, K, rng))
        numbers = train.descend(opt, loss, max_norm=1.0)
        # the classifier is cheap, so its batches are four times as large
        i = rng.integers(0, len(run.data.train_x), 4 * len(x_0))
        x_0, y = data.signed(run.xp.asarray(run.data.train_x[i])), run.data.train_y[i]
        loss = classifier.loss(model, x_0, y, rng)
        return numbers | train.descend(opt_c, loss, name="classifier_loss")

    run.fit(step, model=model, opt=opt, ema=ema, classifier=classifier, opt_c=opt_c)

    each = 2 if run.quick else 10  # images per class
    y = np.repeat(np.arange(K), each)
    x_T = noise(run.rng, nn.like(net), (len(y), *shape))
    steps = schedule.respaced(model.schedule, few_steps(run))

    def generate(net, some=slice(None), threshold=threshold.static):
        """Samples for the labels y[some], always from the same noise."""
        x_0 = DDIM(net, steps).decode(x_T[some], y[some], threshold=threshold)
        return data.unsigned(x_0)

    numbers, samples = {}, {}
    with ema.applied():
        for w in WEIGHTS:
            samples[w] = generate(ClassifierFree(net, w, no_label(K)))
            numbers |= {f"{key}@w={w}": v for key, v in fidelity(samples[w], y, run).items()}
        w = run.args.weight
        x = samples[w] if w in samples else generate(ClassifierFree(net, w, no_label(K)))
        run.picture("samples", x, each)
        first = slice(None, None, each)  # one of each class
        run.picture("weights", np.concatenate([samples[w][first] for w in WEIGHTS]), columns=K)
        large = ClassifierFree(net, WEIGHTS[-1], no_label(K))
        rows = {name: generate(large, first, rule) for name, rule in THRESHOLDS.items()}
        run.picture("thresholds", np.concatenate(list(rows.values())), columns=K)
        numbers |= {f"saturated_share@{name}": saturated(x) for name, x in rows.items()}
        unlabelled = lambda x_t, t: net(x_t, t, np.full(len(x_t), K))
        x = generate(ClassifierGuided(unlabelled, classifier, model.schedule, omega=OMEGA))
        run.picture("classifier_guidance", x, each)
        numbers |= {f"{key}@classifier": v for key, v in fidelity(x, y, run).items()}

    x_test, y_test = run.data.test_x[:1000] / np.float32(255), run.data.test_y[:1000]
    real = {f"real_{key}": v for key, v in fidelity(x_test, y_test, run).items()}
    numbers |= {"real_saturated_share": saturated(x_test)}
    with train.writing(run.out / "guidance.png"):
        pictures.lines(run.out / "guidance.png", *(
            {"title": title, "xlabel": "guidance weight w", "ylim": (0, None), "curves": {
                "samples": (WEIGHTS, [numbers[f"{key}@w={w}"] for w in WEIGHTS]),
                "test images": (WEIGHTS, [real[f"real_{key}"]] * len(WEIGHTS), "--")}}
            for key, title in (("accuracy", "recognised as the class asked for"),
                               ("diversity", "distance between images of a class"))))
    run.finish(numbers | real)


def saturated(x):
    """The share of pixels of images in [0, 1] that are black or white."""
    return np.mean((x < 0.005) | (x > 0.995))


def fidelity(x, y, run):
    """The share of images x (N, C, H, W) that the ruler classifies as their class y, and their
    variety: the mean distance (root mean square over pixels) between two images of one class."""
    accuracy = np.mean(ruler.classify(x, run.data.name).argmax(1) == y)
    flat, distances = x.reshape(len(x), -1), []
    for k in np.unique(y):
        some = flat[y == k]
        i, j = np.triu_indices(len(some), 1)
        distances.append(np.sqrt(((some[i] - some[j]) ** 2).mean(1)))
    return {"accuracy": accuracy, "diversity": np.concatenate(distances).mean()}


if __name__ == "__main__":
    cli(main)
