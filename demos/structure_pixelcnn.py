"""Text- and structure-conditional PixelCNN: a caption says what is in a scene, a map says where.

    python demos/structure_pixelcnn.py                     offline, on drawn scenes with captions

samples.png, a column a test scene: itself; its map, with the objects numbered from the left; what
is drawn of its map and caption; of its map and the caption of the scene before; and of its caption
and the map of the scene before.

A share of objects that are of their caption's colour is measured where the map has them, on the
test images themselves (as the model sees them, with fewer levels) and on what is drawn of their
maps and captions. Chance is one in six.
"""

import numpy as np

from minigen import metrics, nn, pixel_demo
from minigen.data.scenes import COLOURS, LONGEST, VOCABULARY, encode
from minigen.demo import Demo, cli, recordable
from minigen.models.autoregressive.structure_pixelcnn import structure_pixelcnn
from minigen.models.gan.dissection import colour

KINDS = 4  # no object, and the first, second and third from the left
LEVELS = 8  # values of a pixel's colour
SHOWN = 10


def main(argv=None):
    run = Demo("structure_pixelcnn", __doc__, argv, data=("scenes",), batch=16, steps=2500,
               flags=recordable)
    V, data = LEVELS, run.data
    model = structure_pixelcnn(data.shape, len(VOCABULARY), LONGEST, KINDS, V,
                               **({"h": 6, "depth": 1} if run.quick else {}))
    nn.init(model, run.rng)
    words = encode(data.train_captions)
    pixel_demo.learn(run, model, lr=3e-3, max_norm=1.0, given=lambda t: (
        words[run.indices(t)], data.train_masks[run.indices(t)]))

    test = data.first(n_test=20 if run.quick else 200)
    x = pixel_demo.quantised(test.test_x, V, None)
    c, kind, n = encode(test.test_captions), test.test_masks, min(SHOWN, len(x))
    drawn = model.sample(len(x), run.rng, c, kind)
    before = np.roll(np.arange(n), 1)
    other = [model.sample(n, run.rng, *given) for given in ((c[before], kind[:n]),
                                                           (c[:n], kind[before]))]
    maps = np.broadcast_to(kind[:n] / (KINDS - 1), x[:n].shape)
    run.picture("samples", np.concatenate([x[:n] / (V - 1), maps, *(
        y / (V - 1) for y in (drawn[:n], *other))]), n)
    nats = metrics.nll(model, x, c, kind, batch=50)
    run.finish({"test_nll_nats": nats, "bits_per_dim": metrics.bits_per_dim(nats, x[0].size),
                "colours_real": as_named(x / (V - 1), test),
                "colours_drawn": as_named(drawn / (V - 1), test)})


def as_named(images, test):
    """The share of the objects of scenes whose pixels, where the map has them, are of the object's
    colour, more than of another."""
    shown = np.stack([colour(hue)(images) for hue in COLOURS.values()])  # (colours, N, H, W)
    right = [shown[:, i, test.test_masks[i, 0] == k + 1].sum(1).argmax() == scene["colour"][k]
             for i, scene in enumerate(test.test_scenes) for k in range(scene["number"])]
    return np.mean(right)


if __name__ == "__main__":
    cli(main)
