"""PixelCNN++ (Salimans et al. 2017): predicts whole pixels, from the pixels above and to the left.

    p(x) = Π_ij p(x_ij | the rows above i, row i to the left of j)
           each factor a mixture of discretised logistics over three colours: logistic.py
    two streams: u_ij sees the rows above i; ul_ij also row i left of j, and takes u as input
    each block: h = conv(celu(x)) + 1×1(celu(u, a shortcut))    celu(x) = elu([x, −x])
                x ← x + a ⊙ σ(b),  (a, b) = conv(celu(h))

Convolutions look only up and left because padding shifts images down and right; no weight is
masked. Each stream halves the image and doubles it again, with shortcuts between equal sizes.

Differs from the paper: the mixture models (v − a) / s, where a and s are the prediction and the
scale of a `LinearPredictor`, and the network also sees arsinh((v − a) / 4s). With a predictor that
was never fitted, and so predicts grey, this is the paper's model. No dropout, no weight
normalisation; K = 5; widths are small. Why arsinh: without it an unlikely pixel in a sample led to
more unlikely ones, until about ten of 64 images (of CIFAR-10) were noise; with tanh, which forgets
how unlikely a pixel was, the network learns less.
"""

import numpy as np

from minigen import concatenate, elu, mean, nn, no_grad, sigmoid, split, sum, tensor
from minigen.logistic import LogisticMixture, check_levels, rescale
from minigen.models.autoregressive.linear_predictor import SIDE, UP, LinearPredictor, pad_context
from minigen.models.autoregressive.pixels import known_mask
from minigen.nn import initializers
from minigen.nn.shifted import Position, WholeImage, down_right_shifted, down_shifted
from minigen.tensor import write


class PixelCNNpp:
    """For images of `shape` (C, H, W), values 0 … 255, in NumPy. widths, depths: the channels and
    the blocks (going down, and as many going up) at each resolution, from H × W, halved each time.
    base: the `LinearPredictor` to start from; K: the number of mixture components."""

    def __init__(self, shape, base=None, widths=(32, 32, 32), depths=(1, 2, 2), K=5, rng=None):
        (C, H, W), factor = shape, 2 ** (len(widths) - 1)
        if H % factor or W % factor:
            raise ValueError(f"PixelCNNpp: height and width must be divisible by {factor} to be "
                             f"halved {len(widths) - 1} times, got {H}×{W}")
        self.shape, self.K, self.base = tuple(shape), K, base or LinearPredictor(C)
        if len(widths) != len(depths) or self.base.C != C:
            raise ValueError(f"PixelCNNpp: {len(widths)} widths came with {len(depths)} depths, "
                             f"images of {C} channels with a base for {self.base.C}: make them fit")
        D, width = 2 * C + 1, widths[0]
        self.above = down_shifted(D, width)
        self.just_above, self.left = down_shifted(D, width, 1), down_right_shifted(D, width, 1)
        self.u = Stream(down_shifted, widths, depths, others=0)
        self.ul = Stream(down_right_shifted, widths, depths, others=1)
        self.last = nn.Conv2d(2 * width, LogisticMixture.parameters(K, C), 1)
        self.init(initializers.generator(rng))

    def init(self, rng):
        """Draw the weights; the last layer starts as the linear predictor, its mixture's scales
        spread around the predictor's."""
        for part in (self.above, self.just_above, self.left, self.u, self.ul, self.last):
            nn.init(part, rng)
        K, (C, *_), s = self.K, self.shape, self.base.s
        c, before = np.tril_indices(C, -1)
        start = [np.zeros(K + K * C), np.repeat(np.arange(K) / 2 - (K - 1) / 4, C),
                 np.tile(self.base.B.numpy() * s[before] / s[c], K)]
        write(self.last.weight, lambda a: np.multiply(a, 0.1, out=a))
        initializers.values(self.last.bias, np.concatenate(start))

    def mixture(self, x):
        """p(x_ij | all pixels before it) for all pixels of x (N, C, H, W): a `LogisticMixture`."""
        v, at = rescale(self._checked(x), dtype=self.last.weight.dtype), WholeImage()
        a = self.base.predict(v)
        padded = np.pad(self.inputs(v, a), ((0, 0), (0, 0), (1, 0), (1, 0)))
        self.forward_u(tensor(padded[:, :, :-1, 1:]), at)
        return self.forward_ul(tensor(padded[:, :, 1:, :-1]), a, at)

    def inputs(self, v, a):
        """The network's input for pixels v with linear prediction a: (N, 2 C + 1, H, W)."""
        residual = np.arcsinh((v - a) / (4 * self.base.s[:, None, None]))  # see the top of the file
        return np.concatenate([v, residual, np.ones_like(v[:, :1])], axis=1)

    def forward_u(self, down, at):
        """Everything that sees only the rows above, computed from the image shifted down."""
        self.u(self.above(down, at), at)
        at.put("just above", self.just_above(down, at))

    def forward_ul(self, right, a, at):
        """The stream ul, computed from the image shifted right, and the mixture it outputs."""
        ul = self.ul(self.left(right, at) + at.get("just above"), at)
        return LogisticMixture.from_channels(self.last(concat_elu(ul)), a, self.base.s)

    def log_prob(self, x):
        """log p(x) of each image, exact, in nats: (N,). x is (N, C, H, W), integers 0 … 255."""
        return sum(self.mixture(x).log_prob(x), (1, 2))

    def loss(self, x):
        """−log p(x), averaged over a batch."""
        return -mean(self.log_prob(x))

    def sample(self, n, rng):
        """n images: integers (n, C, H, W), on the host."""
        return self.complete(np.zeros((n, *self.shape), int), False, rng)

    def complete(self, x, known, rng):
        """x (N, C, H, W), integers 0 … 255, with only the pixels at `known` kept (booleans that
        broadcast to (H, W)); the others are sampled in order, each given all those before it.

        u is computed a whole row at a time, ul one pixel at a time, or a row at a time where the
        whole row is known: see `Position`.
        """
        N, (C, H, W) = len(x), self.shape
        known = known_mask(known, (H, W))
        x = np.where(known, self._checked(x), 0).astype(int)
        v = pad_context(rescale(x, dtype=self.last.weight.dtype))
        padded, cache = np.zeros((N, 2 * C + 1, H + 1, W + 1), v.dtype), {}

        def write_inputs(i, j, a):  # add the pixels from (i, j) on, with prediction a, to `padded`
            to = j + a.shape[3]
            pixels = self.inputs(v[:, :C, i + UP:i + UP + 1, j + SIDE:to + SIDE], a)
            padded[:, :, i + 1:i + 2, j + 1:to + 1] = pixels

        with no_grad():
            for i in range(H):
                row = Position(cache, (H, W), i)
                self.forward_u(tensor(padded[:, :, i:i + 1, 1:]), row)
                if known[i].all():
                    a = self.base.predict_padded(v[:, :, i:i + UP + 1])
                    write_inputs(i, 0, a)
                    self.forward_ul(tensor(padded[:, :, i + 1:i + 2, :-1]), a, row)
                    continue
                for j in range(W):
                    a = self.base.predict_padded(v[:, :, i:i + UP + 1, j:j + 2 * SIDE + 1])
                    p = self.forward_ul(tensor(padded[:, :, i + 1:i + 2, j:j + 1]), a,
                                        Position(cache, (H, W), i, j))
                    if not known[i, j]:
                        x[:, :, i, j] = p.sample(rng)[:, :, 0, 0]
                        v[:, :C, i + UP, j + SIDE] = rescale(x[:, :, i, j], dtype=v.dtype)
                    write_inputs(i, j, a)
        return x

    def _checked(self, x):
        x = check_levels("PixelCNNpp", x)
        if x.shape[1:] != self.shape:
            raise ValueError(f"PixelCNNpp: images of {x.shape[1:]}, expected {self.shape}")
        return x


def concat_elu(x):
    """elu of x and of −x, concatenated: nothing is lost where x is negative."""
    return elu(concatenate([x, -x], axis=1))


class GatedResNet:
    """A block. key: its position in the stream; width: channels; short_cuts: how many shortcuts
    it takes as further inputs, each with as many channels."""

    def __init__(self, key, conv, width, short_cuts):
        self.key = key
        self.first, self.second = conv(2 * width, width), conv(2 * width, 2 * width)
        self.short = nn.Conv2d(2 * short_cuts * width, width, 1) if short_cuts else None

    def init(self, rng):
        for part in (self.first, self.second, self.short):
            nn.init(part, rng)
        write(self.second.conv.weight, lambda a: np.multiply(a, 0.1, out=a))

    def __call__(self, x, short_cuts, at):
        h = self.first(concat_elu(x), at)
        if short_cuts:
            h = h + self.short(concat_elu(concatenate(short_cuts, axis=1)))
        a, b = split(self.second(concat_elu(h), at), 2, axis=1)
        return x + a * sigmoid(b)


class Stream:
    """Blocks, a stream at half size, blocks again. others: 1 if it takes in the other stream."""

    def __init__(self, conv, widths, depths, others, level=0):
        (width, *smaller), (depth, *deeper) = widths, depths
        self.others, self.inner = others, None
        self.down = [GatedResNet((level, "down", i), conv, width, others) for i in range(depth)]
        self.up = [GatedResNet((level, "up", i), conv, width, others + 1) for i in range(depth)]
        if smaller:
            self.downsample = conv(width, smaller[0], stride=2)
            self.inner = Stream(conv, smaller, deeper, others, level + 1)
            self.upsample = nn.ConvTranspose2d(smaller[0], width, 2, stride=2)

    def __call__(self, x, at):
        skips = []
        for block in self.down:
            x = self._block(block, x, [], at)
            skips.append(x)
        if self.inner:
            x = at.inner(self, x)
        for block in self.up:
            x = self._block(block, x, [skips.pop()], at)
        return x

    def _block(self, block, x, short_cuts, at):
        if self.others:
            return block(x, [at.get(block.key), *short_cuts], at)
        x = block(x, short_cuts, at)
        at.put(block.key, x)
        return x
