"""Section "Diffusion", segmentation: features of pixels, their classifiers, and the mean IoU."""

import math
from collections import Counter

import numpy as np
import pytest
from normal_world import alpha_bar_of

from minigen import grad, nn, optim, tensor
from minigen.mask_metrics import iou, mean_iou
from minigen.models.diffusion import segmentation
from minigen.models.diffusion.schedule import linear
from minigen.models.diffusion.segmentation import Features, PixelClassifiers, Segmenter, segmenter
from minigen.nn.unet import ResidualBlock

RNG = np.random.default_rng
S, SHAPE, WIDTHS = linear(200), (2, 8, 8), (4, 6, 8)
EPS = RNG(0).standard_normal((1, *SHAPE))
X = RNG(1).uniform(-1, 1, (3, *SHAPE))


def network(times=(20, 150)):
    """A Segmenter into five classes, none of whose weights is zero."""
    model = segmenter(SHAPE, 5, S, times, EPS, WIDTHS, RNG(2))
    nn.astype(model, np.float64)
    rng = RNG(3)
    for p in nn.parameters(model).values():
        p.data[...] = rng.normal(0, 0.2, p.shape)
    return model


def enlarged(a, side):
    """a (N, K, h, w) to (N, K, side, side), by linear interpolation along one axis, then the other,
    between the centres of the pixels."""
    for axis in (2, 3):
        n = a.shape[axis]
        at, centres = (np.arange(side) + 0.5) / side, (np.arange(n) + 0.5) / n
        a = np.apply_along_axis(lambda line: np.interp(at, centres, line), axis, a)  # noqa: B023
    return a


def test_features_are_what_the_blocks_give_when_the_noise_is_predicted(monkeypatch):
    model, given = network(), []
    call = ResidualBlock.__call__
    monkeypatch.setattr(ResidualBlock, "__call__",
                        lambda block, x, e: given.append(call(block, x, e)) or given[-1])
    want = []
    for t in (20, 150):
        a = alpha_bar_of(S)[t]
        x_t = math.sqrt(a) * X + math.sqrt(1 - a) * np.repeat(EPS, len(X), 0)
        given.clear()
        model.features.ddpm.eps(x_t, t)
        *_, low, middle, high = given  # after those of the encoder
        want += [enlarged(block.numpy(), 8) for block in (low, middle, high)]
    f = model.features(X)
    assert f.shape == (3, 2 * sum(WIDTHS), 8, 8) and not f.requires_grad
    assert np.allclose(f.numpy(), np.concatenate(want, 1))  # eq: segmentation-features
    some = Features(model.features.ddpm, (150,), (1,), EPS)(X)
    assert np.allclose(some.numpy(), want[4])  # eq: segmentation-features


def test_the_last_features_are_one_layer_away_from_the_noise():
    model = network()
    unet = model.features.ddpm.net.unet
    last = model.features(X).numpy()[:, -WIDTHS[0]:]
    x_t = model.features.ddpm.q_sample(X, 150, np.repeat(EPS, len(X), 0))
    eps = model.features.ddpm.eps(x_t, 150).numpy()
    assert np.allclose(unet.last(unet.norm(tensor(last))).numpy(), eps)  # eq: segmentation-features


def test_the_loss_sums_what_each_network_gives_its_own_pixels():
    model = PixelClassifiers(4, 3, M=2, widths=(5, 6), rng=RNG(0))
    nn.astype(model, np.float64)
    f, y = RNG(1).normal(size=(2, 7, 4)), RNG(2).integers(0, 3, (2, 7))
    want = 0.0
    for m, net in enumerate(model.nets):
        p = np.exp(net(tensor(f[m])).numpy())
        want -= sum(math.log(p[i, y[m, i]] / p[i].sum()) for i in range(7)) / 7
    assert model.loss(tensor(f), y).item() == pytest.approx(want)  # eq: segmentation-loss
    for net in model.nets:
        net[-1].weight.data[...] = 0
        net[-1].bias.data[...] = 0
    undecided = model.loss(tensor(f), y).item()
    assert undecided == pytest.approx(2 * math.log(3))  # eq: segmentation-loss


def test_the_majority_decides_and_of_equals_the_first():
    votes = RNG(0).integers(0, 4, (5, 2 * 6 * 3))
    model = PixelClassifiers(1, 4, M=5)
    model.nets = [lambda f, vote=vote: tensor(np.eye(4)[vote] + 0 * f.numpy()) for vote in votes]
    found = model(np.zeros((2, 1, 6, 3))).ravel()
    ties = 0
    for of_pixel, winner in zip(votes.T.tolist(), found, strict=True):
        count = Counter(of_pixel)
        best = [k for k in range(4) if count[k] == max(count.values())]
        ties += len(best) > 1
        assert winner == best[0]  # eq: segmentation-vote
    assert 0 < ties < 36


def test_pixels_keep_their_places():
    """A class that is a function of the features is found at the pixels that have them."""
    model = PixelClassifiers(2, 2, M=1)
    model.nets = [lambda f: f]
    maps = RNG(0).normal(size=(3, 2, 4, 5))
    assert np.array_equal(model(maps), maps[:, 1] > maps[:, 0])
    flat = segmentation.pixels(maps).numpy()
    assert np.array_equal(flat, [maps[n, :, i, j] for n, i, j in np.ndindex(3, 4, 5)])


def test_a_few_labelled_images_teach_a_class_that_no_single_pixel_shows():
    """Everything within a bright frame, and the frame, is of one class, whatever its pixels."""
    def scenes(n, rng):
        x, y = rng.normal(0, 0.1, (n, 1, 8, 8)).astype(np.float32), np.zeros((n, 8, 8), int)
        for i, (row, column) in enumerate(rng.integers(0, 4, (n, 2))):
            x[i, 0, row:row + 5, column:column + 5] = 1
            x[i, 0, row + 1:row + 4, column + 1:column + 4] = rng.normal(0, 0.1, (3, 3))
            y[i, row:row + 5, column:column + 5] = 1
        return x, y

    x, y = scenes(10, RNG(0))
    model = segmenter((1, 8, 8), 2, S, (20,), np.zeros((1, 1, 8, 8), np.float32), (8, 8), RNG(1))
    f = segmentation.pixels(model.features(x)).numpy()
    opt, rng = optim.Adam(nn.parameters(model.classifiers), 1e-2), RNG(2)
    for _ in range(60):
        i = rng.integers(len(f), size=(5, 64))
        opt.step(grad(model.classifiers.loss(tensor(f[i]), y.ravel()[i]), opt.params))
    before = model.classifiers.nets[0][0].running_mean.numpy().copy()
    x, y = scenes(20, RNG(3))
    assert mean_iou(model(x), y, 2) > 0.7
    assert isinstance(model, Segmenter)
    assert np.array_equal(model.classifiers.nets[0][0].running_mean.numpy(), before)


def test_mean_iou_from_the_table_of_confusions():
    true, found = RNG(0).integers(0, 4, (3, 5, 6)), RNG(1).integers(0, 4, (3, 5, 6))
    table = np.zeros((4, 4))
    np.add.at(table, (true.ravel(), found.ravel()), 1)
    hits = np.diag(table)
    want = hits / (hits + (table.sum(0) - hits) + (table.sum(1) - hits))
    assert mean_iou(found, true, 4) == pytest.approx(want.mean())  # eq: mean-iou
    assert mean_iou(true, true, 4) == 1  # eq: mean-iou
    assert mean_iou(found, true, 9) == mean_iou(found, true, 4)  # classes that do not occur
    renamed = np.array([2, 0, 3, 1])
    assert mean_iou(renamed[found], renamed[true], 4) == pytest.approx(mean_iou(found, true, 4))
    half = np.zeros((1, 2, 2), int)
    half[0, 0] = 1
    assert mean_iou(half, 1 - half, 2) == 0
    assert mean_iou(np.zeros_like(half), half, 2) == 0.25  # eq: mean-iou


def test_iou_of_masks():
    a = np.zeros((1, 2, 2, 2), bool)
    a[0, 0, 0] = True
    b = np.array([[[[True, False], [True, False]]]])
    assert iou(a, b).tolist() == [1 / 3, 0]  # eq: dissection-agreement
    assert iou(a, a).tolist() == [1, 0]


@pytest.mark.parametrize("call, message", [
    (lambda: PixelClassifiers(3, 2, M=2).loss(np.zeros((3, 4, 3)), np.zeros((3, 4), int)),
     r"features are \(3, 4, 3\), their classes \(3, 4\), expected .* for M = 2 MLPs"),
    (lambda: PixelClassifiers(3, 2, M=2).loss(np.zeros((2, 4, 3)), np.zeros((2, 5), int)),
     r"their classes \(2, 5\), expected \(M, n, K\) and \(M, n\)"),
    (lambda: network((0,)).features(X), "t must be integers from 1 to T = 200, got 0"),
    (lambda: mean_iou(np.zeros((2, 3, 3), int), np.zeros((3, 3), int), 2),
     r"classes are \(2, 3, 3\) and \(3, 3\), expected \(N, H, W\) twice"),
    (lambda: mean_iou(np.zeros((1, 3, 3), int), np.full((1, 3, 3), 5), 5),
     "classes are 0 to 5, expected 0 to 4"),
])
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()
