"""CycleGAN: digits become outlines on paper, and outlines digits, learnt from unpaired examples.

    python demos/cyclegan.py                                   offline, on drawn digits
    python demos/cyclegan.py --data mnist --data-dir DIR       on MNIST (--download fetches it)
    python demos/cyclegan.py --lam 0                           without cycle consistency

X are the digits of the data set; Y are outlines of other digits, drawn for this demo. samples.png,
row by row: test images x, G(x), F(G(x)); y, F(y), G(F(y)). Because outlines can be computed,
translations can be compared with the right answers, which training never saw: the outline of x, and
the digit that y is the outline of. As a baseline, inverted_x and inverted_y merely have black and
white exchanged.

error is the mean difference of a pixel from the right answer, named_rightly the share of digits
that the ruler classifies correctly, frechet the distance to training images of the same domain.

Differs from the paper: small batches in place of single images, and a learning rate of G and F that
falls from 10⁻³ in place of 2·10⁻⁴, because a few minutes allow only a few thousand steps.
"""

import numpy as np

from minigen import data, metrics, nn, optim, ruler, train
from minigen.data import signed, unsigned
from minigen.demo import QUICK, Demo, at_least, cli
from minigen.models.gan.dcgan import adam
from minigen.models.image_to_image.cyclegan import cyclegan


def main(argv=None):
    run = Demo("cyclegan", __doc__, argv, data=("glyphs", "mnist"), batch=8,
               steps={"glyphs": 2500, "mnist": 4500},
               flags=lambda p: p.add_argument("--lam", type=at_least(0), default=10, metavar="N",
                                              help="weight λ of the cycle consistency"))
    sizes = {key: QUICK[key] for key in ("n_train", "n_test") if run.quick}
    drawn = data.load("glyphs", seed=1, **sizes)
    model = cyclegan(1, 1, 4 if run.quick else 16, run.args.lam)
    nn.init(model, run.rng)
    opt_d = adam(nn.parameters([model.D_X, model.D_Y]))
    opt_g = adam(nn.parameters([model.G, model.F]))

    def step(t, rng):
        decay = optim.cosine(t, run.args.steps, floor=0.05)
        opt_d.lr, opt_g.lr = 5e-4 * decay, 1e-3 * decay
        x, i = signed(run.batch(t)), rng.integers(0, len(drawn.train_x), run.args.batch)
        y = signed(run.xp.asarray(outlined(drawn.train_x[i])))
        G_x, F_y = model.G(x), model.F(y)
        numbers = train.descend(opt_d, model.d_loss(x, y, G_x, F_y), name="d_loss")
        return numbers | train.descend(opt_g, model.g_loss(x, y, G_x, F_y), name="g_loss")

    run.fit(step, model=model, opt_d=opt_d, opt_g=opt_g)

    n = min(2000, len(run.data.test_x))
    digits, others = run.data.test_x[:n], drawn.test_x[:n]
    x, y = signed(digits), signed(outlined(others))
    parts = [model.translate(*few) for few in data.in_order(x, y, batch_size=100)]
    G_x, FG_x, F_y, GF_y = (unsigned(np.concatenate([part[k].numpy() for part in parts]))
                            for k in range(4))
    x, y, outline_x, digit_y = (a / np.float32(255) for a in (digits, outlined(others),
                                                             outlined(digits), others))
    run.picture("samples", np.concatenate([a[:10] for a in (x, G_x, FG_x, y, F_y, GF_y)]))

    name, numbers = run.data.name, {}
    train_x, train_y = run.data.train_x[:n], outlined(drawn.train_x[:n])
    for key, images in {"F_y": F_y, "inverted_y": 1 - y, "digit_of_y": digit_y}.items():
        numbers[f"error_{key}"] = np.abs(images - digit_y).mean()
        numbers[f"named_rightly_{key}"] = named(images, drawn.test_y, name)
        numbers[f"frechet_{key}"] = distance(images, train_x, name)
    for key, images in {"G_x": G_x, "inverted_x": 1 - x, "outline_of_x": outline_x}.items():
        numbers[f"error_{key}"] = np.abs(images - outline_x).mean()
        numbers[f"frechet_{key}"] = distance(1 - images, 255 - train_y, name)  # bright on black
    run.finish(numbers | {
        "frechet_x": distance(x, train_x, name), "frechet_y": distance(1 - y, 255 - train_y, name),
        "named_rightly_x": named(x, run.data.test_y, name),
        "named_rightly_FG_x": named(FG_x, run.data.test_y, name),
        "error_FG_x": np.abs(FG_x - x).mean(), "error_GF_y": np.abs(GF_y - y).mean()})


def outlined(x):
    """Digits, uint8 (N, 1, H, W), as dark outlines on white paper: the pixels that a pen would add
    if it were a pixel wider."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    H, W = x.shape[2:]
    dilated = np.max([padded[..., i:i + H, j:j + W] for i in range(3) for j in range(3)], axis=0)
    return 255 - (dilated - x)


def named(images, y, name):
    """The share of images that the ruler of data set `name` classifies as the digits y."""
    return (ruler.classify(images, name).argmax(1) == y[:len(images)]).mean()


def distance(a, b, name):
    """The Fréchet distance between two sets of images, in the ruler's features."""
    return metrics.frechet_distance(ruler.features(a, name), ruler.features(b, name))


if __name__ == "__main__":
    cli(main)
