"""NVAE: a VAE with groups of latent maps at three resolutions, from coarse to fine.

    python demos/nvae.py                                        offline, on drawn digits
    python demos/nvae.py --data mnist --data-dir DIR            on MNIST (--download fetches it)
    python demos/nvae.py --posterior ladder                     q of the ladder VAE

samples.png: samples. temperatures.png: the same noise at rising temperatures, one per row.
reconstructions.png: test images and, below them, their reconstructions. groups.png: a sample, and
others that share its z_1, its z_1 … z_2, and so on: what the groups so far have decided.

The numbers are those of vae.py; kl_1 … kl_L, the KL of each group, which is 0 for a group that is
not used; same_digit_1 … same_digit_L, the share of samples that the ruler classifies as the digit
of another with the same z_1 … z_l; and the ruler's scores of samples at temperatures 1 and 0.8.
"""

import numpy as np

from minigen import metrics, nn, no_grad, optim, ruler, train
from minigen.demo import Demo, cli
from minigen.models.vae.nvae import NVAE, ladder, residual

POSTERIORS = {"residual": residual, "ladder": ladder}
TEMPERATURES = (0.4, 0.6, 0.8, 1.0)
WARM_UP = 0.3  # of the steps, in which β rises to 1
LAMBDA = 0.01


def main(argv=None):
    run = Demo("nvae", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=64,
               steps={"glyphs": 1500, "mnist": 4000, "fashion-mnist": 4000},
               flags=lambda p: p.add_argument("--posterior", choices=POSTERIORS, help="q(z|x)",
                                              default="residual"))
    small = {"groups": (1, 1), "widths": (8, 8)} if run.quick else {}
    model = NVAE(run.data.shape, posterior=POSTERIORS[run.args.posterior], **small)
    nn.init(model, run.rng)
    opt = optim.Adam(nn.parameters(model))

    def step(t, rng):
        opt.lr = 8e-3 * optim.warmup_cosine(t, 0, run.args.steps, floor=0.01)
        beta = optim.warmup(t, WARM_UP * run.args.steps)
        x = metrics.binarise(run.batch(t) / np.float32(255), rng)
        return train.descend(opt, *model.loss(x, rng, beta, LAMBDA), max_norm=100.0)

    run.fit(step, model=model, opt=opt)

    x_test = metrics.binarise(run.data.test_x / np.float32(255), np.random.default_rng(0))
    with nn.evaluation(model), no_grad():
        neg_elbo, reconstruction, kl = metrics.neg_elbo(model, x_test)
        numbers = {"test_neg_elbo_nats": neg_elbo, "test_reconstruction_nats": reconstruction,
                   "test_kl_nats": kl, "test_iw_nll_nats@50": metrics.iw_nll(model, x_test[:1000])}
        _, kls = model.terms(x_test[:1000], run.rng)
        numbers |= {f"kl_{l}": kl for l, kl in enumerate(kls.numpy().mean(0), start=1)}
        decoded, _ = model.infer(model.features(x_test[:10]), run.rng)
        run.picture("reconstructions", np.concatenate([x_test[:10], decoded.mean.numpy()]))
        run.picture("temperatures", np.concatenate([
            model.generate(10, np.random.default_rng(run.args.seed), t).mean.numpy()
            for t in TEMPERATURES]))
        run.finish(numbers | groups(run, model) | gallery(run, model))


def groups(run, model):
    """Draw groups.png; how often samples that share their first groups are of the same digit."""
    n = 20 if run.quick else 500
    p_x, z = model.draw(n, run.rng)
    images, numbers = [p_x.mean.numpy()], {}
    for l in range(1, len(z) + 1):
        images += [model.generate(n, run.rng, z=z[:l]).mean.numpy() for _ in range(2)]
    run.picture("groups", np.stack(images, 1)[:8].reshape(-1, *run.data.shape), len(images))
    if run.data.name in ruler.NAMES:
        first, *others = (ruler.classify(x, run.data.name).argmax(1) for x in images)
        numbers = {f"same_digit_{1 + i // 2}": (first == others[i]).mean()
                   for i in range(0, len(others), 2)}
    return numbers


def gallery(run, model):
    """Draw samples.png; the scores of samples."""
    numbers = {}
    for name, t in (("", 1.0), ("_at_0.8", 0.8)):
        x = np.concatenate([model.generate(50 if run.quick else 500, run.rng, t).mean.numpy()
                            for _ in range(1 if run.quick else 10)])
        if not name:
            run.picture("samples", x[:100])
        numbers |= {f"{key}{name}": value for key, value in ruler.quality(x, run.data).items()
                    if not (name and key.startswith(("real", "nearest")))}
    return numbers


if __name__ == "__main__":
    cli(main)
