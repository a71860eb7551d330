"""Text to image: an AttnGAN draws what a caption says.

    python demos/text_to_image.py                    offline, on drawn scenes with captions

The similarity of images and words (DAMSM) is learnt in the first third of the steps, the game in
the rest. samples.png, a column a caption (printed): the test image it was written for; the small
image of the first stage; three of the second. colour_named is the share of the colours that a
caption names which its image shows, colour_not_named that of the others. r_precision says how often
an image leads to its caption among 100, by the DAMSM from which the generator has learnt: its own
teacher's view.
"""

import numpy as np

from minigen import interpolate, metrics, nn, no_grad, optim, tensor, text_metrics, train
from minigen.data import signed, unsigned
from minigen.data.scenes import LONGEST, VOCABULARY, encode
from minigen.demo import Demo, at_least, cli
from minigen.models.gan.dcgan import adam
from minigen.models.text_to_image.attngan import attngan
from minigen.models.text_to_image.damsm import DAMSM

LAM = 0.2  # weight of the DAMSM


def main(argv=None):
    run = Demo("text_to_image", __doc__, argv, data=("scenes",), batch=16, steps=3000,
               flags=lambda p: p.add_argument("--latent", type=at_least(1), default=32, metavar="N",
                                              help="dimensions of z"))
    match = DAMSM(3, len(VOCABULARY), LONGEST)
    game = attngan(run.data.shape, run.args.latent, 64, match.loss, LAM)
    nn.init([match, game.G, game.D], run.rng)
    opt = optim.Adam(nn.parameters(match), lr=1e-3)
    opt_d, opt_g = adam(nn.parameters(game.D)), adam(nn.parameters(game.G))
    tokens, third = encode(run.data.train_captions), max(run.args.steps // 3, 1)

    def step(t, rng):
        x, c = signed(run.batch(t)), run.xp.asarray(tokens[run.indices(t)])
        if t < third:
            opt.lr = 2e-3 * optim.cosine(t, third, floor=0.05)
            loss = match.loss(tensor(x), *match.words(c)) / len(x)
            return train.descend(opt, loss, name="damsm", max_norm=1.0)
        opt_d.lr = opt_g.lr = 5e-4 * optim.cosine(t - third, run.args.steps - third, floor=0.05)
        with no_grad():
            words = match.words(c)
        numbers = train.descend(opt_d, game.d_loss(x, rng, *words), name="d_loss")
        return numbers | train.descend(opt_g, game.g_loss(len(x), rng, *words), name="g_loss")

    run.fit(step, match=match, G=game.G, D=game.D, opt=opt, opt_d=opt_d, opt_g=opt_g)

    nn.eval(game.G)
    n = 20 if run.quick else 500
    truth, captions = run.data.test_x[:n] / np.float32(255), run.data.test_captions[:n]
    with no_grad():
        words = match.words(encode(captions))
        small, *large = [game.sample(n, run.rng, *words) for _ in range(3)]
    small, large = interpolate(small[0], scale_factor=2), [small[1], *(x[1] for x in large)]
    rows = [truth, *(unsigned(x) for x in (small, *large))]
    run.picture("samples", np.concatenate([images[:10] for images in rows]))
    print("captions of samples.png:", *captions[:10], sep="\n  ")
    numbers = {}
    for name, images in (("truth", truth), ("drawn", rows[2])):
        named, not_named = text_metrics.colours_shown(images, captions)
        with no_grad():
            _, v_bar = match.regions(tensor(2 * images - 1))
        numbers |= {f"colour_named_{name}": named, f"colour_not_named_{name}": not_named,
                    f"r_precision@1_{name}": metrics.r_precision(
                        words[2].numpy(), v_bar.numpy(), 1, np.random.default_rng(0),
                        min(99, n - 1))}
    run.finish(numbers)


if __name__ == "__main__":
    cli(main)
