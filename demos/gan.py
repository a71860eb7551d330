"""GAN: two small fully connected networks play the game of the original paper.

    python demos/gan.py                                        offline, on drawn digits
    python demos/gan.py --data mnist --data-dir DIR            on MNIST (--download fetches it)
    python demos/gan.py --loss saturating                      the zero-sum game, as first proposed

samples.png: samples. nearest.png: samples, and below each the nearest training image. training.png:
images of the same codes z as training proceeds. interpolation.png: images along lines between
codes.
"""

from minigen import nn, optim
from minigen.data import signed
from minigen.demo import Demo, at_least, cli
from minigen.gan_demo import TrainingFilm, gallery
from minigen.models.gan import gan
from minigen.models.gan.dcgan import adam
from minigen.models.gan.lsgan import LSGAN
from minigen.models.gan.wgan import WGAN, ClippedRMSprop

LOSSES = {"non-saturating": gan.NonSaturatingGAN, "saturating": gan.GAN, "least-squares": LSGAN,
          "wasserstein": WGAN}


def flags(parser):
    parser.add_argument("--loss", choices=LOSSES, default="non-saturating",
                        help="losses of the players")
    parser.add_argument("--latent", type=at_least(1), default=64, metavar="N",
                        help="dimensions of z")
    parser.add_argument("--k", type=at_least(1), default=1, metavar="N",
                        help="discriminator steps per generator step")


def main(argv=None):
    run = Demo("gan", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=64,
               steps={"glyphs": 10000, "mnist": 15000, "fashion-mnist": 15000}, flags=flags)
    model = gan.fully_connected(run.data.shape, run.args.latent, game=LOSSES[run.args.loss])
    nn.init(model, run.rng)
    params_d, params_g = nn.parameters(model.D), nn.parameters(model.G)
    if run.args.loss == "wasserstein":
        opt_d, opt_g = ClippedRMSprop(params_d), optim.RMSprop(params_g, 5e-5)
    else:
        opt_d, opt_g = adam(params_d, 1e-3), adam(params_g, 1e-3)
    ema, first = nn.EMA(params_g, 0.999), (opt_d.lr, opt_g.lr)
    film = TrainingFilm(model.codes(10, run.rng), run.data.shape)
    play = gan.algorithm_1(model, opt_d, opt_g, lambda i: (signed(run.batch(i)),), run.args.k)

    def step(t, rng):
        fall = optim.cosine(t, run.args.steps, floor=0.05)
        opt_d.lr, opt_g.lr = first[0] * fall, first[1] * fall
        return play(t, rng)

    run.fit(film.recording(step, model), model=model, opt_d=opt_d, opt_g=opt_g, ema=ema,
            film=film)
    with ema.applied():
        run.finish(gallery(run, model, film))


if __name__ == "__main__":
    cli(main)
