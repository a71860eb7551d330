"""Input optimisation: fool a classifier of digits, and see what its features keep of an image.

    python demos/adversarial.py                                offline, on drawn digits
    python demos/adversarial.py --data mnist --data-dir DIR    on MNIST (--download fetches it)

samples.png: test images; the same images, changed until each is classified as the next class; and
the changes, on grey. fooling.png: for each class an image that the network is sure of.
accuracy.png: the test accuracy when every pixel changes by ε: at random, or in the way that is
worst for a linear network with two classes. inversion.png: test images; images with the same
features in the last layer, without and with total variation; and images in which these features are
amplified.

deceived is the share of changed images that reach the next class, least_p_fooled the network's
lowest probability for a fooling image's class.
"""

import numpy as np

from minigen import data, nn, optim, pictures, tensor, train
from minigen.demo import Demo, cli
from minigen.models.classifier import input_optimisation as inputs
from minigen.models.classifier.lenet import LeNet

EPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


def main(argv=None):
    run = Demo("adversarial", __doc__, argv, data=("glyphs", "mnist", "fashion-mnist"), batch=128,
               steps=1000)
    model = LeNet(len(run.data.classes))
    nn.init(model, run.rng)
    opt = optim.AdamW(nn.parameters(model), lr=2e-3)

    def step(t, rng):
        opt.lr = 2e-3 * optim.cosine(t, run.args.steps)
        x = run.batch(t) / np.float32(255)
        return train.descend(opt, model.loss(x, run.data.train_y[run.indices(t)]))

    run.fit(step, model=model, opt=opt)

    x, y = run.data.test_x[:1000] / np.float32(255), run.data.test_y[:1000]
    classes, x_0, steps = len(run.data.classes), x[:10], 20 if run.quick else 300
    wrong = (predict(model, x_0) + 1) % classes
    adversarial = x_0.copy()
    for x_adv in inputs.ascend(inputs.log_p(model, wrong), x_0, steps, 0.01):
        fooled = (predict(model, x_adv) == wrong) & (adversarial == x_0).all((1, 2, 3))
        adversarial[fooled] = x_adv.numpy()[fooled]  # each when it first gets its wrong class
    run.picture("samples", np.concatenate([x_0, adversarial, (adversarial - x_0) / 2 + 0.5]))

    fooling, p = inputs.fool(model, x.mean(0), np.arange(classes), run.rng,
                             confidence=0.0 if run.quick else 0.9999)
    run.picture("fooling", fooling.numpy())

    def random(eps):
        return (x + eps * run.rng.choice([-1, 1], x.shape).astype(np.float32)).clip(0, 1)

    of = {"random": random,
          "worst": lambda eps: inputs.fast_gradient_sign(model, x, y, np.float32(eps))}
    right = {name: [(predict(model, f(eps)) == y).mean() for eps in EPS] for name, f in of.items()}
    with train.writing(run.out / "accuracy.png"):
        pictures.lines(run.out / "accuracy.png", {
            "xlabel": "ε", "ylabel": "accuracy", "ylim": (0, 1),
            "curves": {name: (EPS, shares) for name, shares in right.items()}})

    grey, rows = np.full_like(x_0, 0.5), [x_0]
    for objective, start in ((inputs.inversion(model.features, x_0, 0.0), grey),
                             (inputs.inversion(model.features, x_0, 0.5), grey),
                             (inputs.dream(model.features), x_0)):
        *_, x_star = inputs.ascend(objective, start, steps, 0.01)
        rows.append(x_star.numpy())
    run.picture("inversion", np.concatenate(rows))
    run.finish({"test_accuracy": right["worst"][0], "accuracy_random@eps=0.1": right["random"][2],
                "accuracy_worst@eps=0.1": right["worst"][2],
                "deceived": (predict(model, adversarial) == wrong).mean(),
                "mean_change_of_a_pixel": np.abs(adversarial - x_0).mean(),
                "largest_change_of_a_pixel": np.abs(adversarial - x_0).max(),
                "least_p_fooled": p.min()})


def predict(model, x):
    """The classes that the network predicts for images (N, C, H, W): (N,)."""
    return data.in_batches(model, tensor(x).numpy()).argmax(1)


if __name__ == "__main__":
    cli(main)
