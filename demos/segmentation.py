"""Label-efficient segmentation: what a diffusion model makes of a pixel tells its class.

    python demos/segmentation.py                                offline, on drawn digits
    python demos/segmentation.py --data mnist --data-dir DIR    on MNIST (--download fetches it)

The class of a pixel is the digit whose ink it is, or background. First a DDPM is trained on all
images, without labels. Then five small MLPs learn the class of a pixel, given what the DDPM's
decoder makes of it, from one, two or five labelled images of each digit.

samples.png, a column per digit, its first test image: the image; the class of each pixel, as a
colour; and what is predicted from five labelled images of each digit, by `diffusion`; by the same
MLPs given the activations of an untrained network, `untrained`, or the 9×9 pixels around each,
`pixels`; and by a U-Net, `unet`, trained on the labelled images alone, which are shifted at random
by up to two pixels, in as many steps as the DDPM and the MLPs together.

miou@N_… is the mean intersection over union with N labelled images (over 500 test images).
miou_t… and blocks.png: of a single MLP given one block's activations at one t, 50 labelled images
(200 test images). A block is named by its resolution.
"""

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minigen import cross_entropy, nn, optim, pictures, tensor, train
from minigen.data import in_batches, signed
from minigen.demo import Demo, cli
from minigen.diffusion_demo import T
from minigen.mask_metrics import mean_iou
from minigen.models.diffusion import schedule
from minigen.models.diffusion.segmentation import (
    Features,
    PixelClassifiers,
    Segmenter,
    pixels,
    segmenter,
)

TIMES, SCANNED = (100, 300, 500), (20, 100, 200, 300, 500, 700)
PER_DIGIT = (1, 2, 5)  # labelled images
PIXELS = 256  # that an MLP sees per step
SIDE, SHIFT = 9, 2


def main(argv=None):
    run = Demo("segmentation", __doc__, argv, data=("glyphs", "mnist"), batch=32,
               steps=3000, staged=True)
    widths, per_digit = ((8, 8, 8), (1,)) if run.quick else ((16, 32, 64), PER_DIGIT)
    most, classes, s = per_digit[-1], 1 + len(run.data.classes), schedule.linear(T)
    eps = run.rng.standard_normal((1, *run.data.shape), np.float32)
    model, untrained = (segmenter(run.data.shape, classes, s, TIMES, eps, widths) for _ in range(2))
    nn.init([model, untrained], run.rng)
    ddpm, mlps = model.features.ddpm, model.classifiers
    opt, opt_p = (optim.Adam(nn.parameters(part)) for part in (ddpm, mlps))
    first = max(2 * run.args.steps // 3, 1)
    steps = run.args.steps - first

    def labelled(k):
        """k training images of each digit in [−1, 1], and the classes of their pixels."""
        i = np.concatenate([np.flatnonzero(run.data.train_y == digit)[:k] for digit in range(10)])
        return signed(run.data.train_x[i]), masks(run.data.train_x[i], run.data.train_y[i])

    def examples(features, k):
        """The features (n, K) of all pixels of `labelled(k)`, and their classes (n,)."""
        x, y = labelled(k)
        f = in_batches(lambda x: features(run.xp.asarray(x)), x, batch_size=50)
        return pixels(f).numpy(), y.ravel()

    @cache
    def few():
        return examples(model.features, most)

    def learn(mlps, opt, f, y, rng):
        """A step of each MLP on some of the pixels with features f and classes y."""
        i = rng.integers(len(y), size=(len(mlps.nets), PIXELS))
        loss = mlps.loss(tensor(run.xp.asarray(f[i])), run.xp.asarray(y[i]))
        return train.descend(opt, loss, name="loss_of_pixels")

    def step(t, rng):
        if t < first:
            opt.lr = 2e-3 * optim.warmup_cosine(t, 0, first, floor=0.02)
            return train.descend(opt, ddpm.loss(signed(run.batch(t)), rng), max_norm=1.0)
        opt_p.lr = 3e-3 * optim.warmup_cosine(t, first, run.args.steps, floor=0.02)
        return learn(mlps, opt_p, *few(), rng)

    run.fit(step, model=model, opt=opt, opt_p=opt_p)

    def learnt(features, k, M=5):
        """A Segmenter by M MLPs, trained on `labelled(k)` like those of the second stage."""
        f, y = examples(features, k)
        mlps = PixelClassifiers(f.shape[1], classes, M, rng=run.rng)
        opt = optim.Adam(nn.parameters(mlps))
        for t in range(steps):
            opt.lr = 3e-3 * optim.warmup_cosine(t, 0, steps, floor=0.02)
            learn(mlps, opt, f, y, run.rng)
        return Segmenter(features, mlps)

    n = 20 if run.quick else 500
    x, y = signed(run.data.test_x[:n]), masks(run.data.test_x[:n], run.data.test_y[:n])
    print("training the segmenters that are compared", flush=True)
    compared = {("diffusion", most): model,
                ("untrained", most): learnt(untrained.features, most),
                ("pixels", most): learnt(neighbourhood, most)}
    compared |= {("diffusion", k): learnt(model.features, k) for k in per_digit[:-1]}
    compared |= {("unet", k): unet(*labelled(k), classes, widths, run.args.steps,
                                   np.random.default_rng(run.args.seed)) for k in per_digit}
    predicted = {key: in_batches(f, x, batch_size=50) for key, f in compared.items()}
    numbers = {f"miou@{10 * k}_{name}": mean_iou(p, y, classes)
               for (name, k), p in predicted.items()}
    column = np.unique(run.data.test_y[:n], return_index=True)[1]  # the first image of each digit
    rows = [np.repeat(run.data.test_x[column] / np.float32(255), 3, 1), painted(y[column])]
    rows += [painted(predicted[name, most][column])
             for name in ("diffusion", "untrained", "pixels", "unet")]
    run.picture("samples", np.concatenate(rows), len(column))

    print("training an MLP for each block and t", flush=True)
    n, times = (20, TIMES[:1]) if run.quick else (200, SCANNED)
    found = {}  # by resolution
    for b in range(len(widths)):
        alone = [learnt(Features(ddpm, (t,), (b,), eps), most, M=1) for t in times]
        found[run.data.shape[1] >> (len(widths) - 1 - b)] = [
            mean_iou(in_batches(f, x[:n], batch_size=50), y[:n], classes) for f in alone]
    draw_blocks(run.out / "blocks.png", times, found)
    run.finish(numbers | {f"miou_t{t}_block_{side}": iou for side, each in found.items()
                          for t, iou in zip(times, each, strict=True)})


def masks(x, y):
    """The classes of the pixels of images x, uint8 (N, 1, H, W), with labels y (N,): (N, H, W), 0
    for the background and 1 + y where there is ink."""
    return np.where(x[:, 0] >= 128, 1 + y[:, None, None], 0)


def neighbourhood(x):
    """For each pixel of images x (N, C, H, W) the SIDE×SIDE pixels around it, with the border
    repeated beyond the image: (N, C · SIDE², H, W)."""
    r = SIDE // 2
    around = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (r, r), (r, r)), mode="edge"),
                                 (SIDE, SIDE), (2, 3))  # (N, C, H, W, ., .)
    return around.transpose(0, 1, 4, 5, 2, 3).reshape(len(x), -1, *x.shape[2:])


def unet(x, y, classes, widths, steps, rng):
    """A segmenter that learns from images x (n, C, H, W) and the classes of their pixels alone."""
    net = nn.UNet(x.shape[1], classes, widths, rng=rng)
    opt = optim.Adam(nn.parameters(net))
    for t in range(steps):
        opt.lr = 2e-3 * optim.warmup_cosine(t, 0, steps, floor=0.02)
        i, shift = rng.integers(len(x), size=10), rng.integers(-SHIFT, SHIFT + 1, 2)
        logits = net(tensor(np.roll(x[i], shift, (2, 3))))
        train.descend(opt, cross_entropy(logits, np.roll(y[i], shift, (1, 2))))
    return lambda x: net(tensor(x)).numpy().argmax(1)


def draw_blocks(path, times, found):
    """The mIoU found for blocks, by their resolution, each at all `times`."""
    curves = {f"{side}×{side}": (times, each) for side, each in found.items()}
    with train.writing(path):
        pictures.lines(path, {"xlabel": "t", "ylabel": "mIoU", "curves": curves})


def painted(y):
    """The classes of pixels (N, H, W) as colours (N, 3, H, W) in [0, 1], the background black."""
    from matplotlib import colormaps
    palette = np.concatenate([np.zeros((1, 3)), colormaps["tab10"].colors])
    return palette[y].transpose(0, 3, 1, 2)


if __name__ == "__main__":
    cli(main)
