"""PixelRNN: a recurrent network reads the image in both directions, one anti-diagonal at a time.

    python demos/pixelrnn.py                                   offline, on drawn digits
    python demos/pixelrnn.py --data mnist --data-dir DIR       on MNIST (--download fetches it)

samples.png: samples. completions.png, a row per test image: the image, its upper half, completions
of that half. temperature.png: samples, a row per temperature (see minigen/pixel_demo.py).
"""

from minigen import nn, pixel_demo
from minigen.demo import Demo, cli
from minigen.models.autoregressive.pixelrnn import pixelrnn


def main(argv=None):
    run = Demo("pixelrnn", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=16,
               steps={"glyphs": 1000, "mnist": 2000, "fashion-mnist": 2000}, flags=pixel_demo.flags)
    model = pixelrnn(run.data.shape, pixel_demo.levels(run), 8 if run.quick else 64)
    nn.init(model, run.rng)
    pixel_demo.fit(run, model, lr=6e-3, max_norm=1.0)
    pixel_demo.report(run, model)


if __name__ == "__main__":
    cli(main)
