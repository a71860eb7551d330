"""The vector-quantised VAE (van den Oord, Vinyals & Kavukcuoglu 2017): an image is a small grid of
words, the vectors of a codebook e_1 … e_K, and an autoregressive prior models these grids.

    z_q = e_k,  k = argmin_j ‖E(x) − e_j‖          at every position of the grid
    L = −log p(x | z_q) + ‖sg[E(x)] − z_q‖² + β ‖sg[z_q] − E(x)‖²          sg: stop-gradient
    p(k) = Π_i p(k_i | k_1, …, k_{i−1})            row by row

argmin has no gradient, so the decoder's gradient with respect to z_q is passed on to E(x) unchanged
(the straight-through estimator). The second term of L moves the words towards the encoder's
outputs, the third keeps the encoder's outputs close to their words. With the decoder N(x̂, ½ I) the
first is the slides' ‖x − x̂‖², up to a constant.

log p(x) ≥ log p(x | z_q) + log p(k), because k is only one of the grids that x may come from: a
bound that is comparable with the other models' ELBO.

Differs from the paper: networks of three layers without residual blocks; the prior learns at the
same time, not afterwards; words are initialised with the encoder's outputs for some images, because
most random words would never be the nearest; β = 1 as on the slides, where the paper has 0.25.
"""

import numpy as np

from minigen import (
    argmin,
    cross_entropy,
    elu,
    mean,
    nn,
    no_grad,
    one_hot,
    relu,
    square,
    sum,
    take,
    tensor,
    transpose,
)
from minigen.dist import Bernoulli, per_image
from minigen.models.autoregressive.decoding import sample
from minigen.nn import initializers
from minigen.nn.masked import MaskedConv2d, PositionBias

CHANNELS = (32, 64)


class Codebook:
    """The codebook: K words, vectors of D numbers."""

    def __init__(self, K, D, rng=None):
        self.weight = initializers.parameter(K, D)
        self.init(initializers.generator(rng))

    def init(self, rng):
        initializers.uniform(self.weight, 1 / len(self.weight), rng)

    def init_from(self, z, rng):
        """Set the words to vectors chosen at random from z (N, D, h, w). ValueError for vectors of
        another length."""
        if z.ndim != 4 or z.shape[1] != self.weight.shape[1]:
            raise ValueError(f"Codebook.init_from: vectors are {z.shape}, expected (N, "
                             f"{self.weight.shape[1]}, h, w)")
        z = transpose(z, (0, 2, 3, 1)).numpy().reshape(-1, self.weight.shape[1])
        initializers.values(self.weight, z[rng.integers(0, len(z), len(self.weight))])

    def nearest(self, z):
        """The index k of the word nearest to each vector of z (N, D, h, w): (N, h, w)."""
        z, e = transpose(tensor(z).detach(), (0, 2, 3, 1)), self.weight.detach()
        return argmin(sum(square(e), 1) - 2 * (z @ transpose(e)), -1)  # eq: vq-quantize

    def __call__(self, k):
        """The words with the indices k (N, h, w): (N, D, h, w)."""
        return transpose(take(self.weight, k, 0), (0, 3, 1, 2))

    def quantise(self, z):
        """For z (N, D, h, w): k, z_q with its gradient passed straight through to z, the codebook
        loss ‖sg[z] − z_q‖² and the commitment loss ‖sg[z_q] − z‖², both averaged over N."""
        k = self.nearest(z).numpy()
        z_q = self(k)
        dictionary = mean(per_image(square(z.detach() - z_q)))
        commitment = mean(per_image(square(z_q.detach() - z)))
        return k, z + (z_q - z).detach(), dictionary, commitment


class Prior:
    """A PixelCNN over grids of `size` (h, w) of words 0 … K − 1, which it reads as one-hot vectors.

    d_h: channels; depth: 3×3 convolutions after the first, which is 5×5

    Any further inputs to the first layer (another grid: see vq_vae_2.py) follow as `*given`.
    """

    def __init__(self, K, size, d_h=96, depth=4, rng=None):
        self.K, self.size = K, tuple(size)
        self.first = MaskedConv2d(K, d_h, 5, "A", rng=rng)
        self.position_bias = PositionBias(d_h, *size)
        self.blocks = [MaskedConv2d(d_h, d_h, 3, "B", rng=rng) for _ in range(depth)]
        self.last = MaskedConv2d(d_h, K, 1, "B", rng=rng)

    def scores(self, k, *given):
        """The scores of the word at every position of grids k (N, h, w): (N, K, h, w)."""
        words = transpose(one_hot(k, self.K, self.position_bias.bias.dtype), (0, 3, 1, 2))
        x = self.position_bias(self.first(words, *given))
        for block in self.blocks:
            x = x + block(relu(x))
        return self.last(relu(x))

    def log_prob(self, k, *given):
        """log p(k) of grids k (N, h, w), in nats: (N,). ValueError for grids of another size."""
        if k.shape[1:] != self.size:
            raise ValueError(f"Prior: grids are {k.shape}, expected (N, {str(self.size)[1:-1]})")
        nll = cross_entropy(self.scores(k, *given), k, reduction="none")
        return -per_image(nll)  # eq: vq-prior-ar

    def sample(self, n, rng, *given):
        """n grids: integers (n, h, w). Grids are small, so each word costs a pass over a whole one.
        """
        k = np.zeros((n, *self.size), int)
        with no_grad():
            for i, j in np.ndindex(self.size):
                k[:, i, j] = sample(self.scores(k, *given)[:, :, i, j].numpy(), rng)
        return k


class VQVAE:
    """`encoder`: images (N, ...) → (N, D, h, w); `decoder`: from there to the parameters of
    p(x | z), which `likelihood` turns into a distribution; `codebook` and `prior` as above."""

    def __init__(self, encoder, decoder, codebook, prior, likelihood=Bernoulli, beta=1.0):
        self.encoder, self.decoder, self.codebook, self.prior = encoder, decoder, codebook, prior
        self.likelihood, self.beta = likelihood, beta

    def encode(self, x):
        """The words of images x (N, ...): integers (N, h, w)."""
        with no_grad():
            return self.codebook.quantise(self.encoder(tensor(x)))[0]

    def decode(self, k):
        """p(x | k) for words k (N, h, w): a distribution over images."""
        return self.likelihood(self.decoder(self.codebook(k)))

    def autoencode(self, x):
        """For images x (N, ...): k, the mean x̂ of p(x | z_q), L, and L's first two terms, a dict.
        """
        k, z_q, dictionary, commitment = self.codebook.quantise(self.encoder(tensor(x)))
        p = self.likelihood(self.decoder(z_q))
        reconstruction = -mean(per_image(p.log_prob(x)))
        loss = reconstruction + dictionary + self.beta * commitment  # eq: vq-loss
        return k, p.mean, loss, {"reconstruction": reconstruction, "dictionary": dictionary}

    def loss_without_quantisation(self, x):
        """−log p(x | E(x)), without quantisation, averaged over images x (N, ...). Train with this
        first and add the words later, when the encoder's outputs are informative; words used from
        the start would stay few and grey."""
        return -mean(per_image(self.likelihood(self.decoder(self.encoder(x))).log_prob(x)))

    def loss(self, x):
        """L − log p(k), averaged over images x (N, ...), and its parts."""
        k, _, loss, parts = self.autoencode(x)
        prior = -mean(self.prior.log_prob(k))
        return loss + prior, parts | {"prior": prior}

    def log_joint(self, x):
        """log p(x | k) and log p(k) for images x and their words k: (N,) each, untracked. Their sum
        is log p(x, k) ≤ log p(x)."""
        with no_grad():
            k = self.encode(x)
            return per_image(self.decode(k).log_prob(x)), self.prior.log_prob(k)

    def generate(self, n, rng):
        """p(x | k) for n grids k drawn from the prior: a distribution over images."""
        with no_grad():
            return self.decode(self.prior.sample(n, rng))


def vq_vae(shape, K=32, D=16, likelihood=Bernoulli, rng=None):
    """A VQ-VAE for images of `shape` (C, H, W), H and W divisible by 4, with grids (H/4, W/4)."""
    C, H, W = shape
    if H % 4 or W % 4:
        raise ValueError(f"vq_vae: height and width must be divisible by 4, got {H}×{W}")
    K1, K2 = CHANNELS
    encoder = nn.Sequential(
        nn.Conv2d(C, K1, 4, stride=2, padding=1, rng=rng), elu,             # (N, K1, H/2, W/2)
        nn.Conv2d(K1, K2, 4, stride=2, padding=1, rng=rng), elu,            # (N, K2, H/4, W/4)
        nn.Conv2d(K2, D, 3, padding=1, rng=rng))
    decoder = nn.Sequential(
        nn.Conv2d(D, K2, 3, padding=1, rng=rng), elu,
        nn.ConvTranspose2d(K2, K1, 4, stride=2, padding=1, rng=rng), elu,
        nn.ConvTranspose2d(K1, C, 4, stride=2, padding=1, rng=rng))
    prior = Prior(K, (H // 4, W // 4), rng=rng)
    return VQVAE(encoder, decoder, Codebook(K, D, rng), prior, likelihood)
