"""DCGAN: a convolutional network that draws digits, and one that tells them from real ones.

    python demos/dcgan.py                                      offline, on drawn digits
    python demos/dcgan.py --data mnist --data-dir DIR          on MNIST (--download fetches it)

samples.png: samples. nearest.png: samples, and below each the nearest training image. training.png:
images of the same codes z as training proceeds. interpolation.png: images along lines between
codes. arithmetic.png, a row per digit: a, three slanted ones; b, three upright ones; c, three of
the next digit, upright; and G(z̄_a − z̄_b + z̄_c), a slanted one. The ruler recognises digits, and
slant is measured, so exemplars are chosen and results are judged automatically.

Differs from the paper: small batches, and a learning rate that falls from 3·10⁻³ in place of 2·10⁻⁴
throughout, because a few minutes allow only a few thousand steps.
"""

import numpy as np

from minigen import nn, optim, ruler
from minigen.coverage import likeliest_classes
from minigen.data import signed
from minigen.demo import Demo, at_least, cli, recordable
from minigen.gan_demo import TrainingFilm, gallery, render
from minigen.models.gan.dcgan import adam, dcgan
from minigen.models.gan.gan import algorithm_1
from minigen.models.gan.latent_arithmetic import arithmetic, extremes, slant

CLASSES, EXEMPLARS = 10, 3


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


def slant_arithmetic(run, game, n=2000, confidence=0.9):
    """Draw n samples from a trained GAN and write arithmetic.png. Returns numbers for metrics.json:

        arithmetic_slant_before     the exemplars c, in columns per row
        arithmetic_slant_aim        the most slanted samples of the same digit as c
        arithmetic_slant_after      the results
        arithmetic_same_digit       the share of the results that show the digit of c

    Nothing is written and the dict is empty if the data set has no ruler, or if the ruler is sure
    of too few samples (assigns them a class with probability `confidence` or more).
    """
    if run.data.name not in ruler.NAMES:
        return {}
    z = game.codes(n, run.rng).numpy()
    x = render(game, z)
    p, slants = ruler.classify(x, run.data.name), slant(x)
    digit = likeliest_classes(p, confidence)
    rows = exemplars(digit, slants)
    if not rows:
        return {}
    x_result = render(game, np.stack([arithmetic(z[a], z[b], z[c]) for a, b, c in rows]))
    run.picture("arithmetic", np.concatenate([
        np.concatenate([x[a], x[b], x[c], y[None]])
        for (a, b, c), y in zip(rows, x_result, strict=True)]), columns=3 * EXEMPLARS + 1)
    of = [digit[c[0]] for _, _, c in rows]
    aim = [slants[digit == k][extremes(slants[digit == k], EXEMPLARS)[1]].mean() for k in of]
    same = ruler.classify(x_result, run.data.name).argmax(1) == of
    return {"arithmetic_slant_before": np.mean([slants[c].mean() for *_, c in rows]),
            "arithmetic_slant_aim": np.mean(aim), "arithmetic_slant_after": slant(x_result).mean(),
            "arithmetic_same_digit": same.mean()}


def exemplars(digit, slants, n=EXEMPLARS):
    """For each digit, if it and the next digit have enough samples: the indices of the digit's n
    most (a) and least (b) slanted samples, and of the next digit's n least slanted samples (c). A
    list of (a, b, c).

    digit: (N,), integers, −1 for samples that are not recognised as a digit; slants: (N,)
    """
    by_digit = [np.flatnonzero(digit == k) for k in range(CLASSES)]
    rows = []
    for k in range(CLASSES):
        this, following = by_digit[k], by_digit[(k + 1) % CLASSES]
        if min(len(this), len(following)) >= 2 * n:
            (b, a), (c, _) = extremes(slants[this], n), extremes(slants[following], n)
            rows.append((this[a], this[b], following[c]))
    return rows


if __name__ == "__main__":
    cli(main)
