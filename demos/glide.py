"""GLIDE: a text-conditional diffusion model with classifier-free guidance and with CLIP guidance.

    python demos/glide.py                   offline, on drawn scenes with captions
    python demos/glide.py --weight 1        the guidance weight of samples.png

First two CLIPs are trained: one on noisy images, for guidance, and one on clean images, for
evaluation. Then the diffusion model is trained; it is conditioned on the first CLIP's features of
the words, which are dropped now and then.

Both kinds of guidance aim to sharpen p(x | c) by p(c | x)^w. With perfect networks they would draw
the same images; for CLIP guidance, ω is w/τ.

samples.png, a column per test caption (printed): the test image that it describes; an unguided
sample; one with classifier-free guidance; one with CLIP guidance. weights.png: samples from the
same noise under increasing weights, classifier-free and then CLIP guidance. guidance.png: what
guidance gains and what it loses.

colour_named is the share of the colours named in a caption that its image shows, colour_not_named
the share of the other colours that it shows; r_precision@1 is how often the evaluating CLIP finds
an image's own caption among 100; diversity is the distance between two samples for one caption
(root mean square over pixels). They are given for test images (`real`), for unguided samples
(`w=0`), and for samples with classifier-free (`free`) or CLIP guidance (`clip`) of weight w.
"""

import numpy as np

from minigen import data, metrics, nn, no_grad, optim, pictures, tensor, text_metrics, train
from minigen.data.scenes import LONGEST, VOCABULARY, encode
from minigen.demo import Demo, cli
from minigen.diffusion_demo import T, few_steps, guidance_weight, sampling_steps
from minigen.dist import noise
from minigen.models.clip.clip import CLIP, ImageEncoder, TextEncoder
from minigen.models.diffusion import clean, schedule, threshold
from minigen.models.diffusion.clip_guidance import CLIPGuided, noisy_loss
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.glide import encode_text, text_denoiser
from minigen.models.diffusion.guidance import ClassifierFree
from minigen.models.diffusion.noisy_classifier import NoisyClassifier
from minigen.models.diffusion.unclip import drop_codes, no_code

WEIGHTS, SHOWN = (1, 3, 9), 10


def flags(parser):
    guidance_weight(parser, 3.0, "guidance weight of samples.png")
    sampling_steps(parser)


def main(argv=None):
    run = Demo("glide", __doc__, argv, data=("scenes",), batch=16, steps=5500,
               staged=True, flags=flags)
    shape, d, s = run.data.shape, 64, schedule.cosine(T)
    text = lambda: TextEncoder(len(VOCABULARY), LONGEST, d, D=d)
    guide = CLIP(NoisyClassifier(shape, d, (8, 8) if run.quick else (32, 64, 128)), text())
    judge = CLIP(ImageEncoder(shape, d, (8, 8) if run.quick else (16, 32, 64, 128)), text())
    net = text_denoiser(shape, d, (8, 8) if run.quick else (64, 64))
    nn.init([guide, judge, net], run.rng)
    model = DDPM(clean.Clean(net, s), s)
    opt_g, opt_j = (optim.AdamW(nn.parameters(clip), lr=3e-3) for clip in (guide, judge))
    opt = optim.Adam(nn.parameters(net), lr=3e-3)
    ema = nn.EMA(opt.params, decay=0.995)
    tokens = encode(run.data.train_captions)
    first = max(run.args.steps // 11, 1)

    def step(t, rng):
        if t < first:
            opt_g.lr = opt_j.lr = 3e-3 * optim.warmup_cosine(t, 0, first)
            # a contrastive loss needs many pairs: a batch eight times as large
            i = rng.integers(0, len(tokens), 8 * run.args.batch)
            x, c = data.signed(run.xp.asarray(run.data.train_x[i])), run.xp.asarray(tokens[i])
            numbers = train.descend(opt_g, noisy_loss(guide, model, x, c, rng)[0], name="guide",
                                    max_norm=1.0)
            loss, _ = judge.loss(tensor(x), c)
            return numbers | train.descend(opt_j, loss, name="judge", max_norm=1.0)
        opt.lr = 3e-3 * optim.warmup_cosine(t, first, run.args.steps, floor=0.02)
        with no_grad():
            words = encode_text(guide.text, run.xp.asarray(tokens[run.indices(t)]))
        loss = model.loss(data.signed(run.batch(t)), rng, drop_codes(words, 0.1, rng))
        return train.descend(opt, loss, max_norm=1.0)

    run.fit(step, guide=guide, judge=judge, net=net, opt_g=opt_g, opt_j=opt_j, opt=opt, ema=ema)

    n = 12 if run.quick else 100
    few = schedule.respaced(s, few_steps(run))
    truth, captions = run.data.test_x[:n] / np.float32(255), run.data.test_captions[:n]
    c, tau = np.tile(encode(captions), (2, 1)), guide.tau().item()  # two images per caption
    x_T = noise(run.rng, nn.like(net), (2 * n, *shape))
    with no_grad():
        words = encode_text(guide.text, c)
    conditioned = lambda x_t, t, c: model.net(x_t, t, words)
    guided_nets = {"free": lambda w: (ClassifierFree(model.net, w, no_code), words),
             "clip": lambda w: (CLIPGuided(conditioned, guide, s, w / tau), c)}

    def generate(net, given):
        """Samples for the captions, always from the same noise, in [0, 1]."""
        return data.unsigned(DDIM(net, few).decode(x_T, given, threshold=threshold.static))

    with ema.applied():
        samples = {("free", 0): generate(model.net, words)}
        samples |= {(kind, w): generate(*guided(w)) for kind, guided in guided_nets.items()
                    for w in sorted({*WEIGHTS, run.args.weight} - {0})}
    samples |= {("clip", 0): samples["free", 0]}
    rows = [truth, *(samples[key] for key in (("free", 0), ("free", run.args.weight),
                                              ("clip", run.args.weight)))]
    run.picture("samples", np.concatenate([images[:SHOWN] for images in rows]), SHOWN)
    run.picture("weights", np.concatenate([samples[kind, w][:SHOWN] for kind in guided_nets
                                           for w in (0, *WEIGHTS)]), SHOWN)
    print("captions of samples.png:", *captions[:SHOWN], sep="\n  ")

    codes = data.in_batches(judge.g, c)

    def evaluate(images):
        """The metrics of images in [0, 1]: (2n, 3, H, W), or (n, 3, H, W) with one per caption."""
        f, rng = data.in_batches(judge.f, 2 * images - 1), np.random.default_rng(0)
        named, not_named = text_metrics.colours_shown(images, np.resize(captions, len(images)))
        r_precision = np.mean([metrics.r_precision(codes[:n], part, 1, rng, n - 1)
                               for part in np.split(f, len(images) // n)])
        numbers = {"colour_named": named, "colour_not_named": not_named,
                   "r_precision@1": r_precision}
        if len(images) > n:
            mse = np.square(images[:n] - images[n:]).mean((1, 2, 3))
            numbers["diversity"] = np.sqrt(mse).mean()
        return numbers

    numbers = {f"{key}_real": v for key, v in evaluate(truth).items()}
    scores = {key: evaluate(images) for key, images in samples.items()}
    for (kind, w), values in scores.items():
        if (kind, w) != ("clip", 0):
            numbers |= {f"{key}_{f'{kind}@w={w:g}' if w else 'w=0'}": v
                        for key, v in values.items()}
    with train.writing(run.out / "guidance.png"):
        pictures.lines(run.out / "guidance.png", *(
            {"title": title, "xlabel": "guidance weight w", "ylim": (0, None), "curves": {
                name: list(zip(*sorted((w, v[key]) for (kind, w), v in scores.items()
                                       if kind == of), strict=True))
                for of, name in (("free", "classifier-free"), ("clip", "by CLIP"))}}
            for key, title in (("r_precision@1", "its caption is found among 100"),
                               ("diversity", "distance between images of a caption"))))
    run.finish(numbers | {"tau": tau})


if __name__ == "__main__":
    cli(main)
