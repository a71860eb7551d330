"""VAE/GAN: a VAE that compares images as a discriminator sees them, beside one of pixels.

    python demos/vae_gan.py                                    offline, on drawn digits
    python demos/vae_gan.py --data mnist --data-dir DIR        on MNIST (--download fetches it)

samples.png: digits drawn by the VAE/GAN. reconstructions.png, in rows: test images; what a VAE with
the same encoder and decoder makes of their codes, taught ‖x − x̃‖²; what the VAE/GAN makes of them.
The first comes nearer, pixel by pixel (psnr), the second looks more like a digit (fid).
"""

import numpy as np

from minigen import (
    concatenate,
    data,
    mean,
    metrics,
    nn,
    no_grad,
    optim,
    ruler,
    square,
    tensor,
    train,
)
from minigen.data import signed, unsigned
from minigen.demo import Demo, at_least, cli
from minigen.dist import per_image
from minigen.models.gan.dcgan import adam, generator
from minigen.models.vae import conv_vae
from minigen.models.vae.vae import VAE, kl_to_prior
from minigen.models.vae.vae_gan import vae_gan

LR = 1e-3


def main(argv=None):
    run = Demo("vae_gan", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=32,
               steps={"glyphs": 1500, "mnist": 4000, "fashion-mnist": 4000},
               flags=lambda p: p.add_argument("--latent", type=at_least(1), default=16, metavar="N",
                                              help="dimensions of z"))
    shape, d_z = run.data.shape, run.args.latent
    model = vae_gan(shape, d_z)
    plain = VAE(conv_vae.encoder(shape, 2 * d_z), generator(d_z, shape), d_z, lambda x: x)
    nn.init([model, plain], run.rng)
    opts = [adam(nn.parameters(part)) for part in (model.encoder, model.decoder, model.D, plain)]

    def step(t, rng):
        for opt in opts:
            opt.lr = LR * optim.cosine(t, run.args.steps, floor=0.05)
        x, numbers = signed(run.batch(t)), {}
        losses = zip(("encoder_loss", "g_loss", "d_loss"), model.losses(x, rng), strict=True)
        for opt, (name, loss) in zip(opts, losses, strict=False):
            numbers |= train.descend(opt, loss, name=name)
        q = plain.encode(x)
        loss = mean(per_image(square(x - plain.decode(q.sample(rng)))) + kl_to_prior(q))
        return numbers | train.descend(opts[-1], loss, name="plain_loss")

    run.fit(step, model=model, plain=plain, **{f"opt_{i}": opt for i, opt in enumerate(opts)})

    nets = {"plain": plain, "vae_gan": model}
    nn.eval(nets)
    n = 50 if run.quick else 2000
    x = signed(run.data.test_x[:n])
    reference = ruler.features(run.data.train_x[:n], run.data.name)
    rows, numbers = [unsigned(x)], {}
    for name, net in nets.items():
        with no_grad():
            parts = [(net.decode(net.encode(tensor(few)).mu), net.generate(len(few), run.rng))
                     for few in data.in_order(x, batch_size=500)]
        again, drawn = (unsigned(concatenate(images)) for images in zip(*parts, strict=True))
        rows.append(again)
        numbers[f"psnr_{name}"] = metrics.psnr(again, rows[0], 1)
        named = ruler.classify(again, run.data.name).argmax(1)
        numbers[f"recognised_{name}"] = (named == run.data.test_y[:n]).mean()
        for kind, images in (("reconstructions", again), ("samples", drawn)):
            numbers[f"fid_lenet@{n}_{kind}_{name}"] = metrics.frechet_distance(
                ruler.features(images, run.data.name), reference)
    run.picture("samples", drawn[:100])
    run.picture("reconstructions", np.concatenate([images[:10] for images in rows]))
    run.finish(numbers)


if __name__ == "__main__":
    cli(main)
