"""Deep image prior: a network that has seen nothing but one damaged image restores it.

    python demos/deep_image_prior.py                                on drawn scenes, offline
    python demos/deep_image_prior.py --data cifar10 --data-dir DIR  on CIFAR-10 (--download fetches)

samples.png, a row per image: the original; with noise, denoised (the network's output at step
--stop), and the network's output at the end; with half of its pixels missing, and filled in; at
half the size, and enlarged. psnr.png: the PSNR of these outputs during training. impedance.png: how
fast a network fits an image, the same image with noise, with its pixels shuffled, and pure noise.
--batch is the number of images; each of them has a separate network for each of these tasks.
"""

import numpy as np

from minigen import avg_pool2d, interpolate, metrics, nn, no_grad, optim, pictures, tensor, train
from minigen.demo import Demo, at_least, cli
from minigen.models.prior import deep_image_prior as dip
from minigen.tensor import write

SIGMA, FACTOR = 0.1, 2  # of the noise; between the sizes of an image and a small one
RESTORED = ("noisy", "dropped", "small")


def main(argv=None):
    run = Demo("deep_image_prior", __doc__, argv, data=("scenes", "cifar10"), batch=2, steps=1000,
               flags=lambda p: p.add_argument("--stop", type=at_least(1), default=200, metavar="N",
                                              help="the step at which the denoised image is taken"))
    images = run.batch(0)[:2 if run.quick else None] / np.float32(255)
    rng = np.random.default_rng((run.args.seed, 1))
    given = [damaged(x, rng) for x in images]
    priors = {name: [dip.DeepImagePrior(images.shape[1:], rng=run.rng) for _ in images]
              for name in given[0] if name != "mask"}
    opt = optim.Adam(nn.parameters(priors), lr=0.01)
    stop, denoised = min(run.args.stop, run.args.steps) - 1, tensor(np.zeros_like(images))

    def step(t, rng):
        numbers = dict.fromkeys([f"psnr_{name}" for name in RESTORED], 0.0)
        energies = dict.fromkeys(priors, 0)
        for name, networks in priors.items():
            for n, prior in enumerate(networks):
                x = prior()
                energies[name] += energy(name, x, *(
                    run.xp.asarray(given[n][key][None]) for key in (name, "mask")))
                if name in RESTORED:
                    numbers[f"psnr_{name}"] += metrics.psnr(x, images[n:n + 1], 1) / len(images)
                if name == "noisy" and t == stop:
                    write(denoised, lambda d, n=n, x=x: d.__setitem__(n, x.data[0]))
        return train.descend(opt, sum(energies.values()), energies | numbers)

    run.fit(step, priors=priors, opt=opt, denoised=[denoised])

    with no_grad():
        final = {name: np.concatenate([prior().numpy() for prior in networks])
                 for name, networks in priors.items()}
    of = lambda name: np.stack([g[name] for g in given])
    enlarged = [interpolate(tensor(of("small")), scale_factor=FACTOR, mode=mode).numpy()
                for mode in ("nearest", "bilinear")]
    columns = [images, of("noisy"), denoised.numpy(), final["noisy"], of("dropped"),
               final["dropped"], enlarged[0], final["small"]]
    run.picture("samples", np.concatenate(np.stack(columns, 1)).clip(0, 1), columns=len(columns))
    log = pictures.read_log(run.out / "log.jsonl")
    steps = [line["step"] for line in log]
    with train.writing(run.out / "psnr.png"):
        pictures.lines(run.out / "psnr.png", {
            "xlabel": "step", "ylabel": "PSNR, dB", "curves": {
                name: (steps, [line[f"psnr_{name}"] for line in log], "-") for name in RESTORED}})
        pictures.lines(run.out / "impedance.png", {
            "xlabel": "step", "ylabel": "‖x − x̂‖² per value", "yscale": "log", "curves": {
                name: (steps, [line[name] / images.size for line in log], "-")
                for name in ("image", "noisy", "shuffled", "noise")}})
    near = lambda x: metrics.psnr(x, images, 1)
    run.finish({
        "psnr_noisy": near(of("noisy")), "psnr_denoised": near(denoised),
        "psnr_too_late": near(final["noisy"]), "psnr_filled": near(final["dropped"]),
        "psnr_bilinear": near(enlarged[1]), "psnr_enlarged": near(final["small"])})


def damaged(x, rng):
    """The damaged versions of an image (C, H, W), by name, and the mask of the known pixels."""
    mask = dip.pixel_drop(x.shape, rng)
    return {**dip.impedance(x, SIGMA, rng), "mask": mask, "dropped": mask * x,
            "small": avg_pool2d(tensor(x[None]), FACTOR).numpy()[0]}


def energy(name, x, x_hat, mask):
    """The energy E(x, x̂) for the kind of damage `name`."""
    if name == "dropped":
        return dip.inpainting(x, x_hat, mask)
    return (dip.super_resolution if name == "small" else dip.denoising)(x, x_hat)


if __name__ == "__main__":
    cli(main)
