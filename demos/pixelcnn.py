"""PixelCNN: sample images pixel by pixel, with exact likelihoods, and complete half an image.

    python demos/pixelcnn.py                                   offline, on drawn digits
    python demos/pixelcnn.py --data mnist --data-dir DIR       on MNIST (--download fetches it)
    python demos/pixelcnn.py --data scenes --levels 8          in colour, eight levels per channel

samples.png: samples. completions.png, a row per test image: the image, its upper half, completions
of that half. temperature.png: samples, a row per temperature (see minigen/pixel_demo.py).
"""

from minigen import nn, pixel_demo
from minigen.demo import Demo, cli
from minigen.models.autoregressive.pixelcnn import pixelcnn


def main(argv=None):
    run = Demo("pixelcnn", __doc__, argv, batch=16, flags=pixel_demo.flags,
               data=("glyphs", "mnist", "fashion-mnist", "scenes", "cifar10"),
               steps={"glyphs": 1000, "mnist": 2000, "fashion-mnist": 2000, "scenes": 600,
                      "cifar10": 2000})
    size = {"h": 6, "depth": 1} if run.quick else {}
    model = pixelcnn(run.data.shape, pixel_demo.levels(run), **size)
    nn.init(model, run.rng)
    pixel_demo.fit(run, model, lr=4e-3)
    pixel_demo.report(run, model)


if __name__ == "__main__":
    cli(main)
