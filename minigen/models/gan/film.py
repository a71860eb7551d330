"""What a generator draws: samples enough to be judged, and the same codes again and again as it
learns."""

import numpy as np

from minigen import nn, no_grad, tensor
from minigen.data import unsigned
from minigen.tensor import write

TOGETHER = 500  # images


def show(game, z, *given):
    """G(z) for codes z (n, d_z), in evaluation mode (batch norm uses its running statistics), from
    [−1, 1] to [0, 1]: a NumPy array (n, C, H, W). `given` are arrays of n."""
    z, x = tensor(z).data, []
    nn.eval(game.G)
    with no_grad():
        for i in range(0, len(z), TOGETHER):
            few = slice(i, i + TOGETHER)
            x.append(game.G(tensor(z[few]), *(y[few] for y in given)).numpy())
    nn.train(game.G)
    return unsigned(np.concatenate(x))


class Film:
    """The codes z (n, d_z) drawn as images of `shape` after 0, 50, 100, 200, 400, ... steps. It is
    a part of a training run, saved with it, so that a resumed run shows the same film."""

    steps = (0, *(50 * 2 ** i for i in range(10)))

    def __init__(self, z, shape, *given):
        self.z, self.given = tensor(z), given
        self.frames = tensor(np.zeros((len(self.steps), len(z), *shape), np.float32))

    def take(self, t, game):
        """Draw a frame, if t steps have been done and that is one of `steps`."""
        if t in self.steps:
            x = show(game, self.z, *self.given)
            write(self.frames, lambda a: a.__setitem__(self.steps.index(t), x))

    def strip(self, t, game):
        """The frames taken before step t, a row each, then one of G as it is now, in [0, 1]: an
        array (rows · n, C, H, W)."""
        done = [frame for s, frame in zip(self.steps, self.frames.numpy(), strict=True) if s < t]
        return np.concatenate([*done, show(game, self.z, *self.given)])
