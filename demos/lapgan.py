"""LAPGAN: digits of 7×7 pixels are drawn first, then the details of 14×14, then those of 28×28.

    python demos/lapgan.py                                    offline, on drawn digits
    python demos/lapgan.py --data mnist --data-dir DIR        on MNIST (--download fetches it)
    python demos/lapgan.py --data cifar10 --data-dir DIR      on photographs

samples.png: samples. pyramid.png, a column per sample: the smallest image, with details added once,
and twice. details.png, a column per test image: reduced and enlarged again; three times with drawn
details; the image itself. nearest.png: samples, and below each the nearest training image.
"""

import numpy as np

from minigen import interpolate, nn, optim, ruler, tensor
from minigen.data import signed, unsigned
from minigen.demo import Demo, at_least, cli
from minigen.models.gan.dcgan import adam
from minigen.models.gan.gan import algorithm_1
from minigen.models.gan.lapgan import lapgan, pyramid


def main(argv=None):
    run = Demo("lapgan", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist", "scenes",
                                              "cifar10"), batch=32, steps=2500,
               flags=lambda p: p.add_argument("--latent", type=at_least(1), default=32, metavar="N",
                                              help="dimensions of the smallest images' z"))
    model = lapgan(run.data.shape, run.args.latent)
    nn.init(model.games, run.rng)
    opts = [(adam(nn.parameters(game.D)), adam(nn.parameters(game.G))) for game in model.games]
    ema = nn.EMA(nn.parameters([game.G for game in model.games]), 0.999)

    def step(t, rng):
        numbers = {}
        for k, (game, opt) in enumerate(zip(model.games, opts, strict=True)):
            for player in opt:
                player.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.05)
            for i in range(t << k, (t + 1) << k):  # small images cost little, so D_k sees more
                level = pyramid(tensor(signed(run.batch(i))), model.K)[k]
                losses = algorithm_1(game, *opt, lambda _, level=level: level)(i, rng)
            numbers |= {f"{name}_{k}": loss for name, loss in losses.items()}
        return numbers

    run.fit(step, games=model.games, ema=ema,
            **{f"opt_{name}_{k}": opt for k, pair in enumerate(opts)
               for name, opt in zip("dg", pair, strict=True)})
    with ema.applied():
        z = model.games[-1].sample(50 if run.quick else 5000, run.rng).numpy()
        sizes = [model.rise(tensor(z[i:i + 500]), run.rng) for i in range(0, len(z), 500)]
        details_of_test_images(run, model)
    sizes = [unsigned(np.concatenate([x.numpy() for x in same_size]))
             for same_size in zip(*sizes, strict=True)]
    run.picture("samples", sizes[-1][:100])
    run.picture("pyramid", np.concatenate([enlarged(x[:10], run.data.shape) for x in sizes]))
    run.picture("nearest", ruler.nearest_pairs(sizes[-1], run.data))
    run.finish(ruler.quality(sizes[-1], run.data))


def details_of_test_images(run, model, n=10, draws=3):
    """Write details.png."""
    x = signed(run.data.test_x[:n])
    game, (h, low) = model.games[0], pyramid(tensor(x), 1)[0]
    rows = [low, *(low + game.sample(n, run.rng, low) for _ in range(draws)), low + h]
    run.picture("details", np.concatenate([unsigned(row.numpy()) for row in rows]))


def enlarged(x, shape):
    """Images x at the size of `shape` (C, H, W), each pixel a square."""
    return interpolate(tensor(x), size=shape[1:]).numpy()


if __name__ == "__main__":
    cli(main)
