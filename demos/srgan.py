"""SRResNet and SRGAN: images enlarged by the squared error, and against a discriminator.

    python demos/srgan.py                                      offline, on drawn scenes
    python demos/srgan.py --data cifar10 --data-dir DIR        on CIFAR-10 (--download fetches it)

In the first half of the steps SRResNet learns to enlarge images by the squared error, and a
classifier learns its features φ. In the second half SRGAN starts from SRResNet. samples.png, in
rows: small images; enlarged by bicubic interpolation; by SRResNet; by SRGAN; the originals.

psnr (dB) and ssim compare pixels and windows with the original, features is ‖φ(x) − φ(x̂)‖²;
sharpness and fid_patches ask whether images look real: the mean difference of neighbouring pixels,
and the Fréchet distance of 8×8-pixel patches from those of training images.
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
    no_grad,
    optim,
    tensor,
    train,
)
from minigen.data import in_order, signed, unsigned
from minigen.demo import Demo, cli
from minigen.models.clip.clip import ImageEncoder
from minigen.models.gan.dcgan import adam
from minigen.models.image_to_image.srgan import srgan, srresnet

FACTOR = {"scenes": 4, "cifar10": 2}
SIDE = 8  # of a patch
LAYERS = 4  # of the classifier, up to φ: two convolutions and the norms after them


def main(argv=None):
    run = Demo("srgan", __doc__, argv, data=("scenes", "cifar10"), batch=16, steps=4000,
               flags=lambda p: p.add_argument("--factor", type=int, choices=(2, 4),
                                              help="how many times larger images become (default: "
                                              "4 on scenes, 2 on cifar10)"))
    factor, half = run.args.factor or FACTOR[run.args.data], (run.args.steps + 1) // 2
    C, width = run.data.shape[0], 8 if run.quick else 32
    classifier = ImageEncoder(run.data.shape, len(run.data.classes))
    plain = srresnet(C, factor, width)
    model = srgan(C, factor, classifier.convs[:LAYERS], width)
    nn.init([classifier, plain, model.G, model.D], run.rng)
    opt_c, opt_plain = (optim.Adam(nn.parameters(net)) for net in (classifier, plain))
    opt_g, opt_d = adam(nn.parameters(model.G)), adam(nn.parameters(model.D))

    def step(t, rng):
        x = tensor(signed(run.batch(t)))
        y = avg_pool2d(x, factor)
        if t < half:
            opt_plain.lr = opt_c.lr = 2e-3 * optim.warmup_cosine(t, 0, half)
            loss = cross_entropy(classifier(x), run.data.train_y[run.indices(t)])
            numbers = train.descend(opt_c, loss, name="classifier", max_norm=1.0)
            return numbers | train.descend(opt_plain, mse_loss(plain(y), x), name="srresnet")
        if t == half:
            nn.load_state_dict(model.G, nn.state_dict(plain))
        opt_g.lr = 2e-4 * optim.warmup_cosine(t, half, run.args.steps)
        G_y = model.G(y)
        numbers = train.descend(opt_d, model.d_loss(x, G_y), name="d_loss")
        return numbers | train.descend(opt_g, *model.g_loss(x, G_y), name="g_loss")

    run.fit(step, classifier=classifier, plain=plain, model=model, opt_c=opt_c,
            opt_plain=opt_plain, opt_g=opt_g, opt_d=opt_d)

    x = signed(run.data.test_x[:500])
    y, real = avg_pool2d(x, factor), metrics.patches(signed(run.data.train_x[:len(x)]), SIDE)
    phi = lambda x: each(model.phi, x)
    outputs = {"small": interpolate(y, scale_factor=factor).numpy(), "bicubic": bicubic(y, factor),
               "srresnet": each(plain, y), "srgan": each(model.G, y), "real": x}
    outputs = {name: images.clip(-1, 1) for name, images in outputs.items()}
    run.picture("samples", unsigned(np.concatenate([images[:10] for images in outputs.values()])))
    numbers = {"classified": (each(classifier, x).argmax(1) == run.data.test_y[:len(x)]).mean()}
    for name in ("bicubic", "srresnet", "srgan", "real"):
        x_hat = outputs[name]
        if name != "real":
            numbers |= {f"psnr_{name}": metrics.psnr(unsigned(x_hat), unsigned(x), 1),
                        f"ssim_{name}": metrics.ssim(unsigned(x_hat), unsigned(x), 1),
                        f"features_{name}": np.square(phi(x) - phi(x_hat)).mean()}
        numbers |= {f"sharpness_{name}": metrics.sharpness(x_hat),
                    f"fid_patches_{name}": metrics.frechet_distance(
                        metrics.patches(x_hat, SIDE), real)}
    run.finish(numbers)


def bicubic(y, factor):
    """Small images y (N, C, n, n) enlarged by bicubic interpolation. It is linear along each axis:
    its matrix (n · factor, n) is what becomes of the columns of the identity."""
    n = y.shape[2]
    identity = Image.fromarray(np.eye(n, dtype=np.float32))
    matrix = np.asarray(identity.resize((n, n * factor), Image.Resampling.BICUBIC))
    return matrix @ y.numpy() @ matrix.T


def each(net, x):
    """The outputs of a network for all of x, untracked."""
    with no_grad():
        return np.concatenate([net(few).numpy() for few in in_order(tensor(x), batch_size=100)])


if __name__ == "__main__":
    cli(main)
