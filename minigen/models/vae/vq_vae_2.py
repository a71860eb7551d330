"""VQ-VAE-2 (Razavi, van den Oord & Vinyals 2019): two grids of words, a coarse top grid for what is
in the image, and a fine bottom grid for how it looks.

    z_top = words nearest to E_top(h)                 h = E(x); half as high and wide as h
    z_bottom = words nearest to E_bottom(h, z_top)
    p(x | z_top, z_bottom)                                    one decoder for both
    p(z_top, z_bottom) = p(z_top) p(z_bottom | z_top)

Each grid has its own codebook, with the two codebook terms of L in vq_vae.py. Everything else is as
in the VQ-VAE; this file holds only the parts that come in pairs. p(z_bottom | z_top) is a PixelCNN
whose first layer also sees the top words around each position, including those below it and to its
right, because the top grid is complete by then.

Differs from the paper: networks of a few layers; words follow the gradient of L, where the paper
uses moving averages; top words are upsampled by repetition, not by a learnt layer; the priors are
two PixelCNNs without attention, and the bottom one is conditioned on the top words by one layer, in
the paper by a deep network.
"""

from minigen import concatenate, elu, interpolate, nn, one_hot, transpose
from minigen.dist import Bernoulli
from minigen.models.vae.vq_vae import CHANNELS, VQVAE, Codebook, Prior, vq_vae


def stack_grids(top, h):
    """The coarse top (N, C, h, w), upsampled, and the fine h (N, D, H, W), stacked as channels."""
    return concatenate([interpolate(top, size=h.shape[2:]), h], axis=1)


class Codebooks:
    """Two codebooks; k is a pair of grids. The network `E_top` reads h, the network `E_bottom`
    reads the top words stacked with h as channels."""

    def __init__(self, top, bottom, E_top, E_bottom):
        self.top, self.bottom, self.E_top, self.E_bottom = top, bottom, E_top, E_bottom

    def init_from(self, h, rng):
        """Set the words of both codebooks to random vectors from the two networks' outputs for h.
        """
        self.top.init_from(self.E_top(h), rng)
        _, z_top, *_ = self.top.quantise(self.E_top(h))
        self.bottom.init_from(self.E_bottom(stack_grids(z_top, h)), rng)

    def quantise(self, h):
        """As `Codebook.quantise`; the codebook and commitment losses are sums over both grids."""
        top, z_top, *top_losses = self.top.quantise(self.E_top(h))
        h = self.E_bottom(stack_grids(z_top, h))
        bottom, z_bottom, *bottom_losses = self.bottom.quantise(h)
        dictionary, commitment = (a + b for a, b in zip(top_losses, bottom_losses, strict=True))
        return (top, bottom), stack_grids(z_top, z_bottom), dictionary, commitment

    def __call__(self, k):
        """The words of a pair of grids, stacked as channels: (N, 2D, H, W)."""
        top, bottom = k
        return stack_grids(self.top(top), self.bottom(bottom))


class TopConditionedConv:
    """The first layer of a prior, `conv`, conditioned on a grid of top words 0 … K − 1."""

    def __init__(self, conv, K, rng=None):
        self.conv, self.K = conv, K
        self.V = nn.Conv2d(K, conv.weight.shape[0], 5, padding=2, bias=False, rng=rng)

    def __call__(self, words, top):
        top = transpose(one_hot(top, self.K, words.dtype), (0, 3, 1, 2))
        return self.conv(words) + self.V(interpolate(top, size=words.shape[2:]))


class Priors:
    """`top`: a `Prior` over top grids; `bottom`: one over bottom grids, given the top grids."""

    def __init__(self, top, bottom):
        self.top, self.bottom = top, bottom

    def log_prob(self, k):
        """log p(z_top, z_bottom) of a pair of grids, in nats: (N,)."""
        top, bottom = k
        return self.top.log_prob(top) + self.bottom.log_prob(bottom, top)  # eq: vqvae2-hierarchy

    def sample(self, n, rng):
        """n pairs: integers (n, h, w) and (n, H, W)."""
        top = self.top.sample(n, rng)
        return top, self.bottom.sample(n, rng, top)


def priors(K, size, d_h=96, depth=4, rng=None):
    """Priors over bottom grids of `size` (H, W), both even, and over top grids (H/2, W/2); d_h and
    depth as in `Prior`."""
    H, W = size
    top, bottom = Prior(K, (H // 2, W // 2), d_h, depth, rng), Prior(K, size, d_h, depth, rng)
    bottom.first = TopConditionedConv(bottom.first, K, rng)
    return Priors(top, bottom)


def vq_vae_2(shape, K=32, D=16, likelihood=Bernoulli, rng=None):
    """A VQ-VAE-2 for images of `shape` (C, H, W), H and W divisible by 8: a `VQVAE` whose k is a
    pair of grids, (H/8, W/8) and (H/4, W/4), each with K words of D numbers."""
    C, H, W = shape
    if H % 8 or W % 8:
        raise ValueError(f"vq_vae_2: height and width must be divisible by 8, got {H}×{W}")
    one, width = vq_vae(shape, K, 2 * D, likelihood, rng), CHANNELS[1]
    E_top = nn.Sequential(
        elu, nn.Conv2d(2 * D, width, 4, stride=2, padding=1, rng=rng),      # (N, width, H/8, W/8)
        elu, nn.Conv2d(width, D, 3, padding=1, rng=rng))
    E_bottom = nn.Conv2d(3 * D, D, 1, rng=rng)
    codebooks = Codebooks(Codebook(K, D, rng), Codebook(K, D, rng), E_top, E_bottom)
    return VQVAE(one.encoder, one.decoder, codebooks, priors(K, (H // 4, W // 4), rng=rng),
                 likelihood)
