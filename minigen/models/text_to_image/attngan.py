"""AttnGAN (Xu et al. 2018): each stage looks up, at each place, the words that matter there.

    h₀ = F₀(z, ē),   hᵢ = Fᵢ(hᵢ₋₁, F^attn(e, hᵢ₋₁)),   x̂ᵢ = Gᵢ(hᵢ),   i = 0, …, m − 1
    F^attn: for each place a mean of the words' codes e, weighted by softmax(hᵀ e')
    L = L_G + λ L_DAMSM,   L_G = Σ_{i=0…m−1} L_{Gᵢ}

ē is the sentence's code, e' the words' after a linear map. L_{Gᵢ} and its discriminators are those
of stackgan.py, L_DAMSM (damsm.py) asks of the last image whether it matches the words.

Differs from the paper: DCGAN's blocks, two stages of 16×16 and 32×32; ē without noise around it.
"""

from minigen import (
    avg_pool2d,
    concatenate,
    nn,
    relu,
    scaled_dot_product_attention,
    swapaxes,
    tanh,
    tensor,
)
from minigen.models.gan.dcgan import Net
from minigen.models.gan.gan import Game
from minigen.models.text_to_image.stackgan import Judge, d_loss, g_loss


class Attention:
    """F^attn: words e (N, T, d) at the places of h (N, K, H, W), as maps (N, K, H, W)."""

    def __init__(self, d, K, rng=None):
        self.words = nn.Linear(d, K, bias=False, rng=rng)

    def __call__(self, h, e, there):
        places = swapaxes(h.flatten(2), 1, 2)  # (N, H·W, K)
        e = self.words(e)
        c = scaled_dot_product_attention(places, e, e, there[:, None], scale=1.0)
        return swapaxes(c, 1, 2).reshape(h.shape)


class Generator:
    """m stages: z (N, d_z), words e (N, T, d), which of them there are (N, T), and the sentence ē
    (N, d) to a list of m images, the first 16×16, each twice as large as the one before."""

    def __init__(self, d_z, d, C=3, K=48, stages=2, rng=None):
        self.first = Net(nn.ConvTranspose2d(d_z + d, 4 * K, 4, bias=False),
                         nn.BatchNorm2d(4 * K), relu, *double(4 * K, 2 * K), *double(2 * K, K),
                         rng=rng)
        self.look = [Attention(d, K, rng) for _ in range(stages - 1)]
        self.next = [Net(nn.Conv2d(2 * K, K, 3, 1, 1, bias=False), nn.BatchNorm2d(K), relu,
                         *double(K, K), rng=rng) for _ in range(stages - 1)]
        self.draw = [nn.Sequential(nn.Conv2d(K, C, 3, 1, 1, rng=rng), tanh) for _ in range(stages)]

    def __call__(self, z, e, there, e_bar):
        h = [self.first(concatenate([z, e_bar], axis=1).reshape(len(z), -1, 1, 1))]
        for look, following in zip(self.look, self.next, strict=True):
            h.append(following(concatenate([h[-1], look(h[-1], e, there)], axis=1)))
        draw = zip(self.draw, h, strict=True)
        return [G_i(h_i) for G_i, h_i in draw]  # eq: attngan-stage-images


def double(a, b):
    """From a channels to b, at twice the size."""
    return nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), relu


class AttnGAN(Game):
    """The game of all stages: D is a list of discriminators, `damsm(x̂, e, there, ē)` is L_DAMSM
    of images. Real images are given at full size; a smaller stage's are their means."""

    def __init__(self, G, D, d_z, damsm, lam=1.0):
        super().__init__(G, D, d_z)
        self.damsm, self.lam = damsm, lam

    def d_loss(self, x, rng, *words):
        """Σᵢ L_{Dᵢ} on real images x (N, C, H, W)."""
        x, e_bar = tensor(x), tensor(words[-1])
        return sum(d_loss(D, avg_pool2d(x, x.shape[2] // x_hat.shape[2]), x_hat, e_bar)
                   for D, x_hat in zip(self.D, self.sample(len(x), rng, *words), strict=True))

    def g_loss(self, n, rng, *words):
        """L on n samples, one for each sentence."""
        images, e_bar = self.generate(n, rng, *words), tensor(words[-1])
        L_G = sum(g_loss(D, x_hat, e_bar) for D, x_hat in zip(self.D, images, strict=True))
        return L_G + self.lam * self.damsm(images[-1], *words)  # eq: attngan-total-loss


def attngan(shape, d_z, d, damsm, lam=1.0, rng=None):
    """An AttnGAN for images of `shape` (C, 32, 32) in [−1, 1] and codes of d numbers."""
    C, H, W = shape
    if (H, W) != (32, 32):
        raise ValueError(f"attngan: images are {H}×{W}, expected 32×32, with a stage of 16×16")
    D = [Judge((C, H // 2, W // 2), d, rng=rng), Judge(shape, d, rng=rng)]
    return AttnGAN(Generator(d_z, d, C, rng=rng), D, d_z, damsm, lam)
