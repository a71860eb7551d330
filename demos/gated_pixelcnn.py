"""Gated PixelCNN: two stacks of gated convolutions, which together see all previous pixels.

    python demos/gated_pixelcnn.py                             offline, on drawn digits
    python demos/gated_pixelcnn.py --data mnist --data-dir DIR on MNIST (--download fetches it)

samples.png: samples. completions.png, a row per test image: the image, its upper half, completions
of that half. temperature.png: samples, a row per temperature (see minigen/pixel_demo.py).
"""

from minigen import nn, pixel_demo
from minigen.demo import Demo, cli
from minigen.models.autoregressive.gated_pixelcnn import gated_pixelcnn


def main(argv=None):
    run = Demo("gated_pixelcnn", __doc__, argv, batch=16, flags=pixel_demo.flags,
               data=("glyphs", "mnist", "fashion-mnist", "scenes", "cifar10"),
               steps={"glyphs": 700, "mnist": 2000, "fashion-mnist": 2000, "scenes": 400,
                      "cifar10": 1500})
    size = {"h": 6, "depth": 1} if run.quick else {}
    model = gated_pixelcnn(run.data.shape, pixel_demo.levels(run), **size)
    nn.init(model, run.rng)
    pixel_demo.fit(run, model, lr=8e-3)
    pixel_demo.report(run, model)


if __name__ == "__main__":
    cli(main)
