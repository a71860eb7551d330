"""GAN dissection: find the units of a DCGAN that draw a colour, and switch them off and on.

    python demos/dissection.py                                offline, on drawn scenes
    python demos/dissection.py --data cifar10 --data-dir DIR  on CIFAR-10 (--download fetches it)

samples.png, three rows per colour: the generated images with most of it, the same images with the
colour's units off, and with them on. units.png, two rows per colour: the images in which the unit
that agrees best with the colour is most active, and the unit's activation maps.

For each colour: its share of all pixels, the iou of its best unit, its share with its units off,
their causal effect on it, and effect_of_others, that of equally many random other units.
"""

import numpy as np

from minigen import nn, optim
from minigen.data import signed
from minigen.data.scenes import COLOURS, shows
from minigen.demo import Demo, at_least, cli
from minigen.models.gan.dcgan import adam, dcgan
from minigen.models.gan.dissection import (
    agreement,
    causal_effect,
    intervene,
    split_generator,
    thresholds,
    upsampled,
)
from minigen.models.gan.gan import algorithm_1

LAYER, SHOWN = 6, 10  # after the ReLU at 8×8 pixels; images per row


def main(argv=None):
    run = Demo("dissection", __doc__, argv, data=("scenes", "cifar10"), batch=16,
               steps={"scenes": 2000, "cifar10": 4000},
               flags=lambda p: p.add_argument("--units", type=at_least(1), default=8, metavar="N",
                                              help="units that are switched at a time"))
    model = dcgan(run.data.shape, 64)
    nn.init(model, run.rng)
    opt_d, opt_g = adam(nn.parameters(model.D)), adam(nn.parameters(model.G))
    play = algorithm_1(model, opt_d, opt_g, lambda i: (signed(run.batch(i)),))

    def step(t, rng):
        opt_d.lr = opt_g.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        return play(t, rng)

    run.fit(step, model=model, opt_d=opt_d, opt_g=opt_g)

    h, f = split_generator(model.G, LAYER)
    r = h(model.codes(50 if run.quick else 1000, run.rng).numpy())
    x, t = f(r), thresholds(r)
    samples, maps, numbers = [], [], {}
    for name, hue in COLOURS.items():
        s = shows(hue)
        iou = agreement(r, s(x), t)
        units = np.argsort(-iou)[:run.args.units]
        rest = np.setdiff1d(np.arange(len(t)), units)
        high, others = t[units], run.rng.permutation(rest)[:len(units)]
        most = np.argsort(-s(x).mean((1, 2)), kind="stable")[:SHOWN]
        samples += [x[most], f(intervene(r[most], units, 0)), f(intervene(r[most], units, high))]
        best = np.argsort(-r[:, units[0]].max((1, 2)), kind="stable")[:SHOWN]
        seen = upsampled(r[best][:, units[:1]], x.shape[2:])
        maps += [x[best], np.repeat(seen / max(seen.max(), 1e-6), 3, axis=1)]
        numbers |= {f"{name}_share": s(x).mean(), f"{name}_iou": iou[units[0]],
                    f"{name}_off": s(f(intervene(r, units, 0))).mean(),
                    f"{name}_effect": causal_effect(f, r, units, high, s),
                    f"{name}_effect_of_others": causal_effect(f, r, others, t[others], s)}
    run.picture("samples", np.concatenate(samples), columns=SHOWN)
    run.picture("units", np.concatenate(maps), columns=SHOWN)
    run.finish(numbers)


if __name__ == "__main__":
    cli(main)
