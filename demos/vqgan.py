"""VQGAN: a VQ-VAE whose reconstructions must also look real, compared with a plain VQ-VAE.

    python demos/vqgan.py                                      offline, on drawn scenes
    python demos/vqgan.py --data cifar10 --data-dir DIR        on CIFAR-10 (--download fetches it)

In the first third of the steps a VQ-VAE learns to reconstruct images from code words, by the
squared error alone. In the second third it continues, while a copy of it is trained with a patch
discriminator as well. In the last third each gets a prior over its code words. reconstructions.png,
in rows: test images, the VQ-VAE's reconstructions, VQGAN's. samples.png: images decoded from
samples of the two priors, the VQ-VAE's in the first five rows.

sharpness is the mean difference of neighbouring pixels. fid_patches is the Fréchet distance between
8×8-pixel patches and those of training images; it compares how pixels vary together, not what the
patches show. lam is λ at the end; it varies over orders of magnitude with D's gradient.
"""

import copy

import numpy as np

from minigen import data, mean, metrics, nn, no_grad, optim, tensor, train
from minigen.data import signed, unsigned
from minigen.demo import Demo, at_least, cli
from minigen.models.gan.dcgan import adam
from minigen.models.vae.vqgan import vqgan

SIDE = 8  # of a patch


def main(argv=None):
    run = Demo("vqgan", __doc__, argv, data=("scenes", "cifar10"), batch=16, steps=6000,
               staged=True,
               flags=lambda p: p.add_argument("--words", type=at_least(1), default=128, metavar="K",
                                              help="size of the codebook"))
    steps, start = run.args.steps, run.args.steps // 12
    third = max(steps // 3, 1)
    gan = vqgan(run.data.shape, run.args.words)
    vae = copy.deepcopy(gan.vq_vae)
    nn.init([vae, gan], run.rng)
    models = {"vq_vae": vae, "vqgan": gan.vq_vae}
    bare = optim.Adam(nn.parameters([vae.encoder, vae.decoder]))
    opt_d = adam(nn.parameters(gan.D), 5e-4)  # constant, or D is fooled by hatching
    opts = {name: optim.Adam(nn.parameters([m.encoder, m.codebook, m.decoder]))
            for name, m in models.items()}
    priors = {name: optim.Adam(nn.parameters(m.prior)) for name, m in models.items()}

    def step(t, rng):
        x, numbers = tensor(signed(run.batch(t))), {}
        if t >= 2 * third:
            for name, m in models.items():
                priors[name].lr = 2e-3 * optim.warmup_cosine(t, 2 * third, steps)
                nll = -mean(m.prior.log_prob(m.encode(x)))
                numbers |= train.descend(priors[name], nll, name=f"prior_{name}",
                                         max_norm=10.0)
            return numbers
        if t == start:
            with no_grad():
                vae.codebook.init_from(vae.encoder(x), rng)
        if t == third:
            nn.load_state_dict(gan.vq_vae, nn.state_dict(vae))
        opt, loss = (bare, vae.loss_without_quantisation(x)) if t < start else (
            opts["vq_vae"], vae.autoencode(x)[2])
        opt.lr = 4e-3 * optim.warmup_cosine(t, 0, 2 * third)
        numbers |= train.descend(opt, loss, name="vq_vae", max_norm=100.0)
        if t >= third:
            opts["vqgan"].lr = 1e-3 * optim.warmup_cosine(t, third, 2 * third)
            q_loss, d_loss, parts = gan.losses(x)
            numbers |= train.descend(opts["vqgan"], q_loss, parts, "vqgan", max_norm=100.0)
            numbers |= train.descend(opt_d, d_loss, name="d_loss")
        return numbers

    run.fit(step, vae=vae, gan=gan, opt_bare=bare, opt_d=opt_d,
            **{f"opt_{name}": opt for name, opt in opts.items()},
            **{f"opt_prior_{name}": opt for name, opt in priors.items()})

    n = 20 if run.quick else 500
    x = signed(run.data.test_x)
    real = metrics.patches(signed(run.data.train_x[:len(x)]), SIDE)
    fid_patches = lambda images: metrics.frechet_distance(metrics.patches(images, SIDE), real)
    numbers = {"sharpness_real": metrics.sharpness(x), "fid_patches_real": fid_patches(x),
               "lam": gan.losses(tensor(x[:100]))[2]["lam"].item()}
    reconstructions, images = [], []
    for name, model in models.items():
        k = model.encode(x)
        x_hat = data.in_batches(lambda few, model=model: model.decode(few).mean, k).clip(-1, 1)
        samples = model.generate(n, run.rng).mean.numpy().clip(-1, 1)
        used, perplexity = metrics.codebook_usage(k, run.args.words)
        numbers |= {
            f"squared_error_{name}": ((x - x_hat) ** 2).sum((1, 2, 3)).mean() / 4,
            f"sharpness_{name}": metrics.sharpness(x_hat),
            f"fid_patches_{name}": fid_patches(x_hat),
            f"sharpness_samples_{name}": metrics.sharpness(samples),
            f"fid_patches_samples_{name}": fid_patches(samples),
            f"words_used_{name}": used, f"perplexity_of_words_{name}": perplexity}
        reconstructions, images = [*reconstructions, x_hat[:10]], [*images, samples[:50]]
    run.picture("reconstructions", unsigned(np.concatenate([x[:10], *reconstructions])))
    run.picture("samples", unsigned(np.concatenate(images)))
    run.finish(numbers)


if __name__ == "__main__":
    cli(main)
