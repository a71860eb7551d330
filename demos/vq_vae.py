"""VQ-VAE: images as grids of 7×7 words from a learnt codebook, and a prior over these grids.

    python demos/vq_vae.py                                     offline, on drawn digits
    python demos/vq_vae.py --data mnist --data-dir DIR         on MNIST (--download fetches it)

samples.png: images decoded from grids that the prior samples. reconstructions.png: test images and
below them their reconstructions. test_joint_nats is −log p(x, k), a bound on −log p(x).
"""

import numpy as np

from minigen import data, metrics, nn, no_grad, optim, tensor, train
from minigen.demo import Demo, at_least, cli
from minigen.models.vae.vq_vae import vq_vae


def main(argv=None):
    run = Demo("vq_vae", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=64,
               steps={"glyphs": 1200, "mnist": 4000, "fashion-mnist": 4000},
               flags=lambda p: p.add_argument("--words", type=at_least(1), default=32, metavar="K",
                                              help="size of the codebook"))
    model = vq_vae(run.data.shape, run.args.words)
    nn.init(model, run.rng)
    with no_grad():
        z = model.encoder(tensor(run.batch(0) / np.float32(255)))
    model.codebook.init_from(z, run.rng)
    opt = optim.Adam(nn.parameters(model), lr=2e-3)

    def step(t, rng):
        opt.lr = 2e-3 * optim.warmup_cosine(t, 0, run.args.steps)
        x = metrics.binarise(run.batch(t) / np.float32(255), rng)
        loss, parts = model.loss(x)
        return train.descend(opt, loss, parts, max_norm=100.0)

    run.fit(step, model=model, opt=opt)

    x_test = metrics.binarise(run.data.test_x / np.float32(255), np.random.default_rng(0))
    few, k = x_test[:10], model.encode(x_test)
    run.picture("samples", model.generate(100, run.rng).mean)
    with no_grad():
        run.picture("reconstructions", np.concatenate([few, model.decode(k[:10]).mean.numpy()]))
    parts = [model.log_joint(x) for x in data.in_order(x_test, batch_size=500)]
    reconstruction, prior = (-np.concatenate([p.numpy() for p in part]).mean()
                             for part in zip(*parts, strict=True))
    used, perplexity = metrics.codebook_usage(k, run.args.words)
    run.finish({"test_joint_nats": reconstruction + prior,
                "test_reconstruction_nats": reconstruction, "test_prior_nats": prior,
                "words_used": used, "perplexity_of_words": perplexity})


if __name__ == "__main__":
    cli(main)
