"""DALL-E: images for a caption, generated code word by code word, and ranked by CLIP.

    python demos/dalle.py                                  offline, on drawn scenes with captions

First a VQ-VAE learns to represent an image by 8×8 code words, then a transformer learns which code
words follow a caption, then CLIP learns which images and captions belong together. For each test
caption several images are sampled, and CLIP ranks them by how well they fit.

samples.png, a column per caption (printed): the test image that it describes, then the images
sampled for it, in CLIP's order. reconstructions.png: test images and their reconstructions by the
VQ-VAE, which samples cannot surpass.

colour_named is the share of the colours named in a caption that its image shows, colour_not_named
the share of the other colours that it shows: for the test images (truth), for their reconstructions
(reconstructed), for the first image sampled for each caption (first), and for the one that CLIP
ranks first (best). r_precision@1 is how often CLIP finds an image's own caption among 100; for
`best` it is biased, because CLIP itself has chosen the images. Nats are per word.
"""

import numpy as np

from minigen import nn, no_grad, optim, tensor, text_metrics, train
from minigen.data import in_batches, in_order, signed, unsigned
from minigen.data.scenes import LONGEST, VOCABULARY, encode
from minigen.demo import Demo, at_least, cli
from minigen.models.clip.clip import CLIP, ImageEncoder, TextEncoder
from minigen.models.clip.retrieval import rerank
from minigen.models.text_to_image.dalle import DALLE, image_tokenizer

SHARES = (0, 0.34, 0.73, 1)  # of the steps, at which each of the three stages begins, and the end
FEW = 16  # batch size of the first two stages: they learn more from many small steps
SHOWN = 10


def main(argv=None):
    run = Demo("dalle", __doc__, argv, data=("scenes",), batch=64, steps=2200,
               staged=True, min_batch=2,
               flags=lambda p: p.add_argument("--drawn", type=at_least(1), default=8, metavar="N",
                                              help="images sampled for each caption"))
    vae = image_tokenizer(run.data.shape)
    model = DALLE(vae, len(VOCABULARY), LONGEST, D=96, depth=3)
    clip = CLIP(ImageEncoder(run.data.shape, 64), TextEncoder(len(VOCABULARY), LONGEST, 64))
    nn.init([vae, model.transformer, clip], run.rng)
    with no_grad():
        vae.codebook.init_from(vae.encoder(tensor(signed(run.batch(0)))), run.rng)
    opt_v = optim.Adam(nn.parameters([vae.encoder, vae.codebook, vae.decoder]))
    opt_t, opt_c = optim.Adam(nn.parameters(model.transformer)), optim.AdamW(nn.parameters(clip))
    words = encode(run.data.train_captions)

    def step(t, rng):
        stage, start, end = optim.stage_at(t, SHARES, run.args.steps)
        rate = optim.warmup_cosine(t, start, end, floor=0.02)
        batch = signed(run.batch(t)), words[run.indices(t)]
        opt_v.lr = opt_t.lr = opt_c.lr = 3e-3 * rate
        if stage == 3:
            x, c = batch
            loss, _ = clip.loss(tensor(x), run.xp.asarray(c))
            return train.descend(opt_c, loss, name="clip", max_norm=1.0)
        for x, c in in_order(*batch, batch_size=FEW):
            if stage == 1:
                _, _, loss, parts = vae.autoencode(x)
                numbers = train.descend(opt_v, loss, parts, name="vq_vae", max_norm=100.0)
            else:
                loss = model.loss(c, vae.encode(x))
                numbers = train.descend(opt_t, loss, name="transformer", max_norm=1.0)
        return numbers

    run.fit(step, vae=vae, transformer=model.transformer, clip=clip, opt_v=opt_v, opt_t=opt_t,
            opt_c=opt_c)

    test, n = run.data.first(n_test=500), run.args.drawn
    x, captions, c = signed(test.test_x), test.test_captions, encode(test.test_captions)
    z = vae.encode(x)
    nll = in_batches(model.token_nll, c, z, batch_size=100)
    with no_grad():
        x_hat = vae.decode(z).mean.numpy()
    drawn = in_batches(lambda part: model.generate(part, run.rng).mean, np.repeat(c, n, 0))
    g, f = in_batches(clip.g, c), in_batches(clip.f, drawn).reshape(len(c), n, -1)
    drawn = drawn.reshape(len(c), n, *x.shape[1:])
    order = np.array([rerank(*pair) for pair in zip(f, g, strict=True)])
    ranked = np.take_along_axis(drawn, order[:, :, None, None, None], 1)
    run.picture("samples", unsigned(np.concatenate([x[:SHOWN], *ranked[:SHOWN].swapaxes(0, 1)])))
    run.picture("reconstructions", unsigned(np.concatenate([x[:SHOWN], x_hat[:SHOWN]])))
    print("captions of samples.png:", *captions[:SHOWN], sep="\n  ")

    numbers = {"test_nats_text": nll[:, :LONGEST].mean(),
               "test_nats_image": nll[:, LONGEST:].mean(),
               "squared_error": np.square(unsigned(x_hat) - unsigned(x)).sum((1, 2, 3)).mean()}
    for name, images in (("truth", x), ("reconstructed", x_hat), ("first", drawn[:, 0]),
                         ("best", ranked[:, 0])):
        numbers |= text_metrics.caption_scores(name, unsigned(images), captions,
                                               in_batches(clip.f, images), g)
    run.finish(numbers)


if __name__ == "__main__":
    cli(main)
