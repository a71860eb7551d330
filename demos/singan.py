"""SinGAN: a generative model learnt from a single image.

    python demos/singan.py                                      offline, on a drawn landscape
    python demos/singan.py --image FILE                         on an image of your own
    python demos/singan.py --data cifar10 --data-dir DIR        on an image of CIFAR-10

samples.png: the image; its reconstruction; samples. wide.png: samples twice as wide. scales.png, a
row for each n from N − 1 to 0: the image at scale n + 1, and what G_n, …, G_0 draw from it.
edited.png: first the image, where a piece of it has been copied from the lower left to the upper
right, then what is drawn from it at the same n; below, the same for a mosaic of the mirrored image.
enlarged.png: the image enlarged by r², by bilinear interpolation and by G_0.

distance is the Fréchet distance of all 7×7-pixel patches of a sample from those of the image, a
mean over samples, in place of the paper's SIFID, which compares features of a classifier.
diversity, as in the paper, is the standard deviation of a pixel over samples, a mean over pixels,
divided by that of the image. apart asks whether samples are copies: the RMSE of crops of 24×24
pixels and the nearest of all such crops of the image. _0, _1, … are of images drawn from the image
at scale n + 1, as in scales.png; _mirrored of the mirror image; _spectrum of noise with the
spectrum of the image; _pasted, _pasted_0, … of the first row of edited.png.

--steps are those of all scales together, in equal shares, so a run that is resumed keeps them. The
shorter side of a FILE is reduced to 64 pixels; its results are in runs/singan-<its name>.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from minigen import interpolate, metrics, nn, train
from minigen.data import landscape, signed, unsigned
from minigen.demo import Demo, at_least, cli
from minigen.models.gan.dcgan import adam
from minigen.models.gan.singan import SinGAN, shrink
from minigen.train import UserError

SIZE = 64  # pixels of the shorter side of a large image
SIDE, CROP, BLOCK = 7, 24, 8  # pixels: of patches compared, of crops sought, of mosaics


def flags(parser):
    parser.add_argument("--image", metavar="FILE", help="learn this image instead of --data; "
                        "its name is then that of the folder of the results")
    parser.add_argument("--smallest", type=at_least(11), default=25, metavar="N",
                        help="pixels of the shorter side at the coarsest scale")


def complete(args):
    if args.image:
        args.data = None
        args.out = args.out or f"runs/singan-{Path(args.image).stem}{'-quick' * args.quick}"


def main(argv=None):
    run = Demo("singan", __doc__, argv, data=("landscape", "scenes", "cifar10"), batch=1,
               steps=3200, flags=flags, complete=complete, staged=True)
    x = signed(the_image(run))[None]
    model = SinGAN(x[0], run.args.smallest, width=8 if run.quick else 32, rng=run.rng)
    steps, scales = run.args.steps, model.N + 1
    if steps < scales:
        raise UserError(f"--steps is {steps}, but there are {scales} scales, each of which needs a "
                        "step: ask for more, or for a larger --smallest, which gives fewer scales")
    print(f"scales of {', '.join(f'{W}×{H}' for H, W in model.sizes(model.size)[::-1])} pixels, "
          f"{steps // scales} steps each{' or one more' * (steps % scales > 0)}", flush=True)
    opts = [(adam(nn.parameters(D)), adam(nn.parameters(psi)))
            for D, psi in zip(model.D, model.psi, strict=True)]

    def step(t, rng):
        n, share = scale(t, steps, model.N)
        if t == 0 or n != scale(t - 1, steps, model.N)[0]:
            model.begin(n)
        opt_d, opt_g = opts[n]
        opt_d.lr = opt_g.lr = 5e-4 if share < 0.8 else 5e-5
        numbers = train.descend(opt_d, model.d_loss(n, run.args.batch, rng), name="d_loss")
        return numbers | train.descend(opt_g, *model.g_loss(n, run.args.batch, rng), name="g_loss")

    run.fit(step, model=model, **{f"opt_{name}_{n}": opt for n, pair in enumerate(opts)
                                  for name, opt in zip("dg", pair, strict=True)})

    m = 10 if run.quick else 50
    samples, rec = model.sample(m, run.rng).numpy(), model.reconstruct().numpy()
    drawn = {n: model.inject(x.repeat(m, 0), n, run.rng).numpy()
             for n in range(model.N - 1, -1, -1)}
    H, W = model.size
    changed = np.concatenate([pasted(x), mosaic(x)])
    edited = [model.inject(changed, n, run.rng).numpy() for n in drawn]
    large = model.enlarge(x, 2, run.rng).numpy()
    bilinear = interpolate(x, size=large.shape[2:], mode="bilinear").numpy()
    show(run, "samples", [x, rec, samples[:10]], 4)
    show(run, "wide", [model.sample(3, run.rng, (H, 2 * W)).numpy()], 1)
    show(run, "scales", [part for n in drawn for part in (
        interpolate(model.x[n + 1], size=(H, W)).numpy(), drawn[n][:3])], 4)
    show(run, "edited", [part for i in range(2) for part in (
        changed[i:i + 1], *(images[i:i + 1] for images in edited))], 1 + len(edited))
    show(run, "enlarged", [bilinear, large], 2)
    generated = {"samples": samples, **drawn}
    compared = generated | {"reconstruction": rec, "mirrored": x[..., ::-1],
                            "spectrum": noise(x, m, run.rng), "pasted": changed[:1]}
    compared |= {f"pasted_{n}": some[:1] for n, some in zip(drawn, edited, strict=True)}
    run.finish({
        "rmse_reconstruction": np.sqrt(np.square(rec - x).mean()) / 2,
        **{f"distance_{name}": distance(images, x) for name, images in compared.items()},
        **{f"apart_{name}": apart(images, x) for name, images in compared.items()},
        **{f"diversity_{n}": images.std(0).mean() / x.std() for n, images in generated.items()},
        "sharpness_bilinear": metrics.sharpness(bilinear),
        "sharpness_enlarged": metrics.sharpness(large)})


def scale(t, steps, N):
    """The scale n of step t, from N for the first steps to 0 for the last, and which share of its
    steps has been done."""
    scales_done, rest = divmod(t * (N + 1), steps)
    return N - scales_done, rest / steps


def the_image(run):
    """The image to be learnt: uint8 (C, H, W)."""
    side = 32 if run.quick else SIZE
    if run.args.image:
        image = read(run.args.image, side)
    else:
        image = run.batch(0)[0] if run.data else landscape.draw(side, run.args.seed)
    H, W = image.shape[1:]
    if min(H, W) < max(CROP, 1.2 * run.args.smallest):
        raise UserError(f"the image has {W}×{H} pixels, expected {CROP} or more on both sides, and "
                        f"1.2 times --smallest, which is {run.args.smallest}")
    return image


def read(path, side):
    """An image file, its shorter side reduced to at most `side` pixels: uint8 (3, H, W)."""
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except OSError as e:
        raise UserError(f"--image {path}: cannot be read as an image ({e})") from None
    zoom = min(1, side / min(rgb.size))
    rgb = rgb.resize([round(zoom * n) for n in rgb.size], Image.Resampling.LANCZOS)
    return np.asarray(rgb).transpose(2, 0, 1)


def show(run, name, images, columns):
    run.picture(name, unsigned(np.concatenate(images)), columns)


def distance(images, x):
    """How far the patches of each of the images (m, C, H, W) are from those of x (1, C, H, W)."""
    real = metrics.patches(x, SIDE, 1)
    return np.mean([metrics.frechet_distance(metrics.patches(image[None], SIDE, 1), real)
                    for image in images])


def apart(images, x):
    """The mean RMSE, in [0, 1], of crops of a few images and the nearest crops of x."""
    crops, real = (unsigned(metrics.patches(some, CROP, 1)) for some in (images[:4], x))
    some = crops[::max(1, len(crops) // 500)]
    return metrics.nearest(some, real)[0].mean() / some.shape[1] ** 0.5


def noise(x, m, rng):
    """m images of Gaussian noise with the mean and the spectrum of x (1, C, H, W): each frequency
    of x is shifted by a random phase, the same in all channels."""
    phases = np.fft.fft2(rng.standard_normal((m, 1, *x.shape[2:])))
    phases[..., 0, 0] = 1
    return np.fft.ifft2(np.fft.fft2(x) * phases / abs(phases)).real.astype(x.dtype)


def pasted(x):
    """x (1, C, H, W) with a piece of its lower left copied to its upper right."""
    H, W = x.shape[2:]
    y, (h, w) = x.copy(), (H // 2, W // 4)
    y[:, :, H // 8:H // 8 + h, -w - W // 8:-(W // 8)] = x[:, :, -h:, W // 8:W // 8 + w]
    return y


def mosaic(x):
    """The mirror image of x (1, C, H, W), in squares of one colour each."""
    H, W = x.shape[2:]
    small = shrink(x[..., ::-1], (H // BLOCK, W // BLOCK))
    return interpolate(small, size=(H, W)).numpy()


if __name__ == "__main__":
    cli(main)
