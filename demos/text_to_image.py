"""Text to image: the five GANs of the lecture that draw what a caption says.

    python demos/text_to_image.py                    AttnGAN, offline, on drawn scenes with captions
    python demos/text_to_image.py --model gan_cls    or stackgan, xmc_gan, or df_gan

A text encoder is trained first, together with an image encoder, and then frozen: for GAN-CLS and
StackGAN a joint embedding learnt from classes (here: which colours a scene has, and which
background), for AttnGAN the DAMSM, for XMC-GAN and DF-GAN CLIP. Then the GAN is trained on its
codes.

samples.png, a column per caption (printed): the test image that it describes; the small image of
the first stage, if there are two stages; three samples with different noise z. colour_named is the
share of the colours named in a caption that its image shows, colour_not_named the share of the
other colours that it shows; shape_named is the share of the objects named that it shows in the
shape named. r_precision@1 is how often an image's own caption is found among 100, by the same
encoders that taught the generator. variety is the mean distance between two images of one caption,
divided by that between images of two captions.
"""

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from minigen import data, interpolate, nn, no_grad, optim, tensor, text_metrics, train
from minigen.data.scenes import COLOURS, LONGEST, VOCABULARY, encode
from minigen.demo import Demo, at_least, cli
from minigen.models.clip.clip import CLIP, ImageEncoder, TextEncoder, unit
from minigen.models.gan import dcgan, wgan_gp
from minigen.models.text_to_image.attngan import attngan
from minigen.models.text_to_image.damsm import DAMSM
from minigen.models.text_to_image.df_gan import df_gan
from minigen.models.text_to_image.gan_cls import gan_cls
from minigen.models.text_to_image.joint_embedding import JointEmbedding
from minigen.models.text_to_image.stackgan import Stages, stackgan
from minigen.models.text_to_image.xmc_gan import xmc_gan

D = 64  # length of a code
LAM = 0.05  # weight of the DAMSM loss
RATES = 7e-4, 1.5e-3  # D's and G's; G lags behind, so its rate is higher
FAST_D = 1e-3, 5e-4  # DF-GAN's: as in its paper, D's rate is the higher one


@dataclass
class PretrainedEncoders:
    """Text and image encoders, trained before the GAN: `net`, whose loss on a minibatch of images,
    captions as integers, and classes is `loss(x, c, y)`.

    embed_text(c): the features of captions that the GAN is given, a tuple with the sentence codes
        last
    embed_image(x): the codes of images, near those of their captions
    batch_factor: their batch size as a multiple of the GAN's
    """

    net: Any
    loss: Callable
    embed_text: Callable
    embed_image: Callable
    batch_factor: int


def joint(shape, widths):
    net = JointEmbedding(ImageEncoder(shape, D, widths), TextEncoder(len(VOCABULARY), LONGEST, D))
    return PretrainedEncoders(net, net.loss, lambda c: (scaled(net.text(c)),), net.image, 4)


def clip(shape, widths):
    net = CLIP(ImageEncoder(shape, D, widths), TextEncoder(len(VOCABULARY), LONGEST, D))
    return PretrainedEncoders(net, lambda x, c, y: net.loss(x, c)[0],
                              lambda c: (scaled(net.text(c)),), net.image, 4)


def damsm(shape, widths):
    net = DAMSM(shape[0], len(VOCABULARY), LONGEST, D)
    return PretrainedEncoders(net, lambda x, c, y: net.loss(x, *net.embed_text(c)) / len(x),
                              net.embed_text, lambda x: net.embed_image(x)[1], 2)


def scaled(codes):
    """Codes (N, d) scaled to length √d, so that their entries are about as large as those of z."""
    return D ** 0.5 * unit(codes)


ENCODERS = {"attngan": damsm, "gan_cls": joint, "stackgan": joint, "xmc_gan": clip,
            "df_gan": clip}
GANS = {"gan_cls": gan_cls, "stackgan": stackgan, "xmc_gan": xmc_gan, "df_gan": df_gan}


def flags(parser):
    parser.add_argument("--model", choices=ENCODERS, default="attngan", help="which GAN")
    parser.add_argument("--latent", type=at_least(1), default=100, metavar="N",
                        help="dimensions of z")


def main(argv=None):
    run = Demo("text_to_image", __doc__, argv, data=("scenes",), batch=16, steps=2400,
               staged=True, min_batch=2, flags=flags)
    shape, name = run.data.shape, run.args.model
    encoders = ENCODERS[name](shape, (8, 8) if run.quick else (16, 32, 64, 128))
    sizes = shape, run.args.latent, D
    game = (attngan(*sizes, encoders.net.loss, LAM) if name == "attngan" else GANS[name](*sizes))
    D_E = {"D": game.D} | ({"E": game.E} if name == "xmc_gan" else {})
    nn.init([encoders.net, game.G, D_E], run.rng)
    opt = optim.Adam(nn.parameters(encoders.net), lr=2e-3)
    adam, rates = (wgan_gp.adam, FAST_D) if name == "df_gan" else (dcgan.adam, RATES)
    opt_d, opt_g = adam(nn.parameters(D_E)), adam(nn.parameters(game.G))
    ema = nn.EMA(opt_g.params, decay=0.995)
    tokens, y = encode(run.data.train_captions), classes(run.data.train_captions)
    first = max(run.args.steps // 5, 1)

    def step(t, rng):
        if t < first:
            opt.lr = 2e-3 * optim.warmup_cosine(t, 0, first, floor=0.05)
            i = rng.integers(0, len(tokens), encoders.batch_factor * run.args.batch)
            x = tensor(data.signed(run.xp.asarray(run.data.train_x[i])))
            loss = encoders.loss(x, run.xp.asarray(tokens[i]), y[i])
            return train.descend(opt, loss, name="teacher", max_norm=1.0)
        decay = optim.cosine(t - first, run.args.steps - first, floor=0.05)
        opt_d.lr, opt_g.lr = (lr * decay for lr in rates)
        x = data.signed(run.batch(t))
        with no_grad():
            text = encoders.embed_text(run.xp.asarray(tokens[run.indices(t)]))
        numbers = train.descend(opt_d, game.d_loss(tensor(x), rng, *text), name="d_loss")
        return numbers | train.descend(opt_g, game.g_loss(len(x), rng, *text), name="g_loss")

    run.fit(step, encoders=encoders.net, G=game.G, D=D_E, opt=opt, opt_d=opt_d, opt_g=opt_g,
            ema=ema)

    n = 20 if run.quick else 500
    truth, captions = run.data.test_x[:n] / np.float32(255), run.data.test_captions[:n]
    with no_grad(), ema.applied():
        text = encoders.embed_text(encode(captions))
        samples = [game.sample(n, run.rng, *text) for _ in range(3)]
    small = []
    if isinstance(game, Stages):
        small = [data.unsigned(interpolate(samples[0][0], scale_factor=2))]
        samples = [images[-1] for images in samples]
    samples = [data.unsigned(images) for images in samples]
    run.picture("samples", np.concatenate([x[:10] for x in (truth, *small, *samples)]))
    print("captions of samples.png:", *captions[:10], sep="\n  ")
    numbers = {"variety": np.abs(samples[0] - samples[1]).mean()
               / np.abs(samples[0] - np.roll(samples[1], 1, axis=0)).mean()}
    known = text_metrics.known_silhouettes(run.data)
    for which, images in (("truth", truth), ("drawn", samples[0])):
        f = data.in_batches(encoders.embed_image, 2 * images - 1)
        numbers |= text_metrics.caption_scores(which, images, captions, f, text[-1].numpy())
        numbers[f"shape_named_{which}"] = text_metrics.shapes_shown(images, captions, known)
    run.finish(numbers)


def classes(captions):
    """The classes of scenes, by which colours they have and whether the ground is light: (N,)."""
    return np.array([sum(2 ** k for k, word in enumerate((*COLOURS, "light"))
                         if word in caption.split()) for caption in captions])


if __name__ == "__main__":
    cli(main)
