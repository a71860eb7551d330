"""VQ-VAE-2: images as two grids of words, a coarse one, and a fine one conditioned on it.

    python demos/vq_vae_2.py                                   offline, on drawn scenes
    python demos/vq_vae_2.py --data cifar10 --data-dir DIR     on CIFAR-10 (--download fetches it)

In the first third of the steps the autoencoders and their codebooks are learnt, in the rest the
priors over the two grids. reconstructions.png, in rows: test images; reconstructions by a VQ-VAE
with one grid, as large as the fine one; reconstructions from both grids; then, three times, the
image's top words with bottom words sampled from the prior. samples.png: both grids sampled.

bits_per_dim bounds −log p(x) of bytes, in bits per value of an image, as in pixelcnn_pp.py: it is
the sum of the bits of the pixels given the words (under a normal distribution, with the variance
that fits training images best) and of the words of each grid. top_squared_error is the squared
error between an image and those sampled for its top words, other_squared_error between it and those
sampled for another's.
"""

import numpy as np

from minigen import mean, metrics, nn, no_grad, optim, tensor, train
from minigen.data import signed, unsigned
from minigen.demo import Demo, at_least, cli
from minigen.dist import DiscretisedNormal, per_image
from minigen.models.vae.gaussian_vae import fixed_variance_normal
from minigen.models.vae.vq_vae import vq_vae
from minigen.models.vae.vq_vae_2 import vq_vae_2


def main(argv=None):
    run = Demo("vq_vae_2", __doc__, argv, data=("scenes", "cifar10"), batch=16, steps=8000,
               staged=True,
               flags=lambda p: p.add_argument("--words", type=at_least(1), default=128, metavar="K",
                                              help="size of each codebook"))
    K, third, start = run.args.words, max(run.args.steps // 3, 1), run.args.steps // 16
    models = {"two_grids": vq_vae_2(run.data.shape, K, likelihood=fixed_variance_normal),
              "one_grid": vq_vae(run.data.shape, K, likelihood=fixed_variance_normal)}
    nn.init(models, run.rng)
    opts = {name: optim.Adam(nn.parameters([m.encoder, m.codebook, m.decoder]))
            for name, m in models.items()}
    bare = {name: optim.Adam(nn.parameters([m.encoder, m.decoder])) for name, m in models.items()}
    prior = models["two_grids"].prior
    opt_prior = optim.Adam(nn.parameters(prior))

    def step(t, rng):
        x, numbers = tensor(signed(run.batch(t))), {}
        if t >= third:
            opt_prior.lr = 2e-3 * optim.warmup_cosine(t, third, run.args.steps)
            k = models["two_grids"].encode(x)
            return train.descend(opt_prior, -mean(prior.log_prob(k)), name="prior", max_norm=10.0)
        for name, m in models.items():
            if t == start:
                with no_grad():
                    m.codebook.init_from(m.encoder(x), rng)
            opt, loss = (bare[name], m.loss_without_quantisation(x)) if t < start else (
                opts[name], m.autoencode(x)[2])
            opt.lr = 4e-3 * optim.warmup_cosine(t, 0, third)
            numbers |= train.descend(opt, loss, name=name, max_norm=100.0)
        return numbers

    run.fit(step, **models, opt_prior=opt_prior, **{
        f"opt_{stage}_{name}": opt for stage, some in (("bare", bare), ("words", opts))
        for name, opt in some.items()})

    x, n = signed(run.data.test_x[:1000]), 10 if run.quick else 100
    words = {name: m.encode(x) for name, m in models.items()}
    x_hat = {name: decoded(m, words[name]) for name, m in models.items()}
    top, bottom = words["two_grids"]
    thrice = np.tile(top[:n], (3, 1, 1))
    samples = np.split(decoded(models["two_grids"], (
        thrice, prior.bottom.sample(len(thrice), run.rng, thrice))), 3)
    rows = [x, x_hat["one_grid"], x_hat["two_grids"], *samples]
    run.picture("reconstructions", unsigned(np.concatenate([some[:10] for some in rows])))
    run.picture("samples", unsigned(models["two_grids"].generate(n, run.rng).mean))

    train_x = signed(run.data.train_x[:1000])
    residual = train_x - decoded(models["two_grids"], models["two_grids"].encode(train_x))
    p = DiscretisedNormal(x_hat["two_grids"], np.log(np.mean(residual ** 2, keepdims=True)))
    with no_grad():
        nats = {"pixels": per_image(p.log_prob(x)), "top": prior.top.log_prob(top),
                "bottom": prior.bottom.log_prob(bottom, top)}
    bits = {name: metrics.bits_per_dim(-some.numpy().mean(), x[0].size)
            for name, some in nats.items()}
    numbers = {"bits_per_dim": sum(bits.values())}
    numbers |= {f"bits_per_dim_{name}": some for name, some in bits.items()}
    numbers |= {f"squared_error_{name}": squared_error(x, some) for name, some in x_hat.items()}
    numbers |= {"top_squared_error": np.mean([squared_error(x[:n], some) for some in samples]),
                "other_squared_error": np.mean([squared_error(np.roll(x[:n], 1, 0), some)
                                                for some in samples])}
    for name, grid in (("top", top), ("bottom", bottom), ("one_grid", words["one_grid"])):
        used, perplexity = metrics.codebook_usage(grid, K)
        numbers |= {f"words_used_{name}": used, f"perplexity_of_words_{name}": perplexity}
    run.finish(numbers)


def decoded(model, k):
    """The means of p(x | k), untracked."""
    with no_grad():
        return model.decode(k).mean.numpy()


def squared_error(x, y):
    """‖x − y‖² of images in [−1, 1], rescaled as if they were in [0, 1], averaged over images."""
    return ((x - y) ** 2).sum((1, 2, 3)).mean() / 4


if __name__ == "__main__":
    cli(main)
