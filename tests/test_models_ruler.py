"""The ruler: its accuracy, its scores of good and bad images, and the input that it refuses."""

import os
from dataclasses import replace

import numpy as np
import pytest

from minigen import data, grad, metrics, nn, optim, pictures, ruler, tensor
from minigen.models.classifier.lenet import LeNet

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def glyphs():
    return data.load("glyphs", n_train=1500, n_test=1000)


def test_lenet_learns_a_batch_by_heart():
    model, rng = LeNet(rng=RNG(0)), RNG(1)
    x, y = rng.random((32, 1, 28, 28), np.float32), rng.integers(0, 10, 32)
    opt = optim.Adam(nn.parameters(model), 3e-3)
    for _ in range(60):
        opt.step(grad(model.loss(x, y), opt.params))
    assert (model(x).argmax(axis=1).numpy() == y).all() and model.loss(x, y).item() < 0.1
    assert model.features(x).shape == (32, 64) and model(x).shape == (32, 10)
    with pytest.raises(ValueError, match=r"expected \(N, 1, 28, 28\)"):
        model(tensor(x[:, :, :20]))


def test_the_ruler_names_drawn_digits(glyphs):
    p = ruler.classify(glyphs.test_x, "glyphs")
    assert p.shape == (1000, 10) and np.allclose(p.sum(1), 1, atol=1e-5)
    assert (p.argmax(1) == glyphs.test_y).mean() >= 0.99
    assert np.allclose(ruler.classify(glyphs.test_x[:9] / 255, "glyphs"), p[:9], atol=1e-6)


@pytest.mark.skipif("MINIGEN_DATA" not in os.environ, reason="MINIGEN_DATA names no data folder")
def test_the_ruler_names_real_digits():
    digits = data.load("mnist")
    assert (ruler.classify(digits.test_x, "mnist").argmax(1) == digits.test_y).mean() >= 0.99


def test_quality_tells_good_images_from_bad_ones(glyphs):
    n = 400
    good = ruler.quality(glyphs.test_x[-n:], glyphs)
    assert good[f"inception_score_lenet@{n}"] > 9 and good["least_class_share"] > 0.05
    noise = ruler.quality(RNG(0).random((n, 1, 28, 28)), glyphs)
    copies = ruler.quality(glyphs.train_x[:n], glyphs)
    few = glyphs.test_x[-1000:][glyphs.test_y[-1000:] == 3]
    threes = ruler.quality(few, glyphs)
    assert good.keys() == noise.keys() == copies.keys()
    for worse, m in ((noise, n), (threes, len(few))):
        assert worse[f"fid_lenet@{m}"] > 10 * worse[f"real_fid_lenet@{m}"]
        assert worse["least_class_share"] == 0
    assert threes[f"inception_score_lenet@{len(few)}"] < 1.5
    assert good[f"fid_lenet@{n}"] == pytest.approx(good[f"real_fid_lenet@{n}"], rel=0.5)
    assert copies["nearest_train_distance"] == 0 < good["nearest_train_distance"]
    assert good["nearest_train_distance"] == pytest.approx(
        good["nearest_train_distance_of_test"], rel=0.1)


def test_fid_to_the_first_2000_training_images():
    few = data.load("glyphs", n_train=2001, n_test=100)
    x = few.test_x
    real = ruler.features(few.train_x[:-1], "glyphs")
    expected = metrics.frechet_distance(ruler.features(x, "glyphs"), real)
    assert ruler.fid_to_2000(x, few) == expected


def test_in_batches_gives_what_one_call_gives():
    x, y, sizes = np.arange(22.0).reshape(11, 2), np.arange(11), []

    def f(x, y):
        sizes.append(len(y))
        return tensor(x).sum(1) * y

    assert np.array_equal(data.in_batches(f, x, y, batch_size=4), x.sum(1) * y)
    assert sizes == [4, 4, 3]


def test_quality_by_hand(glyphs):
    """If all images are used, none are chosen at random: each number from its own function."""
    few = glyphs.first(200, 200)
    x = glyphs.test_x[200:400]
    numbers = ruler.quality(x, few)
    of = {key: ruler.features(images, "glyphs")
          for key, images in (("x", x), ("train", few.train_x), ("test", few.test_x))}
    p = ruler.classify(x, "glyphs")
    assert numbers == {
        "inception_score_lenet@200": metrics.inception_score(p),
        "fid_lenet@200": metrics.frechet_distance(of["x"], of["train"]),
        "real_inception_score_lenet@200": metrics.inception_score(
            ruler.classify(few.test_x, "glyphs")),
        "real_fid_lenet@200": metrics.frechet_distance(of["test"], of["train"]),
        "least_class_share": metrics.class_shares(p).min(),
        "nearest_train_distance": metrics.nearest(x, few.train_x)[0].mean(),
        "nearest_train_distance_of_test": metrics.nearest(few.test_x, few.train_x)[0].mean()}


def test_images_are_compared_with_those_drawn_from_all(glyphs):
    """The first images of a sorted data set are no random sample of it."""
    order = glyphs.train_y.argsort()
    x, test = glyphs.train_x[order], glyphs.test_x[glyphs.test_y.argsort()]
    numbers = ruler.quality(x[:600], replace(glyphs, train_x=x, test_x=test))
    some, some_test = x[RNG(0).permutation(1500)[:600]], test[RNG(0).permutation(1000)[:600]]
    of = {key: ruler.features(images, "glyphs")
          for key, images in (("x", x[:600]), ("train", some), ("test", some_test))}
    assert numbers["fid_lenet@600"] == metrics.frechet_distance(of["x"], of["train"])
    assert numbers["real_fid_lenet@600"] == metrics.frechet_distance(of["test"], of["train"])
    few = test[RNG(0).permutation(1000)[:500]]
    assert numbers["nearest_train_distance_of_test"] == metrics.nearest(few, x)[0].mean()


@pytest.mark.parametrize("n", [2, 8])
def test_quality_of_few_images_is_finite(n, glyphs):
    numbers = ruler.quality(RNG(0).random((n, 1, 28, 28), np.float32), glyphs.first(64, 32))
    assert len(numbers) == 7 and np.isfinite(list(numbers.values())).all()
    blank = ruler.quality(np.zeros((n, 1, 28, 28), np.uint8), glyphs.first(64, 32))
    assert np.isfinite(list(blank.values())).all()


def test_more_samples_than_test_images_are_named_by_both_numbers(glyphs):
    numbers = ruler.quality(glyphs.train_x[:90], glyphs.first(64, 32))
    assert {"fid_lenet@90", "real_fid_lenet@32", "real_inception_score_lenet@32"} <= numbers.keys()


def test_without_a_ruler_there_are_distances_only(capsys):
    scenes = data.load("scenes", n_train=64, n_test=32)
    numbers = ruler.quality(scenes.test_x[:8], scenes)
    assert list(numbers) == ["nearest_train_distance", "nearest_train_distance_of_test"]
    assert "no ruler for scenes (there are: mnist, glyphs)" in capsys.readouterr().out


def test_pairs_show_the_nearest_training_image(glyphs):
    moved = np.clip(glyphs.train_x[40:45] / 255 + 0.1 * RNG(0).random((5, 1, 28, 28)), 0, 1)
    pairs = ruler.nearest_pairs(moved, glyphs, columns=4)
    assert pairs.shape == (8, 1, 28, 28) and np.allclose(pairs[:4], moved[:4])
    assert np.allclose(pairs[4:], glyphs.train_x[40:44] / 255)
    assert pictures.grid(pairs, 4).ndim == 2


@pytest.mark.parametrize("images, name, message", [
    (np.zeros((2, 1, 28, 28), np.float32), "cifar10", "none for 'cifar10' .*mnist, glyphs"),
    (np.zeros((2, 3, 32, 32), np.float32), "mnist", r"shape \(2, 3, 32, 32\), expected \(n, 1"),
    (np.zeros((0, 1, 28, 28), np.float32), "mnist", "have shape"),
    (np.full((2, 1, 28, 28), np.nan), "mnist", "not finite"),
    (np.full((2, 1, 28, 28), -1.0), "mnist", r"in \[-1, -1\], expected \[0, 1\]"),
    (np.zeros((2, 1, 28, 28), np.int64), "mnist", "are int64, expected uint8"),
])
def test_bad_input_is_one_clear_line(images, name, message, glyphs):
    with pytest.raises(ValueError, match=message) as caught:
        ruler.classify(images, name)
    assert "\n" not in str(caught.value)
    if name == "mnist":
        with pytest.raises(ValueError, match=message):
            ruler.quality(images, glyphs)


def test_one_image_is_no_distribution(glyphs):
    with pytest.raises(ValueError, match="at least 2"):
        ruler.quality(glyphs.test_x[:1], glyphs)
