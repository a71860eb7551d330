"""Conditional PixelCNN: sample the digit you ask for, pixel by pixel.

    python demos/conditional_pixelcnn.py                       offline, on drawn digits
    python demos/conditional_pixelcnn.py --data mnist          on MNIST (--download fetches it)

samples.png        a row for each class

drawn_as_asked is the share of samples that the ruler classifies as the digit asked for,
real_as_labelled the share of test images that it classifies as their label.
"""

import numpy as np

from minigen import metrics, nn, pixel_demo, ruler
from minigen.demo import Demo, cli, recordable
from minigen.models.autoregressive.conditional_pixelcnn import conditional


def main(argv=None):
    run = Demo("conditional_pixelcnn", __doc__, argv, batch=16,
               data=("glyphs", "mnist", "fashion-mnist"), flags=recordable,
               steps={"glyphs": 700, "mnist": 2000, "fashion-mnist": 2000})
    classes = len(run.data.classes)
    model = conditional(run.data.shape, classes, **({"h": 6, "depth": 1} if run.quick else {}))
    nn.init(model, run.rng)
    pixel_demo.fit(run, model, lr=8e-3, cond=lambda t: (run.data.train_y[run.indices(t)],))

    y = np.repeat(np.arange(classes), 1 if run.quick else 10)
    x = model.sample(len(y), run.rng, y)
    run.picture("samples", x.astype(float), len(y) // classes)
    x_test = pixel_demo.quantise(run.data.test_x, 2, np.random.default_rng(0))
    nats = metrics.nll(model, x_test, run.data.test_y)
    numbers = {"test_nll_nats": nats, "bits_per_dim": metrics.bits_per_dim(nats, x_test[0].size)}
    if run.data.name in ruler.NAMES:  # which class the ruler sees in the samples
        drawn = ruler.classify(x.astype(np.float32), run.data.name).argmax(1)
        real = ruler.classify(x_test[:1000].astype(np.float32), run.data.name).argmax(1)
        numbers |= {"drawn_as_asked": (drawn == y).mean(),
                    "real_as_labelled": (real == run.data.test_y[:1000]).mean()}
    run.finish(numbers)


if __name__ == "__main__":
    cli(main)
