"""Glow: a normalising flow, which generates images and gives their exact likelihood.

    python demos/glow.py                                 offline, on drawn digits
    python demos/glow.py --data mnist --data-dir DIR     on MNIST (--download fetches it)
    python demos/glow.py --data cifar10 --data-dir DIR   on CIFAR-10

between.png: in each row the first and the last image are test images; those in between are decoded
from the arc between their latents.

bits_per_dim: −log₂ p per pixel and channel of the first 2,000 test images. The model's p is a
density; with uniform noise added to each of the 256 levels, its mean is an upper bound on the bits
that the model needs for the levels themselves. decoded_error: the largest difference of a pixel
from what its image's latents are decoded to, in [0, 1]. Other numbers are of 5,000 samples.
"""

import math

import numpy as np

from minigen import data, metrics, nn, no_grad, optim, ruler, train
from minigen.demo import Demo, cli
from minigen.models.diffusion.slerp import arcs
from minigen.models.flow.glow import glow


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
        return train.descend(opt, model.loss(x), max_norm=1.0)

    run.fit(step, model=model, opt=opt, ema=ema)

    with ema.applied(), no_grad():
        samples = np.concatenate([model.sample(100, run.rng).numpy()
                                  for _ in range(1 if run.quick else 50)])
        x = dequantised(run.data.test_x[:2000], run.rng)
        log_p = data.in_batches(model.log_prob, x, batch_size=100)
        run.picture("samples", samples[:100])
        z, _ = model.encode(x[:10])
        run.picture("between", model.decode(arcs(z.numpy())).numpy())
        decoded_error = np.abs(model.decode(z).numpy() - x[:10]).max()
    bits = metrics.bits_per_dim(x[0].size * math.log(256) - log_p.astype(np.float64), x[0].size)
    run.finish(ruler.quality(samples, run.data) |
               {"bits_per_dim": bits.mean(),
                "bits_per_dim_standard_error": bits.std(ddof=1) / len(bits)**0.5,
                "decoded_error": decoded_error})


def dequantised(images, rng):
    """Bytes (N, C, H, W) as numbers in [0, 1), each uniform within its level: float32."""
    return (images + rng.random(images.shape, np.float32)) / np.float32(256)


if __name__ == "__main__":
    cli(main)
