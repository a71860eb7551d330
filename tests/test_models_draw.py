"""DRAW and alignDRAW as a whole: what depends on what, initial weights, and invalid input."""

import numpy as np
import pytest
from draw_world import SHAPE, double, tiny, words

from minigen import grad, nn, tensor
from minigen.models.text_to_image import align_draw as align
from minigen.models.vae import draw as model
from minigen.models.vae import glimpse

RNG = np.random.default_rng


@pytest.mark.parametrize("kind", ["draw", "align_draw"])
def test_gradients_reach_every_parameter(kind):
    net, given = tiny(kind)
    slopes = grad(net.loss(RNG(4).random((4, *SHAPE)), RNG(5), *given)[0], nn.parameters(net))
    assert all((g.numpy() != 0).any() for g in slopes.values())


def test_at_first_a_patch_covers_the_image_as_strong_as_it_is():
    net = double(glimpse.Write((1, 28, 28), 5, 6), 3)
    net.patch.weight.data[...], net.patch.bias.data[...] = 0, 1
    written = net(tensor(0.01 * RNG(1).normal(size=(3, 6)))).numpy()
    assert 0.9 < written.mean() < 1.1 and written.min() > 0.3  # of a patch of ones


def test_init_draws_all_weights_anew():
    net = tiny("align_draw")[0]
    before = {key: p.numpy().copy() for key, p in nn.parameters(net).items()}
    nn.init(net, RNG(11))
    for key, p in nn.parameters(net).items():
        assert (p.numpy() != before[key]).any(), key
    assert (net.c_0.weight.numpy() == -3).all()


def test_samples_are_untracked_and_depend_on_the_caption():
    net, (h, mask) = tiny("align_draw")
    images = net.sample(4, RNG(7), h, mask)
    assert not images.requires_grad
    other = net.sample(4, RNG(7), *net.language(words()[::-1].copy()))
    assert not np.allclose(images.numpy(), other.numpy())
    # each caption acts on its own image only
    alone = net.sample(4, RNG(7), *net.language(np.tile(words()[:1], (4, 1))))
    assert np.allclose(alone.numpy()[0], images.numpy()[0])


@pytest.mark.parametrize("call, message", [
    (lambda: model.DRAW(SHAPE, N_read=1), r"1×1 filters, expected 2×2 or more"),
    (lambda: tiny("draw")[0].loss(np.zeros((3, 2, 5, 6)), RNG(0)),
     r"images are \(3, 2, 5, 6\), expected \(n, 2, 5, 7\)"),
    (lambda: tiny("draw")[0].loss(np.zeros(SHAPE), RNG(0)), r"images are \(2, 5, 7\)"),
    (lambda: align.Language(6, 3)(np.array([1, 2])), r"captions are \(2,\), expected \(n, L\)"),
    (lambda: align.Language(6, 3)(np.array([[1, 2], [0, 0]])), "a word at least"),
])
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
