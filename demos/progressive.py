"""Progressive GAN: trained on digits of 7×7 pixels first, then of 14×14, then of 28×28.

    python demos/progressive.py                                offline, on drawn digits
    python demos/progressive.py --data mnist --data-dir DIR    on MNIST (--download fetches it)

samples.png: samples after training. growth.png, a row per moment: images of the same codes z at the
end of each stage and halfway through the fade-in of the next, all enlarged to the final size.
"""

import numpy as np

from minigen import interpolate, nn, optim, ruler
from minigen.data import signed
from minigen.demo import Demo, at_least, cli
from minigen.gan_demo import render
from minigen.models.gan.gan import algorithm_1
from minigen.models.gan.progressive import grow, match_resolution, progress, progressive
from minigen.models.gan.wgan_gp import adam
from minigen.tensor import tensor, write

STAGES, K, SHOWN = 3, 3, 10  # K critic steps per generator step; SHOWN codes in growth.png
MOMENTS = (0.33, 0.41, 0.66, 0.75, 0.99)


def main(argv=None):
    run = Demo("progressive", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=32,
               steps={"glyphs": 1000, "mnist": 2400, "fashion-mnist": 2400}, staged=True,
               flags=lambda p: p.add_argument("--latent", type=at_least(1), default=64, metavar="N",
                                              help="dimensions of z"))
    steps, shape = run.args.steps, run.data.shape
    game = progressive(shape, run.args.latent)
    nn.init([game.G, game.D], run.rng)
    opts = [(adam(game.D.parameters(k)), adam(game.G.parameters(k))) for k in range(STAGES)]
    z = game.codes(SHOWN, run.rng)
    growth = tensor(np.zeros((len(MOMENTS), SHOWN, *shape), np.float32))
    plays = [algorithm_1(game, *pair, lambda i: (match_resolution(signed(run.batch(i)), game),), K)
             for pair in opts]

    def step(t, rng):
        k, alpha = progress(t / steps, STAGES)
        grow(game, k, alpha)
        for opt in opts[k]:
            opt.lr = 1e-3 * optim.cosine(t, steps, floor=0.1)
        numbers = plays[k](t, rng)
        for i, moment in enumerate(MOMENTS):
            if t == int(moment * steps):
                x = interpolate(tensor(render(game, z)), size=shape[1:]).numpy()
                write(growth, lambda a, i=i, x=x: a.__setitem__(i, run.xp.asarray(x)))
        return numbers

    run.fit(step, G=game.G, D=game.D, z=[z], growth=[growth],
            **{f"opt_{name}_{k}": opt for k, pair in enumerate(opts)
               for name, opt in zip("dg", pair, strict=True)})

    grow(game, STAGES - 1, 1.0)
    samples = render(game, game.codes(50 if run.quick else 5000, run.rng))
    run.picture("samples", samples[:100])
    run.picture("growth", np.concatenate(growth.numpy()), columns=SHOWN)
    run.finish(ruler.quality(samples, run.data))


if __name__ == "__main__":
    cli(main)
