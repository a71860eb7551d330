"""Glow: a normalising flow, which generates images and gives their exact likelihood.

    python demos/glow.py                                 offline, on drawn digits
    python demos/glow.py --data mnist --data-dir DIR     on MNIST (--download fetches it)
    python demos/glow.py --data cifar10 --data-dir DIR   on CIFAR-10

samples.png: five rows of samples, then five of samples at temperature 0.7, whose latents are drawn
from N(0, 0.7² I): they are better on average, and less varied. between.png: in each row the first
and the last image are test images; those in between are decoded from the line between their
latents.

bits_per_dim: of the model's likelihood of the first test images, with uniform noise between the
levels of pixels, which makes it comparable with a bound on discrete levels. decoded_error: the
largest difference of a pixel from what its image's latents are decoded to, in [0, 1]. Numbers with
_cool are of samples at temperature 0.7.
"""

import math

import numpy as np

from minigen import data, metrics, nn, no_grad, optim, ruler, tensor, train
from minigen.demo import Demo, cli
from minigen.models.flow.glow import glow

COOL = 0.7


def main(argv=None):
    run = Demo("glow", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist", "cifar10"),
               batch=32, steps={"glyphs": 1500, "mnist": 3000, "fashion-mnist": 3000,
                                "cifar10": 3000})
    model = glow(run.data.shape, *(2, 2, 8) if run.quick else (8, 2, 64))
    nn.init(model, run.rng)
    model.fit_actnorm(dequantised(run.data.train_x[:256], run.rng))
    opt = optim.Adam(nn.parameters(model))
    ema = nn.EMA(opt.params, decay=0.995)

    def step(t, rng):
        opt.lr = 3e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.02)
        x = run.xp.asarray(dequantised(run.data.train_x[run.indices(t)], rng))
        return train.descend(opt, *model.loss(x), max_norm=1.0)

    run.fit(step, model=model, opt=opt, ema=ema)

    with ema.applied(), no_grad():
        samples, cool = (np.concatenate([model.sample(100, run.rng, temperature).numpy()
                                         for _ in range(1 if run.quick else 50)])
                         for temperature in (1.0, COOL))
        x = dequantised(run.data.test_x[:2000], run.rng)
        log_p = np.concatenate([model.log_prob(part).numpy()
                                for part in data.in_order(x, batch_size=100)])
        run.picture("samples", np.concatenate([samples[:50], cool[:50]]))
        z, _ = model.encode(x[:10])
        run.picture("between", model.decode(between(z.numpy())).numpy())
        decoded_error = np.abs(model.decode(z).numpy() - x[:10]).max()
    bits = metrics.bits_per_dim(x[0].size * math.log(256) - log_p.astype(np.float64), x[0].size)
    numbers = ruler.quality(samples, run.data)
    numbers |= {f"{key}_cool": value for key, value in ruler.quality(cool, run.data).items()
                if not key.startswith("real")}
    run.finish(numbers | {"bits_per_dim": bits.mean(),
                          "bits_per_dim_standard_error": bits.std(ddof=1) / len(bits)**0.5,
                          "decoded_error": decoded_error})


def dequantised(images, rng):
    """Bytes (N, C, H, W) as numbers in [0, 1), each uniform within its level: float32."""
    return (images + rng.random(images.shape, np.float32)) / np.float32(256)


def between(z, n=10):
    """n latents from each of z (N, D) to the next, two by two, as (N / 2 · n, D)."""
    lam = np.linspace(0, 1, n, dtype=z.dtype)[:, None]
    return tensor(np.concatenate([(1 - lam) * a + lam * b
                                  for a, b in zip(z[::2], z[1::2], strict=True)]))


if __name__ == "__main__":
    cli(main)
