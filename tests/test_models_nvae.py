"""NVAE as a whole: what depends on what, which parts of the networks matter, and invalid input."""

import numpy as np
import pytest

from minigen import grad, nn, tensor
from minigen.models.vae import nvae as model

RNG = np.random.default_rng
SHAPE = (1, 8, 12)


def build(posterior=model.residual, seed=0):
    net = model.NVAE(SHAPE, (2, 1), (6, 5), 2, posterior)
    nn.init(net, RNG(seed))
    return net


def images(n=6, seed=1):
    return (RNG(seed).random((n, *SHAPE)) < 0.3).astype(np.float32)


@pytest.mark.parametrize("posterior", [model.residual, model.ladder])
def test_gradients_reach_every_parameter(posterior):
    net = build(posterior)
    slopes = grad(net.loss(images(), RNG(2), 0.5, 0.0)[0], nn.parameters(net))
    for key, g in slopes.items():
        assert (g.numpy() != 0).any(), key
    assert len(net.weights) == sum(isinstance(part, nn.Conv2d) for _, part in nn.walk(net))


def test_groups_are_maps_from_coarse_to_fine():
    net = model.NVAE((1, 28, 28))
    p_x, z = net.draw(2, RNG(0))
    assert [z_l.shape[1:] for z_l in z] == [(4, 4, 4)] * 3 + [(4, 8, 8)] * 2 + [(4, 16, 16)]
    assert p_x.mean.shape == net.sample(2, RNG(0)).shape == (2, 1, 28, 28)
    assert net.sizes == [16] * 3 + [64] * 2 + [256] and net.border == [2, 2]


def test_a_group_depends_on_those_before_it_and_on_no_other():
    net = build()
    nn.eval(net)
    _, z = net.draw(3, RNG(3))

    def priors(z):
        seen = []
        net.generator(3, lambda l, h, p: seen.append(p.mu.numpy()) or z[l])
        return seen
    before = priors(z)
    for l in range(3):
        other = [tensor(z_l.numpy() + (k == l)) for k, z_l in enumerate(z)]
        changed = [not np.allclose(a, b) for a, b in zip(before, priors(other), strict=True)]
        assert changed == [k > l for k in range(3)]


def test_given_groups_stay_and_the_others_are_drawn_anew():
    net = build()
    nn.eval(net)
    p_x, z = net.draw(4, RNG(4))
    again, same = net.draw(4, RNG(5), z=z[:1])
    assert same[0] is z[0] and not np.allclose(same[1].numpy(), z[1].numpy())
    assert len(same) == 3 and not again.logits.requires_grad
    assert np.array_equal(net.generate(4, RNG(6), z=z).mean.numpy(), p_x.mean.numpy())


def test_a_posterior_that_is_told_nothing_is_the_prior():
    net, x = build(), images()
    for group in net.top_down:
        group.q[1].weight.data[...], group.q[1].bias.data[...] = 0, 0
    assert not net.elbo(x, RNG(7))[2].numpy().any()
    assert (build().elbo(x, RNG(7))[2].numpy() > 0).all()


def test_training_moves_the_averages_and_singular_vectors_and_evaluation_does_not():
    net, x = build(), images()
    buffers = lambda: {key: b.numpy().copy() for key, b in nn.buffers(net).items()}
    before = buffers()
    with nn.evaluation(net):
        net.loss(x, RNG(8))
        net.log_prob(x, RNG(8), K=2)
        assert all(np.array_equal(before[key], b) for key, b in buffers().items())
        assert np.array_equal(net.elbo(x[:2], RNG(8))[0].numpy(),
                              net.elbo(x[:2], RNG(8))[0].numpy())
    net.loss(x, RNG(8))
    assert all((before[key] != b).any() for key, b in buffers().items() if b.size != 1
               or "num_batches" in key)  # the only direction in one dimension stays


@pytest.mark.parametrize("call, message", [
    (lambda: model.NVAE((1, 28, 27), (3, 3), (8, 8)), "got 2 widths and 28×27"),
    (lambda: model.NVAE((1, 28, 28), (3, 3), (8, 8, 8)), "2 resolutions need 2 widths, .* got 3"),
    (lambda: build().loss(np.zeros((3, 1, 8, 8), "f4"), RNG(0)),
     r"images are \(3, 1, 8, 8\), expected \(N, 1, 8, 12\)"),
    (lambda: build().log_prob(images(), RNG(0), K=0), "at least one sample, got K = 0"),
    (lambda: build().generate(2, RNG(0), 0), "temperature must be positive, got 0"),
    (lambda: build().draw(2, RNG(0), float("nan")), "got nan"),
])
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
