"""Images value by value: what all autoregressive models of images have in common.

    p_θ(x) = Π_t p_θ(x_t | x_1, …, x_{t−1})      t runs through the rows from the top, each row from
                                                 the left, each pixel's colours: red, green, blue
    p_θ(x_t = v | x_<t) = softmax(s_t)_v         v = 0 … V − 1, scores s_t from a network

For a given image all factors are computed at once, so training is fast; sampling needs them one
after the other. With V = 2 the scores are (0, s), so s is the logit of a Bernoulli distribution.
"""

import numpy as np

from minigen import concatenate, cross_entropy, mean, nn, no_grad, sum, tensor
from minigen.logistic import check_levels, rescale
from minigen.models.autoregressive import decoding
from minigen.nn.masked import Scan
from minigen.tensor import to_device_of, xp


def outputs(levels):
    """The number of network outputs for each value of the image."""
    return 1 if levels == 2 else levels


def known_mask(known, shape):
    """Which values are kept: the booleans `known`, broadcast to `shape`. ValueError if impossible.
    """
    try:
        return np.broadcast_to(known, shape)
    except ValueError:
        raise ValueError(f"complete: known is {np.shape(known)}, expected {tuple(shape)}, or what "
                         "broadcasts to it") from None


class PixelModel:
    """Images of `shape` (C, H, W) whose values are integers 0 … levels − 1.

    net(x, *given): images (N, C, H, W) scaled to [−1, 1] → (N, C · outputs(levels), H, W), one
        colour after the other; no output may depend on its own position in x or on a later one
    net(x, *given, at): the outputs at one position, that of the `Scan` at, given the pixel there, x
        (N, C, 1, 1)

    `given` is whatever else the network takes (a label: see conditional_pixelcnn.py).
    """

    def __init__(self, net, shape, levels=2):
        self.net, self.shape, self.levels = net, tuple(shape), levels

    def scores(self, x, *given, **at):
        """s_t for every position in x, the network's input: (N, C, V, H, W)."""
        return self.to_scores(self.net(x, *given, **at))

    def to_scores(self, s):
        """The scores (N, C, V, H, W) from the network's output s."""
        N, _, H, W = s.shape
        s = s.reshape(N, self.shape[0], outputs(self.levels), H, W)
        if self.levels == 2:
            s = concatenate([tensor(xp(s.data).zeros_like(s.data)), s], axis=2)
        return s

    def log_prob(self, x, *given):
        """log p_θ(x) of images x, integers (N, C, H, W), in nats: (N,). It is exact."""
        x = self._checked(x)
        N, C, H, W = x.shape
        s = self.scores(tensor(self._scaled(x)), *given).reshape(N * C, self.levels, H, W)
        log_p = -cross_entropy(s, x.reshape(N * C, H, W), reduction="none")  # eq: pixel-softmax-256
        return sum(log_p.reshape(N, C * H * W), 1)  # eq: ar-model

    def loss(self, x, *given):
        """−log p_θ(x), averaged over a batch of images x, integers (N, C, H, W)."""
        return -mean(self.log_prob(x, *given))  # eq: pixelcnn-mle

    def sample(self, n, rng, *given, choose=decoding.sample):
        """n images: integers (n, C, H, W), on the network's device. `choose` as in `complete`."""
        return self.complete(np.zeros((n, *self.shape), int), False, rng, *given, choose=choose)

    def complete(self, x, known, rng, *given, choose=decoding.sample):
        """Images x, integers (N, C, H, W), with only the values at `known` (booleans that broadcast
        to x) kept; the others are sampled, each given all those before it.

        choose(s, rng): chooses values (N,) from their scores s (N, V); see decoding.py

        Each position takes one evaluation of the network there (see `Scan`), not a pass over the
        whole image; the slides call sampling sequential and slow because positions cannot be
        sampled in parallel.
        """
        x, known = self._init_canvas(x, known)
        C, H, W = self.shape
        with no_grad():
            at = Scan(self._scaled(x))
            for at.i, at.j in np.ndindex(H, W):
                for c in range(C):
                    if known[:, c, at.i, at.j].all() and c < C - 1:
                        continue
                    s = self.scores(tensor(at.pixel()), *given, at=at)[:, c, :, 0, 0].data
                    self._choose(s, x, known, (c, at.i, at.j), choose, rng)
                    at.x[:, c, at.i, at.j] = self._scaled(x[:, c, at.i, at.j])
                at.commit_pixel()
        return x

    def _init_canvas(self, x, known):
        """x as a new array on the network's device, 0 where not known; and `known`, shaped like x.
        """
        known, x = known_mask(known, np.shape(x)), self._checked(x)
        canvas = xp(x).where(to_device_of(known, x), x, 0).astype(int)
        return to_device_of(canvas, nn.like(self.net)).copy(), known

    def _choose(self, s, x, known, position, choose, rng):
        """Choose the values x[:, position] that are not known, from their scores s (N, V)."""
        here = slice(None), *position
        if not known[here].all():
            x[here] = xp(x).where(to_device_of(known[here], x), x[here], choose(s, rng))

    def _checked(self, x):
        """x as an array of levels, or a TypeError or ValueError."""
        x = check_levels(type(self).__name__, x, self.levels)
        if x.shape[1:] != self.shape:
            raise ValueError(f"{type(self).__name__}: images are {x.shape}, expected (N, "
                             f"{', '.join(map(str, self.shape))})")
        return x

    def _scaled(self, x):
        """Levels as floats in [−1, 1], of the network's dtype."""
        return rescale(x, self.levels, nn.like(self.net).dtype)
