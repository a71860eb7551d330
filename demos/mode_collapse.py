"""Mode collapse, and its absence: three GANs learn the same data; which modes does each cover?

    python demos/mode_collapse.py                              offline, a ring of 8 normals
    python demos/mode_collapse.py --data glyphs                offline, drawn digits
    python demos/mode_collapse.py --data mnist --data-dir DIR  MNIST (--download fetches it)

On the ring, balanced turns of the two players suffice to cover all modes. On digits, at these
learning rates, only WGAN-GP covers them: the other two collapse to one image. (demos/gan.py takes
smaller steps.)

samples.png: samples of the three GANs, then the data. training.png (for digits, one file per GAN):
samples as training proceeds. The numbers are explained in minigen/coverage.py.
"""

from functools import partial

import numpy as np

from minigen import nn, optim, relu, ruler, tensor, train
from minigen.coverage import coverage, likeliest_classes, nearest_modes
from minigen.data import ring, signed
from minigen.demo import Demo, cli
from minigen.gan_demo import TrainingFilm, render
from minigen.models.gan import gan
from minigen.models.gan.wgan_gp import WGANGP

# The game, the updates of its discriminator and of its generator in each step, Adam's β.
GAMES = {
    # G runs to the point that D currently rates highest, and moves on once D no longer does.
    "collapsing": (gan.GAN, 1, 5, (0.5, 0.999)),
    "balanced": (gan.NonSaturatingGAN, 1, 1, (0.5, 0.999)),
    # Here the critic takes more steps, and its slope is penalised: G cannot outrun it.
    "wgan_gp": (partial(WGANGP, lam=0.1), 5, 1, (0.5, 0.9)),
}
LR_D, LR_G = 2e-3, 1e-3


class Player:
    """A game with its optimisers and a film of its training."""

    def __init__(self, run, game, k, turns, betas):
        if run.data is None:
            self.game, shape, n = on_the_plane(game), (2,), 4000
        else:
            shape, n = run.data.shape, 10
            self.game = gan.fully_connected(shape, 64, game=game)
        nn.init(self.game, run.rng)
        self.k, self.turns = k, turns
        self.opt_d = optim.Adam(nn.parameters(self.game.D), LR_D, betas)
        self.opt_g = optim.Adam(nn.parameters(self.game.G), LR_G, betas)
        self.film = TrainingFilm(self.game.codes(n, run.rng), shape)

    def step(self, minibatch, n, slower, t, rng):
        """Algorithm 1 with the extra turns of G. `minibatch(i)` gives n samples."""
        self.opt_d.lr, self.opt_g.lr = LR_D * slower, LR_G * slower
        learn = gan.algorithm_1(self.game, self.opt_d, self.opt_g, minibatch, self.k)
        numbers = self.film.recording(learn, self.game)(t, rng)
        for _ in range(self.turns - 1):
            train.descend(self.opt_g, self.game.g_loss(n, rng))
        return numbers


def on_the_plane(game, d_h=128):
    """A game with networks for points. They see the ring enlarged three times, because initial
    weights suit inputs that lie about 1 apart."""
    G = nn.Sequential(nn.Linear(2, d_h), relu, nn.Linear(d_h, d_h), relu, nn.Linear(d_h, 2),
                      lambda x: x / 3)
    D = nn.Sequential(lambda x: 3 * x, nn.Linear(2, d_h), gan.leaky, nn.Linear(d_h, d_h),
                      gan.leaky, nn.Linear(d_h, 1))
    return game(G, D, 2)


def main(argv=None):
    run = Demo("mode_collapse", __doc__, argv, data=("ring", "glyphs", "mnist"),
               steps={"ring": 1500, "glyphs": 400, "mnist": 400},
               batch={"ring": 256, "glyphs": 64, "mnist": 64})
    players = {name: Player(run, *how) for name, how in GAMES.items()}

    def step(t, rng):
        slower, numbers = optim.cosine(t, run.args.steps, floor=0.05), {}
        for name, player in players.items():
            learned = player.step(partial(real, run, rng), run.args.batch, slower, t, rng)
            numbers |= {f"{name} {key}": value for key, value in learned.items()}
        return numbers

    run.fit(step, **{f"{name} {part}": getattr(player, part) for name, player in players.items()
                     for part in ("game", "opt_d", "opt_g", "film")})

    games = {name: player.game for name, player in players.items()}
    n = 50 if run.quick else 5000
    samples = {name: render(game, game.codes(n, run.rng)) for name, game in games.items()}
    strips = {name: player.film.strip(run.args.steps, player.game)
              for name, player in players.items()}
    numbers = {}
    if run.data is None:
        samples |= {"data": (ring.sample(n, run.rng) + 1) / 2}
        run.picture("samples", np.stack([density(x) for x in samples.values()]))
        frames = [density(x) for strip in strips.values() for x in strip.reshape(-1, 4000, 2)]
        run.picture("training", np.stack(frames), columns=len(frames) // len(strips))
    else:
        samples |= {"data": run.data.test_x[:n]}
        run.picture("samples", np.concatenate([x[:30] for x in map(in_unit, samples.values())]))
        for name, strip in strips.items():
            run.picture(f"training_{name}", strip)
    for name, x in samples.items():
        modes = nearest_modes(x * 2 - 1, ring.centres(), 3 * ring.SIGMA) if run.data is None else \
            likeliest_classes(ruler.classify(x, run.data.name), 0.9)
        counted = coverage(modes, ring.MODES if run.data is None else 10)
        numbers |= {f"{key}_{name}": value for key, value in counted.items()}
    run.finish(numbers)


def real(run, rng, i):
    """The i-th minibatch of real samples."""
    if run.data is None:
        return (tensor(ring.sample(run.args.batch, rng)),)
    return (signed(run.batch(i)),)


def in_unit(images):
    """uint8 images as floats in [0, 1]; others as they are."""
    return images / np.float32(255) if images.dtype == np.uint8 else images


def density(x, size=64):
    """A histogram of points x (n, 2) in [0, 1]² as a picture (1, size, size), on a square-root
    scale."""
    counts, *_ = np.histogram2d(1 - x[:, 1], x[:, 0], size, [[0, 1], [0, 1]])
    return np.sqrt(counts / max(counts.max(), 1))[None]


if __name__ == "__main__":
    cli(main)
