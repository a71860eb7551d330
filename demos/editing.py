"""Editing: an unconditional diffusion model turns crude drawings into images, in two ways.

    python demos/editing.py                                offline, on drawn digits
    python demos/editing.py --data mnist --data-dir DIR    on MNIST (--download fetches it)

The drawings are test images reduced to 7×7 pixels and enlarged again. SDEdit adds the noise of some
of the steps to them and removes it again; ILVR starts from pure noise, and at every step replaces
the image's 7×7 pixels by the drawing's.

samples.png, a column per image: the drawing; SDEdit from 20%, 40%, 60% and 80% of the steps; ILVR;
the original. Numbers are over the first 500 test images: fid_to_2000, the Fréchet distance to
training images; recognised, the share that the ruler classifies as the original digit; away, the
root-mean-square distance of their 7×7 pixels from the drawing's, in [0, 1]. `samples` are
unconditional samples of the model.
"""

import numpy as np

from minigen import avg_pool2d, data, nn, optim, ruler, tensor, train
from minigen.demo import Demo, cli
from minigen.diffusion_demo import T, few_steps, sampling_steps
from minigen.models.diffusion import schedule
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.editing import ILVR, low_pass, sdedit
from minigen.models.diffusion.threshold import static
from minigen.models.diffusion.velocity import Velocity

SQUARE = 4  # pixels of an image per pixel of a drawing, along each axis
SHARES = (0.2, 0.4, 0.6, 0.8)  # of the steps, from which SDEdit denoises


def main(argv=None):
    run = Demo("editing", __doc__, argv, data=("glyphs", "mnist"), batch=32,
               steps={"glyphs": 1500, "mnist": 3000},
               flags=lambda p: sampling_steps(p, 50))
    s = schedule.linear(T)
    net = denoiser(run.data.shape, (8, 8, 8) if run.quick else (16, 32, 64))
    nn.init(net, run.rng)
    model, opt = DDPM(Velocity(net, s), s), optim.Adam(nn.parameters(net))
    ema = nn.EMA(opt.params, decay=0.995)

    def step(t, rng):
        opt.lr = 2e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.02)
        return train.descend(opt, model.loss(data.signed(run.batch(t)), rng), max_norm=1.0)

    run.fit(step, net=net, opt=opt, ema=ema)

    few = schedule.respaced(s, few_steps(run))
    n = 20 if run.quick else 500
    x, digits = data.signed(run.data.test_x[:n]), run.data.test_y[:n]
    y = low_pass(tensor(x), SQUARE)
    with ema.applied():
        sampler = DDPM(model.net, few, few.beta_tilde)
        results = {"drawing": y}
        for share in SHARES:
            t_0 = max(1, round(share * few.T))
            results[f"sdedit_{share}"] = sdedit(sampler, y, t_0, run.rng, threshold=static)
        ilvr = ILVR(model.net, few, y, SQUARE, few.beta_tilde)
        results["ilvr"] = ilvr.sample(n, run.data.shape, run.rng, threshold=static)
        results |= {"truth": tensor(x), "samples": sampler.sample(n, run.data.shape, run.rng,
                                                                  threshold=static)}
    results = {name: data.unsigned(images) for name, images in results.items()}
    numbers = {}
    small = lambda images: avg_pool2d(tensor(images), SQUARE).numpy()
    for name, images in results.items():
        numbers[f"fid_to_2000@{n}_{name}"] = ruler.fid_to_2000(images, run.data)
        if name != "samples":
            predicted = ruler.classify(images, run.data.name).argmax(1)
            numbers |= {
                f"recognised_{name}": (predicted == digits).mean(),
                f"away_{name}": np.square(small(images) - small(results["drawing"])).mean() ** 0.5}
    run.picture("samples", np.concatenate([images[:10] for name, images in results.items()
                                           if name != "samples"]))
    run.finish(numbers)


if __name__ == "__main__":
    cli(main)
