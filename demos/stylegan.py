"""StyleGAN: a generator whose layers each take a style, so that images can be mixed.

    python demos/stylegan.py                                offline, on drawn digits
    python demos/stylegan.py --data mnist --data-dir DIR    on MNIST (--download fetches it)

samples.png: generated digits. mixing.png: the styles of the digits on the left up to a layer, and
those of the digits at the top from there on; the change is after the layers of 7×7 pixels in the
upper half, after those of 14×14 in the lower. truncation.png: the same codes, a row for each ψ = 0,
0.25, 0.5, 0.75, 1. Numbers with _truncated are of samples with ψ = 0.7; noise_share is the share of
the variance of pixels that comes from noise rather than from styles.

Differs from the paper: a learning rate that falls from 2·10⁻³, and a few thousand steps.
"""

import numpy as np

from minigen import nn, no_grad, optim, ruler, tensor
from minigen.data import in_batches, signed, unsigned
from minigen.demo import Demo, at_least, cli
from minigen.models.gan.gan import algorithm_1
from minigen.models.gan.stylegan import mean_style, mix, stylegan, truncate

PSI = (0, 0.25, 0.5, 0.75, 1)
SHOWN = 8  # digits on either side of a table of mixtures


def main(argv=None):
    run = Demo("stylegan", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=32,
               steps={"glyphs": 1000, "mnist": 2000, "fashion-mnist": 2000},
               flags=lambda p: p.add_argument("--latent", type=at_least(1), default=64, metavar="N",
                                              help="dimensions of z"))
    model = stylegan(run.data.shape, run.args.latent)
    nn.init(model, run.rng)
    opt_d, opt_g = adam(nn.parameters(model.D)), adam(nn.parameters(model.G))
    ema = nn.EMA(opt_g.params, decay=0.999)
    play = algorithm_1(model, opt_d, opt_g, lambda i: (signed(run.batch(i)),))

    def step(t, rng):
        opt_d.lr = opt_g.lr = 2e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        return play(t, rng)

    run.fit(step, model=model, opt_d=opt_d, opt_g=opt_g, ema=ema)

    def draw(styles):
        return unsigned(in_batches(lambda some: model.G.g(some, run.rng), styles))

    with ema.applied(), no_grad():
        centre = mean_style(model, run.rng)
        w = model.G.styles(model.codes(50 if run.quick else 5000, run.rng))
        samples, truncated = draw(w), draw(truncate(w, centre, 0.7))
        run.picture("samples", samples[:100])
        run.picture("truncation", np.concatenate([draw(truncate(w[:10], centre, psi))
                                                  for psi in PSI]))
        run.picture("mixing", np.concatenate([table(draw, w, layer) for layer in (2, 4)]),
                    columns=SHOWN + 1)
        noisy = np.stack([draw(w[:20]) for _ in range(5)])
    numbers = ruler.quality(samples, run.data)
    numbers |= {f"{key}_truncated": value for key, value in
                ruler.quality(truncated, run.data).items() if not key.startswith("real")}
    run.finish(numbers | {"noise_share": noisy.var(0).mean() / samples.var(0).mean()})


def table(draw, w, layer):
    """Mixtures, as images ((SHOWN + 1)², C, H, W), of styles w (N, L, d_w): on the left, below an
    empty place, what gives the styles before `layer`, and at the top what gives the others."""
    first, second = (draw(w[i:i + SHOWN]) for i in (0, SHOWN))
    rows = [np.concatenate([np.zeros_like(first[:1]), second])]
    for i in range(SHOWN):
        left = tensor(np.repeat(w[i:i + 1].numpy(), SHOWN, axis=0))
        rows.append(np.concatenate([first[i:i + 1], draw(mix(left, w[SHOWN:2 * SHOWN], layer))]))
    return np.concatenate(rows)


def adam(params):
    """Adam as the paper sets it, without momentum."""
    return optim.Adam(params, lr=2e-3, betas=(0.0, 0.99))


if __name__ == "__main__":
    cli(main)
