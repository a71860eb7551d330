"""BigGAN's networks: who is trained by which loss, what is where, and bad input."""

import numpy as np
import pytest

from minigen import grad, nn, relu, tensor
from minigen.gan_demo import render
from minigen.models.gan import biggan as model
from minigen.models.gan import sagan
from minigen.models.gan.cgan import interpolate_classes

RNG = np.random.default_rng
Y = np.arange(6) % 4


def game(shape=(3, 32, 32), seed=0):
    return model.biggan(shape, 4, 3, 8, RNG(seed))


def images(n=6, shape=(3, 32, 32), seed=1):
    return tensor(RNG(seed).uniform(-1, 1, (n, *shape)).astype("f4"))


@pytest.mark.parametrize(("shape", "d_z", "small"), [
    ((1, 28, 28), 9, (32, 7, 7)), ((3, 32, 32), 12, (64, 4, 4)), ((1, 8, 16), 6, (16, 4, 8)),
    ((2, 24, 40), 12, (64, 3, 5)),
])
def test_images_grow_from_a_small_map_of_features(shape, d_z, small):
    net = game(shape)
    x = net.sample(6, RNG(2), Y)
    assert (net.d_z, net.G.small, x.shape) == (d_z, small, (6, *shape))
    assert np.abs(x.numpy()).max() <= 1
    assert net.D(x, Y).shape == (6,)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: game((1, 30, 32)), "divisible by 4 and at least 8, got 30×32"),
    (lambda: game((1, 28, 4)), "got 28×4"),
    (lambda: game().codes(2, RNG(0), 0), "expected τ > 0, got 0"),
    (lambda: game().codes(2, RNG(0), float("nan")), "got nan"),
    (lambda: game().sample(6, RNG(0), Y[:5]), r"6 inputs came with y \(5,\)"),
    (lambda: game().D(images(), Y[:5]), "D was given 6 images and 5 labels"),
    (lambda: game().D(images(1), Y), "given 1 images and 6 labels: one label"),
    (lambda: game().d_loss(images(6, (3, 16, 16)), RNG(0), Y), "build G and D for the shape"),
])
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_are_classes():
    with pytest.raises(IndexError, match="4"):
        game().D(images(), Y + 1)
    with pytest.raises(IndexError, match="4"):
        game().sample(6, RNG(0), Y + 1)


def test_each_loss_reaches_all_weights_of_its_player_and_only_those():
    net, x = game(), images()
    for part in nn.walk(net):
        if isinstance(part[1], sagan.SelfAttention):
            nn.initializers.constant(part[1].gamma.weight, 0.5)  # at 0 the layers in it are at rest
    d_slopes = grad(net.d_loss(x, RNG(3), Y), nn.parameters(net), allow_unused=True)
    moved = {key for key, g in d_slopes.items() if (g.numpy() != 0).any()}
    assert moved == {key for key in d_slopes if key.startswith("D.")}
    g_slopes = grad(net.g_loss(6, RNG(3), Y), nn.parameters(net.G))
    assert all((g.numpy() != 0).any() for g in g_slopes.values())


def test_all_weights_of_the_discriminator_are_normalised():
    net = game()
    normalised = lambda model: {id(part.layer.weight) for _, part in nn.walk(model)
                                if isinstance(part, nn.SpectralNorm)}
    plain = [key for key, p in nn.parameters(net.D).items() if id(p) not in normalised(net.D)]
    assert {key for key in plain if not key.endswith("bias")} == {"phi.1.gamma.weight"}
    assert normalised(net.G) == normalised(net.G.attention)


def test_each_block_gets_its_own_chunk_of_z_and_the_shared_embedding():
    net, seen, order = game(), [], []
    for i, block in enumerate(net.G.blocks):
        def listen(x, condition, block=block, i=i):
            seen.append(condition.numpy())
            order.append(i)
            return model.Up.__call__(block, x, condition)
        net.G.blocks[i] = listen
    attention = net.G.attention
    net.G.attention = lambda h: order.append(h.shape[2:]) or attention(h)
    z = net.codes(6, RNG(4))
    net.G(z, Y)
    assert order == [0, 1, (16, 16), 2]  # self-attention is at half of the size
    e = net.G.embed.weight.numpy()[Y]
    for i, condition in enumerate(seen):
        want = np.concatenate([z.numpy()[:, 3 * i + 3:3 * i + 6], e], axis=1)
        assert np.allclose(condition, want, atol=1e-6)


def test_the_first_chunk_makes_the_smallest_map():
    G, z = game().G, game().codes(2, RNG(5)).numpy()
    seen, first = [], G.first
    G.first = lambda a: seen.append(a.numpy()) or first(a)
    G(tensor(z), Y[:2])
    assert np.array_equal(seen[0], z[:, :3])


def test_blocks_are_residual_and_change_the_size():
    up, down = model.Up(6, 5, 3, RNG(6)), sagan.Down(6, 5, RNG(7))
    x, c = images(2, (6, 8, 8)), tensor(RNG(8).random((2, 3), np.float32))
    assert up(x, c).shape == (2, 5, 16, 16) and down(x).shape == (2, 5, 4, 4)
    for block in (up, down):
        nn.eval(block)
        block.conv_2 = lambda h: 0 * h[:, :5]
    large = np.kron(up.skip(x).numpy(), np.ones((2, 2)))
    assert np.allclose(up(x, c).numpy(), large, atol=1e-6)
    pooled = lambda h: h.numpy().reshape(2, 5, 4, 2, 4, 2).mean((3, 5))
    assert np.allclose(down(x).numpy(), pooled(down.skip(x)), atol=1e-6)
    inside = down.conv_1(relu(x))
    down.conv_2, down.skip = (lambda h: h), (lambda x: 0 * x[:, :5])
    assert np.allclose(down(x).numpy(), pooled(relu(inside)), atol=1e-6)


def test_images_enter_the_discriminator_without_a_relu():
    D = game((1, 8, 8)).D
    assert D.phi[0].act(tensor([-1.0])).item() == -1
    nn.eval(D)
    x = -np.ones((2, 1, 8, 8), np.float32)
    x[1] = -0.5  # a relu takes both to 0
    phi = D.phi(tensor(x)).numpy()
    assert not np.allclose(phi[0], phi[1], rtol=1e-3)


def test_classes_are_interpolated_with_the_function_of_the_conditional_gan():
    net = game((1, 8, 8))
    model.standing_statistics(net, np.inf, RNG(9), passes=5)
    z = net.codes(1, RNG(10)).numpy()[0]
    x = render(net, *interpolate_classes(z, 3, 1, 4, 5))
    ends = render(net, np.tile(z, (2, 1)), np.array([3, 1]))
    assert np.allclose(x[[0, -1]], ends, atol=1e-6) and not np.allclose(x[2], ends[0], atol=1e-3)
