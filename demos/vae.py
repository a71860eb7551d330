"""Variational autoencoder: learn to generate digits, and look at the latent space.

    python demos/vae.py                                        offline, on drawn digits
    python demos/vae.py --data mnist --data-dir DIR            on MNIST (--download fetches it)
    python demos/vae.py --data mnist --latent 2                two dimensions: see manifold.png

samples.png: images of codes from the prior. reconstructions.png: test images and below them their
reconstructions. interpolation.png: images along lines between the codes of two test images.
traversals.png: one dimension of a code varied per row. The numbers are the negative ELBO of test
images and its two terms, and the importance-weighted bound on −log p(x) with 50 samples.
"""

import numpy as np

from minigen import dist, metrics, nn, no_grad, optim, train
from minigen.demo import Demo, at_least, cli, recordable
from minigen.models.vae import conv_vae, gaussian_vae, latent, vae

LIKELIHOODS = {  # p(x|z), and its number of parameters per pixel
    "bernoulli": (dist.Bernoulli, 1),
    "gaussian": (gaussian_vae.diagonal_normal, 2),
    "l2": (gaussian_vae.fixed_variance_normal, 1),
}


def flags(parser):
    parser.add_argument("--latent", type=at_least(1), default=16, metavar="N",
                        help="dimensions of z")
    recordable(parser)
    parser.add_argument("--net", choices=("conv", "mlp"), default="conv", help="kind of networks")
    parser.add_argument("--decoder", choices=LIKELIHOODS, help="p(x|z): Bernoulli on binarised "
                        "images, or normal (default: bernoulli for grey images, else gaussian)")


def main(argv=None):
    run = Demo("vae", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist", "scenes", "cifar10"),
               steps={"glyphs": 1000, "mnist": 2500, "fashion-mnist": 2500, "scenes": 1000,
                      "cifar10": 3000}, batch=128, flags=flags)
    shape = run.data.shape
    decoder = run.args.decoder or ("bernoulli" if shape[0] == 1 else "gaussian")
    likelihood, outputs = LIKELIHOODS[decoder]
    build = conv_vae.convolutional if run.args.net == "conv" else vae.fully_connected
    model = build(shape, run.args.latent, likelihood, outputs)
    nn.init(model, run.rng)
    opt = optim.Adam(nn.parameters(model), lr=1e-3)

    def observed(images, rng):
        """The model's input for uint8 images: zeros and ones, or values in [0, 1]."""
        x = images / np.float32(255)
        return metrics.binarise(x, rng) if decoder == "bernoulli" else x

    @run.recorded
    def learn(x, rng):
        return train.descend(opt, *model.loss(x, rng))

    def step(t, rng):
        opt.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.1)
        return learn(observed(run.batch(t), rng), rng)

    run.fit(step, model=model, opt=opt)

    x_test = observed(run.data.test_x, np.random.default_rng(0))
    few = x_test[:10]
    half = len(few) // 2
    run.picture("samples", model.generate(100, run.rng).mean)
    with no_grad():
        q = model.encode(few)
        run.picture("reconstructions", np.concatenate([few, model.decode(q.mu).mean.numpy()]))
        between = [latent.interpolation(a, b, 10) for a, b in zip(
            q.mu.numpy()[:half], q.mu.numpy()[half:2 * half], strict=True)]
        run.picture("interpolation", model.decode(np.concatenate(between)).mean)
        # the ten dimensions most informative about images: those with the largest mean KL
        kl = dist.kl(model.encode(x_test[:1000]), model.prior(len(x_test[:1000]))).mean(0).numpy()
        walks = latent.traversal(q.mu.numpy()[0], np.argsort(-kl)[:10], np.linspace(-3, 3, 11))
        run.picture("traversals", model.decode(walks).mean, columns=11)
        if run.args.latent == 2:
            run.picture("manifold", model.decode(latent.manifold(20)).mean, columns=20)

    neg_elbo, reconstruction, kl = metrics.neg_elbo(model, x_test)
    run.finish({"test_neg_elbo_nats": neg_elbo, "test_reconstruction_nats": reconstruction,
                "test_kl_nats": kl, "test_iw_nll_nats@50": metrics.iw_nll(model, x_test[:1000])})


if __name__ == "__main__":
    cli(main)
