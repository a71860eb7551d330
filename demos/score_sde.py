"""Score SDE"""

import math
import time

import numpy as np

from minigen import data, metrics, nn, optim, ruler, train
from minigen.demo import Demo, cli
from minigen.models.diffusion.denoiser import denoiser
from minigen.models.diffusion.score_sde import VP, ScoreSDE


def main(argv=None):
    run = Demo("score_sde", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=64,
               steps={"glyphs": 600, "mnist": 4400, "fashion-mnist": 4400})
    shape = run.data.shape
    net = denoiser(shape, (8, 8, 8) if run.quick else (16, 32, 64))
    nn.init(net, run.rng)
    model = ScoreSDE(net, VP())
    opt = optim.Adam(nn.parameters(net), lr=2e-3)
    ema = nn.EMA(opt.params, decay=0.995)

    def step(t, rng):
        opt.lr = 2e-3 * optim.warmup(t, 50) * optim.cosine(t, run.args.steps, floor=0.02)
        return train.descend(opt, *model.loss(dequantised(run.batch(t), rng), rng), max_norm=1.0)

    run.fit(step, model=model, opt=opt, ema=ema)
    n = 20 if run.quick else 1000
    numbers = {}
    with ema.applied():
        def many(f):
            return np.concatenate([f(min(n, 100)).numpy() for _ in range(math.ceil(n / 100))])
        ways = {"em_100": lambda n: model.sample(n, shape, run.rng, 100),
                "em_200": lambda n: model.sample(n, shape, run.rng, 200),
                "pc_100": lambda n: model.sample(n, shape, run.rng, 100, 0.16),
                "pc_100_05": lambda n: model.sample(n, shape, run.rng, 100, 0.05),
                "ode_3": lambda n: model.decode(run.rng.standard_normal((n, *shape), np.float32), 1e-3),
                "ode_2": lambda n: model.decode(run.rng.standard_normal((n, *shape), np.float32), 1e-2)}
        calls = [0]
        inner = model.net
        def counted(x, t):
            calls[0] += 1
            return inner(x, t)
        counted.net = inner
        model.net = counted
        counted.weight = nn.like(inner)
        for name, way in ways.items():
            calls[0] = 0
            start = time.time()
            images = data.unsigned(many(way))
            c = calls[0] / math.ceil(n / 100)
            q = ruler.quality(images, run.data)
            print(name, c, time.time() - start, {k: v for k, v in q.items() if "fid" in k or "inception" in k}, flush=True)
            run.picture(name, images[:100])
        for tol in (1e-2, 1e-3, 1e-4, 1e-5):
            calls[0] = 0
            x = dequantised(run.data.test_x[:64], run.rng)
            start = time.time()
            log_p = model.log_prob(x, np.random.default_rng(0), tol).numpy().astype(float)
            bits = metrics.bits_per_dim(-log_p, x[0].size) + math.log2(127.5)
            print("bits", tol, bits.mean(), bits.std() / 8, calls[0], time.time() - start, flush=True)
    run.finish(numbers)


def dequantised(x, rng):
    return data.signed(x) + ((rng.random(x.shape, np.float32) - 0.5) / 127.5)


if __name__ == "__main__":
    cli(main)
