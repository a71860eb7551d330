"""DRAW: a recurrent VAE that draws digits step by step, one patch at a time.

    python demos/draw.py                                        offline, on drawn digits
    python demos/draw.py --data mnist --data-dir DIR            on MNIST (--download fetches it)

samples.png: samples. steps.png: ten of them, one per column, after each step.
reconstructions.png: test images and, below them, what is drawn from their codes, step by step. The
numbers are the negative ELBO of test images and its two terms, to be compared with those of vae.py.
"""

import numpy as np

from minigen import metrics, nn, no_grad, optim, sigmoid, train
from minigen.demo import Demo, cli
from minigen.models.vae.draw import DRAW

SHOWN = 10


def main(argv=None):
    run = Demo("draw", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=64,
               steps=4000)
    model = DRAW(run.data.shape, **({"T": 3, "d_h": 16} if run.quick else {}))
    nn.init(model, run.rng)
    opt = optim.Adam(nn.parameters(model))

    def step(t, rng):
        opt.lr = 4e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.02)
        x = metrics.binarise(run.batch(t) / np.float32(255), rng)
        return train.descend(opt, *model.loss(x, rng), max_norm=5.0)

    run.fit(step, model=model, opt=opt)

    x_test = metrics.binarise(run.data.test_x / np.float32(255), np.random.default_rng(0))
    images, _ = model.trace(100, run.rng)
    run.picture("samples", images[-1])
    run.picture("steps", np.concatenate([x.numpy()[:SHOWN] for x in images]), SHOWN)
    few = x_test[:SHOWN]
    with no_grad():
        seen = [sigmoid(c).numpy() for _, _, c in model.infer(few, run.rng)]
    run.picture("reconstructions", np.concatenate([few, *seen]), len(few))
    neg_elbo, reconstruction, kl = metrics.neg_elbo(model, x_test)
    run.finish({"test_neg_elbo_nats": neg_elbo, "test_reconstruction_nats": reconstruction,
                "test_kl_nats": kl})


if __name__ == "__main__":
    cli(main)
