"""pix2pix: grey images are coloured by a network that a discriminator keeps from playing safe.

    python demos/pix2pix.py                                    offline, on drawn scenes
    python demos/pix2pix.py --data cifar10 --data-dir DIR      on CIFAR-10 (--download fetches it)

samples.png, in columns: a test image without its colours; coloured by a U-Net that only has to be
close to the original (the L1 term alone); coloured by pix2pix; the original. Several colours are
right for a grey: the U-Net settles between them, on a colour that is none of them; pix2pix picks
one of them.

colourfulness is the mean distance of pixels from grey. For scenes, distance_to_a_colour is how far
the mean colour of an object is from the nearest one in training images, right the share of objects
whose mean colour is about the true one.

Differs from the paper: λ = 20 in place of 100, and a learning rate that falls from 10⁻³ in place of
2·10⁻⁴, because a few minutes allow only a few thousand steps.
"""

import numpy as np

from minigen import data, l1_loss, metrics, nn, optim, train
from minigen.data import signed, unsigned
from minigen.demo import Demo, at_least, cli
from minigen.models.gan.dcgan import adam
from minigen.models.image_to_image.pix2pix import generator, pix2pix
from minigen.tensor import to_device_of, xp

# From red, green and blue to brightness and the differences of blue and red from it (as in JPEG).
YCC = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])


def main(argv=None):
    run = Demo("pix2pix", __doc__, argv, data=("scenes", "cifar10"), batch=8,
               steps={"scenes": 2000, "cifar10": 4500},
               flags=lambda p: p.add_argument("--lam", type=at_least(0), default=20, metavar="N",
                                              help="weight λ of the L1 term"))
    widths = (8, 8, 8) if run.quick else (32, 64, 128)
    model, plain = pix2pix(1, 2, widths, lam=run.args.lam), generator(1, 2, widths)
    nn.init([model, plain], run.rng)
    opt_d, opt_g = adam(nn.parameters(model.D)), adam(nn.parameters(model.G))
    opt_plain = adam(nn.parameters(plain))

    def step(t, rng):
        for opt in (opt_d, opt_g, opt_plain):
            opt.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        x, y = split(run.batch(t))
        G_x = model.G(x)
        numbers = train.descend(opt_d, model.d_loss(x, y, G_x), name="d_loss")
        numbers |= train.descend(opt_g, model.g_loss(x, y, G_x), name="g_loss")
        return numbers | train.descend(opt_plain, l1_loss(plain(x), y), name="l1_alone")

    run.fit(step, model=model, opt_d=opt_d, opt_g=opt_g, plain=plain, opt_plain=opt_plain)

    x, y = split(run.data.test_x[:1000])
    outputs = {"grey": 0 * y, "l1_alone": coloured(plain, x),
               "pix2pix": coloured(model.translate, x), "truth": y}
    images = {name: join(x, colours) for name, colours in outputs.items()}
    run.picture("samples", np.concatenate([some[:10] for some in images.values()]))
    numbers = {}
    for name in ("grey", "l1_alone", "pix2pix"):
        numbers[f"l1_{name}"] = np.abs(outputs[name] - y).mean()
        numbers[f"psnr_{name}"] = metrics.psnr(images[name], images["truth"], 1)
    for name, colours in outputs.items():
        numbers[f"colourfulness_{name}"] = np.hypot(colours[:, 0], colours[:, 1]).mean()
    if run.data.name == "scenes":
        known = paint(run.data.train_x / np.float32(255), run.data.train_masks)
        truth = paint(images["truth"], run.data.test_masks)
        for name, some in images.items():
            c = paint(some, run.data.test_masks)
            numbers[f"distance_to_a_colour_{name}"] = metrics.nearest(c, known)[0].mean()
            numbers[f"right_{name}"] = (np.linalg.norm(c - truth, axis=1) < 0.2).mean()
    run.finish(numbers)


def split(images):
    """Bytes (N, 3, H, W) as brightness x (N, 1, H, W) and colours y (N, 2, H, W), in [−1, 1]."""
    x = mixed(YCC, signed(images))
    return x[:, :1], x[:, 1:]


def join(x, y):
    """The inverse of `split`: images in [0, 1]."""
    return unsigned(mixed(np.linalg.inv(YCC), np.concatenate([x, y], axis=1)))


def mixed(matrix, images):
    """A matrix (K, C) times the channels of each pixel of images (N, C, H, W): (N, K, H, W)."""
    matrix = to_device_of(matrix.astype(images.dtype), images)
    return xp(images).einsum("kc,nchw->nkhw", matrix, images)


def coloured(net, x):
    """The colours that a network predicts for brightness x, untracked."""
    return data.in_batches(net, x, batch_size=100)


def paint(images, masks):
    """The mean colour of each object in scenes (N, 3, H, W), N no more than masks: (objects, 3)."""
    means = []
    for k in (1, 2, 3):
        inside = masks[:len(images)] == k
        present = inside.any((1, 2, 3))
        means.append((images * inside)[present].sum((2, 3)) / inside[present].sum((2, 3)))
    return np.concatenate(means)


if __name__ == "__main__":
    cli(main)
