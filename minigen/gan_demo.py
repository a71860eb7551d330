"""What the demos of GANs share: images of given codes, images of the same codes as training
proceeds, and the pictures and numbers of games without labels."""

import numpy as np

from minigen import nn, ruler, tensor
from minigen.data import in_batches, unsigned
from minigen.models.vae.latent import interpolation
from minigen.tensor import write, xp


def render(game, z, *given):
    """G(z) for codes z (n, d_z), in evaluation mode (batch norm uses its running statistics),
    rescaled from [−1, 1] to [0, 1]: a NumPy array (n, C, H, W). `given`: arrays of length n."""
    with nn.evaluation(game.G):
        return unsigned(in_batches(game.G, tensor(z), *given))


class TrainingFilm:
    """Images of `shape` generated from fixed codes z (n, d_z) after 0, 50, 100, 200, 400, ...
    steps. A film is part of a training run and saved with it: a resumed run shows the same film."""

    steps = (0, *(50 * 2 ** i for i in range(10)))

    def __init__(self, z, shape, *given):
        self.z, self.given = tensor(z), given
        self.frames = tensor(np.zeros((len(self.steps), len(z), *shape), np.float32))

    def recording(self, step, game):
        """The training step ``step(t, rng)``, wrapped to record a frame before it if one is due."""
        def recorded(t, rng):
            if t in self.steps:
                x = render(game, self.z, *self.given)
                write(self.frames, lambda a: a.__setitem__(self.steps.index(t), xp(a).asarray(x)))
            return step(t, rng)

        return recorded

    def strip(self, t, game):
        """The frames taken before step t, one row each, then a row from G as it is now, in [0, 1]:
        an array (rows · n, C, H, W)."""
        frames = [frame for s, frame in zip(self.steps, self.frames.numpy(), strict=True) if s < t]
        return np.concatenate([*frames, render(game, self.z, *self.given)])


def gallery(run, game, film):
    """Write a demo's pictures (samples, training progress, interpolations between the film's codes,
    the training images nearest to samples) and return its numbers, those of 5,000 samples: see
    `ruler.quality`."""
    samples = render(game, game.codes(50 if run.quick else 5000, run.rng))
    run.picture("samples", samples[:100])
    run.picture("nearest", ruler.nearest_pairs(samples, run.data))
    run.picture("training", film.strip(run.args.steps, game))
    pairs = film.z.numpy().reshape(-1, 2, game.d_z)
    run.picture("interpolation", render(game, np.concatenate([interpolation(*ends, 10)
                                                              for ends in pairs])))
    return ruler.quality(samples, run.data)
