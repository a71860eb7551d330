"""What a generator draws: in numbers large enough to be judged, and as it learns."""

import numpy as np

from minigen import nn, no_grad, tensor
from minigen.data import unsigned

BATCH = 500


def draw(game, n, rng, *given):
    """n samples in [0, 1], drawn in evaluation mode (batch norm uses its running statistics): a
    NumPy array (n, C, H, W). `given` are arrays of n."""
    return show(game, game.prior(n, rng).numpy(), *given)


def show(game, z, *given):
    """G(z) in [0, 1] for codes z (n, d_z), in evaluation mode: a NumPy array (n, C, H, W)."""
    nn.eval(game.G)
    with no_grad():
        x = [game.G(tensor(z[i:i + BATCH]), *(y[i:i + BATCH] for y in given)).numpy()
             for i in range(0, len(z), BATCH)]
    nn.train(game.G)
    return unsigned(np.concatenate(x))


class Film:
    """The same codes drawn again and again while G learns: after 0, 50, 100, 200, 400, ... steps.
    It is one of the parts of a training run, so a resumed run shows the same film."""

    steps = (0, *(50 * 2 ** i for i in range(9)))

    def __init__(self, game, shape, n, rng, *given):
        self.game, self.given = [game], given  # in a list of their own: the weights are saved once
        self.z = tensor(game.prior(n, rng).numpy())
        self.frames = tensor(np.zeros((len(self.steps), n, *shape), np.uint8))
