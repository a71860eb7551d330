"""Diffusion autoencoder: an image as a semantic code and a stochastic code, and edits of both.

    python demos/diffusion_autoencoder.py                                 offline, on drawn digits
    python demos/diffusion_autoencoder.py --data mnist --data-dir DIR     on MNIST

First the encoder and the decoder are trained, then the diffusion of codes z; samples.png shows
images of codes that it samples. codes.png, from above:

    a column per test image: the image; decoded from both of its codes, z and x_T; the mean of the
        images of its z; three times decoded from its z and another x_T, the last time that of the
        image to its left
    a row per pair of images: one, eight interpolations between its codes and the other's, the other
    a row per image: the image, and nine with z moved along the normal of a linear classifier and
        x_T kept: from fine to bold; from slanting left to slanting right; and, in two rows, towards
        the class of the digit + 2

squared_error compares test images (500) with those decoded from both codes, `decoded`, from z and
another x_T, `other`, and with the `mean`. distance is that between two images of one z and that
between two test images (root mean square over pixels). recognised is the share that the ruler
classifies as the digit which z comes from; for `swapped` images, whose x_T is that of another
image, `swapped_x_T` is the share classified as that image's digit. linear is the accuracy of the
linear classifiers. moved@s is the share of images recognised as digit + 2 after z has been moved by
s. ink and slant are measured on test images and on images whose z was moved by ½ to `less` and to
`more`. fid is for images of codes z sampled by the diffusion of codes, of z of test images
(`z_test`), and of z drawn from N(0, I) (`z_normal`), each with a new x_T.
"""

from functools import cache

import numpy as np

from minigen import (
    binary_cross_entropy_with_logits,
    data,
    grad,
    nn,
    optim,
    ruler,
    tensor,
    train,
)
from minigen.demo import Demo, at_least, cli
from minigen.diffusion_demo import T, few_steps, sampling_steps
from minigen.dist import noise
from minigen.models.autoencoder.conv_autoencoder import convolutional
from minigen.models.diffusion import schedule
from minigen.models.diffusion.diffusion_autoencoder import (
    CodeMLP,
    DiffusionAutoencoder,
    edit_attribute,
    semantic_denoiser,
)
from minigen.models.gan.latent_arithmetic import ink, slant

SHOWN, MOVES = 10, (0.5, 1.0, 1.5, 2.0)


def flags(parser):
    parser.add_argument("--latent", type=at_least(1), default=16, metavar="N",
                        help="length of the semantic code")
    sampling_steps(parser)


def main(argv=None):
    run = Demo("diffusion_autoencoder", __doc__, argv, data=("glyphs", "mnist"), batch=16,
               steps={"glyphs": 4800, "mnist": 10_000}, staged=True, flags=flags)
    shape, d = run.data.shape, run.args.latent
    model = DiffusionAutoencoder(
        convolutional(shape, d).encoder,
        semantic_denoiser(shape, d, (8, 8) if run.quick else (32, 64)), CodeMLP(d),
        schedule.linear(T), few_steps(run))
    nn.init(model, run.rng)
    opt = optim.Adam(nn.parameters([model.encoder, model.ddim]), lr=4e-3)
    opt_z = optim.Adam(nn.parameters(model.ddim_z), lr=4e-3)
    first = max(run.args.steps // 2, 1)

    @cache
    def codes():
        """z of all training images (n, d), standardised."""
        model.fit_statistics(of_all(model.encoder))
        return of_all(model.encode_semantic)

    def of_all(encoder):
        return data.in_batches(lambda x: encoder(data.signed(run.xp.asarray(x))), run.data.train_x)

    def step(t, rng):
        if t < first:
            opt.lr = 4e-3 * optim.warmup_cosine(t, 0, first, floor=0.02)
            loss = model.loss(data.signed(run.batch(t)), rng)
            return train.descend(opt, loss, max_norm=1.0)
        opt_z.lr = 4e-3 * optim.warmup_cosine(t, first, run.args.steps, floor=0.02)
        # codes are cheap: a batch sixteen times as large
        z = codes()[rng.integers(0, len(run.data.train_x), 16 * run.args.batch)]
        loss = model.loss_z(tensor(run.xp.asarray(z)), rng)
        return train.descend(opt_z, loss, name="loss_z", max_norm=1.0)

    run.fit(step, model=model, opt=opt, opt_z=opt_z)

    n, few, many = (20, 12, 20) if run.quick else (500, 200, 1000)
    x, y, z_train = data.signed(run.data.test_x[:n]), run.data.test_y[:n], codes()
    z, x_T = (code.numpy() for code in model.encode(x))
    outputs = {"real": (x + 1) / 2, "decoded": model.decode(z, x_T),
               "mean": model.mean(z, noise(run.rng, x)),
               "other": model.decode(z, noise(run.rng, x)),
               "again": model.decode(z, noise(run.rng, x)),
               "swapped": model.decode(z, np.roll(x_T, 1, 0))}
    outputs |= {name: data.unsigned(images) for name, images in outputs.items() if name != "real"}
    squared_error = lambda a, b: np.square(a - b).sum((1, 2, 3)).mean()
    numbers = {f"squared_error_{name}": squared_error(outputs[name], outputs["real"])
               for name in ("decoded", "mean", "other")}
    numbers |= {"distance_of_one_z": distance(outputs["other"], outputs["again"]),
                "distance_real": distance(outputs["real"], np.roll(outputs["real"], 1, 0)),
                "std_x_T": x_T.std()}
    recognised = lambda images, y: np.mean(ruler.classify(images, run.data.name).argmax(1) == y)
    numbers |= {f"recognised_{name}": recognised(images, y) for name, images in outputs.items()}
    numbers["recognised_swapped_x_T"] = recognised(outputs["swapped"], np.roll(y, 1))

    looks = {"ink": ink, "slant": slant}
    train_x = run.data.train_x[:10_000]
    middle = {name: np.median(look(train_x)) for name, look in looks.items()}

    def attributes(x, y):
        """Which digit each image is, and whether it is bold and slanted, as 0 and 1: (n, 12)."""
        return np.stack([*(y == k for k in range(10)),
                         *(look(x) > middle[name] for name, look in looks.items())], 1) * 1.0

    linear = classifiers(z_train[:10_000], attributes(train_x, run.data.train_y[:10_000]))
    W, b = linear.weight.numpy(), linear.bias.numpy()
    scores, truth = z @ W.T + b, attributes(run.data.test_x[:n], y)
    numbers["linear_digit"] = np.mean(scores[:, :10].argmax(1) == y)
    numbers |= {f"linear_{name}": np.mean((scores[:, k] > 0) == truth[:, k])
                for k, name in enumerate(looks, 10)}

    def edited(w, s, some):
        """The test images `some`, decoded after z has been moved and x_T kept."""
        return data.unsigned(model.decode(edit_attribute(z[some], w, s), x_T[some]))

    first, asked = slice(few), (y[:few] + 2) % 10
    for s in MOVES:
        numbers[f"moved@{s:g}"] = recognised(edited(W[asked], s, first), asked)
    for k, (name, look) in enumerate(looks.items(), 10):
        numbers[f"{name}_real"] = look(outputs["real"][first]).mean()
        for way, s in (("less", -0.5), ("more", 0.5)):
            images = edited(W[k], s, first)
            numbers |= {f"{name}_{way}": look(images).mean(),
                        f"recognised_{name}_{way}": recognised(images, y[first])}

    rows = [outputs[name][:SHOWN]
            for name in ("real", "decoded", "mean", "other", "again", "swapped")]
    one = [slice(i, i + 1) for i in range(SHOWN)]
    for i, j in (one[:2], one[2:4]):
        way = model.interpolation((z[i], x_T[i]), (z[j], x_T[j]), SHOWN - 2)
        rows += [outputs["real"][i], data.unsigned(way), outputs["real"][j]]
    steps = np.linspace(-1, 1, SHOWN - 1)[:, None]
    for i, w, s in ((one[0], W[10], steps), (one[0], W[11], steps),
                    *((i, W[asked[i]], steps + 1) for i in one[2:4])):
        rows += [outputs["real"][i], edited(w, s, np.repeat(i.start, SHOWN - 1))]
    run.picture("codes", np.concatenate(rows), SHOWN)

    z_test = data.in_batches(model.encode_semantic, data.signed(run.data.test_x[:many]))
    codes_of = {"z_test": z_test, "z_normal": run.rng.standard_normal(z_test.shape, np.float32)}
    for name, z in codes_of.items():
        images = data.unsigned(model.decode(z, noise(run.rng, z, (many, *shape))))
        numbers[f"fid_lenet@{many}_{name}"] = ruler.quality(images, run.data)[f"fid_lenet@{many}"]
    samples = data.unsigned(model.sample(many, shape, run.rng))
    run.picture("samples", samples[:100])
    run.finish(numbers | ruler.quality(samples, run.data))


def distance(a, b):
    """The mean distance of images a from images b (root mean square over pixels)."""
    return np.sqrt(np.square(a - b).mean((1, 2, 3))).mean()


def classifiers(z, y):
    """Linear classifiers of K attributes y (n, K), 0 or 1, from codes z (n, d): one layer."""
    linear = nn.Linear(z.shape[1], y.shape[1], rng=np.random.default_rng(0))
    opt = optim.Adam(nn.parameters(linear), lr=0.05)
    for _ in range(300):
        loss = binary_cross_entropy_with_logits(linear(tensor(z)), y.astype(z.dtype))
        opt.step(grad(loss, opt.params))
    return linear


if __name__ == "__main__":
    cli(main)
