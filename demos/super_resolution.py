"""Super-resolution: a diffusion model draws what a small image may have been, and a cascade of two
draws the small image as well.

    python demos/super_resolution.py                                offline, on drawn digits
    python demos/super_resolution.py --data mnist --data-dir DIR    on MNIST (--download fetches it)

samples.png, a column an image: a test image made small; enlarged by bilinear interpolation; by a
network that was taught ‖x − x̂‖²; five samples of SR3; the test image. cascade.png, a column an
image: as the first model drew it; enlarged by SR3; by a model that knows small images spoilt by
noise, given it with ever more of it. spoilt.png: distances to true images by that noise.
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
    pictures,
    ruler,
    tensor,
    train,
)
from minigen.demo import Demo, at_least, cli
from minigen.models.diffusion import schedule, velocity
from minigen.models.diffusion.cascade import Cascade, augmented, spoilt
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.super_resolution import power, super_resolution
from minigen.models.diffusion.threshold import static

T, SPOILT = 1000, (1, 50, 100, 200, 300, 400)


def flags(parser):
    parser.add_argument("--factor", type=int, choices=(2, 4, 7), default=7,
                        help="how much larger images become")
    parser.add_argument("--p", type=int, choices=(1, 2), default=2, help="of the loss ‖·‖_p^p")
    parser.add_argument("--sampling-steps", type=at_least(1), default=25, metavar="N",
                        help=f"how many of the {T} steps a sample takes")


def main(argv=None):
    run = Demo("super_resolution", __doc__, argv, data=("glyphs", "mnist"), batch=16, flags=flags,
               steps={"glyphs": 800, "mnist": 2000})
    if run.args.sampling_steps > T:
        raise train.UserError(f"--sampling-steps is {run.args.sampling_steps}, but there are only "
                              f"{T} steps: give 1 to {T}")
    shape, factor = run.data.shape, run.args.factor
    C, H, W = shape
    small, widths = (C, H // factor, W // factor), (8, 8, 8) if run.quick else (16, 32, 32)
    s = schedule.linear(T)
    mean = super_resolution(shape, widths, D=64)
    nets = {"base": denoiser(small, widths[-1:], D=64),
            "sr3": super_resolution(shape, widths, D=64),
            "augmented": augmented(shape, widths, D=64)}
    nn.init([mean, nets], run.rng)
    nets = {name: velocity.Velocity(net, s) for name, net in nets.items()}
    opt = optim.Adam(nn.parameters([mean, nets]), lr=2e-3)
    ema = nn.EMA(opt.params, decay=0.995)
    # ε is learnt as v is by ‖v − v̂‖_p^p
    options = {"weight": velocity.weight(s) ** (run.args.p / 2), "norm": power(run.args.p)}

    def step(t, rng):
        opt.lr = 2e-3 * optim.warmup(t, 50) * optim.cosine(t, run.args.steps, floor=0.02)
        x = data.signed(run.batch(t))
        y = avg_pool2d(x, factor)
        noised = spoilt(y, rng.integers(1, SPOILT[-1] + 1, len(y)), s, rng)
        # small images cost little, and the base is given four times as many
        i = rng.integers(0, len(run.data.train_x), 4 * len(x))
        many = avg_pool2d(data.signed(run.xp.asarray(run.data.train_x[i])), factor)
        seen = {"base": (many,), "sr3": (x, y), "augmented": (x, *noised)}
        losses = {name: DDPM(nets[name], s).loss(images, rng, *given, **options)[0]
                  for name, (images, *given) in seen.items()}
        losses["mean"] = mse_loss(at_once(mean, x, y), x)
        return train.descend(opt, sum(losses.values()), losses, max_norm=1.0)

    run.fit(step, mean=mean, nets=nets, opt=opt, ema=ema)

    few = schedule.respaced(s, 3 if run.quick else run.args.sampling_steps)
    n = 10 if run.quick else 500
    x, labels = data.signed(run.data.test_x[:n]), run.data.test_y[:n]
    y, numbers = avg_pool2d(x, factor), {}
    bilinear = interpolate(y, scale_factor=factor, mode="bilinear")
    reference = ruler.features(run.data.train_x[:2000], run.data.name)

    def sampler(name):
        return DDPM(nets[name], few, few.beta_tilde)

    def measure(name, images):
        """Note how far images (n, C, H, W) in [0, 1] are from true ones."""
        features = ruler.features(images, run.data.name)
        numbers[f"fid_lenet@{n}_{name}"] = metrics.frechet_distance(features, reference)

    with ema.applied(), no_grad():
        sr3 = sampler("sr3")
        samples = [data.unsigned(sr3.sample(n, shape, run.rng, y, threshold=static))
                   for _ in range(5)]
        made = {"bilinear": data.unsigned(bilinear.numpy()),
                "mean": data.unsigned(at_once(mean, x, y).numpy()),
                "sample": samples[0], "mean_of_5": np.mean(samples, 0),
                "truth": data.unsigned(x)}
        for name, images in made.items():
            if name != "truth":
                numbers[f"psnr_{name}"] = metrics.psnr(images, made["truth"], 1)
            named = ruler.classify(images, run.data.name).argmax(1)
            numbers[f"recognised_{name}"] = (named == labels).mean()
            measure(name, images)
        numbers["variety"] = np.std(samples, 0).mean()
        shown = [data.unsigned(interpolate(y, scale_factor=factor).numpy()), made["bilinear"],
                 made["mean"], *samples, made["truth"]]
        run.picture("samples", np.concatenate([images[:10] for images in shown]))

        cascade = Cascade(small, sampler("base"), [sampler("augmented")], s, factor)
        rows = {}
        for level in SPOILT:
            drawn, rows[f"s={level}"] = cascade.sample(n, np.random.default_rng(0), level, static)
        rows = {"base": interpolate(drawn, scale_factor=factor),
                "sr3": sr3.sample(n, shape, run.rng, drawn, threshold=static)} | rows
        for name, images in rows.items():
            rows[name] = data.unsigned(images)
            measure(f"cascade_{name}", rows[name])
        run.picture("cascade", np.concatenate([images[:10] for images in rows.values()]))
    far = lambda name: numbers[f"fid_lenet@{n}_{name}"]
    with train.writing(run.out / "spoilt.png"):
        pictures.lines(run.out / "spoilt.png", {
            "xlabel": "s, steps of noise in the small image", "ylabel": "Fréchet distance",
            "ylim": (0, None), "curves": {
                "augmented": (SPOILT, [far(f"cascade_s={level}") for level in SPOILT]),
                "SR3": (SPOILT, [far("cascade_sr3")] * len(SPOILT), "--"),
                "test images": (SPOILT, [far("truth")] * len(SPOILT), "--")}})
    run.finish(numbers)


def at_once(net, like, y):
    """x̂, of the shape of `like`, by SR3's network, taught ‖x − x̂‖²: it is shown y and no noise."""
    return net(0 * tensor(like), np.ones(len(y), int), y)


if __name__ == "__main__":
    cli(main)
