"""WGAN with gradient penalty: the critic measures a distance, and the generator reduces it.

    python demos/wgan_gp.py                                    offline, on drawn digits
    python demos/wgan_gp.py --data mnist --data-dir DIR        on MNIST (--download fetches it)

samples.png: samples. nearest.png: samples, and below each the nearest training image. training.png:
images of the same codes z as training proceeds. interpolation.png: images along lines between
codes.

Differs from the paper: 3 critic steps per generator step in place of 5, small batches, and a
learning rate that falls from 10⁻³ in place of 10⁻⁴ throughout, because a few minutes allow only a
few thousand steps.
"""

from minigen import nn, optim
from minigen.data import signed
from minigen.demo import Demo, at_least, cli
from minigen.gan_demo import TrainingFilm, gallery
from minigen.models.gan.gan import algorithm_1
from minigen.models.gan.wgan_gp import adam, wgan_gp


def flags(parser):
    parser.add_argument("--latent", type=at_least(1), default=64, metavar="N",
                        help="dimensions of z")
    parser.add_argument("--width", type=at_least(1), default=32, metavar="N",
                        help="channels at half the resolution; twice as many at a quarter of it")
    parser.add_argument("--k", type=at_least(1), default=3, metavar="N",
                        help="critic steps per generator step")


def main(argv=None):
    run = Demo("wgan_gp", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist", "scenes",
                                               "cifar10"), batch=32, flags=flags,
               steps={"glyphs": 800, "mnist": 2700, "fashion-mnist": 2700, "scenes": 700,
                      "cifar10": 2000})
    k = run.args.k
    print(f"{k} critic steps per generator step, {k * run.args.steps} in all", flush=True)
    model = wgan_gp(run.data.shape, run.args.latent, run.args.width)
    nn.init(model, run.rng)
    opt_d, opt_g = adam(nn.parameters(model.D)), adam(nn.parameters(model.G))
    film = TrainingFilm(model.codes(10, run.rng), run.data.shape)
    play = algorithm_1(model, opt_d, opt_g, lambda i: (signed(run.batch(i)),), k)

    def step(t, rng):
        opt_d.lr = opt_g.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        return play(t, rng)

    run.fit(film.recording(step, model), model=model, opt_d=opt_d, opt_g=opt_g, film=film)
    run.finish(gallery(run, model, film) | {"critic_steps": k * run.args.steps})


if __name__ == "__main__":
    cli(main)
