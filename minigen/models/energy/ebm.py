"""A deep energy-based model (Du & Mordatch 2019): a network gives each image an energy E_θ(x).

    p_θ(x) = e^{−E_θ(x)/T} / Z        Z = ∫ e^{−E_θ(x)/T} dx

Z is intractable, but the gradient of log p needs only samples x' of the model:

    −T ∂ log p_θ(x)/∂θ = ∂E_θ(x)/∂θ − E_{x' ~ p_θ}[∂E_θ(x')/∂θ]

So images of the data are given lower energies and samples higher ones, until both are equal. The
last term of the loss keeps all energies near 0:

    L = E_x[E_θ(x)] − E_{x'}[E_θ(x')] + α (E_x[E_θ(x)²] + E_{x'}[E_θ(x')²])

x' come from Langevin dynamics, which goes downhill with some noise. Its stationary distribution is
p_θ with T = σ² / (2δ), if the steps are small:

    x ← x − δ ∇E_θ(x) + σ ε,  ε ~ N(0, I)

In training images of the data get σ ε, too, so that noise does not tell samples from them.

From noise to an image it takes hundreds of steps. In training each chain takes a few, and waits in
a buffer for the training step that continues it; a few chains start again from noise.

Differs from the paper: a small network without spectral normalisation; instead the gradient by a
pixel is limited to ±0.03, which a step multiplies by δ = 10.
"""

import numpy as np

from minigen import clip, grad, mean, nn, silu, square, sum, tensor
from minigen.dist import noise
from minigen.nn import initializers
from minigen.tensor import to_device_of, track, write

DELTA, SIGMA = 10.0, 0.005  # the step and the noise of Langevin dynamics
LIMIT = 0.03  # of the gradient by a pixel
ALPHA = 0.1
RESTART = 0.05  # the probability that a chain starts again from noise


class EBM:
    """`net` maps images (N, C, H, W) of `shape`, in [−1, 1], to energies (N,). The buffer `chains`
    keeps the images of n Langevin chains: (n, C, H, W)."""

    def __init__(self, net, shape, n=2000, rng=None):
        self.net, self.chains = net, tensor(np.zeros((n, *shape), np.float32))
        if rng is not None:
            initializers.uniform(self.chains, 1, rng)

    def init(self, rng):
        nn.init(self.net, rng)
        initializers.uniform(self.chains, 1, rng)

    def loss(self, x, rng, steps=20):
        """L for images x (N, C, H, W) and samples from N chains, continued for `steps` steps: a
        scalar, and its parts, the mean energies. ValueError if there are fewer than N chains,
        or for images of another shape."""
        shape = self.chains.shape[1:]
        if x.shape[1:] != shape:
            raise ValueError(f"ebm: images are {x.shape}, expected "
                             f"(N, {', '.join(map(str, shape))})")
        if len(x) > len(self.chains):
            raise ValueError(f"ebm: {len(x)} images need as many chains, there are "
                             f"{len(self.chains)}: use smaller batches, or a larger n")
        i = rng.choice(len(self.chains), len(x), replace=False)
        samples = self.langevin(self._continued(i, rng), rng, steps)
        write(self.chains, lambda a: a.__setitem__(to_device_of(i, a), samples.data))
        x = tensor(x)
        real, fake = self.net(x + SIGMA * noise(rng, x)), self.net(samples)
        size = mean(square(real)) + mean(square(fake))
        loss = mean(real) - mean(fake) + ALPHA * size  # eq: ebm-loss
        return loss, {"energy": mean(real).data, "energy_of_samples": mean(fake).data}

    def _continued(self, i, rng):
        """The images of chains i, some of which start again from noise in [−1, 1]."""
        x = self.chains.numpy()[i]
        again = rng.random(len(i)) < RESTART  # eq: ebm-chains
        x[again] = rng.uniform(-1, 1, x[again].shape)
        return tensor(to_device_of(x, self.chains.data))

    def langevin(self, x, rng, steps):
        """Images x (N, C, H, W), `steps` steps of Langevin dynamics on, clipped to [−1, 1]."""
        x = tensor(x).detach()
        for _ in range(steps):
            slope = clip(self._energy_grad(x), min=-LIMIT, max=LIMIT)
            x = x - DELTA * slope + SIGMA * noise(rng, x)  # eq: ebm-langevin
            x = clip(x, min=-1, max=1)
        return x

    def _energy_grad(self, x):
        """∇E_θ(x) (N, C, H, W), also under no_grad."""
        with track(True):
            x = tensor(x, requires_grad=True)
            return grad(sum(self.net(x)), x)

    def sample(self, n, rng, steps):
        """n images (n, C, H, W), `steps` steps from noise."""
        x = rng.uniform(-1, 1, (n, *self.chains.shape[1:])).astype(self.chains.dtype)
        return self.langevin(tensor(to_device_of(x, self.chains.data)), rng, steps)


class Energy:
    """Images (N, C, H, W) → energies (N,): convolutions that halve H and W three times, and two
    linear layers."""

    def __init__(self, shape, width=32, rng=None):
        C, H, W = shape
        channels = (C, width, 2 * width, 4 * width)
        self.convs = [nn.Conv2d(a, b, 4, stride=2, padding=1, rng=rng)
                      for a, b in zip(channels[:-1], channels[1:], strict=True)]
        self.hidden = nn.Linear(channels[-1] * (H // 8) * (W // 8), 128, rng=rng)
        self.last = nn.Linear(128, 1, rng=rng)

    def __call__(self, x):
        for conv in self.convs:
            x = silu(conv(x))
        return self.last(silu(self.hidden(x.flatten(1))))[:, 0]


def ebm(shape, width=32, n=2000, rng=None):
    """An EBM for images of `shape` (C, H, W), at least 8×8."""
    return EBM(Energy(shape, width, rng), shape, n, rng)
