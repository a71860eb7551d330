"""Super-resolution: a diffusion model samples what a small image may have looked like at full size.

    python demos/super_resolution.py                                offline, on drawn digits
    python demos/super_resolution.py --data mnist --data-dir DIR    on MNIST (--download fetches it)
    python demos/super_resolution.py --factor 4                     small images of 7×7, not 4×4

samples.png, a column per image: a test image reduced in size; enlarged by bilinear interpolation;
by a network of the same kind trained to minimise ‖x − x̂‖²; five samples of SR3; the original. The
former network predicts the mean of all images that look the same when reduced: it is nearest to the
original, but blurred; samples look like images.

recognised is the share that the ruler classifies as the right digit, psnr_sample_made_small
compares reduced samples with the small images, variety is the standard deviation of a pixel over
the samples.
"""

import numpy as np

from minigen import (
    avg_pool2d,
    data,
    interpolate,
    metrics,
    mse_loss,
    nn,
    no_grad,
    optim,
    ruler,
    tensor,
    train,
)
from minigen.demo import Demo, cli
from minigen.diffusion_demo import T, few_steps, sampling_steps
from minigen.models.diffusion import schedule
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.super_resolution import power, super_resolution
from minigen.models.diffusion.threshold import static
from minigen.models.diffusion.velocity import Velocity


def flags(parser):
    parser.add_argument("--factor", type=int, choices=(2, 4, 7), default=7,
                        help="how many times larger images become")
    parser.add_argument("--p", type=int, choices=(1, 2), default=2, help="p of the loss ‖·‖_p^p")
    sampling_steps(parser)


def main(argv=None):
    run = Demo("super_resolution", __doc__, argv, data=("glyphs", "mnist"), batch=16, flags=flags,
               steps={"glyphs": 1000, "mnist": 2500})
    shape, factor, p = run.data.shape, run.args.factor, run.args.p
    widths, s = (8, 8, 8) if run.quick else (16, 32, 32), schedule.linear(T)
    mean, net = (super_resolution(shape, widths, D=64) for _ in range(2))
    nn.init([mean, net], run.rng)
    net = Velocity(net, s, p)
    model = DDPM(net, s)
    opt = optim.Adam(nn.parameters([mean, net]), lr=2e-3)
    ema = nn.EMA(opt.params, decay=0.995)

    def step(t, rng):
        opt.lr = 2e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.02)
        x = data.signed(run.batch(t))
        y = avg_pool2d(x, factor)
        loss = model.loss(x, rng, y, norm=power(p))
        error = mse_loss(at_once(mean, x, y), x)
        return train.descend(opt, loss + error, {"sr3": loss, "mean": error}, max_norm=1.0)

    run.fit(step, mean=mean, net=net, opt=opt, ema=ema)

    few = schedule.respaced(s, few_steps(run))
    n = 20 if run.quick else 500
    x, labels = data.signed(run.data.test_x[:n]), run.data.test_y[:n]
    y, sampler = avg_pool2d(x, factor), DDPM(net, few, few.beta_tilde)
    with ema.applied(), no_grad():
        samples = [sampler.sample(n, shape, run.rng, y, threshold=static) for _ in range(5)]
        outputs = {"nearest": interpolate(y, scale_factor=factor),
                   "bilinear": interpolate(y, scale_factor=factor, mode="bilinear"),
                   "mean": at_once(mean, x, y),
                   **{f"sample_{k}": sample for k, sample in enumerate(samples)}, "truth": x}
    outputs = {name: data.unsigned(images) for name, images in outputs.items()}
    run.picture("samples", np.concatenate([images[:10] for images in outputs.values()]))
    samples = [outputs.pop(f"sample_{k}") for k in range(5)]
    outputs |= {"sample": samples[0], "mean_of_5_samples": np.mean(samples, 0)}
    numbers = {}
    for name, images in outputs.items():
        if name != "truth":
            numbers[f"psnr_{name}"] = metrics.psnr(images, outputs["truth"], 1)
        predicted = ruler.classify(images, run.data.name).argmax(1)
        numbers[f"recognised_{name}"] = (predicted == labels).mean()
        numbers[f"fid_to_2000@{n}_{name}"] = ruler.fid_to_2000(images, run.data)
    small = avg_pool2d(samples[0], factor).numpy()
    numbers["psnr_sample_made_small"] = metrics.psnr(small, data.unsigned(y), 1)
    run.finish(numbers | {"variety": np.std(samples, 0).mean()})


def at_once(net, like, y):
    """x̂, of the shape of `like`, by one pass of a network of SR3's kind, given y and no noise."""
    return net(0 * tensor(like), np.ones(len(y), int), y)


if __name__ == "__main__":
    cli(main)
