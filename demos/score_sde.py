"""Score SDE: a diffusion in continuous time, sampled with noise and without, and its likelihood.

    python demos/score_sde.py                                offline, on drawn digits
    python demos/score_sde.py --data mnist --data-dir DIR    on MNIST (--download fetches it)

samples.png: three rows each of samples by the predictor, by predictor and corrector, and by the
probability flow. between.png: in each row the first and the last image are test images; those in
between are decoded from the arc between their noises x_1.

fid_to_2000: the Fréchet distance of 500 samples of each kind to training images; evaluations: how
often the network is evaluated for them. bits_per_dim: of the model's likelihood of 128 test images,
with uniform noise between the levels of pixels, which makes it comparable with a bound on discrete
levels. decoded_error: the root mean square difference of images from what their noise is decoded
to, in [0, 1].
"""

import math

import numpy as np

from minigen import data, metrics, nn, optim, ruler, train
from minigen.demo import Demo, at_least, cli
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.score_sde import VP, ScoreSDE
from minigen.models.diffusion.slerp import arcs

LEVEL = 2 / 255  # between the levels of pixels in [−1, 1]
TOLERANCE = 1e-3  # of the flow


def main(argv=None):
    run = Demo("score_sde", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=64,
               steps={"glyphs": 600, "mnist": 4400, "fashion-mnist": 4400},
               flags=lambda p: p.add_argument("--sampling-steps", type=at_least(1), default=100,
                                              metavar="N", help="predictor steps of a sample"))
    shape, rng = run.data.shape, run.rng
    net = Counted(denoiser(shape, (8, 8, 8) if run.quick else (16, 32, 64)))
    nn.init(net, rng)
    model = ScoreSDE(net, VP())
    opt = optim.Adam(nn.parameters(net), lr=2e-3)
    ema = nn.EMA(opt.params, decay=0.995)

    def step(t, rng):
        opt.lr = 2e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.02)
        x_0 = run.xp.asarray(dequantised(run.data.train_x[run.indices(t)], rng))
        return train.descend(opt, model.loss(x_0, rng), max_norm=1.0)

    run.fit(step, net=net, opt=opt, ema=ema)

    n, steps = (20, 3) if run.quick else (500, run.args.sampling_steps)
    tol = 0.1 if run.quick else TOLERANCE
    ways = {"predictor": lambda n: model.sample(n, shape, rng, 2 * steps),
            "corrected": lambda n: model.sample(n, shape, rng, steps, r=0.16),
            "flow": lambda n: model.decode(rng.standard_normal((n, *shape), np.float32), tol)}
    numbers, rows = {}, []
    with ema.applied():
        for name, way in ways.items():
            net.calls = 0
            x = np.concatenate([data.unsigned(way(min(n, 100))) for _ in range(-(-n // 100))])
            numbers |= {f"{key}_{name}": value for key, value in quality(x, run.data).items()}
            numbers[f"evaluations_{name}"] = net.calls / -(-n // 100)
            rows.append(x[:30])
        run.picture("samples", np.concatenate(rows))
        x_1 = model.encode(data.signed(run.data.test_x[:10]), tol).numpy()
        run.picture("between", data.unsigned(model.decode(
            arcs(x_1.reshape(10, -1)).reshape(-1, *shape), tol)))
        x = dequantised(run.data.test_x[:8 if run.quick else 128], rng)
        log_p = model.log_prob(x, rng, tol).numpy().astype(np.float64) + x[0].size * math.log(LEVEL)
        bits = metrics.bits_per_dim(-log_p, x[0].size)
        decoded = model.decode(model.encode(x, tol), tol).numpy()
    run.finish(numbers | {"bits_per_dim": bits.mean(),
                          "bits_per_dim_standard_error": bits.std(ddof=1) / len(bits)**0.5,
                          "decoded_error": np.square(decoded - x).mean()**0.5 / 2})


class Counted:
    """A network whose calls are counted."""

    def __init__(self, net):
        self.net, self.calls = net, 0

    def __call__(self, x, t):
        self.calls += 1
        return self.net(x, t)


def dequantised(images, rng):
    """Bytes (N, C, H, W) in [−1, 1], each moved within its level at random, so that they have a
    density: float32."""
    return data.signed(images) + LEVEL * (rng.random(images.shape, np.float32) - np.float32(0.5))


def quality(x, dataset):
    """The scores of images x in [0, 1], for a data set that has a ruler."""
    if dataset.name not in ruler.NAMES:
        return {}
    return {f"fid_to_2000@{len(x)}": ruler.fid_to_2000(x, dataset),
            f"inception_score_lenet@{len(x)}":
                metrics.inception_score(ruler.classify(x, dataset.name))}


if __name__ == "__main__":
    cli(main)
