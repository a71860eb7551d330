"""BigGAN (Brock, Donahue & Simonyan 2019): a class-conditional GAN from parts that had each made
training more stable, and afterwards a trade of variety for fidelity.

    L_D as in sagan.py,   L_G = −E_{z,y}[D(G(z, y), y)] + R_β
    R_β = β Σ_W ‖W Wᵀ ⊙ (1 − I)‖²_F        orthogonal regularisation; a row of W is a filter of G

    CBN(h) = (1 + γ) (h − μ) / σ + β,  γ = A [z_i, e(y)],  β = B [z_i, e(y)]         in block i of G

z is cut into chunks: the first makes the smallest feature map, the others enter one block each
(skip-z), together with the embedding e of the class, which all blocks share. D takes two steps for
one of G's, and samples are drawn with an average of G's weights (nn.EMA).

The truncation trick: with all entries of z in [−τ, τ], those beyond drawn again, samples are more
typical and less varied. Batch norm then needs the statistics of such z (`standing_statistics`).

Differs from the paper: small networks, for images of 28×28 or 32×32; spectral normalisation in D,
but in G only of the self-attention: with it in all layers, digits of a class became nearly the same
image; convolutions start from uniform weights instead of orthogonal ones; R_β is of convolutions
only; shortcuts are convolved before up-sampling, which gives the same function; D is the one of
sagan.py.
"""

import math

import numpy as np

from minigen import (
    concatenate,
    interpolate,
    nn,
    no_grad,
    relu,
    split,
    square,
    sum,
    tanh,
    tensor,
)
from minigen.models.gan.sagan import SAGAN, Discriminator, SelfAttention, halvings
from minigen.nn.conditioned import as_vectors
from minigen.tensor import to_device_of, xp

D_CLASS = 32  # numbers in the shared embedding of a class


class BigGAN(SAGAN):
    """The game of G(z, y) and D(x, y), on labels y (N,)."""

    def __init__(self, G, D, d_z, beta=1e-4):
        super().__init__(G, D, d_z)
        self.beta = beta

    def codes(self, n, rng, tau=np.inf):
        """n codes z ~ N(0, I), truncated to [−τ, τ]: (n, d_z). ValueError unless τ > 0."""
        if not tau > 0:
            raise ValueError(f"BigGAN: codes are truncated to [−τ, τ], expected τ > 0, got {tau}")
        weight = nn.like(self.G)
        z = rng.standard_normal((n, self.d_z), weight.dtype)
        while (abs(z) > tau).any():
            again = rng.standard_normal(z.shape, z.dtype)
            z = np.where(abs(z) > tau, again, z)  # eq: truncation-trick
        return tensor(to_device_of(z, weight))

    def g_loss(self, n, rng, y):
        """L_G on n images with the labels y."""
        return super().g_loss(n, rng, y) + self.beta * non_orthogonality(self.G)  # eq: hinge-gan


def non_orthogonality(model):
    """Σ ‖W Wᵀ ⊙ (1 − I)‖²_F over the convolutions of a model: 0 if the filters of each are
    orthogonal to each other, of whatever norms."""
    total = 0
    for _, part in nn.walk(model):
        if isinstance(part, nn.Conv2d):
            W = part.weight.flatten(1)
            off_diagonal = 1 - xp(W.data).eye(len(W), dtype=W.dtype)
            total += sum(square(W @ W.T * off_diagonal))  # eq: orthogonal-regularisation
    return total


def standing_statistics(game, tau, rng, passes=50, batch=64):
    """Give G's batch norms the statistics of its present weights and of codes in [−τ, τ]: the mean
    of those of each batch, over `passes` batches of random classes. G keeps its mode."""
    norms = {part: part.momentum for _, part in nn.walk(game.G) if isinstance(part, nn.BatchNorm2d)}
    with nn.evaluation(game.G), no_grad():  # afterwards, the old mode
        nn.train(game.G)
        for k in range(passes):
            for norm in norms:
                norm.momentum = 1 / (k + 1)
            game.G(game.codes(batch, rng, tau), rng.integers(game.G.classes, size=batch))
    for norm, momentum in norms.items():
        norm.momentum = momentum


class ConditionalBatchNorm:
    """CBN: h (N, C, H, W), whose scale and shift are linear in a condition (N, d)."""

    def __init__(self, C, d, rng):
        self.norm = nn.BatchNorm2d(C, affine=False)
        self.gain, self.bias = (nn.Linear(d, C, bias=False, rng=rng) for _ in range(2))

    def __call__(self, h, condition):
        gain, bias = (f(condition).reshape(*h.shape[:2], 1, 1) for f in (self.gain, self.bias))
        return (1 + gain) * self.norm(h) + bias  # eq: conditional-batch-norm


class Up:
    """A residual block of G, which doubles the size: (N, C, H, W) → (N, K, 2H, 2W)."""

    def __init__(self, C, K, d, rng):
        self.norm_1, self.norm_2 = (ConditionalBatchNorm(c, d, rng) for c in (C, K))
        self.conv_1, self.conv_2 = (nn.Conv2d(c, K, 3, padding=1, rng=rng) for c in (C, K))
        self.skip = nn.Conv2d(C, K, 1, rng=rng)

    def __call__(self, x, condition):
        h = interpolate(relu(self.norm_1(x, condition)), scale_factor=2)
        h = self.conv_2(relu(self.norm_2(self.conv_1(h), condition)))
        return interpolate(self.skip(x), scale_factor=2) + h


class Generator:
    """z (N, (1 + blocks) d_chunk) and labels y (N,), or a weight for each class, y (N, classes) →
    images (N, C, H, W) in [−1, 1]. Self-attention comes before the last of the blocks."""

    def __init__(self, d_chunk, classes, shape, width, rng):
        C, H, W = shape
        blocks, d = halvings(H, W), d_chunk + D_CLASS
        self.d_z, self.classes = (1 + blocks) * d_chunk, classes
        self.small = (width << blocks, H >> blocks, W >> blocks)
        self.embed = nn.Embedding(classes, D_CLASS, rng)
        self.first = nn.Linear(d_chunk, math.prod(self.small), rng=rng)
        self.blocks = [Up(2 * width << i, width << i, d, rng) for i in reversed(range(blocks))]
        self.attention = SelfAttention(2 * width, rng)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, C, 3, padding=1, rng=rng)

    def __call__(self, z, y):
        z_0, *chunks = split(z, 1 + len(self.blocks), axis=1)
        e = as_vectors(y, len(z), self.classes, z.dtype) @ self.embed.weight
        h = self.first(z_0).reshape(len(z), *self.small)
        for block, z_i in zip(self.blocks, chunks, strict=True):
            if block is self.blocks[-1]:
                h = self.attention(h)
            h = block(h, concatenate([z_i, e], axis=1))
        return tanh(self.last(relu(self.norm(h))))


def biggan(shape, classes, d_chunk=16, width=16, rng=None):
    """A BigGAN for images of `shape` (C, H, W) in [−1, 1], with `d_chunk` entries of z for each
    block and for the first feature map."""
    G = Generator(d_chunk, classes, shape, width, rng)
    D = Discriminator(classes, shape, width, rng)
    return BigGAN(G, D, G.d_z)
