"""GAN: two small fully connected networks play the game of the first paper.

    python demos/gan.py                                        offline, on drawn digits
    python demos/gan.py --data mnist --data-dir DIR            on MNIST (--download fetches it)
    python demos/gan.py --loss saturating                      the zero-sum game, as first proposed
"""

from minigen import nn, optim
from minigen.data import signed
from minigen.demo import Demo, at_least, cli
from minigen.models.gan import gan
from minigen.models.gan.dcgan import adam
from minigen.models.gan.film import Film, gallery
from minigen.models.gan.lsgan import LSGAN
from minigen.models.gan.wgan import WGAN, ClippedRMSprop

LOSSES = {"non-saturating": gan.NonSaturatingGAN, "saturating": gan.GAN, "least-squares": LSGAN,
          "wasserstein": WGAN}


def flags(parser):
    parser.add_argument("--loss", choices=LOSSES, default="non-saturating",
                        help="what the players want")
    parser.add_argument("--latent", type=at_least(1), default=64, metavar="N",
                        help="dimensions of z")
    parser.add_argument("--k", type=at_least(1), default=1, metavar="N",
                        help="steps of the discriminator for one of the generator")


def main(argv=None):
    run = Demo("gan", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=64,
               steps={"glyphs": 6000, "mnist": 10000, "fashion-mnist": 10000}, flags=flags)
    model = gan.fully_connected(run.data.shape, run.args.latent, game=LOSSES[run.args.loss])
    nn.init(model, run.rng)
    params_d, params_g = nn.parameters(model.D), nn.parameters(model.G)
    if run.args.loss == "wasserstein":
        opt_d, opt_g = ClippedRMSprop(params_d), optim.RMSprop(params_g, 5e-5)
    else:
        opt_d, opt_g = adam(params_d), adam(params_g)
    film = Film(model.prior(10, run.rng), run.data.shape)
    step = gan.algorithm_1(model, opt_d, opt_g, lambda i: (signed(run.batch(i)),), run.args.k)
    run.fit(film.recording(step, model), model=model, opt_d=opt_d, opt_g=opt_g, film=film)
    run.finish(gallery(run, model, film))


if __name__ == "__main__":
    cli(main)
