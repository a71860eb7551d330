"""Denoising diffusion: learn to predict the noise in an image, and sample by removing noise.

    python demos/ddpm.py                                       offline, on drawn digits
    python demos/ddpm.py --data mnist --data-dir DIR           on MNIST (--download fetches it)
    python demos/ddpm.py --sampling-steps 1000                 samples in nearly all steps (852)

forward.png and forward.gif show images drowning in noise, reverse.png and reverse.gif samples
emerging from it. bits_per_dim is the bound over all T steps; bits_per_dim@few_… is the bound over
the sampling steps only, with the variances β, β̃ (β̃_2 for the last step), or those of
analytic_dpm.py (analytic, fitted).
"""

import math

import numpy as np

from minigen import data, metrics, nn, optim, ruler, train
from minigen.demo import Demo, cli, recordable
from minigen.diffusion_demo import T, few_steps, sampling_steps
from minigen.dist import noise
from minigen.models.diffusion import schedule, threshold
from minigen.models.diffusion.analytic_dpm import analytic, fitted
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.velocity import Velocity

SCHEDULES = {"linear": schedule.linear, "cosine": schedule.cosine}


def flags(parser):
    parser.add_argument("--schedule", choices=SCHEDULES, default="linear", help="noise schedule")
    parser.add_argument("--predict", choices=("noise", "velocity"), default="noise",
                        help="what the network predicts: ε, or v (velocity.py), which gives ε")
    sampling_steps(parser, 50)
    recordable(parser)


def main(argv=None):
    run = Demo("ddpm", __doc__, argv, flags=flags,
               data=("glyphs", "mnist", "fashion-mnist", "scenes", "cifar10"),
               batch={"glyphs": 64, "mnist": 64, "fashion-mnist": 64, "scenes": 32, "cifar10": 32},
               steps={"glyphs": 600, "mnist": 4400, "fashion-mnist": 4400, "scenes": 400,
                      "cifar10": 2000})
    shape, natural = run.data.shape, run.data.name == "cifar10"
    net = denoiser(shape, (8, 8, 8) if run.quick else (32, 64, 64) if natural else (16, 32, 64))
    nn.init(net, run.rng)
    noise_schedule = SCHEDULES[run.args.schedule](T)
    if run.args.predict == "velocity":
        net = Velocity(net, noise_schedule)
    model = DDPM(net, noise_schedule)
    opt = optim.Adam(nn.parameters(net), lr=2e-3)
    ema = nn.EMA(opt.params, decay=0.995)

    @run.recorded
    def learn(x, rng):
        return train.descend(opt, model.loss(x, rng), max_norm=1.0)

    def step(t, rng):
        opt.lr = 2e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.02)
        return learn(data.signed(run.batch(t)), rng)

    run.fit(step, model=model, opt=opt, ema=ema)

    x_0 = data.signed(run.xp.asarray(run.data.test_x[:10]))
    eps, times = run.rng.standard_normal(x_0.shape, np.float32), np.linspace(0, 1, 50) ** 2 * T
    forward = [x_0, *(model.q_sample(x_0, max(1, round(t)), eps) for t in times[1:])]
    filmed(run, "forward", forward)

    few = schedule.respaced(model.schedule, few_steps(run), power=1.5)
    # β̃, because β is too large for long steps. Less if the network was trained for long, because
    # its errors act as noise too (exposure bias, Ning et al. 2023): with factors 0.8 and 1 the
    # Fréchet distance is 8.6 and 11 for MNIST, but 170 and 41 for glyphs, whose strokes the smaller
    # factor makes too thick.
    sampler = DDPM(net, few, sigma2=few.beta_tilde * (1 if run.data.name == "glyphs" else 0.8))
    with ema.applied():
        x_T = noise(run.rng, nn.like(net), (10, *shape))
        reverse = sampler.chain(x_T, run.rng, threshold=threshold.static)
        filmed(run, "reverse", [x for _, x in reverse])
        n = 20 if run.quick else 1000
        print(f"drawing {n} images in {few.T} steps", flush=True)
        samples = np.concatenate([
            data.unsigned(sampler.sample(min(n, 100), shape, run.rng, threshold=threshold.static))
            for _ in range(math.ceil(n / 100))])
        run.picture("samples", samples[:100])
        count = 32 if run.quick else 256
        x, rest = data.signed(run.data.test_x[:count]), data.signed(run.data.train_x[:count])
        bits = bits_per_dim(model, x)
        chains = {"beta": DDPM(net, few), "beta_tilde": DDPM(net, few, few.beta_tilde),
                  "analytic": analytic(DDPM(net, few), rest, run.rng),
                  "fitted": fitted(DDPM(net, few), rest, run.rng)}
        by_few = {f"bits_per_dim@few_{name}": bits_per_dim(chain, x).mean()
                  for name, chain in chains.items()}
    run.finish({"bits_per_dim": bits.mean(),
                "bits_per_dim_standard_error": bits.std(ddof=1) / math.sqrt(len(bits)),
                **by_few, **ruler.quality(samples, run.data)})


def bits_per_dim(model, x):
    """The bound for each of the images x (N, C, H, W) in [−1, 1], in bits per dimension: (N,)."""
    nats = [model.bound(some, np.random.default_rng((0, i)), draws=16)[0].numpy()
            for i, some in enumerate(data.in_order(x, batch_size=64))]
    return metrics.bits_per_dim(np.concatenate(nats).astype(np.float64), x[0].size)


def filmed(run, name, frames):
    """A GIF of all frames, images (N, C, H, W) each, and a picture of ten of the frames, with a row
    per image."""
    frames = [data.unsigned(x) for x in frames]
    run.animation(name, frames, columns=5)
    some = [frames[i] for i in np.linspace(0, len(frames) - 1, 10).round().astype(int)]
    run.picture(name, np.stack(some, 1).reshape(-1, *frames[0].shape[1:]))


if __name__ == "__main__":
    cli(main)
