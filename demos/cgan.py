"""Conditional GAN: a DCGAN that draws the digit you ask for.

    python demos/cgan.py                                       offline, on drawn digits
    python demos/cgan.py --data mnist --data-dir DIR           on MNIST (--download fetches it)

The networks are those of demos/dcgan.py; the learning rate is a third of the one there.

samples.png: a class per row, a code z per column. between.png: the images of one code on the way
from one class to the next, a row per code. drawn_as_asked is the share of samples that the ruler
classifies as the digit asked for.
"""

import numpy as np

from minigen import nn, optim, ruler
from minigen.data import signed
from minigen.demo import Demo, at_least, cli
from minigen.gan_demo import TrainingFilm, render
from minigen.models.gan.cgan import conditional, interpolate_classes
from minigen.models.gan.dcgan import adam
from minigen.models.gan.gan import algorithm_1


def main(argv=None):
    run = Demo("cgan", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=16,
               steps={"glyphs": 1500, "mnist": 4500, "fashion-mnist": 4500},
               flags=lambda p: p.add_argument("--latent", type=at_least(1), default=64,
                                              metavar="N", help="dimensions of z"))
    classes = len(run.data.classes)
    all_y = np.arange(classes)
    model = conditional(run.data.shape, run.args.latent, classes)
    nn.init(model, run.rng)
    opt_d, opt_g = adam(nn.parameters(model.D)), adam(nn.parameters(model.G))
    film = TrainingFilm(model.codes(classes, run.rng), run.data.shape, all_y)

    def minibatch(i):
        return signed(run.batch(i)), run.data.train_y[run.indices(i)]

    play = algorithm_1(model, opt_d, opt_g, minibatch)

    def step(t, rng):
        opt_d.lr = opt_g.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        return play(t, rng)

    run.fit(film.recording(step, model), model=model, opt_d=opt_d, opt_g=opt_g, film=film)

    # a class per row, a code per column
    z = model.codes(10, run.rng).numpy()
    run.picture("samples", render(model, np.tile(z, (classes, 1)), np.repeat(all_y, 10)))
    pairs = zip(z, all_y, np.roll(all_y, -1), strict=False)
    inputs = [interpolate_classes(z_i, y_1, y_2, classes, 10) for z_i, y_1, y_2 in pairs]
    run.picture("between", np.concatenate([render(model, *z_y) for z_y in inputs]))
    run.picture("training", film.strip(run.args.steps, model), columns=classes)
    y = np.arange(50 if run.quick else 5000) % classes
    samples = render(model, model.codes(len(y), run.rng), y)
    scores = ruler.quality(samples, run.data)
    if run.data.name in ruler.NAMES:
        predicted = ruler.classify(samples, run.data.name).argmax(1)
        scores["drawn_as_asked"] = (predicted == y).mean()
    run.finish(scores)


if __name__ == "__main__":
    cli(main)
