"""Autoencoder: compress images to a few numbers, reconstruct them, and reuse the encoder.

    python demos/autoencoder.py                                offline, on drawn digits
    python demos/autoencoder.py --data mnist --data-dir DIR    on MNIST (--download fetches it)
    python demos/autoencoder.py --net single                   the one-hidden-layer network

reconstructions.png: test images and their reconstructions. samples.png: images of random codes.
classifier_accuracy is that of a classifier which starts from the trained encoder and learns from
--labels labelled images; classifier_accuracy_from_scratch starts from an untrained encoder.
"""

import copy

import numpy as np

from minigen import data, grad, nn, no_grad, optim, tensor, train
from minigen.demo import Demo, at_least, cli
from minigen.models.autoencoder.autoencoder import single_hidden
from minigen.models.autoencoder.classifier import Classifier
from minigen.models.autoencoder.conv_autoencoder import convolutional


def flags(parser):
    parser.add_argument("--latent", type=at_least(1), default=16, metavar="N",
                        help="length of the code")
    parser.add_argument("--net", choices=("conv", "single"), default="conv",
                        help="four convolutions and back, or one hidden layer")
    parser.add_argument("--labels", type=at_least(1), default=100, metavar="N",
                        help="labelled images for the classifier on top of the encoder")


def main(argv=None):
    run = Demo("autoencoder", __doc__, argv, batch=128, flags=flags,
               data=("glyphs", "mnist", "fashion-mnist", "scenes", "cifar10"),
               steps={"glyphs": 600, "mnist": 2000, "fashion-mnist": 2000, "scenes": 600,
                      "cifar10": 2000})
    build = convolutional if run.args.net == "conv" else single_hidden
    model = build(run.data.shape, run.args.latent)
    nn.init(model, run.rng)
    untrained = copy.deepcopy(model.encoder)  # the encoder before training
    opt = optim.Adam(nn.parameters(model), lr=1e-3)

    def step(t, rng):
        opt.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.1)
        return train.descend(opt, model.loss(tensor(run.batch(t) / np.float32(255))))

    run.fit(step, model=model, opt=opt)

    x_test = run.data.test_x / np.float32(255)
    with no_grad():
        x_hat = data.in_batches(model.reconstruct, x_test)
        z = model.encode(x_test[:1000]).numpy()
        run.picture("reconstructions", np.concatenate([x_test[:10], x_hat[:10]]))
        # Random codes with the mean and variance of real images' codes. An autoencoder does not
        # model which codes are likely, so many of these decode to no digit. A VAE solves this.
        z_random = run.rng.normal(z.mean(0), z.std(0), (100, z.shape[1])).astype(np.float32)
        run.picture("samples", model.decode(z_random))

    n = min(run.args.labels, len(run.data.train_x))
    run.finish({"test_squared_error": ((x_test - x_hat) ** 2).sum((1, 2, 3)).mean(),
                f"classifier_accuracy@{n}": accuracy(run, model.encoder, n),
                f"classifier_accuracy_from_scratch@{n}": accuracy(run, untrained, n)})


def accuracy(run, encoder, n):
    """The test accuracy of a classifier on top of this encoder, after training both on n labelled
    images."""
    steps = 4 if run.quick else 200
    x, y = run.data.train_x[:n] / np.float32(255), run.data.train_y[:n]
    model = Classifier(copy.deepcopy(encoder), run.args.latent, len(run.data.classes),
                       np.random.default_rng((run.args.seed, steps)))  # t < steps seed the batches
    opt = optim.Adam(nn.parameters(model), lr=1e-3)
    for t in range(steps):
        i = np.random.default_rng((run.args.seed, t)).integers(0, n, 32)
        opt.step(grad(model.loss(x[i], y[i]), opt.params))
    predicted = data.in_batches(model.predict, run.data.test_x / np.float32(255))
    return (predicted == run.data.test_y).mean()


if __name__ == "__main__":
    cli(main)
