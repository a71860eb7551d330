"""Restricted Boltzmann machine: an energy for binary images, trained with Gibbs sampling.

    python demos/rbm.py                                   offline, on drawn digits
    python demos/rbm.py --data mnist --data-dir DIR       on MNIST (--download fetches it)
    python demos/rbm.py --method cd                       chains that restart at the data

samples.png: a Gibbs chain per row, every 1,000 steps; pixels are p(v = 1 | h). filters.png: the
weights of the 100 latents with the largest ones; a latent that is on makes white pixels more
probable and black ones less. completions.png, a row per test image: the image, its upper half, and
completions of that half. test_nll_nats is −log p of test images, with log Z by annealed importance
sampling, and standard_error its standard error; with too few steps it is too low, and
test_nll_nats_reverse, from chains in the opposite direction, too high. free_energy_gap is the mean
F of test images minus that of training images, 0 without overfitting.

Differs from the papers: images are binarised anew at each step; the learning rate falls from 0.2 to
0; pictures and numbers are of an exponential moving average of the weights.
"""

import numpy as np

from minigen import metrics, nn, no_grad, optim, ruler, train
from minigen.demo import Demo, at_least, cli
from minigen.dist import Bernoulli
from minigen.models.energy import rbm
from minigen.nn import initializers


def flags(parser):
    parser.add_argument("--latent", type=at_least(1), default=500, metavar="N",
                        help="number of latents")
    parser.add_argument("--method", choices=("pcd", "cd"), default="pcd", help="Gibbs sampling "
                        "from where the chains were (pcd) or from the images of the batch (cd)")
    parser.add_argument("--k", type=at_least(1), default=1, metavar="N",
                        help="Gibbs steps per training step")


def main(argv=None):
    run = Demo("rbm", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=100,
               steps={"glyphs": 6000, "mnist": 12_000, "fashion-mnist": 12_000}, flags=flags,
               min_batch=2)  # a chain for each: the estimate of Z needs two for its standard error
    images = run.data.train_x
    D, k = images[0].size, run.args.k

    def observed(images, rng):
        """Zeros and ones (N, D) for uint8 images."""
        return metrics.binarise(images.reshape(len(images), D) / np.float32(255), rng)

    model = rbm.RBM(D, run.args.latent)
    nn.init(model, run.rng)
    b_0 = rbm.log_odds(images.reshape(len(images), D).mean(0, dtype=np.float32) / 255, len(images))
    initializers.values(model.b, b_0)
    chains = rbm.Chains(Bernoulli(np.tile(b_0, (run.args.batch, 1))).sample(run.rng))
    opt = optim.SGD(nn.parameters(model), lr=0.2)
    ema = nn.EMA(opt.params, decay=0.999)

    def step(t, rng):
        opt.lr = 0.2 * (1 - t / run.args.steps)
        v = observed(run.batch(t), rng)
        persistent = run.args.method == "pcd"
        v_model = chains.advance(model, rng, k) if persistent else model.gibbs(v, rng, k)
        return train.descend(opt, model.loss(v, v_model))

    run.fit(step, model=model, chains=chains, opt=opt, ema=ema)

    with ema.applied(), no_grad():
        report(run, model, chains, b_0, *(observed(x, np.random.default_rng(0))
                                          for x in (run.data.test_x,
                                                    images[:len(run.data.test_x)])))


def report(run, model, chains, b_0, v_test, v_train):
    """Draw the pictures and compute the numbers, for binary images v (N, D)."""
    shape, rng = (-1, *run.data.shape), run.rng
    between, T = (2, 20) if run.quick else (1000, 14_500)
    frames = []
    for _ in range(10):
        v = chains.advance(model, rng, between)
        frames.append(model.visible(model.hidden(v).sample(rng)).mean.numpy())
    samples = np.stack(frames, axis=1)  # (M, 10, D)
    run.picture("samples", samples[:10].reshape(shape))

    W = model.W.numpy()
    W = W[np.argsort(-np.square(W).sum(1))[:100]]
    run.picture("filters", np.clip(0.5 + W / (6 * W.std()), 0, 1).reshape(shape))

    rows, per_row = (1, 2) if run.quick else (10, 8)
    originals = v_test[:rows]
    upper = np.arange(len(b_0)) < len(b_0) // 2
    noise = Bernoulli(np.tile(b_0, (rows * per_row, 1))).sample(rng).numpy()
    start = np.where(upper, np.repeat(originals, per_row, 0), noise)
    completions = model.complete(start, upper, rng, between)
    run.picture("completions", np.concatenate([
        originals[:, None], np.where(upper, originals, 0.5)[:, None],
        completions.numpy().reshape(rows, per_row, -1)], axis=1).reshape(shape), per_row + 2)

    log_z, error = rbm.ais(model, b_0, 100, T, rng)
    reverse_log_z, reverse_error = rbm.reverse_ais(model, b_0, v, T, rng)
    F_test, F_train = (model.free_energy(x).numpy().mean(dtype=np.float64)
                       for x in (v_test, v_train))
    run.finish({"test_nll_nats": F_test + log_z, "standard_error": error,
                "test_nll_nats_reverse": F_test + reverse_log_z,
                "standard_error_reverse": reverse_error, "log_z": log_z,
                "free_energy_gap": F_test - F_train,
                **ruler.quality(samples.reshape(shape), run.data)})


if __name__ == "__main__":
    cli(main)
