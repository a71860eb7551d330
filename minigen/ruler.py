"""The ruler: one fixed classifier that scores generated digits, so that the scores of different
models can be compared, if they are computed from as many images.

    images = data.unsigned(generator.sample(5000, rng))
    run.finish(ruler.quality(images, run.data))

It is a LeNet, trained once on real images (mnist) or synthetic ones (glyphs), and kept in
minigen/rulers/. These commands produced the weights:

    python demos/classifier.py --data mnist
    python demos/classifier.py --data glyphs
    cp runs/classifier-*/lenet-*.safetensors minigen/rulers

Scores of other classifiers (the papers use Inception v3) are not comparable with these.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from minigen import metrics, nn
from minigen.data import in_batches
from minigen.models.classifier.lenet import LeNet
from minigen.tensor import tensor

NAMES = ("mnist", "glyphs")
N_NEAREST = 500  # how many images are compared with their nearest training image


def classify(images, name):
    """p(y|x) of the ruler for data set `name` ("mnist" or "glyphs"): (n, 10), rows sum to one.

    images: (n, 1, 28, 28), uint8, or floats in [0, 1]

    ValueError for an unknown name, another shape, values beyond [0, 1] or not finite.
    """
    return in_batches(_model(name).probabilities, _digits(images))


def features(images, name):
    """The input of the ruler's last layer for each image: (n, 64). Arguments as for `classify`."""
    return in_batches(_model(name).features, _digits(images))


def quality(images, dataset):
    """How good and how varied generated images are: a flat dict of numbers for metrics.json.

    images: (n, C, H, W) like those of `dataset` (a `data.Dataset`), uint8 or floats in [0, 1],
        n at least 2

        inception_score_lenet@n         1 to 10, see `metrics.inception_score`
        fid_lenet@n                     `metrics.frechet_distance` to n training images
        real_inception_score_lenet@m    of m test images, m = n or as many as there are
        real_fid_lenet@m                of m test images to the same training images
        least_class_share               the share of the rarest digit among the images
        nearest_train_distance          the mean distance to the nearest training image, of at most
                                        500 images, and of as many test images: if samples are much
        nearest_train_distance_of_test  nearer, they are copies

    Where more images are available than needed, default_rng(0) chooses among them. A data set
    without a ruler has only the last two numbers; a line is printed that says so.

    ValueError for another shape, values beyond [0, 1] or not finite.
    """
    x = _images(images, dataset.shape)
    if len(x) < 2:
        raise ValueError(f"quality: {len(x)} image came, a distribution needs at least 2")
    numbers = {}
    if dataset.name in NAMES:
        numbers = _scores(x, dataset)
    else:
        print(f"no ruler for {dataset.name} (there are: {', '.join(NAMES)}): only the distances to "
              "the nearest training images are computed", flush=True)
    subset = _subset(x, N_NEAREST)
    for key, chosen in (("", subset), ("_of_test", _subset(dataset.test_x, len(subset)))):
        numbers[f"nearest_train_distance{key}"] = float(
            metrics.nearest(chosen, dataset.train_x)[0].mean())
    return numbers


def fid_to_2000(images, dataset):
    """`metrics.frechet_distance` of images (n, 1, 28, 28) to the first 2,000 training images: for
    demos that compare a few hundred images. `quality` compares as many training images as there
    are images, so its numbers are others."""
    return metrics.frechet_distance(features(images, dataset.name), _first_2000(dataset))


@lru_cache(maxsize=1)
def _first_2000(dataset):
    return features(dataset.train_x[:2000], dataset.name)


def nearest_pairs(images, dataset, columns=10):
    """The first `columns` images, and below each the training image nearest to it, for a picture
    with `columns` per row: float32 (2 columns, C, H, W)."""
    x = _images(images, dataset.shape)[:columns]
    _, index = metrics.nearest(x, dataset.train_x)
    return np.concatenate([x, dataset.train_x[index] / np.float32(255)])


def _scores(x, dataset):
    name, n = dataset.name, len(x)
    train, test = _subset(dataset.train_x, n), _subset(dataset.test_x, n)
    reference, p = features(train, name), classify(x, name)
    def fid(images): return metrics.frechet_distance(features(images, name), reference)
    return {
        f"inception_score_lenet@{n}": metrics.inception_score(p),
        f"fid_lenet@{n}": fid(x),
        f"real_inception_score_lenet@{len(test)}": metrics.inception_score(classify(test, name)),
        f"real_fid_lenet@{len(test)}": fid(test),
        "least_class_share": float(metrics.class_shares(p).min()),
    }


def _subset(x, n):
    """n of the images, always the same ones; all of them if there are no more than n."""
    return x if len(x) <= n else x[np.random.default_rng(0).permutation(len(x))[:n]]


@lru_cache
def _model(name):
    if name not in NAMES:
        raise ValueError(f"ruler: there is none for {name!r} (there are: {', '.join(NAMES)})")
    model = LeNet(rng=np.random.default_rng(0))
    nn.load(model, Path(__file__).parent / "rulers" / f"lenet-{name}.safetensors")
    return model


def _digits(images):
    return _images(images, (1, 28, 28))


def _images(images, shape):
    """Images (n, *shape) as float32 in [0, 1]."""
    x = tensor(images).numpy()
    if x.ndim != 4 or x.shape[1:] != tuple(shape) or not len(x):
        raise ValueError(f"ruler: images have shape {x.shape}, expected (n, "
                         f"{', '.join(map(str, shape))})")
    if x.dtype == np.uint8:
        return x / np.float32(255)
    if x.dtype.kind != "f":
        raise ValueError(f"ruler: images are {x.dtype}, expected uint8, or floats in [0, 1]")
    if not np.isfinite(x).all():
        raise ValueError("ruler: images are not finite")
    if x.min() < -1e-3 or x.max() > 1 + 1e-3:
        raise ValueError(f"ruler: images are in [{x.min():.3g}, {x.max():.3g}], expected [0, 1] "
                         "(minigen.data.unsigned maps [−1, 1] to it)")
    return x.astype(np.float32)
