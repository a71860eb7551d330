"""Cascaded diffusion: one model samples small digits of 7×7 pixels, a second one enlarges them.

    python demos/cascade.py                                   offline, on drawn digits
    python demos/cascade.py --data mnist --data-dir DIR       on MNIST (--download fetches it)

samples.png, a column per image: the first model's sample; enlarged by SR3, which has been trained
on true small images only; enlarged by a model trained with noise conditioning augmentation, after
ever more noise has been added to the small image. spoilt.png: the Fréchet distance of the enlarged
images from training images, as a function of that noise.
"""

import numpy as np

from minigen import avg_pool2d, data, interpolate, nn, optim, pictures, ruler, train
from minigen.demo import Demo, cli
from minigen.diffusion_demo import T, few_steps, sampling_steps
from minigen.models.diffusion import schedule
from minigen.models.diffusion.cascade import Cascade, augmented, noise_augment
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.super_resolution import super_resolution
from minigen.models.diffusion.threshold import static
from minigen.models.diffusion.velocity import Velocity

FACTOR, LEVELS = 4, (1, 50, 100, 150, 200, 300)


def main(argv=None):
    run = Demo("cascade", __doc__, argv, data=("glyphs", "mnist"), batch=16,
               steps={"glyphs": 1000, "mnist": 2500}, flags=sampling_steps)
    C, H, W = shape = run.data.shape
    small, widths = (C, H // FACTOR, W // FACTOR), (8, 8, 8) if run.quick else (16, 32, 32)
    s = schedule.linear(T)
    nets = {"base": denoiser(small, widths[-1:], D=64),
            "sr3": super_resolution(shape, widths, D=64),
            "augmented": augmented(shape, widths, D=64)}
    nn.init(nets, run.rng)
    nets = {name: Velocity(net, s) for name, net in nets.items()}
    opt = optim.Adam(nn.parameters(nets), lr=2e-3)
    ema = nn.EMA(opt.params, decay=0.995)

    def step(t, rng):
        opt.lr = 2e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.02)
        x = data.signed(run.batch(t))
        y = avg_pool2d(x, FACTOR)
        cond = noise_augment(y, rng.integers(1, LEVELS[-1] + 1, len(y)), s, rng)
        # small images are cheap, so the base model's batches are four times as large
        i = rng.integers(0, len(run.data.train_x), 4 * len(x))
        x_base = avg_pool2d(data.signed(run.xp.asarray(run.data.train_x[i])), FACTOR)
        batches = {"base": (x_base,), "sr3": (x, y), "augmented": (x, *cond)}
        losses = {name: DDPM(nets[name], s).loss(images, rng, *given)
                  for name, (images, *given) in batches.items()}
        return train.descend(opt, sum(losses.values()), losses, max_norm=1.0)

    run.fit(step, nets=nets, opt=opt, ema=ema)

    few = schedule.respaced(s, few_steps(run))
    n = 20 if run.quick else 500
    base, sr3, aug = (DDPM(net, few, few.beta_tilde) for net in nets.values())
    cascade, samples = Cascade(small, base, [aug], s, FACTOR), {}
    with ema.applied():
        for level in LEVELS:  # the small images are always the same
            y, samples[f"s={level}"] = cascade.sample(n, np.random.default_rng(0), level, static)
        samples = {"base": interpolate(y, scale_factor=FACTOR),
                   "sr3": sr3.sample(n, shape, run.rng, y, threshold=static)} | samples
    samples = {name: data.unsigned(images) for name, images in samples.items()}
    run.picture("samples", np.concatenate([images[:10] for images in samples.values()]))
    samples["real"] = run.data.test_x[:n]
    fid = {name: ruler.fid_to_2000(images, run.data) for name, images in samples.items()}
    with train.writing(run.out / "spoilt.png"):
        pictures.lines(run.out / "spoilt.png", {
            "xlabel": "s, steps of noise in the small image", "ylabel": "Fréchet distance",
            "ylim": (0, None), "curves": {
                "with augmentation": (LEVELS, [fid[f"s={level}"] for level in LEVELS]),
                "SR3, no noise": (LEVELS, [fid["sr3"]] * len(LEVELS), "--"),
                "test images": (LEVELS, [fid["real"]] * len(LEVELS), "--")}})
    run.finish({f"fid_to_2000@{n}_{name}": distance for name, distance in fid.items()})


if __name__ == "__main__":
    cli(main)
