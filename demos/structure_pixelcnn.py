"""Text- and structure-conditional PixelCNN: a caption says what is in a scene, a map says where.

    python demos/structure_pixelcnn.py                     offline, on drawn scenes with captions

First CLIP learns which captions belong to which scenes; the PixelCNN is conditioned on CLIP's
features of a caption's words.

samples.png, a column per test scene: the scene; its map, with the objects numbered from the left; a
sample for its map and caption; one for its map and the previous scene's caption; and one for its
caption and the previous scene's map.

colours_as_asked is the share of objects whose pixels, at the place that the map gives them, are
more often of the object's colour than of any other (one in six by chance). colour_named is the
share of the colours named in a caption that its image shows anywhere, colour_not_named the share of
the other colours that it shows. All are given for the test images as the model sees them, with
fewer levels (`truth`), and for the samples (`drawn`).
"""

import numpy as np

from minigen import metrics, nn, no_grad, optim, tensor, text_metrics, train
from minigen.data import signed
from minigen.data.scenes import COLOURS, LONGEST, VOCABULARY, encode, shows
from minigen.demo import Demo, cli
from minigen.models.autoregressive.structure_pixelcnn import structure_pixelcnn
from minigen.models.clip.clip import CLIP, ImageEncoder, TextEncoder
from minigen.models.diffusion.glide import encode_text
from minigen.pixel_demo import quantise

CODE = 64  # length of a code
KINDS = 4  # no object, and the first, second and third from the left
LEVELS = 5  # values of a colour channel
SHARE = 0.25  # of the steps, for CLIP
FEW = 16  # images of each batch from which the PixelCNN learns
SHOWN = 10


def main(argv=None):
    run = Demo("structure_pixelcnn", __doc__, argv, data=("scenes",), batch=64, steps=6000,
               staged=True, min_batch=2)
    data, first = run.data, int(SHARE * run.args.steps)
    clip = CLIP(ImageEncoder(data.shape, CODE), TextEncoder(len(VOCABULARY), LONGEST, CODE))
    model = structure_pixelcnn(data.shape, CODE, KINDS, LEVELS,
                               **({"h": 6, "depth": 1} if run.quick else {}))
    nn.init([clip, model], run.rng)
    opt_c, opt = optim.AdamW(nn.parameters(clip)), optim.Adam(nn.parameters(model))
    words = encode(data.train_captions)

    def step(t, rng):
        i = run.indices(t)
        if t < first:
            opt_c.lr = 3e-3 * optim.warmup_cosine(t, 0, first, floor=0.02)
            loss, _ = clip.loss(tensor(signed(run.batch(t))), run.xp.asarray(words[i]))
            return train.descend(opt_c, loss, name="clip", max_norm=1.0)
        i, opt.lr = i[:FEW], 4e-3 * optim.warmup_cosine(t, first, run.args.steps, floor=0.02)
        x = quantise(data.train_x[i], LEVELS, rng)
        h, kind = codes(clip, run.xp.asarray(words[i])), run.xp.asarray(data.train_masks[i])
        return train.descend(opt, model.loss(run.xp.asarray(x), h, kind), max_norm=1.0)

    run.fit(step, clip=clip, model=model, opt_c=opt_c, opt=opt)

    test = data.first(n_test=10 if run.quick else 200)
    x, kind, n = quantise(test.test_x, LEVELS, None), test.test_masks, min(SHOWN, len(test.test_x))
    h = codes(clip, run.xp.asarray(encode(test.test_captions)))
    here, before = np.arange(len(x)), np.roll(np.arange(n), 1)
    texts, maps = np.append(here, [before, here[:n]]), np.append(here, [here[:n], before])
    drawn, *other = np.split(model.sample(len(texts), run.rng, h[texts], kind[maps]),
                             [len(x), len(x) + n])
    shown = [a[:n] / (LEVELS - 1) for a in (x, drawn, *other)]
    shown.insert(1, np.broadcast_to(kind[:n] / (KINDS - 1), shown[0].shape))
    run.picture("samples", np.concatenate(shown), n)
    nats = metrics.nll(model, x, h, kind, batch=50)
    numbers = {"test_nll_nats": nats, "bits_per_dim": metrics.bits_per_dim(nats, x[0].size)}
    for name, images in (("truth", x / (LEVELS - 1)), ("drawn", drawn / (LEVELS - 1))):
        named, not_named = text_metrics.colours_shown(images, test.test_captions)
        numbers |= {f"colours_as_asked_{name}": as_asked(images, test),
                    f"colour_named_{name}": named, f"colour_not_named_{name}": not_named}
    run.finish(numbers)


def codes(clip, words):
    """CLIP's features of words (N, L), untracked: (N, L, D)."""
    with no_grad():
        return encode_text(clip.text, words)


def as_asked(images, test):
    """The share of objects that have more pixels of their own colour than of any other."""
    shown = np.stack([shows(hue)(images) for hue in COLOURS.values()])  # (colours, N, H, W)
    right = [shown[:, i, test.test_masks[i, 0] == k + 1].sum(1).argmax() == scene["colour"][k]
             for i, scene in enumerate(test.test_scenes) for k in range(scene["number"])]
    return np.mean(right)


if __name__ == "__main__":
    cli(main)
