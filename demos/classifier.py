"""Classifier: train a small LeNet to recognise digits; it is the ruler for generated ones.

    python demos/classifier.py                                 offline, on drawn digits
    python demos/classifier.py --data mnist --data-dir DIR     on MNIST (--download fetches it)

Saves the network's weights by themselves in lenet-<data>.safetensors: copied to minigen/rulers/,
they are what `minigen.ruler` measures with.

samples.png: test images, sorted by the class that the network predicts. hardest.png: the test
images whose labels it finds least probable.
"""

import numpy as np

from minigen import data, metrics, nn, optim, train
from minigen.demo import Demo, cli
from minigen.models.classifier.lenet import LeNet

SHIFT = 2  # pixels


def shifted(x, rng, by=SHIFT):
    """Images x (N, C, H, W), each shifted by up to `by` pixels along both axes, with zeros at the
    edges."""
    N, _, H, W = x.shape
    wide = np.pad(x, ((0, 0), (0, 0), (by, by), (by, by)))
    down, across = rng.integers(0, 2 * by + 1, (2, N, 1))
    rows, columns = (down + np.arange(H))[:, :, None], (across + np.arange(W))[:, None, :]
    return wide[np.arange(N)[:, None, None], :, rows, columns].transpose(0, 3, 1, 2)


def main(argv=None):
    run = Demo("classifier", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=128,
               steps={"glyphs": 1500, "mnist": 3000, "fashion-mnist": 3000})
    model = LeNet(len(run.data.classes))
    nn.init(model, run.rng)
    opt = optim.AdamW(nn.parameters(model), lr=2e-3)

    def step(t, rng):
        opt.lr = 2e-3 * optim.cosine(t, run.args.steps)
        x = run.xp.asarray(shifted(run.data.train_x[run.indices(t)], rng)) / np.float32(255)
        return train.descend(opt, model.loss(x, run.data.train_y[run.indices(t)]))

    run.fit(step, model=model, opt=opt)
    with train.writing(run.out):
        nn.save(model, run.out / f"lenet-{run.args.data}.safetensors")

    x, y = run.data.test_x, run.data.test_y
    p = data.in_batches(lambda few: model.probabilities(few / np.float32(255)), x)
    p_right = p[np.arange(len(y)), y]
    hardest = np.argsort(p_right)[:50]  # those whose labels are least probable
    run.picture("samples", x[np.argsort(p.argmax(1), kind="stable")][::max(1, len(x) // 100)][:100])
    run.picture("hardest", x[hardest])
    print("labels of hardest.png:", *(f"{run.data.classes[y[i]]} (predicted "
                                      f"{run.data.classes[p[i].argmax()]})" for i in hardest[:10]))
    run.finish({"test_accuracy": (p.argmax(1) == y).mean(),
                "test_nll_nats": -np.log(np.maximum(p_right, 1e-30)).mean(),
                "test_inception_score": metrics.inception_score(p)})


if __name__ == "__main__":
    cli(main)
