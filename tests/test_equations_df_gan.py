"""DF-GAN: its affine maps, its loss of three kinds of pairs, and its penalty, by second routes."""

import numpy as np
import pytest

from minigen import gradcheck, interpolate, nn, tensor
from minigen.models.text_to_image import df_gan
from minigen.models.text_to_image.df_gan import DFGAN, Affine, DFBlock, UPBlock, ma_gp

RNG = np.random.default_rng


def random_weights(part, seed=0):
    """The part in float64, with random numbers in all its weights, those that start at 0, too."""
    nn.astype(part, np.float64)
    for k, p in enumerate(nn.parameters(part).values()):
        p.data[...] = RNG((seed, k)).normal(0, 0.5, p.shape)
    return part


# -------------------------------------------------------------------------------------- the fusion

def test_an_affine_map_scales_and_shifts_each_channel_by_what_the_condition_says():
    affine = Affine(3, 4, 5, RNG(0))
    h, c = RNG(1).normal(size=(2, 3, 2, 2)), RNG(2).normal(size=(2, 4))
    nn.astype(affine, np.float64)
    assert np.array_equal(affine(tensor(h), tensor(c)).numpy(), h)  # at first the identity
    random_weights(affine)

    def mlp(net, c):
        first, _, last = net
        inner = np.maximum(first.weight.numpy() @ c + first.bias.numpy(), 0)
        return last.weight.numpy() @ inner + last.bias.numpy()

    found = affine(tensor(h), tensor(c)).numpy()
    for n, k in np.ndindex(2, 3):
        scale, shift = 1 + mlp(affine.gamma, c[n])[k], mlp(affine.theta, c[n])[k]
        assert np.allclose(found[n, k], scale * h[n, k] + shift)  # eq: df-gan-affine


def test_a_block_fuses_before_it_doubles_which_is_the_same_function():
    fuse = random_weights(DFBlock(3, 4, 5, RNG(0)))
    h, c = tensor(RNG(1).normal(size=(2, 3, 2, 2))), tensor(RNG(2).normal(size=(2, 4)))
    doubled = fuse(interpolate(h, scale_factor=2), c).numpy()
    assert np.allclose(doubled, interpolate(fuse(h, c), scale_factor=2).numpy())
    block = random_weights(UPBlock(3, 2, 4, 5, RNG(3)))
    assert block(h, c).shape == (2, 2, 4, 4)
    other = block(h, -c).numpy()
    assert np.abs(block(h, c).numpy() - other).max() > 0.1


# ------------------------------------------------------------------------------- loss and penalty

class Bilinear:
    """D(x, e) = u·x + xᵀ A e, whose slopes are known; `convs` does nothing."""

    def __init__(self, u, A):
        self.u, self.A = tensor(u, True), tensor(A, True)
        self.convs = lambda x: x

    def joint(self, h, e):
        return ((self.u + e @ self.A.T) * h).sum(1, keepdims=True)

    def __call__(self, x, e):
        return self.joint(self.convs(x), tensor(e))


def world(n=6):
    """A game whose D is known, real samples with their sentences, and the codes that it draws."""
    rng = RNG(0)
    game = DFGAN(lambda z, e: z + 0.5 * tensor(e)[:, :3], Bilinear(rng.normal(size=3) / 4,
                                                                   rng.normal(size=(3, 4)) / 4), 3)
    x, e, z = (rng.normal(size=(n, d)) for d in (3, 4, 3))
    game.codes = lambda n, rng: tensor(z[:n])  # an error unless n is the number
    return game, x, e, z


def penalty_by_hand(u, A, x, e, k, p):
    slopes = [np.linalg.norm(u + A @ b) + np.linalg.norm(A.T @ a)
              for a, b in zip(x, e, strict=True)]
    return k * np.mean(np.power(slopes, p))


@pytest.mark.parametrize("k, p", [(2, 6), (0.7, 3)])
def test_the_discriminators_loss_is_that_of_three_kinds_of_pairs_and_the_slopes(k, p):
    game, x, e, z = world()
    game.k, game.p = k, p
    u, A = game.D.u.numpy(), game.D.A.numpy()
    D = lambda a, b: u @ a + a @ A @ b
    real = np.mean([max(0, 1 - D(x[i], e[i])) for i in range(6)])
    fake = np.mean([max(0, 1 + D(z[i] + e[i, :3] / 2, e[i])) for i in range(6)])
    mismatch = np.mean([max(0, 1 + D(x[i], e[i - 1])) for i in range(6)])
    hinge, penalty = real + (fake + mismatch) / 2, penalty_by_hand(u, A, x, e, k, p)
    loss = game.d_loss(x, RNG(1), e)
    assert loss.item() == pytest.approx(hinge + penalty)  # eq: df-gan-hinge, ma-gp
    assert game.g_loss(6, RNG(1), e).item() == pytest.approx(  # eq: df-gan-hinge
        -np.mean([D(z[i] + e[i, :3] / 2, e[i]) for i in range(6)]))


def test_the_penalty_is_differentiated_twice():
    """Its gradient in D's parameters, which only second derivatives of D give."""
    game, x, e, _ = world()

    def penalty(u, A):
        game.D.u, game.D.A = u, A
        a, b = tensor(x, requires_grad=True), tensor(e, requires_grad=True)
        return ma_gp(game.D(a, b), a, b, 6)

    gradcheck(penalty, game.D.u.numpy(), game.D.A.numpy(), order=1)  # eq: ma-gp


def test_the_slope_of_a_network_is_what_small_steps_measure():
    D = random_weights(df_gan.Discriminator((1, 8, 8), 3, (2, 4), RNG(0)))
    x, e = RNG(1).normal(size=(2, 1, 8, 8)), RNG(2).normal(size=(2, 3))
    value = lambda x, e: D(tensor(x), tensor(e)).numpy()[:, 0]

    def slope(array, move):
        rises = []
        for i in np.ndindex(array.shape[1:]):
            step = np.zeros_like(array)
            step[(slice(None), *i)] = 1e-6
            rises.append((move(step) - move(-step)) / 2e-6)
        return np.linalg.norm(rises, axis=0)

    total = slope(x, lambda d: value(x + d, e)) + slope(e, lambda d: value(x, e + d))
    x, e = tensor(x, requires_grad=True), tensor(e, requires_grad=True)
    assert ma_gp(D(x, e), x, e, 3).item() == pytest.approx(np.mean(total ** 3))  # eq: ma-gp


def test_bad_input_is_named():
    game = df_gan.df_gan((3, 8, 8), 4, 5, 6, RNG(0))
    x, e = np.zeros((2, 3, 8, 8), np.float32), np.zeros((2, 5), np.float32)
    for call, message in (
            (lambda: df_gan.df_gan((3, 12, 8), 4, 5), "12×8, expected sides divisible by 8"),
            (lambda: game.d_loss(x[:1], RNG(1), e[:1]), "a single pair came"),
            (lambda: game.d_loss(x, RNG(1), e[:1]), r"2 inputs came with y \(1, 5\)"),
            (lambda: game.g_loss(2, RNG(1), e[:, :4]), r"y \(2, 4\), expected .* \(2, 5\)"),
            (lambda: game.d_loss(x[..., :4], RNG(1), e), "build G and D for the shape")):
        with pytest.raises(ValueError, match=message):
            call()
