"""A classifier p(y | x_t, t) of noisy images, which guides a diffusion model (see guidance.py).

A classifier trained on clean images has never seen an x_t: its gradient there is meaningless.

    loss = −E log p(y | x_t, t),    x_t ~ q(x_t | x_0), t uniform on {1 … T}
"""

from minigen import cross_entropy, nn, silu, tensor
from minigen.dist import noise


class NoisyClassifier:
    """Convolutions of stride 2, each conditioned on the time by AdaGN, then a linear layer: images
    of `shape` (C, H, W) and integers t (N,) → logits (N, classes)."""

    def __init__(self, shape, classes, widths=(32, 64, 64), D=64, rng=None):
        self.embed = nn.TimeEmbedding(D, rng=rng)
        pairs = zip((shape[0], *widths), widths, strict=False)
        self.convs = [nn.Conv2d(C, K, 4, stride=2, padding=1, rng=rng) for C, K in pairs]
        self.inject = [nn.AdaGN(K, D, rng) for K in widths]
        _, H, W = shape
        positions = (H >> len(widths)) * (W >> len(widths))
        self.last = nn.Linear(widths[-1] * positions, classes, rng=rng)

    def __call__(self, x_t, t):
        h, e = x_t, silu(self.embed(t))
        for conv, inject in zip(self.convs, self.inject, strict=True):
            h = inject(conv(h), e)
        return self.last(h.flatten(1))

    def loss(self, ddpm, x_0, y, rng):
        """The loss on images x_0, noised as in training `ddpm`, with labels y (N,)."""
        x_t, t = noised(ddpm, x_0, rng)
        return cross_entropy(self(x_t, t), y)


def noised(ddpm, x_0, rng):
    """x_t ~ q(x_t | x_0) at a random time for each image, and the times as a network takes them."""
    x_0 = tensor(x_0)
    t = rng.integers(1, ddpm.schedule.T + 1, len(x_0))
    return ddpm.q_sample(x_0, t, noise(rng, x_0)), ddpm.schedule.times[t]
