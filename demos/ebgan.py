"""EBGAN: the discriminator is an autoencoder, and gives images that it cannot rebuild an energy.

    python demos/ebgan.py                                      offline, on drawn digits
    python demos/ebgan.py --data mnist --data-dir DIR          on MNIST (--download fetches it)
    python demos/ebgan.py --lam-pt 0                           without the pulling-away term

samples.png: samples. nearest.png: samples, and below each the nearest training image. training.png:
images of the same codes z as training proceeds. interpolation.png: images along lines between
codes. reconstructed.png: test images, and what D makes of them; samples; noise.

energy_…: D's energy of test images, samples and uniform noise. value_at_the_end: D's loss in the
last tenth of the steps, m in equilibrium. f_pt_…: the pulling-away term of their codes.
variety: the standard deviation of a sample's pixels, divided by that of a test image's.

Differs from the paper: small batches, and a learning rate that falls from 10⁻³, because a few
minutes allow only a few thousand steps.
"""

import numpy as np

from minigen import nn, no_grad, optim, pictures
from minigen.data import signed
from minigen.demo import Demo, at_least, cli
from minigen.gan_demo import TrainingFilm, gallery, render
from minigen.models.gan.dcgan import adam
from minigen.models.gan.ebgan import ebgan, pulling_away, reconstructions
from minigen.models.gan.gan import algorithm_1


def flags(parser):
    parser.add_argument("--latent", type=at_least(1), default=16, metavar="N",
                        help="dimensions of z")
    parser.add_argument("--lam-pt", type=float, choices=(0.1, 0.0), default=0.1,
                        help="weight of the pulling-away term")


def main(argv=None):
    run = Demo("ebgan", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist", "scenes",
                                             "cifar10"), batch=32, min_batch=2, flags=flags,
               steps={"glyphs": 1500, "mnist": 2000, "fashion-mnist": 2000, "scenes": 1000,
                      "cifar10": 1500})
    model = ebgan(run.data.shape, run.args.latent, lam_pt=run.args.lam_pt)
    nn.init(model, run.rng)
    opt_d, opt_g = adam(nn.parameters(model.D)), adam(nn.parameters(model.G))
    ema = nn.EMA(nn.parameters(model.G), 0.999)
    film = TrainingFilm(model.codes(10, run.rng), run.data.shape)
    play = algorithm_1(model, opt_d, opt_g, lambda i: (signed(run.batch(i)),))

    def step(t, rng):
        opt_d.lr = opt_g.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        return play(t, rng)

    run.fit(film.recording(step, model), model=model, opt_d=opt_d, opt_g=opt_g, ema=ema,
            film=film)
    with ema.applied():
        run.finish(gallery(run, model, film) | energies(run, model))


def energies(run, model):
    """Draw what D makes of images, and measure their energies and codes: a dict."""
    n = 50 if run.quick else 1000
    test = run.data.test_x[:n] / np.float32(255)
    images = {"test": test, "samples": render(model, model.codes(n, run.rng)),
              "noise": run.rng.random(test.shape, np.float32)}
    run.picture("reconstructed", reconstructions(model.D, *(x[:10] for x in images.values())))
    numbers = {"variety": images["samples"].std(0).mean() / test.std(0).mean()}
    with nn.evaluation(model.D), no_grad():
        for name, x in images.items():
            S = model.D.encode(2 * x - 1)
            numbers |= {f"energy_{name}": model.D.energy(2 * x - 1, S).numpy().mean(),
                        f"f_pt_{name}": pulling_away(S).item()}
    log = pictures.read_log(run.out / "log.jsonl")
    last = [line["d_loss"] for line in log[-max(1, len(log) // 10):]]
    return numbers | {"value_at_the_end": np.mean(last), "m": model.m}


if __name__ == "__main__":
    cli(main)
