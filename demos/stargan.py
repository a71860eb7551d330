"""StarGAN: one generator gives an object any colour, and any background, and leaves the rest alone.

    python demos/stargan.py                   offline, on drawn scenes with one object
    python demos/stargan.py --lam-rec 0       without the reconstruction loss

The attributes are six colours, of which an object has one, and whether the background is light.
samples.png, one test image per row: the image; in each colour; on the other background; in the next
colour on the other background; and from there back to its own domain.

Test images are translated to another colour, to the other background and to both. asked is the
share of translations with the colour and the background that were asked for, kept the share in
which a classifier, trained apart, still recognises the size and the shape. moved is how far the
object's centre moved, in pixels; background the mean change of a pixel outside the object; returned
the mean difference of a pixel between x and G(G(x, c), c′). right_real is the share of test images
whose colour and background are measured rightly, kept_real what the classifier recognises in them.

Differs from the paper: small batches, and a learning rate that falls from 10⁻³ in place of 10⁻⁴,
because a few minutes allow only some hundred steps of G.
"""

import numpy as np

from minigen import cross_entropy, data, metrics, nn, no_grad, optim, train
from minigen.data import signed, unsigned
from minigen.data.scenes import CLASSES, COLOURS
from minigen.demo import Demo, at_least, cli
from minigen.models.gan.dcgan import adam
from minigen.models.image_to_image.srgan import classifier
from minigen.models.image_to_image.stargan import stargan

N_CRITIC = 5  # steps of D for each of G


def main(argv=None):
    run = Demo("stargan", __doc__, argv, data=("scenes",), batch=16, steps=1000,
               flags=lambda p: p.add_argument("--lam-rec", type=at_least(0), default=10,
                                              metavar="N", help="weight λ_rec of the "
                                              "reconstruction loss"))
    sizes, colours = 8 if run.quick else 16, len(COLOURS)
    model = stargan(run.data.shape, colours + 1, sizes, run.args.lam_rec)
    judge = classifier(run.data.shape, len(CLASSES))
    nn.init([model.G, model.D, judge], run.rng)
    opt_g, opt_d = adam(nn.parameters(model.G)), adam(nn.parameters(model.D))
    opt_judge = optim.Adam(nn.parameters(judge))
    single = run.data.train_scenes["number"] == 1
    train_x, train_y = run.data.train_x[single], run.data.train_y[single]
    train_c = domains(run.data.train_scenes[single])

    def step(t, rng):
        opt_g.lr = opt_d.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        for k in range(N_CRITIC):
            i = data.batch_indices(len(train_x), run.args.batch, run.args.seed, N_CRITIC * t + k)
            x, c_prime = signed(run.xp.asarray(train_x[i])), train_c[i]
            c = run.xp.asarray(rng.permutation(c_prime))
            c_prime, G_x = run.xp.asarray(c_prime), model.G(x, c)
            numbers = train.descend(opt_d, *model.d_loss(x, c_prime, G_x, rng), name="L_D")
        numbers |= train.descend(opt_g, *model.g_loss(x, c_prime, c, G_x), name="L_G")
        return numbers | train.descend(opt_judge, cross_entropy(judge(x), train_y[i]), name="judge")

    run.fit(step, model=model, judge=judge, opt_g=opt_g, opt_d=opt_d, opt_judge=opt_judge)

    single = run.data.test_scenes["number"] == 1
    x, y, c_prime = (signed(run.data.test_x[single]), run.data.test_y[single],
                     domains(run.data.test_scenes[single]))
    prototypes = np.stack([look(train_x[train_c[:, k] == 1])[0].mean(0) for k in range(colours)])
    hue, light = c_prime[:, :colours].argmax(1), c_prime[:, colours]
    other = (hue + run.rng.integers(1, colours, len(hue))) % colours
    numbers = {"right_real": right(x, c_prime, prototypes), "kept_real": kept(judge, x, y)}
    for name, c in {"colour": domain(other, light), "background": domain(hue, 1 - light),
                    "both": domain(other, 1 - light)}.items():
        G_x = translated(model, x, c)
        numbers |= {f"asked_{name}": right(G_x, c, prototypes), f"kept_{name}": kept(judge, G_x, y),
                    f"moved_{name}": np.hypot(*(look(x)[1] - look(G_x)[1]).T).mean(),
                    f"returned_{name}": np.abs(translated(model, G_x, c_prime) - x).mean() / 2}
        if name == "colour":
            outside = run.data.test_masks[single] == 0
            numbers["background_colour"] = (np.abs(G_x - x) * outside).sum() / outside.sum() / 6
    run.picture("samples", unsigned(table(model, x[:10], hue[:10], light[:10])), colours + 4)
    run.finish(numbers)


def domain(hue, light):
    """The vectors c of colours, integers (N,), and of backgrounds, 1 for light: (N, 7)."""
    return np.concatenate([np.eye(len(COLOURS))[hue], light[:, None]], 1).astype(np.float32)


def domains(scenes):
    """The vectors c of scenes with one object, elements of *_scenes: (N, 7)."""
    return domain(scenes["colour"][:, 0], scenes["ground"])


def look(x):
    """The colour of each image's object, in [−1, 1] (N, 3), and its centre in pixels (N, 2):
    averages, weighted by how far from grey a pixel is. If there is no colour, of all pixels."""
    x = signed(x) if x.dtype == np.uint8 else x
    weight = np.maximum(np.ptp(x, axis=1, keepdims=True) - 0.5, 1e-6)  # (N, 1, H, W)
    weight /= weight.sum((2, 3), keepdims=True)
    places = np.stack(np.meshgrid(*map(np.arange, x.shape[2:]), indexing="ij"))
    return (x * weight).sum((2, 3)), (places * weight).sum((2, 3))


def right(x, c, prototypes):
    """The share of images whose object has the colour nearest to that of c, on c's background."""
    hue = metrics.nearest(look(x)[0], prototypes)[1]
    light = np.median(x.mean(1), axis=(1, 2)) > 0
    return (domain(hue, light) == c).all(1).mean()


def kept(judge, x, y):
    """The share of images in which the classifier recognises the size and shape y."""
    return (each(judge, x).argmax(1) == y).mean()


def translated(model, x, c):
    """G(x, c) for all images: an array (N, C, H, W)."""
    return each(model.G, x, c)


def each(net, *inputs):
    """The outputs of a network for all inputs, untracked."""
    with no_grad():
        return np.concatenate([net(*few).numpy() for few in zip(
            *(data.in_order(a, batch_size=100) for a in inputs), strict=True)])


def table(model, x, hue, light):
    """A row for each image: itself, its translations and its reconstruction."""
    colours = len(COLOURS)
    c = [domain(np.full(len(x), k), light) for k in range(colours)]
    c += [domain(hue, 1 - light), domain((hue + 1) % colours, 1 - light)]
    made = [translated(model, x, some) for some in c]
    back = translated(model, made[-1], domain(hue, light))
    return np.stack([x, *made, back], 1).reshape(-1, *x.shape[1:])


if __name__ == "__main__":
    cli(main)
