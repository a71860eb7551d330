"""DCGAN: a convolutional network that draws digits, and one that tells them from real ones.

    python demos/dcgan.py                                      offline, on drawn digits
    python demos/dcgan.py --data mnist --data-dir DIR          on MNIST (--download fetches it)

samples.png: samples. nearest.png: samples, and below each the nearest training image. training.png:
images of the same codes z as training proceeds. interpolation.png: images along lines between
codes. arithmetic.png: vector arithmetic with codes (minigen/models/gan/analogy.py).

Differs from the paper: small batches, and a learning rate that falls from 3·10⁻³ in place of 2·10⁻⁴
throughout, because a few minutes allow only a few thousand steps.
"""

from minigen import nn, optim
from minigen.data import signed
from minigen.demo import Demo, at_least, cli, recordable
from minigen.models.gan.analogy import slant_arithmetic
from minigen.models.gan.dcgan import adam, dcgan
from minigen.models.gan.film import TrainingFilm, gallery
from minigen.models.gan.gan import algorithm_1


def flags(parser):
    parser.add_argument("--latent", type=at_least(1), default=16, metavar="N",
                        help="dimensions of z")
    parser.add_argument("--k", type=at_least(1), default=1, metavar="N",
                        help="discriminator steps per generator step")
    recordable(parser)


def main(argv=None):
    run = Demo("dcgan", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist", "scenes",
                                             "cifar10"), batch=32, flags=flags,
               steps={"glyphs": 2200, "mnist": 8200, "fashion-mnist": 8200, "scenes": 1300,
                      "cifar10": 3000})
    model = dcgan(run.data.shape, run.args.latent)
    nn.init(model, run.rng)
    opt_d, opt_g = adam(nn.parameters(model.D)), adam(nn.parameters(model.G))
    ema = nn.EMA(nn.parameters(model.G), 0.999)
    film = TrainingFilm(model.codes(10, run.rng), run.data.shape)
    k = run.args.k

    @run.recorded
    def play(*given):
        *batches, rng = given
        return algorithm_1(model, opt_d, opt_g, lambda i: (batches[i],), k)(0, rng)

    def step(t, rng):
        opt_d.lr = opt_g.lr = 3e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        return play(*(signed(run.batch(k * t + i)) for i in range(k)), rng)

    run.fit(film.recording(step, model), model=model, opt_d=opt_d, opt_g=opt_g, ema=ema,
            film=film)
    with ema.applied():
        run.finish(gallery(run, model, film) | slant_arithmetic(run, model))


if __name__ == "__main__":
    cli(main)
