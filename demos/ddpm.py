"""Denoising diffusion: learn to see the noise in an image, and draw by taking it away.

    python demos/ddpm.py                                       offline, on drawn digits
    python demos/ddpm.py --data mnist --data-dir DIR           on MNIST (--download fetches it)
"""

import numpy as np

from minigen import clip, data, nn, optim, tensor, train
from minigen.demo import Demo, at_least, cli
from minigen.models.diffusion import schedule
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser

T = 1000
SCHEDULES = {"linear": schedule.linear, "cosine": schedule.cosine}


def flags(parser):
    parser.add_argument("--schedule", choices=SCHEDULES, default="linear", help="of the noise")
    parser.add_argument("--sampling-steps", type=at_least(1), default=50, metavar="N",
                        help=f"how many of the {T} steps a sample takes")


def main(argv=None):
    run = Demo("ddpm", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist", "scenes", "cifar10"),
               steps={"glyphs": 300, "mnist": 1500, "fashion-mnist": 1500, "scenes": 300,
                      "cifar10": 1500}, batch=64, flags=flags)
    if run.args.sampling_steps > T:
        raise train.UserError(f"--sampling-steps is {run.args.sampling_steps}, but there are only "
                              f"{T} steps: give 1 to {T}")
    shape, steps = run.data.shape, 4 if run.quick else run.args.sampling_steps
    net = denoiser(shape, widths=(8, 8, 8) if run.quick else (32, 64, 64))
    nn.init(net, run.rng)
    model = DDPM(net, SCHEDULES[run.args.schedule](T))
    opt = optim.Adam(nn.parameters(net), lr=1e-3)
    ema = nn.EMA(opt.params, decay=0.995)

    def step(t, rng):
        opt.lr = 2e-3 * optim.warmup(t, 100) * optim.cosine(t, run.args.steps, floor=0.05)
        loss, parts = model.loss(tensor(data.signed(run.batch(t))), rng)
        return train.descend(opt, loss, parts, max_norm=1.0)

    run.fit(step, model=model, opt=opt, ema=ema)

    strided = schedule.respaced(model.schedule, steps)
    sampler = DDPM(net, strided, sigma2=strided.beta_tilde)
    with ema.applied():
        frames = []
        few = sampler.sample(10, shape, run.rng, threshold=within,
                             keep=lambda t, x: frames.append(data.unsigned(x)))
        print(few.shape)


def within(x_0):
    """An estimate of an image, brought back to the range of images."""
    return clip(x_0, -1, 1)


if __name__ == "__main__":
    cli(main)
