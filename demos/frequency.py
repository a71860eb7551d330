"""Diffusion by frequency: noise drowns fine detail first, and a denoiser keeps what is left.

    python demos/frequency.py                                  offline, on drawn digits
    python demos/frequency.py --data cifar10 --data-dir DIR    on photographs

The denoiser is the smallest possible one, √ᾱ_t F(x̂_0) = g F(x_t), with one learnt gain g for each
t and each |f|. The best gain is known, Wiener's, so spectra.png can show both.

samples.png, a column per time t, for two test images: x_t, its coarse part, its fine part, and the
denoised image. gain_error is the mean difference of g from Wiener's gain, drowns_at_t@f the time at
which noise becomes stronger than the signal at |f|.
"""

import numpy as np

from minigen import data, mean, nn, optim, pictures, square, take, tensor, train
from minigen.demo import Demo, cli
from minigen.models.diffusion import frequency, schedule

TIMES = np.array([1, 10, 20, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 1000])
SHOWN = [1, 50, 150, 300, 500, 800]  # of these, in spectra.png


class Gains:
    """The gains g, one for each of TIMES and each |f| = 0 … R − 1."""

    def __init__(self, R):
        self.g = tensor(np.full((len(TIMES), R), 0.5, np.float32), requires_grad=True)

    def loss(self, signal, F_t, k, power):
        """|√ᾱ F(x_0) − g F(x_t)|² divided by the `power` of F(x_t), for transforms (N, C, H, W) at
        the times TIMES[k], k (N,)."""
        g = take(self.g, k, axis=0)
        parts = (np.abs(signal) ** 2, (signal * F_t.conj()).real, np.abs(F_t) ** 2)
        a, b, c = (frequency.radial_mean(v).mean(1).astype(np.float32) for v in parts)  # (N, R)
        return mean((a - 2 * g * b + square(g) * c) / power[k])

    def denoise(self, x_t, k, alpha_bar):
        """x̂_0 for images x_t (N, C, H, W) at the time TIMES[k]. In the transform's corners, beyond
        the last |f|, the gain is that of the last |f|."""
        g = self.g.numpy()[k]
        r = np.minimum(frequency.radius(*x_t.shape[2:]), len(g) - 1)
        return np.fft.ifft2(g[r] * np.fft.fft2(x_t)).real / alpha_bar ** 0.5


def main(argv=None):
    run = Demo("frequency", __doc__, argv, steps=600, batch=64)
    s = schedule.linear(1000)
    alpha_bar = s.alpha_bar[TIMES]
    P = frequency.radial_spectrum(data.signed(run.data.train_x[:2000]).astype(np.float64))
    power = (np.outer(alpha_bar, P) + 1 - alpha_bar[:, None]).astype(np.float32)
    model = Gains(len(P))
    opt = optim.Adam(nn.parameters(model), lr=0.05)

    def noised(x_0, k, rng):
        a = alpha_bar[k].reshape(-1, 1, 1, 1)
        return a ** 0.5 * x_0 + (1 - a) ** 0.5 * rng.standard_normal(x_0.shape)

    def step(t, rng):
        opt.lr = 0.05 * optim.cosine(t, run.args.steps, floor=0.02)
        x_0 = data.signed(run.data.train_x[run.indices(t)])
        k = rng.integers(0, len(TIMES), len(x_0))
        signal = alpha_bar[k].reshape(-1, 1, 1, 1) ** 0.5 * frequency.fourier(x_0)
        F_t = frequency.fourier(noised(x_0, k, rng))
        return train.descend(opt, model.loss(signal, F_t, k, power))

    run.fit(step, model=model, opt=opt)

    # a column for each time: x_t, its coarse part, its fine part (on grey), and the denoised image
    x_0, cutoff = data.signed(run.data.test_x[:2]), len(P) // 3
    rows = []
    for image in x_0:
        k = np.arange(len(TIMES))
        x_t = noised(np.repeat(image[None], len(k), 0), k, run.rng)
        x_0_hat = np.concatenate([model.denoise(x_t[k:k + 1], k, alpha_bar[k]) for k in k])
        rows += [x_t, frequency.band_pass(x_t, 0, cutoff),
                 frequency.band_pass(x_t, cutoff, 10**6), x_0_hat]
    run.picture("samples", data.unsigned(np.concatenate(rows)), columns=len(TIMES))

    f, crossover = np.arange(1, len(P)), frequency.crossover_step(P, s)[1:]
    wiener = frequency.wiener(P, alpha_bar[:, None])
    g = model.g.numpy()
    shown = np.flatnonzero(np.isin(TIMES, SHOWN))
    with train.writing(run.out / "spectra.png"):
        pictures.lines(
            run.out / "spectra.png",
            {"title": "power of x_t: signal, and noise (dashed)", "xlabel": "|f|, cycles per image",
             "yscale": "log", "curves": {f"t = {TIMES[k]}": (f, alpha_bar[k] * P[1:], f"C{i}-")
                                         for i, k in enumerate(shown)}
             | {f"_noise {k}": (f, np.full(len(f), 1 - alpha_bar[k]), f"C{i}--")
                for i, k in enumerate(shown)}},
            {"title": "when noise exceeds the signal", "xlabel": "|f|, cycles per image",
             "ylabel": "t", "curves": {"drowns at t": (f, crossover)}},
            {"title": "gain of the denoiser: learnt (dots), best", "xlabel": "|f|",
             "curves": {f"_{TIMES[k]}": (f, g[k, 1:], f"C{i}o") for i, k in enumerate(shown)}
             | {f"t = {TIMES[k]}": (f, wiener[k, 1:], f"C{i}-") for i, k in enumerate(shown)}})

    run.finish({"gain_error": np.abs(g - wiener).mean(),
                **{f"drowns_at_t@f={f}": crossover[f - 1] for f in (1, len(P) // 2, len(P) - 1)}})


if __name__ == "__main__":
    cli(main)
