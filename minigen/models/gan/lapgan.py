"""LAPGAN (Denton, Chintala, Szlam & Fergus 2015): a GAN for the smallest image of a Laplacian
pyramid, and one for what each larger image adds to it.

    I_0 = x,  I_{k+1} = d(I_k)                    down: half the size
    l_k = u(I_{k+1}),  h_k = I_k − l_k            up again, and the details that are lost: k < K
    I_k = l_k + h_k                               so I_K and h_{K−1}, …, h_0 give x back

    Ĩ_K = G_K(z_K),  Ĩ_k = u(Ĩ_{k+1}) + G_k(z_k, u(Ĩ_{k+1}))              a sample, from K to 0

Each level is a game of its own, and can be trained beside the others: G_k draws details ĥ_k for the
l_k of a real image, and D_k tells them from its h_k. It sees the sum of details and l_k.

Differs from the paper: d takes means of 2×2 pixels and u is bilinear; D_k judges patches
(vqgan.py), in place of whole images; leaky ReLU in place of dropout in D_K.
"""

from minigen import concatenate, interpolate, nn, no_grad, relu
from minigen.models.gan.gan import NonSaturatingGAN, fully_connected
from minigen.models.gan.progressive import down
from minigen.models.vae.vqgan import texture_discriminator


def up(x):
    """Images (N, C, H, W) at twice the size: (N, C, 2H, 2W)."""
    return interpolate(x, scale_factor=2, mode="bilinear")


def pyramid(x, K):
    """The levels of images x (N, C, H, W): K pairs (h_k, l_k), the largest first, then (I_K,)."""
    levels = []
    for _ in range(K):
        x, large = down(x), x
        low = up(x)
        levels.append((large - low, low))  # eq: laplacian-pyramid
    return [*levels, (x,)]


class LAPGAN:
    """The pyramid of `games`: games[k] draws details h_k given l_k, and the last draws I_K. The
    levels of `pyramid(x, K)` are their real samples, each with what it is given."""

    def __init__(self, games):
        self.games = games
        self.K = len(games) - 1

    @no_grad()
    def rise(self, x, rng):
        """Samples of every size that begin with images x of the smallest, (n, C, H/2^K, W/2^K): a
        list, the smallest first."""
        images = [x]
        for game in reversed(self.games[:-1]):
            low = up(images[-1])
            images.append(low + game.sample(len(x), rng, low))  # eq: lapgan-sampling
        return images

    def sample(self, n, rng):
        """n images (n, C, H, W), about in [−1, 1]."""
        return self.rise(self.games[-1].sample(n, rng), rng)[-1]


class DrawDetails:
    """G_k: codes (N, H·W), which become one more channel, and l (N, C, H, W) to details h."""

    def __init__(self, C, width, rng):
        hidden = lambda a: (nn.Conv2d(a, width, 3, padding=1, bias=False, rng=rng),
                            nn.BatchNorm2d(width), relu)
        self.net = nn.Sequential(*hidden(C + 1), *hidden(width), *hidden(width),
                                 nn.Conv2d(width, C, 3, padding=1, rng=rng))

    def __call__(self, z, low):
        N, _, H, W = low.shape
        return self.net(concatenate([z.reshape(N, 1, H, W), low], axis=1))


class JudgeDetails:
    """D_k: details h and l, both (N, C, H, W), to logits of patches."""

    def __init__(self, C, width, rng):
        self.net = texture_discriminator(C, width, rng)

    def __call__(self, h, low):
        return self.net(h + low)  # eq: lapgan-discriminator


def lapgan(shape, d_z, K=2, width=32, d_h=512, rng=None):
    """A LAPGAN for images of `shape` (C, H, W) in [−1, 1], sides divisible by 2^K. ValueError for
    others."""
    C, H, W = shape
    if H % 2**K or W % 2**K:
        raise ValueError(f"lapgan: height and width must be divisible by {2**K}, got {H}×{W}")
    details = [NonSaturatingGAN(DrawDetails(C, width, rng), JudgeDetails(C, width, rng),
                                (H >> k) * (W >> k)) for k in range(K)]
    return LAPGAN([*details, fully_connected((C, H >> K, W >> K), d_z, d_h, rng=rng)])
