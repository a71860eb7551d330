"""Latent diffusion, Stable Diffusion: the diffusion runs on small latent grids, decoded to images.

    python demos/latent_diffusion.py               offline, on drawn scenes with captions
    python demos/latent_diffusion.py --weight 3    the guidance weight of samples.png

First an autoencoder is trained that compresses an image to 8×8×4 numbers, then two CLIPs: one whose
features of the words condition the diffusion, one for evaluation. Then the diffusion of the latent
grids is trained.

samples.png, a column per test caption (printed): the test image that it describes; that image
encoded and decoded; an unguided and a guided sample for the caption, from the same noise.

squared_error is that of encoded and decoded test images, summed over their values in [0, 1]: no
sample can be more faithful. colour_named is the share of the colours named in a caption that its
image shows, colour_not_named the share of the other colours that it shows; shape_named is the share
of the objects named that it shows in the shape named; r_precision@1 is how often the evaluating
CLIP finds an image's own caption among 100. They are given for test images (`real`), for these
encoded and decoded (`rebuilt`), and for samples with guidance weight w. Seconds are per batch: of a
training step and a sampling step on `grids` and, for comparison, on `images`, which a network of
the same width would model without an autoencoder; and of decoding, `painting`.
"""

import time

import numpy as np

from minigen import data, nn, no_grad, optim, tensor, text_metrics, train
from minigen.data.scenes import LONGEST, VOCABULARY, encode
from minigen.demo import Demo, cli
from minigen.diffusion_demo import T, few_steps, guidance_weight, sampling_steps
from minigen.dist import noise
from minigen.models.clip.clip import CLIP, ImageEncoder, TextEncoder
from minigen.models.diffusion import clean, schedule
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.glide import encode_text
from minigen.models.diffusion.guidance import ClassifierFree
from minigen.models.diffusion.latent_diffusion import (
    LatentDiffusion,
    autoencoder,
    latent_denoiser,
)
from minigen.models.diffusion.unclip import drop_codes, no_code

SHARES = (0, 0.28, 0.33, 1)  # of the steps, at which each of the three stages begins, and the end
WEIGHTS, SHOWN, D = (1, 3), 10, 4


def flags(parser):
    guidance_weight(parser, 1.0, "guidance weight of samples.png")
    sampling_steps(parser)


def main(argv=None):
    run = Demo("latent_diffusion", __doc__, argv, data=("scenes",), batch=16, steps=10_000,
               staged=True, flags=flags)
    shape, d, s = run.data.shape, 64, schedule.cosine(T)
    width = 8 if run.quick else 96
    text, judge = (CLIP(ImageEncoder(shape, d, (8, 8) if run.quick else (16, 32, 64, 128)),
                        TextEncoder(len(VOCABULARY), LONGEST, d)) for _ in range(2))
    stage_1, net = autoencoder(shape[0], D), latent_denoiser(D, d, width)
    nn.init([text, judge, stage_1, net], run.rng)
    model = LatentDiffusion(stage_1, DDPM(clean.Clean(net, s), s))
    opt_1 = optim.Adam(nn.parameters(stage_1), lr=3e-3)
    opt_t, opt_j = (optim.AdamW(nn.parameters(clip), lr=3e-3) for clip in (text, judge))
    opt = optim.Adam(nn.parameters(net), lr=3e-3)
    ema = nn.EMA(opt.params, decay=0.995)
    tokens = encode(run.data.train_captions)

    def step(t, rng):
        x = tensor(data.signed(run.batch(t)))
        stage, start, end = optim.stage_at(t, SHARES, run.args.steps)
        lr = 3e-3 * optim.warmup_cosine(t, start, end, floor=0.02)
        opt_1.lr = opt_t.lr = opt_j.lr = opt.lr = lr
        if stage == 1:
            loss, parts = stage_1.loss(x, rng)
            return train.descend(opt_1, loss, parts, "autoencoder", max_norm=100.0)
        if stage == 2:
            # a contrastive loss needs many pairs: a batch eight times as large
            i = rng.integers(0, len(tokens), 8 * run.args.batch)
            x, c = run.xp.asarray(run.data.train_x[i]), run.xp.asarray(tokens[i])
            x = tensor(data.signed(x))
            return train.descend(opt_t, text.loss(x, c)[0], name="clip", max_norm=1.0) | (
                train.descend(opt_j, judge.loss(x, c)[0], name="judge", max_norm=1.0))
        if t == start:
            stage_1.rescale(x, rng)
        with no_grad():
            words = encode_text(text.text, run.xp.asarray(tokens[run.indices(t)]))
        loss = model.loss(x, rng, drop_codes(words, 0.1, rng))
        return train.descend(opt, loss, max_norm=1.0)

    run.fit(step, text=text, judge=judge, stage_1=stage_1, net=net, opt_1=opt_1, opt_t=opt_t,
            opt_j=opt_j, opt=opt, ema=ema)

    n = 12 if run.quick else 200
    few = schedule.respaced(s, few_steps(run))
    x, captions = data.signed(run.data.test_x[:n]), run.data.test_captions[:n]
    c = encode(captions)
    with no_grad():
        words, z = encode_text(text.text, c), stage_1.q(tensor(x)).mean / stage_1.scale
    images = {"real": x, "rebuilt": stage_1.decode(z).numpy()}
    z_T = noise(run.rng, z)  # the same for each weight
    with ema.applied():
        for w in sorted({0, *WEIGHTS, run.args.weight}):
            guided = DDIM(ClassifierFree(model.diffusion.net, w, no_code), few)
            images[f"w={w:g}"] = LatentDiffusion(stage_1, guided).generate(z_T, words).numpy()
    images = {key: data.unsigned(some) for key, some in images.items()}
    rows = [images[key][:SHOWN] for key in ("real", "rebuilt", "w=0", f"w={run.args.weight:g}")]
    run.picture("samples", np.concatenate(rows), SHOWN)
    print("captions of samples.png:", *captions[:SHOWN], sep="\n  ")

    error = np.square(images["rebuilt"] - images["real"]).sum((1, 2, 3)).mean()
    numbers, g = {"squared_error": error}, data.in_batches(judge.g, c)
    known = text_metrics.known_silhouettes(run.data)
    for key, some in images.items():
        numbers |= text_metrics.caption_scores(key, some, captions,
                                               data.in_batches(judge.f, 2 * some - 1), g)
        numbers[f"shape_named_{key}"] = text_metrics.shapes_shown(some, captions, known)
    timed = slice(2 if run.quick else run.args.batch)
    run.finish(numbers | costs(model, x[timed], words[timed], width, run.rng))


def costs(model, x, words, width, rng):
    """The seconds of a step on the grids of images x (N, C, H, W), and on the images themselves."""
    stage_1, s = model.autoencoder, model.diffusion.schedule
    z = stage_1.encode(x, rng)

    def of(name, sample, net, learner):
        ddim = DDIM(net, s)
        opt, learner = optim.Adam(nn.parameters(net)), learner(ddim)
        with no_grad():
            sampling = seconds(lambda: ddim.p(sample, s.T, words))
        return {f"seconds_training_step_{name}":
                    seconds(lambda: train.descend(opt, learner.loss(x, rng, words))),
                f"seconds_sampling_step_{name}": sampling}

    nets = (latent_denoiser(a.shape[1], words.shape[2], width) for a in (z, x))
    return {**of("grids", z, next(nets), lambda ddim: LatentDiffusion(stage_1, ddim)),
            **of("images", tensor(x), next(nets), lambda ddim: ddim),
            "seconds_painting": seconds(lambda: stage_1.decode(z))}


def seconds(work):
    """The seconds that `work()` takes: the less of two runs after a warm-up."""
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


if __name__ == "__main__":
    cli(main)
