"""StarGAN: one generator gives a digit any of three colours, and makes it bold or thin, striped or
plain, in any combination.

    python demos/stargan.py                                    offline, on drawn digits
    python demos/stargan.py --data mnist --data-dir DIR        on MNIST (--download fetches it)
    python demos/stargan.py --lam-rec 0                        without the reconstruction loss

The attributes are red, green, blue (a digit has one of them), bold and striped: twelve domains.
Each training digit occurs in one domain only, so training never sees a translation. samples.png, a
test image per row: the image x; x in each of the twelve domains; and back from the last to its own.

Because the attributes can be computed, translations to random domains can be compared with the
right answers. error is the mean difference of a pixel from the right answer, asked the share of
translations that are nearer to it than to the same digit in the other domains, returned the mean
difference of a pixel between x and G(G(x, c), c′). named_rightly is the share that the ruler
classifies correctly after all are translated to thin, plain digits (which it was trained on).
As a baseline, unchanged is x itself; truth is the right answer.

Differs from the paper: batches of 8, not 16, and a learning rate that falls from 10⁻³ in place of
10⁻⁴, because a few minutes allow only some hundred steps of G.
"""

import numpy as np

from minigen import data, nn, optim, ruler, train
from minigen.data import signed, unsigned
from minigen.demo import Demo, at_least, cli
from minigen.models.gan.dcgan import adam
from minigen.models.image_to_image.stargan import stargan

N_CRITIC = 5  # steps of D for each of G
DOMAINS = np.array([[*colour, bold, striped] for colour in np.eye(3)
                    for striped in (0, 1) for bold in (0, 1)], np.float32)  # (12, 5)


def main(argv=None):
    run = Demo("stargan", __doc__, argv, data=("glyphs", "mnist"), batch=8, steps=2000,
               flags=lambda p: p.add_argument("--lam-rec", type=at_least(0), default=10,
                                              metavar="N", help="weight λ_rec of the "
                                              "reconstruction loss"))
    model = stargan((3, 32, 32), DOMAINS.shape[1], 4 if run.quick else 16, run.args.lam_rec)
    nn.init(model, run.rng)
    opt_g, opt_d = adam(nn.parameters(model.G)), adam(nn.parameters(model.D))
    train_c = DOMAINS[run.rng.integers(len(DOMAINS), size=len(run.data.train_x))]

    def step(t, rng):
        opt_g.lr = opt_d.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        for k in range(N_CRITIC):
            i = run.indices(N_CRITIC * t + k)
            c, c_prime = DOMAINS[rng.integers(len(DOMAINS), size=len(i))], train_c[i]
            x = run.xp.asarray(drawn(run.data.train_x[i], c_prime))
            c, c_prime = run.xp.asarray(c), run.xp.asarray(c_prime)
            G_x = model.G(x, c)
            numbers = train.descend(opt_d, *model.d_loss(x, c_prime, G_x, rng), name="L_D")
        return numbers | train.descend(opt_g, *model.g_loss(x, c_prime, c, G_x), name="L_G")

    run.fit(step, model=model, opt_g=opt_g, opt_d=opt_d)

    n = min(1000, len(run.data.test_x))
    digits, y = run.data.test_x[:n], run.data.test_y[:n]
    c, c_prime = (DOMAINS[run.rng.integers(len(DOMAINS), size=n)] for _ in range(2))
    x, truth = drawn(digits, c_prime), drawn(digits, c)
    G_x = translated(model, x, c)
    numbers = {"returned": np.abs(translated(model, G_x, c_prime) - x).mean() / 2}
    for name, images in {"G_x": G_x, "unchanged": x}.items():
        errors = np.stack([np.abs(images - drawn(digits, np.tile(d, (n, 1)))).mean((1, 2, 3))
                           for d in DOMAINS], 1)
        numbers[f"asked_{name}"] = (DOMAINS[errors.argmin(1)] == c).all(1).mean()
        numbers[f"error_{name}"] = np.abs(images - truth).mean() / 2
    plain = c_prime * (1, 1, 1, 0, 0)
    for name, images in {"G_x": translated(model, x, plain.astype(np.float32)), "unchanged": x,
                         "truth": drawn(digits, plain)}.items():
        grey = unsigned(images).max(1, keepdims=True)[..., 2:-2, 2:-2]
        numbers[f"named_rightly_{name}"] = (ruler.classify(grey, run.data.name).argmax(1)
                                            == y).mean()
    rows = [x[:8], *(translated(model, x[:8], np.tile(d, (len(x[:8]), 1))) for d in DOMAINS)]
    rows.append(translated(model, rows[-1], c_prime[:8]))
    run.picture("samples", unsigned(np.stack(rows, 1).reshape(-1, *x.shape[1:])), len(rows))
    run.finish(numbers)


def drawn(x, c):
    """Digits x, bytes (N, 1, 28, 28), with the attributes c (N, 5): (N, 3, 32, 32) in [−1, 1]. Bold
    digits are two pixels wider; of striped ones every other two rows are black."""
    x = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    bold, striped = (c[:, k, None, None, None] == 1 for k in (3, 4))
    padded, (H, W) = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), x.shape[2:]
    wider = np.max([padded[..., i:i + H, j:j + W] for i in range(3) for j in range(3)], axis=0)
    stripes = (np.arange(H) // 2 % 2)[:, None]
    x = np.where(bold, wider, x) * np.where(striped, stripes, 1)
    return signed((x * c[:, :3, None, None]).astype(np.uint8))


def translated(model, x, c):
    """G(x, c) for all images, with values beyond [−1, 1] clipped: an array (N, C, H, W)."""
    return data.in_batches(model.translate, x, c, batch_size=100).clip(-1, 1)


if __name__ == "__main__":
    cli(main)
