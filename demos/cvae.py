"""Conditional VAE: draw the digit you ask for; the latent code keeps the handwriting.

    python demos/cvae.py                                       offline, on drawn digits
    python demos/cvae.py --data mnist --data-dir DIR           on MNIST (--download fetches it)

samples.png: a class per row, a code z per column. analogies.png: test images, and each of them
redrawn as every class in the same handwriting.
"""

import numpy as np

from minigen import metrics, nn, no_grad, optim, tensor, train
from minigen.demo import Demo, at_least, cli
from minigen.models.vae.cvae import conditional


def main(argv=None):
    run = Demo("cvae", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=128,
               steps={"glyphs": 1000, "mnist": 2500, "fashion-mnist": 2500},
               flags=lambda p: p.add_argument("--latent", type=at_least(1), default=16, metavar="N",
                                              help="dimensions of z"))
    classes = len(run.data.classes)
    model = conditional(run.data.shape, run.args.latent, classes)
    nn.init(model, run.rng)
    opt = optim.Adam(nn.parameters(model), lr=1e-3)

    def step(t, rng):
        opt.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.1)
        x = metrics.binarise(run.batch(t) / np.float32(255), rng)
        y = run.data.train_y[run.indices(t)]
        loss, parts = model.loss(tensor(x), rng, y)
        return train.descend(opt, loss, parts)

    run.fit(step, model=model, opt=opt)

    x_test = metrics.binarise(run.data.test_x / np.float32(255), np.random.default_rng(0))
    y_test, all_y = run.data.test_y, np.arange(classes)
    z = model.prior(10).sample(run.rng).numpy()
    with no_grad():
        # a class per row, a code per column
        run.picture("samples", model.decode(np.tile(z, (classes, 1)), np.repeat(all_y, 10)).mean)
        # test images, each redrawn as every class in its own handwriting
        n = min(10, len(x_test))
        q = model.encode(x_test[:n], y_test[:n])
        again = model.decode(np.repeat(q.mu.numpy(), classes, 0), np.tile(all_y, n)).mean.numpy()
        rows = np.concatenate([x_test[:n, None], again.reshape(n, classes, *run.data.shape)], 1)
        run.picture("analogies", rows.reshape(-1, *run.data.shape), columns=classes + 1)

    neg_elbo, reconstruction, kl = metrics.neg_elbo(model, x_test, y_test)
    run.finish({"test_neg_elbo_nats": neg_elbo, "test_reconstruction_nats": reconstruction,
                "test_kl_nats": kl,
                "test_iw_nll_nats@50": metrics.iw_nll(model, x_test[:1000], y_test[:1000])})


if __name__ == "__main__":
    cli(main)
