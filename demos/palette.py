"""Palette: a diffusion model that colourises, inpaints, uncrops and repairs JPEG images.

    python demos/palette.py                                    offline, on drawn scenes
    python demos/palette.py --data cifar10 --data-dir DIR      on CIFAR-10 (--download fetches it)

One network is trained for all four tasks. samples.png: for each task a row of degraded test images,
a row for each of two samples, and a row of the originals. psnr_TASK_given and psnr_TASK_restored
are in dB, of degraded and of restored images; between is the root mean square difference of two
samples, in [0, 1]; colourfulness is the mean distance of a pixel from grey.
"""

import numpy as np

from minigen import data, metrics, nn, optim, train
from minigen.demo import Demo, cli
from minigen.diffusion_demo import T, few_steps, sampling_steps
from minigen.models.diffusion import schedule
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.inpainting import inpaint
from minigen.models.diffusion.palette import TASKS, degraded, masked, palette
from minigen.models.diffusion.velocity import Velocity


def main(argv=None):
    run = Demo("palette", __doc__, argv, data=("scenes", "cifar10"), batch=32,
               steps={"scenes": 3000, "cifar10": 4000}, flags=lambda p: sampling_steps(p, 50))
    shape, s = run.data.shape, schedule.linear(T)
    net = palette(shape, (8, 8) if run.quick else (64, 64))
    nn.init(net, run.rng)
    model, opt = DDPM(Velocity(net, s), s), optim.Adam(nn.parameters(net))
    ema = nn.EMA(opt.params, decay=0.995)

    def step(t, rng):
        opt.lr = 2e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.02)
        x_0 = data.signed(run.data.train_x[run.indices(t)])
        x_0, y, m = (run.xp.asarray(a) for a in (x_0, *degraded(x_0, rng)))
        return train.descend(opt, model.loss(x_0, rng, y, norm=masked(m)), max_norm=1.0)

    run.fit(step, net=net, opt=opt, ema=ema)

    few = schedule.respaced(s, few_steps(run))
    sampler = DDPM(model.net, few, few.beta_tilde)
    n = 10 if run.quick else 100
    x_0, numbers, rows = data.signed(run.data.test_x[:n]), {}, []
    truth = data.unsigned(x_0)
    with ema.applied():
        for name, task in TASKS.items():
            y, m = task(x_0, np.random.default_rng(0))
            first, second = (data.unsigned(inpaint(sampler, y, m, run.rng, y)) for _ in range(2))
            given = data.unsigned(y)
            numbers |= {f"psnr_{name}_given": metrics.psnr(given, truth, 1),
                        f"psnr_{name}_restored": metrics.psnr(first, truth, 1),
                        f"between_{name}": np.sqrt(np.square(first - second).mean())}
            if name == "colourise":
                numbers |= {f"colourfulness_{of}": np.std(images, 1).mean() for of, images in
                            {"given": given, "restored": first, "truth": truth}.items()}
            rows += [images[:10] for images in (given, first, second, truth)]
    run.picture("samples", np.concatenate(rows))
    run.finish(numbers)


if __name__ == "__main__":
    cli(main)
