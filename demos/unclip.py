"""unCLIP, DALL·E 2: from a caption to the CLIP code of an image, and from that code to an image.

    python demos/unclip.py                  offline, on drawn scenes with captions
    python demos/unclip.py --weight 3       the guidance weight of the decoder

CLIP is trained first, then the prior and the decoder together. samples.png, from above:

    a column per test caption (printed): the image that it describes; decoded from that image's own
        code; twice from a code that the prior sampled for the caption; from the caption's own code
    a row per image: the image, and nine variations decoded from its code, without a caption
    a row per pair of images: one, eight from its code to the other's with the same x_T, the other
    a row per image: the image, and nine turned from its caption to one of another colour (printed)

colour_named is the share of the colours named in a caption that its image shows, colour_not_named
the share of the other colours that it shows; shape_named is the share of the objects named that it
shows in the shape named; r_precision@1 is how often CLIP, on whose codes the others were trained,
finds an image's own caption among 100. They are given for test images, `real`; for images decoded
from their codes, `redrawn`, which shows what the decoder can do; from the prior's codes, `drawn`;
from the captions' codes, `no_prior`; from captions alone, `no_code`; for test images that were
encoded as z and x_T and `decoded`; and for such images `turned` to captions with another colour.
"""

import numpy as np

from minigen import data, metrics, nn, optim, tensor, text_metrics, train
from minigen.data.scenes import COLOURS, LONGEST, VOCABULARY, encode
from minigen.demo import Demo, cli
from minigen.diffusion_demo import T, few_steps, guidance_weight, sampling_steps
from minigen.models.clip.clip import CLIP, ImageEncoder, TextEncoder
from minigen.models.diffusion import schedule
from minigen.models.diffusion.clean import Clean
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.guidance import ClassifierFree
from minigen.models.diffusion.unclip import CodePrior, UnCLIP, code_denoiser, no_code

SHOWN = 10


def flags(parser):
    guidance_weight(parser, 0.5, "guidance weight of the decoder")
    sampling_steps(parser)


def main(argv=None):
    run = Demo("unclip", __doc__, argv, data=("scenes",), batch=16, steps=9000,
               staged=True, flags=flags)
    shape, d, s = run.data.shape, 64, schedule.linear(T)
    clip = CLIP(ImageEncoder(shape, d, (8, 8) if run.quick else (16, 32, 64, 128)),
                TextEncoder(len(VOCABULARY), LONGEST, d))
    nets = {"prior": CodePrior(d),
            "decoder": code_denoiser(shape, d, (8, 8) if run.quick else (32, 64, 64))}
    nn.init([clip, nets], run.rng)
    prior, decoder = Clean(nets["prior"], s, gamma=1), Clean(nets["decoder"], s)
    model = UnCLIP(clip, DDPM(prior, s), DDIM(decoder, s), shape)
    opt_clip = optim.AdamW(nn.parameters(clip), lr=3e-3)
    opt = optim.Adam(nn.parameters(nets), lr=4e-3)
    ema = nn.EMA(opt.params, decay=0.995)
    tokens, first = encode(run.data.train_captions), max(run.args.steps // 12, 1)

    def step(t, rng):
        if t < first:
            opt_clip.lr = 3e-3 * optim.warmup_cosine(t, 0, first)
            # a contrastive loss needs many pairs: a batch eight times as large
            i = rng.integers(0, len(tokens), 8 * run.args.batch)
            x = tensor(data.signed(run.xp.asarray(run.data.train_x[i])))
            loss, parts = clip.loss(x, run.xp.asarray(tokens[i]))
            return train.descend(opt_clip, loss, parts, name="clip", max_norm=1.0)
        opt.lr = 4e-3 * optim.warmup_cosine(t, first, run.args.steps, floor=0.02)
        c = run.xp.asarray(tokens[run.indices(t)])
        loss, parts = model.loss(data.signed(run.batch(t)), rng, c)
        return train.descend(opt, loss, parts, max_norm=1.0)

    run.fit(step, clip=clip, nets=nets, opt_clip=opt_clip, opt=opt, ema=ema)

    few = schedule.respaced(s, few_steps(run))
    n = 20 if run.quick else 200
    truth, captions = run.data.test_x[:n] / np.float32(255), run.data.test_captions[:n]
    others = [recoloured(caption) for caption in captions]
    x, c, c_other = 2 * truth - 1, encode(captions), encode(others)
    f = data.in_batches(clip.f, x)
    g, g_other = data.in_batches(clip.g, c), data.in_batches(clip.g, c_other)
    guided = DDIM(ClassifierFree(decoder, run.args.weight, no_code), few)
    model = UnCLIP(clip, DDPM(prior, few, few.beta_tilde), guided, shape)
    # at t = 1 an error of a hundredth in x̂_0 counts as noise of 1, and the x_T of an image would
    # be seven times too large: so one step leads from the image to t = 100
    late = schedule.respaced(s, few_steps(run), first=100)
    edit = UnCLIP(clip, model.prior, DDIM(decoder, late), shape)
    with ema.applied():
        z = model.sample_code(g, run.rng).numpy()
        given = {"redrawn": (f, g), "drawn": (z, g), "no_prior": (g, g), "no_code": (0 * g, g)}
        outputs = {name: guided.sample(n, shape, np.random.default_rng(0), tensor(z), tensor(g))
                   for name, (z, g) in given.items()}  # always from the same x_T
        z, x_T = edit.encode(x)
        outputs |= {"decoded": edit.decode(z, x_T),
                    "turned": edit.text_diff(z, x_T, c, c_other, np.full(n, 0.5))}
        rows = [x, outputs["redrawn"], outputs["drawn"], model.sample(c[:SHOWN], run.rng)[0],
                outputs["no_prior"]]
        one = [slice(k, k + 1) for k in range(4)]
        for k in one[:2]:
            rows += [x[k], model.variations(z[k], SHOWN - 1, run.rng)]
        for a, b in (one[:2], one[2:]):
            rows += [x[a], edit.interpolation(z[a], z[b], x_T[a], SHOWN - 2), x[b]]
        for k in one[:2]:
            theta = np.linspace(0, 0.5, SHOWN - 1)
            rows += [x[k], edit.text_diff(z[k], x_T[k], c[k], c_other[k], theta)]
    rows = [data.unsigned(images[:SHOWN]) for images in rows]
    run.picture("samples", np.concatenate(rows), SHOWN)
    print("captions of samples.png:", *captions[:SHOWN], "turned to:", *others[:2], sep="\n  ")

    outputs = {"real": truth} | {name: data.unsigned(images) for name, images in outputs.items()}
    numbers = {"cosine_prior": (given["drawn"][0] * f).sum(1).mean(),
               "cosine_no_prior": (g * f).sum(1).mean(),
               "psnr_decoded": metrics.psnr(outputs["decoded"], truth, 1),
               "std_x_T": x_T.numpy().std()}
    known = text_metrics.known_silhouettes(run.data)
    for name, images in outputs.items():
        asked, code = (others, g_other) if name == "turned" else (captions, g)
        numbers |= text_metrics.caption_scores(name, images, asked,
                                               data.in_batches(clip.f, 2 * images - 1), code)
        numbers[f"shape_named_{name}"] = text_metrics.shapes_shown(images, asked, known)
    run.finish(numbers)


def recoloured(caption):
    """The caption with its first colour replaced by one that it does not name."""
    words = caption.split()
    first = next(word for word in words if word in COLOURS)
    return caption.replace(first, next(name for name in COLOURS if name not in words))


if __name__ == "__main__":
    cli(main)
