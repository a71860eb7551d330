"""f-GAN: one game for any of ten divergences, and what each of them prefers.

    python demos/fgan.py                                       a normal fitted to a mixture
    python demos/fgan.py --data glyphs --divergence jeffrey    offline, on drawn digits
    python demos/fgan.py --data mnist --data-dir DIR           on MNIST (--download fetches it)

samples.png, for the mixture, a panel per divergence: the data, the normal of least divergence found
directly, and the one found by f-GAN; the numbers are μ, σ and the divergence of both.
"""

import numpy as np

from minigen import nn, optim, tensor, train
from minigen.data import signed
from minigen.demo import Demo, at_least, cli
from minigen.gan_demo import TrainingFilm, gallery
from minigen.models.gan import dcgan, gan, normal_fit
from minigen.models.gan.divergences import DIVERGENCES
from minigen.models.gan.fgan import NonSaturatingFGAN

LR_D, LR_G = 3e-3, 2e-3  # for the mixture
LR_DIGITS = 1e-3


def flags(parser):
    parser.add_argument("--divergence", choices=DIVERGENCES, default="js",
                        help="the divergence for images; the mixture is fitted with all of them")
    parser.add_argument("--latent", type=at_least(1), default=100, metavar="N",
                        help="dimensions of z, for images")


def main(argv=None):
    run = Demo("fgan", __doc__, argv, data=("mixture", "glyphs", "mnist", "fashion-mnist"),
               steps={"mixture": 2000, "glyphs": 3000, "mnist": 8000, "fashion-mnist": 8000},
               batch={"mixture": 512, "glyphs": 16, "mnist": 16, "fashion-mnist": 16}, flags=flags)
    (draw_digits if run.data else fit_normals)(run)


def fit_normals(run):
    """A game for each divergence, all on the same samples."""
    games = {name: normal_fit.build_fgan(name) for name in DIVERGENCES}
    opt_d, opt_g = {}, {}
    for name, game in games.items():
        nn.init(game, run.rng)
        normal_fit.init_standard_normal(game)
        opt_d[name] = optim.Adam(nn.parameters(game.D), LR_D, betas=(0.5, 0.999))
        opt_g[name] = optim.Adam(nn.parameters(game.G), LR_G, betas=(0.5, 0.999))

    def step(t, rng):
        slower = optim.cosine(t, run.args.steps, floor=0.02)
        x, numbers = tensor(normal_fit.sample(run.args.batch, rng)), {}
        for name, game in games.items():
            opt_d[name].lr, opt_g[name].lr = LR_D * max(slower, 0.1), LR_G * slower
            lost = train.descend(opt_d[name], normal_fit.d_loss(game, x, rng))
            train.descend(opt_g[name], game.g_loss(run.args.batch, rng))
            numbers[name] = -lost["loss"]
        return numbers

    run.fit(step, **games, **{f"{name} opt_d": opt for name, opt in opt_d.items()},
            **{f"{name} opt_g": opt for name, opt in opt_g.items()})

    numbers, fits = {}, {}
    print(f"{'minimum of D_f, and f-GAN':<26}   μ*      μ       σ*      σ       D_f*    D_f")
    for name, d in DIVERGENCES.items():
        best, learned = normal_fit.fit(d)[:2], normal_fit.fitted_parameters(games[name])
        fits[name] = best, learned
        pairs = {"mu": (best[0], learned[0]), "sigma": (best[1], learned[1]),
                 "divergence": [normal_fit.divergence(d, *fit) for fit in fits[name]]}
        print(f"{name:<26}", *(f"{value:7.3f}" for pair in pairs.values() for value in pair))
        for key, (at_best, at_learned) in pairs.items():
            numbers |= {f"{name}_{key}_direct": at_best, f"{name}_{key}": at_learned}
    with train.writing(run.out / "samples.png"):
        draw(fits, run.out / "samples.png")
    run.finish(numbers)


def draw(fits, path):
    """A PNG with a panel for each divergence: the mixture, the normal of least D_f and that of
    f-GAN. `fits`: by name, two pairs (μ, σ)."""
    from matplotlib.figure import Figure  # not pyplot, which could change the caller's backend
    figure, x = Figure(figsize=(13, 5), dpi=100, layout="constrained"), np.linspace(-4.5, 4.5, 400)
    for k, (name, (best, learned)) in enumerate(fits.items()):
        axes = figure.add_subplot(2, 5, k + 1, title=name, yticks=[])
        axes.fill_between(x, normal_fit.mixture(x).numpy(), color="0.85", label="data")
        axes.plot(x, normal_fit.normal(x, *best).numpy(), "C0", label="least $D_f$")
        axes.plot(x, normal_fit.normal(x, *learned).numpy(), "C3--", label="f-GAN")
    figure.axes[0].legend(frameon=False, fontsize="small")
    figure.savefig(path, format="png")


def draw_digits(run):
    """DCGAN's networks, but with G no wider than D, trained by its Adam at a rate that falls from
    LR_DIGITS, with the losses of the divergence. `js` gives DCGAN's own up to constants."""
    shape, d_z = run.data.shape, run.args.latent
    model = NonSaturatingFGAN(dcgan.generator(d_z, shape), dcgan.discriminator(shape), d_z,
                              run.args.divergence)
    nn.init(model, run.rng)
    opt_d, opt_g = dcgan.adam(nn.parameters(model.D)), dcgan.adam(nn.parameters(model.G))
    film = TrainingFilm(model.codes(10, run.rng), shape)
    play = gan.algorithm_1(model, opt_d, opt_g, lambda i: (signed(run.batch(i)),))

    def step(t, rng):
        opt_d.lr = opt_g.lr = LR_DIGITS * optim.cosine(t, run.args.steps, floor=0.05)
        return play(t, rng)

    run.fit(film.recording(step, model), model=model, opt_d=opt_d, opt_g=opt_g, film=film)
    run.finish(gallery(run, model, film))


if __name__ == "__main__":
    cli(main)
