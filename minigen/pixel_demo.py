"""What the demos of autoregressive image models share: levels, training, pictures and numbers.

    samples.png        100 images
    completions.png    a row for each test image: itself, its upper half, completions of that half
    temperature.png    a row for each temperature, from 0.5 to 1.2
"""

import time

import numpy as np

from minigen import metrics, nn, no_grad, optim, train
from minigen.demo import at_least, recordable
from minigen.models.autoregressive.decoding import sample, temperature
from minigen.train import UserError

TEMPERATURES = (0.5, 0.7, 0.85, 1.0, 1.2)


def flags(parser):
    """Add --levels and --recorded."""
    recordable(parser)
    parser.add_argument("--levels", type=at_least(2), metavar="V", help="values of a pixel, 2 to "
                        "256; 2: sampled anew at each use (default: 2 for grey images, else 256)")


def levels(run):
    """The number of values a pixel has in this run of a demo."""
    V = run.args.levels or (2 if run.data.shape[0] == 1 else 256)
    if V > 256:
        raise UserError(f"--levels is {V}, but the images are bytes: at most 256")
    return V


def quantise(images, V, rng):
    """uint8 images as integers 0 … V − 1; for V = 2, a pixel's value / 255 is its probability of 1.
    """
    if V == 2:
        return metrics.binarise(images / np.float32(255), rng).astype(np.uint8)
    return (images.astype(np.uint16) * V // 256).astype(np.uint8)


def fit(run, model, lr, max_norm=None, cond=lambda t: ()):
    """Train with Adam; after a warm-up, the learning rate falls from `lr` to 0 along a cosine.
    cond(t): the model's inputs besides the images of batch t (a tuple)."""
    opt = optim.Adam(nn.parameters(model), lr)

    @run.recorded
    def train_step(x, *cond_and_rng):
        *inputs, _ = cond_and_rng
        return train.descend(opt, model.loss(x, *inputs), max_norm=max_norm)

    def step(t, rng):
        opt.lr = lr * optim.warmup_cosine(t, 0, run.args.steps)
        return train_step(quantise(run.batch(t), model.levels, rng), *cond(t), rng)

    run.fit(step, model=model, opt=opt)


def report(run, model):
    """Draw the pictures, compute the metrics, and write metrics.json.

    Sampling is timed for as many images as samples.png has. Naive sampling needs a pass through the
    whole network for each value of an image: one such pass is timed, for at most 20 images.
    """
    V, n = model.levels, 4 if run.quick else 100
    x_test = quantise(run.data.test_x, V, np.random.default_rng(0))

    start = time.perf_counter()
    x = model.sample(n, run.rng)
    seconds = time.perf_counter() - start
    with no_grad():
        model.log_prob(x[:20])  # untimed: kernels may have to be compiled first
        start = time.perf_counter()
        model.log_prob(x[:20])
        naive = (time.perf_counter() - start) * x[0].size * n / len(x[:20])
    run.picture("samples", x / (V - 1))

    rows, per_row = (1, 2) if run.quick else (10, 8)
    originals = x_test[:rows]
    upper = np.arange(originals.shape[2])[:, None] < originals.shape[2] // 2
    completions = model.complete(np.repeat(originals, per_row, 0), upper, run.rng)
    run.picture("completions", np.concatenate([
        originals[:, None] / (V - 1), np.where(upper, originals / (V - 1), 0.5)[:, None],
        completions.reshape(rows, per_row, *model.shape) / (V - 1)], 1).reshape(
            -1, *model.shape), per_row + 2)

    columns = 1 if run.quick else 10
    taus = np.repeat(TEMPERATURES, columns)[:, None]
    x = model.sample(len(taus), run.rng, choose=lambda s, rng: sample(temperature(s, taus), rng))
    run.picture("temperature", x / (V - 1), columns)

    batch = min(100, max(1, 20_000_000 // (x_test[0].size * V)))  # to limit the logits' memory
    nats = metrics.nll(model, x_test, batch=batch)
    run.finish({"test_nll_nats": nats, "bits_per_dim": metrics.bits_per_dim(nats, x_test[0].size),
                "sampling_seconds": seconds, "naive_sampling_seconds": naive,
                "naive_sampling_ratio": naive / seconds})
