"""Two ways to control what a DDPM generates, although it was not trained for it.

SDEdit (Meng et al. 2022): a crude drawing y becomes an image. Noise drowns details first
(frequency.py), so the crude ones are gone after some steps, and the reverse process adds others:

    x_{t_0} ~ q(x_{t_0} | y),        x_{t−1} ~ p_θ(x_{t−1} | x_t) from there on

The larger t_0, the more the results look like images, and the less like y.

ILVR (Choi et al. 2021): the image is to look like y from afar. At every step the low frequencies of
the sample are replaced by those of y, noised to the same level:

    x′ ~ p_θ(x_{t−1} | x_t),    y_{t−1} ~ q(y_{t−1} | y),    x_{t−1} = φ(y_{t−1}) + x′ − φ(x′)

φ replaces the pixels of each n×n square by their mean; so φ(φ(x)) = φ(x), and at the end
φ(x_0) = φ(y). The larger n, the more is left to the model.

Differs from the papers: SDEdit uses DDPM's chain, where the paper solves a stochastic differential
equation, and all of a drawing may change; in the paper φ is bicubic and need not be applied at
every step.
"""

from minigen import avg_pool2d, interpolate, tensor
from minigen.models.diffusion.ddpm import DDPM


def sdedit(ddpm, y, t_0, rng, *given, threshold=None):
    """Images (N, C, H, W), one for each crude drawing y in [−1, 1], from a trained DDPM. ValueError
    unless t_0 is one of 1 … T."""
    x = ddpm.q(y, t_0).sample(rng)
    chain = ddpm.chain(x, rng, *given, threshold=threshold, start=t_0)
    return next(x for t, x in chain if t == 0)


def low_pass(x, n):
    """φ of images (N, C, H, W) whose sides are divisible by n. ValueError for others."""
    if x.shape[2] % n or x.shape[3] % n:
        raise ValueError(f"ILVR: n = {n} does not divide both sides of images {x.shape}")
    return interpolate(avg_pool2d(x, n), size=x.shape[2:])


class ILVR(DDPM):
    """A trained DDPM with one sample for each reference image y (N, C, H, W) in [−1, 1], which
    looks like y from afar: φ(x_0) = φ(y). A `threshold` is applied before this replacement. n: the
    side of φ's squares, in pixels. ValueError unless n divides the images' sides."""

    def __init__(self, net, schedule, y, n, sigma2=None):
        super().__init__(net, schedule, sigma2)
        self.y, self.n = tensor(y), n
        low_pass(self.y, n)  # an n that does not divide is refused here, not at the first step

    def step(self, x_t, t, rng, *given, threshold=None):
        """As in `DDPM`. ValueError unless x_t has the shape of y."""
        if x_t.shape != self.y.shape:
            raise ValueError(f"ILVR: images x_t are {x_t.shape}, the references {self.y.shape}")
        x = super().step(x_t, t, rng, *given, threshold=threshold)
        y = self.q(self.y, t - 1).sample(rng) if t > 1 else self.y
        return low_pass(y, self.n) + x - low_pass(x, self.n)
