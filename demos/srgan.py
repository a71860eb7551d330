"""SRResNet and SRGAN: images enlarged by the squared error, and against a discriminator.

    python demos/srgan.py                                      offline, on drawn digits
    python demos/srgan.py --data cifar10 --data-dir DIR        on CIFAR-10 (--download fetches it)

In the first half of the steps SRResNet learns to enlarge images by the squared error, and a
classifier learns its features φ. In the second half SRGAN starts from SRResNet. samples.png, in
rows: small images; enlarged by bicubic interpolation; by SRResNet; by SRGAN; the originals.

psnr (dB) and ssim compare enlarged images with the originals, features is the relative error of φ.
sharpness and the Fréchet distance to training images ask whether they look real: the mean
difference of neighbouring pixels, in [−1, 1]; fid_to_2000 of the ruler's features of digits,
fid_patches of 8×8-pixel patches. recognised is the share that the ruler classifies as the right
digit.

Differs from the paper: a few thousand steps, at learning rates that fall from 10⁻³ (SRResNet) and
2·10⁻⁴ (SRGAN's G; D's stays 5·10⁻⁴); psnr and ssim are of all pixels and channels, the paper's of
the luminance without the border.
"""

import numpy as np
from PIL import Image

from minigen import (
    avg_pool2d,
    cross_entropy,
    interpolate,
    metrics,
    mse_loss,
    nn,
    optim,
    ruler,
    tensor,
    train,
)
from minigen.data import in_batches, signed, unsigned
from minigen.demo import Demo, cli
from minigen.models.gan.dcgan import adam
from minigen.models.image_to_image.srgan import PHI, classifier, srgan, srresnet

METHODS = ("bicubic", "srresnet", "srgan")
SIDE = 8  # of a patch
FACTOR = {"glyphs": 4, "mnist": 4, "cifar10": 2}


def main(argv=None):
    run = Demo("srgan", __doc__, argv, data=tuple(FACTOR), batch=16, steps=3000, staged=True,
               flags=lambda p: p.add_argument("--factor", type=int, choices=(2, 4),
                                              help="how many times larger images become (default: "
                                              "2 on cifar10, else 4)"))
    factor, half = run.args.factor or FACTOR[run.args.data], run.args.steps // 2
    C, width = run.data.shape[0], 8 if run.quick else 32
    judge, plain = classifier(run.data.shape, len(run.data.classes)), srresnet(C, factor, width)
    model = srgan(C, factor, judge[:PHI], width)
    nn.init([judge, plain, model.G, model.D], run.rng)
    opt_judge, opt_plain = (optim.Adam(nn.parameters(net)) for net in (judge, plain))
    opt_g, opt_d = adam(nn.parameters(model.G)), adam(nn.parameters(model.D), 5e-4)

    def step(t, rng):
        x = tensor(signed(run.batch(t)))
        y = avg_pool2d(x, factor)
        if t < half:
            opt_plain.lr = opt_judge.lr = 1e-3 * optim.warmup_cosine(t, 0, half)
            loss = cross_entropy(judge(x), run.data.train_y[run.indices(t)])
            numbers = train.descend(opt_judge, loss, name="classifier")
            return numbers | train.descend(opt_plain, mse_loss(plain(y), x), name="srresnet")
        if t == half:
            nn.load_state_dict(model.G, nn.state_dict(plain))
        opt_g.lr = 2e-4 * optim.warmup_cosine(t, half, run.args.steps)
        G_y = model.G(y)
        numbers = train.descend(opt_d, model.d_loss(x, G_y), name="d_loss")
        return numbers | train.descend(opt_g, *model.g_loss(x, G_y), name="g_loss")

    run.fit(step, judge=judge, plain=plain, model=model, opt_judge=opt_judge, opt_plain=opt_plain,
            opt_g=opt_g, opt_d=opt_d)

    x = signed(run.data.test_x[:500])
    y = avg_pool2d(x, factor)
    outputs = {"small": interpolate(y, scale_factor=factor).numpy(), "bicubic": bicubic(y, factor),
               "srresnet": each(plain, y), "srgan": each(model.G, y), "real": x}
    outputs = {name: images.clip(-1, 1) for name, images in outputs.items()}
    run.picture("samples", unsigned(np.concatenate([images[:10] for images in outputs.values()])))
    numbers = {name: quality(outputs[name], run.data) for name in (*METHODS, "real")}
    phi = each(model.phi, x)
    for name in METHODS:
        x_hat, error = unsigned(outputs[name]), each(model.phi, outputs[name]) - phi
        numbers[name] |= {"psnr": metrics.psnr(x_hat, unsigned(x), 1),
                          "ssim": metrics.ssim(x_hat, unsigned(x), 1),
                          "features": np.square(error).mean() / np.square(phi).mean()}
    run.finish({f"{key}_{name}": value for name, some in numbers.items()
                for key, value in some.items()})


def quality(x, dataset):
    """Whether images x in [−1, 1], of the first test images of a data set, look real: a dict."""
    n, name = len(x), dataset.name
    numbers = {"sharpness": metrics.sharpness(x)}
    if name not in ruler.NAMES:
        train_x = signed(dataset.train_x[:4 * n])
        return numbers | {"fid_patches": metrics.frechet_distance(
            *(metrics.patches(images, SIDE) for images in (x, train_x)))}
    predicted = ruler.classify(unsigned(x), name).argmax(1)
    return numbers | {f"fid_to_2000@{n}": ruler.fid_to_2000(unsigned(x), dataset),
                      "recognised": (predicted == dataset.test_y[:n]).mean()}


def bicubic(y, factor):
    """Small images y (N, C, n, n) enlarged by bicubic interpolation. It is linear along each axis:
    its matrix (n · factor, n) is what becomes of the columns of the identity."""
    n = y.shape[2]
    identity = Image.fromarray(np.eye(n, dtype=np.float32))
    matrix = np.asarray(identity.resize((n, n * factor), Image.Resampling.BICUBIC))
    return matrix @ y.numpy() @ matrix.T


def each(net, x):
    """The outputs of a network for all of x, untracked, in evaluation mode."""
    with nn.evaluation(net):
        return in_batches(net, tensor(x), batch_size=100)


if __name__ == "__main__":
    cli(main)
