"""DCGAN: two convolutional networks, one that draws digits and one that tells them from real ones.

    python demos/dcgan.py                                      offline, on drawn digits
    python demos/dcgan.py --data mnist --data-dir DIR          on MNIST (--download fetches it)
"""

from minigen import nn
from minigen.data import signed
from minigen.demo import Demo, at_least, cli
from minigen.models.gan.analogy import leaning
from minigen.models.gan.dcgan import adam, dcgan
from minigen.models.gan.film import Film, gallery
from minigen.models.gan.gan import algorithm_1


def flags(parser):
    parser.add_argument("--latent", type=at_least(1), default=100, metavar="N",
                        help="dimensions of z")
    parser.add_argument("--k", type=at_least(1), default=1, metavar="N",
                        help="steps of the discriminator for one of the generator")


def main(argv=None):
    run = Demo("dcgan", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist", "scenes",
                                             "cifar10"), batch=64, flags=flags,
               steps={"glyphs": 1000, "mnist": 2500, "fashion-mnist": 2500, "scenes": 1000,
                      "cifar10": 2500})
    model = dcgan(run.data.shape, run.args.latent)
    nn.init(model, run.rng)
    opt_d, opt_g = adam(nn.parameters(model.D)), adam(nn.parameters(model.G))
    film = Film(model.prior(10, run.rng), run.data.shape)
    step = algorithm_1(model, opt_d, opt_g, lambda i: (signed(run.batch(i)),), run.args.k)
    run.fit(film.recording(step, model), model=model, opt_d=opt_d, opt_g=opt_g, film=film)
    run.finish(gallery(run, model, film) | leaning(run, model))


if __name__ == "__main__":
    cli(main)
