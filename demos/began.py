"""BEGAN: EBGAN's autoencoder in a game kept in balance, and a number that says how far it has come.

    python demos/began.py                                      offline, on drawn digits
    python demos/began.py --data mnist --data-dir DIR          on MNIST (--download fetches it)
    python demos/began.py --gamma 0.5                          simpler images, more alike

samples.png: samples. nearest.png: samples, and below each the nearest training image. training.png:
images of the same codes z as training proceeds. interpolation.png: images along lines between
codes. reconstructed.png: test images, and what D makes of them; samples. losses.png shows k, the
convergence measure M and, twenty times in training, the Fréchet distance of 500 samples (fid).

M_and_fid: the rank correlation of the two over training, each M a mean since the distance before.
M_at_the_end, ratio: M, and L(G(z)) / L(x), which should be γ, in the last tenth of the steps.
variety: the standard deviation of a sample's pixels, divided by that of a test image's.

Differs from the paper: small batches, a learning rate that falls from 10⁻³ in place of 10⁻⁴, and k
learns 200 times as fast, because a few minutes allow only a few thousand steps. γ = 0.9 in place of
0.3 to 0.7: with 0.5, digits become bars and blobs, which are the easiest to reconstruct.
"""

import numpy as np
from scipy.stats import spearmanr

from minigen import metrics, nn, optim, pictures, ruler
from minigen.data import signed
from minigen.demo import Demo, at_least, cli
from minigen.gan_demo import TrainingFilm, gallery, render
from minigen.models.gan.began import began, training_step
from minigen.models.gan.dcgan import adam
from minigen.models.gan.ebgan import reconstructions


def flags(parser):
    parser.add_argument("--latent", type=at_least(1), default=16, metavar="N",
                        help="dimensions of z")
    parser.add_argument("--gamma", type=float, choices=(0.5, 0.7, 0.9, 1.0), default=0.9,
                        help="diversity ratio")


def main(argv=None):
    run = Demo("began", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist", "scenes",
                                             "cifar10"), batch=32, flags=flags,
               steps={"glyphs": 1500, "mnist": 2000, "fashion-mnist": 2000, "scenes": 1000,
                      "cifar10": 1500})
    model = began(run.data.shape, run.args.latent, run.args.gamma)
    nn.init(model, run.rng)
    opt_d, opt_g = adam(nn.parameters(model.D)), adam(nn.parameters(model.G))
    ema = nn.EMA(nn.parameters(model.G), 0.999)
    film = TrainingFilm(model.codes(10, run.rng), run.data.shape)
    play = training_step(model, opt_d, opt_g, lambda t: signed(run.batch(t)))
    n, every = 50 if run.quick else 500, max(1, run.args.steps // 20)
    codes, scored = model.codes(n, run.rng), run.data.name in ruler.NAMES
    real = ruler.features(run.data.train_x[:10 * n], run.data.name) if scored else None

    def step(t, rng):
        opt_d.lr = opt_g.lr = 1e-3 * optim.cosine(t, run.args.steps, floor=0.05)
        numbers = play(t, rng)
        if scored and (t + 1) % every == 0:
            features = ruler.features(render(model, codes), run.data.name)
            numbers |= {"fid": metrics.frechet_distance(features, real)}
        return numbers

    run.fit(film.recording(step, model), model=model, opt_d=opt_d, opt_g=opt_g, ema=ema,
            film=film, codes=codes)
    with ema.applied():
        numbers = gallery(run, model, film)
        samples, test = render(model, codes), run.data.test_x[:n] / np.float32(255)
        run.picture("reconstructed", reconstructions(model.D, test[:10], samples[:10]))
    numbers["variety"] = samples.std(0).mean() / test.std(0).mean()
    run.finish(numbers | convergence(run))


def convergence(run):
    """What the log of the training says of M and of the balance: a dict."""
    log = pictures.read_log(run.out / "log.jsonl")
    last = log[-max(1, len(log) // 10):]
    M, fake, loss = (np.mean([line[key] for line in last]) for key in ("M", "g_loss", "real"))
    numbers = {"M_at_the_end": M, "ratio": fake / loss}
    at = [i for i, line in enumerate(log) if "fid" in line]
    if len(at) > 2:
        means = [np.mean([line["M"] for line in log[i:j]])
                 for i, j in zip([0, *at], [i + 1 for i in at], strict=False)]
        numbers["M_and_fid"] = spearmanr(means, [log[i]["fid"] for i in at]).statistic
    return numbers


if __name__ == "__main__":
    cli(main)
