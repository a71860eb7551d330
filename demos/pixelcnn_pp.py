"""PixelCNN++: exact likelihoods and samples of colour images, compared with a linear predictor.

    python demos/pixelcnn_pp.py                                offline, on drawn scenes
    python demos/pixelcnn_pp.py --data cifar10 --data-dir DIR  on CIFAR-10 (--download fetches it)
    python demos/pixelcnn_pp.py --plain                        from grey, as in the paper

samples.png        64 samples
completions.png    a row for each test image: the image, its upper half, completions of that half
"""

import time

import numpy as np

from minigen import metrics, nn, no_grad, optim, pictures, train
from minigen.demo import Demo, cli
from minigen.models.autoregressive.linear_predictor import LinearPredictor
from minigen.models.autoregressive.pixelcnn_pp import PixelCNNpp

HELD_OUT, EVERY = 100, 100  # test images evaluated during training, steps between evaluations


def flags(parser):
    parser.add_argument("--plain", action="store_true",
                        help="do not start from the linear predictor, but from grey")


def main(argv=None):
    run = Demo("pixelcnn_pp", __doc__, argv, batch=8, flags=flags,
               data=("scenes", "cifar10", "glyphs", "mnist", "fashion-mnist"),
               steps={"scenes": 1200, "cifar10": 2000, "glyphs": 500, "mnist": 2000,
                      "fashion-mnist": 2000})
    side = 16 if run.quick else None
    train_x, test_x = (x[..., :side, :side] for x in (run.data.train_x, run.data.test_x))
    shape, colour = test_x.shape[1:], test_x.shape[1] == 3
    linear = LinearPredictor(shape[0]).fit(train_x)
    sizes = {"widths": (4, 4, 4), "depths": (1, 1, 1), "K": 2} if run.quick else {}
    model = PixelCNNpp(shape, None if run.args.plain else linear, **sizes)
    nn.init(model, run.rng)
    opt = optim.Adam(nn.parameters(model), lr=2e-3)

    def bits(scored, x):
        with no_grad():
            return metrics.bits_per_dim(metrics.nll(scored, x, batch=50), x[0].size)

    held_out = test_x[:HELD_OUT]
    yardstick = bits(linear, held_out)
    print(f"linear predictor: {yardstick:.4f} bits per dimension on {len(held_out)} test images")

    def step(t, rng):
        running = {} if t % EVERY else {"held_out_bits_per_dim": bits(model, held_out)}
        opt.lr = 2e-3 * optim.warmup_cosine(t, 0, run.args.steps, warmup_steps=20)
        x = train_x[run.indices(t)]
        if colour:  # photographs may be mirrored, digits may not
            x = np.where(rng.random((len(x), 1, 1, 1)) < 0.5, x[..., ::-1], x)
        loss = model.loss(x)
        return train.descend(opt, loss, {
            "bits_per_dim": metrics.bits_per_dim(loss.item(), x[0].size)} | running)

    run.fit(step, model=model, opt=opt)

    n = 4 if run.quick else 64
    began = time.perf_counter()
    x = model.sample(n, run.rng)
    seconds = time.perf_counter() - began
    with no_grad():  # naive sampling takes a pass through the whole network for each pixel
        model.mixture(x)  # the first call may have to compile kernels
        began = time.perf_counter()
        model.mixture(x)
        naive = (time.perf_counter() - began) * shape[1] * shape[2]
    run.picture("samples", x / 255, columns=8)

    rows, each = (1, 2) if run.quick else (10, 6)
    whole = test_x[:rows]
    upper = np.arange(shape[1])[:, None] < shape[1] // 2
    drawn = model.complete(np.repeat(whole, each, 0), upper, run.rng)
    shown = [whole[:, None] / 255, np.where(upper, whole / 255, 0.5)[:, None],
             drawn.reshape(rows, each, *shape) / 255]
    run.picture("completions", np.concatenate(shown, 1).reshape(-1, *shape), columns=2 + each)

    log = pictures.read_log(run.out / "log.jsonl")
    better = [line for line in log if line.get("held_out_bits_per_dim", yardstick) < yardstick]
    passed = {"linear_predictor_passed_after_steps": better[0]["step"] - 1,
              "linear_predictor_passed_after_seconds": better[0]["seconds"]} if better else {}
    run.finish({"bits_per_dim": bits(model, test_x),
                "linear_predictor_bits_per_dim": bits(linear, test_x), **passed,
                "sampling_seconds": seconds, "naive_sampling_seconds": naive,
                "naive_sampling_ratio": naive / seconds})


if __name__ == "__main__":
    cli(main)
