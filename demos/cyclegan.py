"""CycleGAN: handwritten digits become outlines on paper, and outlines handwriting. No digit was ever
shown both ways.

    python demos/cyclegan.py                                   offline, on drawn digits
    python demos/cyclegan.py --data mnist --data-dir DIR       on MNIST (--download fetches it)

X are the digits of the data set, Y the outlines of other digits, drawn for this. samples.png, in
rows: test images x, G(x), F(G(x)); then test images y, F(y), G(F(y)). As outlines can be computed,
the translations can be measured: by their distance to the outline that x has, and to the digit that
y was made of.
"""

import argparse

import numpy as np

from minigen import data, nn, optim, ruler, train
from minigen.data import signed, unsigned
from minigen.demo import QUICK, Demo, cli
from minigen.metrics import frechet_distance, psnr
from minigen.models.gan.dcgan import adam
from minigen.models.image_to_image.cyclegan import cyclegan


def main(argv=None):
    run = Demo("cyclegan", __doc__, argv, data=("glyphs", "mnist"), batch=8,
               steps={"glyphs": 1000, "mnist": 2000},
               flags=lambda p: p.add_argument("--lam", type=float, default=10.0))
    sizes = {k: QUICK[k] for k in ("n_train", "n_test")} if run.quick else {}
    others = data.load("glyphs", seed=1, **sizes)
    model = cyclegan(1, 1, lam=run.args.lam)
    nn.init(model, run.rng)
    opt_d, opt_g = (adam(nn.parameters(nets)) for nets in ([model.D_X, model.D_Y], [model.G, model.F]))

    def step(t, rng):
        slower = optim.cosine(t, run.args.steps, floor=0.05)
        opt_d.lr, opt_g.lr = 2e-4 * slower, 1e-3 * slower
        x = signed(run.batch(t))
        i = rng.integers(0, len(others.train_x), len(x))
        y = signed(run.xp.asarray(outlined(others.train_x[i])))
        made = model.G(x), model.F(y)
        numbers = train.descend(opt_d, model.d_loss(x, y, *made), name="d_loss")
        return numbers | train.descend(opt_g, model.g_loss(x, y, *made), name="g_loss")

    run.fit(step, model=model, opt_d=opt_d, opt_g=opt_g)

    x, z = run.data.test_x[:2000], others.test_x[:2000]
    y = outlined(z)
    n = min(len(x), len(y))
    x, y, z = x[:n], y[:n], z[:n]
    X, Y = signed(x), signed(y)
    parts = zip(*(model.translate(*few) for few in data.in_order(X, Y, batch_size=100)), strict=True)
    G_x, FG_x, F_y, GF_y = (unsigned(np.concatenate([p.numpy() for p in part])) for part in parts)
    x, y, z, o = (a / np.float32(255) for a in (x, y, z, outlined(x)))
    run.picture("samples", np.concatenate([a[:10] for a in (x, G_x, FG_x, y, F_y, GF_y)]))
    name = run.data.name
    def named(a): return ruler.classify(a, name).argmax(1)
    def fid(a, b): return frechet_distance(ruler.features(a, name), ruler.features(b, name))
    tx, ty = run.data.train_x[:n] / np.float32(255), outlined(others.train_x[:n]) / np.float32(255)
    run.finish({
        "psnr_G_x": psnr(G_x, o, 1), "psnr_x": psnr(x, o, 1), "psnr_1-x": psnr(1 - x, o, 1),
        "psnr_F_y": psnr(F_y, z, 1), "psnr_1-y": psnr(1 - y, z, 1),
        "named_F_y": (named(F_y) == others.test_y[:n]).mean(),
        "named_y": (named(1 - y) == others.test_y[:n]).mean(),
        "named_z": (named(z) == others.test_y[:n]).mean(),
        "named_FG_x": (named(FG_x) == run.data.test_y[:n]).mean(),
        "named_x": (named(x) == run.data.test_y[:n]).mean(),
        "named_G_x": (named(1 - G_x) == run.data.test_y[:n]).mean(),
        "named_o": (named(1 - o) == run.data.test_y[:n]).mean(),
        "fid_F_y": fid(F_y, tx), "fid_x": fid(x, tx), "fid_1-y": fid(1 - y, tx), "fid_z": fid(z, tx),
        "fid_G_x": fid(1 - G_x, 1 - ty), "fid_y": fid(1 - y, 1 - ty), "fid_o": fid(1 - o, 1 - ty),
        "fid_not_x": fid(x, 1 - ty),
        "cycle_x": abs(FG_x - x).mean(), "cycle_y": abs(GF_y - y).mean()})


def outlined(x):
    """Digits, uint8 (N, 1, H, W), as dark outlines on white paper."""
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    H, W = x.shape[2:]
    grown = np.max([wide[..., i:i + H, j:j + W] for i in range(3) for j in range(3)], 0)
    return 255 - (grown - x)


if __name__ == "__main__":
    cli(main)
