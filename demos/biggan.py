"""BigGAN: digits and CIFAR-10 by class, and what truncating z trades.

    python demos/biggan.py                                     offline, on drawn digits
    python demos/biggan.py --data mnist --data-dir DIR         on MNIST (--download fetches it)
    python demos/biggan.py --data cifar10 --data-dir DIR       on CIFAR-10

Beside it trains the conditional GAN of demos/cgan.py, whose G takes as many steps, its D one for
each of them (BigGAN's two). Its samples are drawn with its last weights, not with an average.

samples.png: a class per row, a code z per column. classes.png: the images of one code on the way
from one class to the next, a row per code; pairs.png: code and class are both on the way.
truncation.png: for each of two classes, a row for each τ. cgan.png: samples of the conditional
GAN.

Numbers end in the τ of their samples' codes, in `cgan`, or in `real` for test images. variety is
the standard deviation of pixels within a class, fid_patches the Fréchet distance of 8×8-pixel
patches to those of training images, the others are those of demos/cgan.py.

Differs from the paper: a few thousand steps, at learning rates that fall to 0 from 10⁻³ for D and
5·10⁻⁴ for G, in place of 2·10⁻⁴ and 5·10⁻⁵; the average of G's weights has a decay of 0.999 in
place of 0.9999.
"""

import numpy as np

from minigen import metrics, nn, optim, ruler
from minigen.data import signed
from minigen.demo import Demo, cli
from minigen.gan_demo import render
from minigen.models.gan import cgan, dcgan
from minigen.models.gan.biggan import biggan, standing_statistics
from minigen.models.gan.cgan import interpolate_classes
from minigen.models.gan.gan import algorithm_1
from minigen.models.vae.latent import interpolation

TAUS = (np.inf, 1.5, 1.0, 0.5, 0.25)
SHOWN = (2, 4)  # classes, in truncation.png
SIDE = 8  # of a patch


def main(argv=None):
    run = Demo("biggan", __doc__, argv, data=("glyphs", "mnist", "cifar10"), batch=32,
               steps={"glyphs": 2000, "mnist": 1500, "cifar10": 1500})
    shape, classes = run.data.shape, len(run.data.classes)
    model = biggan(shape, classes, width=8 if run.quick else 16)
    baseline = cgan.conditional(shape, 64, classes)
    nn.init([model, baseline], run.rng)
    opt_d, opt_g = adam(nn.parameters(model.D), 1e-3), adam(nn.parameters(model.G), 5e-4)
    base_d, base_g = (dcgan.adam(nn.parameters(net)) for net in (baseline.D, baseline.G))
    ema = nn.EMA(opt_g.params, decay=0.999)

    def minibatch(i):
        return signed(run.batch(i)), run.data.train_y[run.indices(i)]

    play = algorithm_1(model, opt_d, opt_g, minibatch, k=2)
    play_base = algorithm_1(baseline, base_d, base_g, minibatch)

    def step(t, rng):
        factor = optim.cosine(t, run.args.steps)
        opt_d.lr, opt_g.lr = 1e-3 * factor, 5e-4 * factor
        base_d.lr = base_g.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        numbers = {f"{key}_cgan": value for key, value in play_base(t, rng).items()}
        return numbers | play(t, rng)

    run.fit(step, model=model, baseline=baseline, opt_d=opt_d, opt_g=opt_g, base_d=base_d,
            base_g=base_g, ema=ema)

    patches = None if run.data.name in ruler.NAMES else metrics.patches(
        signed(run.data.train_x), SIDE)
    score = lambda x, y: quality(x, y, run.data, patches)
    codes, all_y = baseline.codes(10, run.rng).numpy(), np.arange(classes)
    run.picture("cgan", table(baseline, codes, classes))
    y = np.arange(50 if run.quick else 5000) % classes
    numbers = {"cgan": score(render(baseline, baseline.codes(len(y), run.rng), y), y)}
    rows = []
    with ema.applied():
        for tau in TAUS:
            standing_statistics(model, tau, run.rng, passes=2 if run.quick else 50)
            z = model.codes(len(y), run.rng, tau).numpy()
            numbers[f"{tau:g}"] = score(render(model, z, y), y)
            rows.append([render(model, z[:10], np.full(10, k)) for k in SHOWN])
            if tau == np.inf:
                run.picture("samples", table(model, z[:10], classes))
                paths = [interpolate_classes(z_i, *ends, classes, 10)
                         for z_i, *ends in zip(z, all_y, np.roll(all_y, -1), strict=False)]
                run.picture("classes", np.concatenate([render(model, *z_y) for z_y in paths]))
                ends = np.concatenate([z[:classes], np.eye(classes, dtype=z.dtype)], axis=1)
                paths = [np.split(interpolation(*pair, 10), [model.d_z], axis=1)
                         for pair in zip(ends, np.roll(ends, -1, axis=0), strict=True)]
                run.picture("pairs", np.concatenate([render(model, *z_y) for z_y in paths]))
    run.picture("truncation", np.concatenate([row for k in zip(*rows, strict=True) for row in k]))
    real = run.rng.permutation(len(run.data.test_x))[:len(y)]
    numbers["real"] = score(run.data.test_x[real] / np.float32(255), run.data.test_y[real])
    run.finish({f"{key}_{name}": value for name, some in numbers.items()
                for key, value in some.items()})


def table(game, z, classes):
    """Images of the codes z (n, d_z), a row for each class: (classes · n, C, H, W)."""
    return render(game, np.tile(z, (classes, 1)), np.repeat(np.arange(classes), len(z)))


def quality(x, y, dataset, patches=None):
    """How good, varied and obedient images x in [0, 1] of the classes y are: a dict. For a data set
    without a ruler, they are compared with the patches of training images."""
    variety = np.mean([x[y == k].std(axis=0).mean() for k in np.unique(y)])
    if dataset.name not in ruler.NAMES:
        return {"variety": variety, "fid_patches": metrics.frechet_distance(
            metrics.patches(2 * x - 1, SIDE), patches)}
    scores = {key: value for key, value in ruler.quality(x, dataset).items()
              if key.startswith(("inception", "fid"))}
    asked = (ruler.classify(x, dataset.name).argmax(1) == y).mean()
    return scores | {"variety": variety, "drawn_as_asked": asked}


def adam(params, lr):
    """Adam without momentum, as in the paper."""
    return optim.Adam(params, lr, betas=(0.0, 0.999))


if __name__ == "__main__":
    cli(main)
