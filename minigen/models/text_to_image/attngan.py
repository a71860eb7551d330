"""AttnGAN (Xu et al. 2018): each stage attends, at each position, to the words that matter there.

    h₀ = F₀(z, c),   hᵢ = Fᵢ(hᵢ₋₁, F^attn(e, hᵢ₋₁)),   x̂ᵢ = Gᵢ(hᵢ),   i = 0, …, m − 1
    F^attn: for each position a mean of e', weighted by softmax(hᵀ e')
    L = L_G + λ L_DAMSM,   L_G = Σ_{i=0…m−1} L_{Gᵢ}

c is sampled around the sentence embedding ē; e' are the word embeddings e after a linear map.
L_{Gᵢ}, c and the discriminators are those of stackgan.py; L_DAMSM (damsm.py) measures how well the
last image matches the words.

Differs from the paper: DCGAN's blocks, two stages of 16×16 and 32×32.
"""

from minigen import concatenate, nn, relu, scaled_dot_product_attention, tanh
from minigen.models.gan import dcgan
from minigen.models.text_to_image.gan_cls import generator, upsample
from minigen.models.text_to_image.stackgan import (
    ConditioningAugmentation,
    Stages,
    discriminators,
    sample_condition,
)


class Attention:
    """F^attn: each position of h (N, K, H, W) attends to words e (N, T, d), where `mask` (N, T)
    is true for all but padding: maps (N, K, H, W)."""

    def __init__(self, d, K, rng=None):
        self.proj = nn.Linear(d, K, bias=False, rng=rng)

    def __call__(self, h, e, mask):
        q, e = nn.positions(h), self.proj(e)  # (N, HW, K), (N, T, K)
        c = scaled_dot_product_attention(q, e, e, mask[:, None], scale=1.0)
        return nn.as_maps(c, h.shape)


class Generator:
    """m stages: from z (N, d_c + d_z), whose first d_c numbers are ε, words e (N, T, d), which of
    them are not padding (N, T), and the sentence ē (N, d) to a list of m images, the first 16×16,
    each twice as large as the one before."""

    def __init__(self, d_z, d, d_c=32, C=3, K=48, stages=2, rng=None):
        self.augment = ConditioningAugmentation(d, d_c, rng)
        self.F_0 = dcgan.Net(*generator(d_z + d_c, (C, 16, 16), K)[:-2], rng=rng)
        self.F_attn = [Attention(d, K, rng) for _ in range(stages - 1)]
        self.F = [dcgan.Net(nn.Conv2d(2 * K, K, 3, 1, 1, bias=False), nn.BatchNorm2d(K), relu,
                            *upsample(K, K), rng=rng) for _ in range(stages - 1)]
        self.G = [nn.Sequential(nn.Conv2d(K, C, 3, 1, 1, rng=rng), tanh) for _ in range(stages)]

    def __call__(self, z, e, mask, e_bar):
        z = concatenate(sample_condition(self.augment(e_bar), z), axis=1)
        h = [self.F_0(z)]
        for F_attn, F_i in zip(self.F_attn, self.F, strict=True):
            h.append(F_i(concatenate([h[-1], F_attn(h[-1], e, mask)], axis=1)))
        stages = zip(self.G, h, strict=True)
        return [G_i(h_i) for G_i, h_i in stages]  # eq: attngan-stage-images


class AttnGAN(Stages):
    """The GAN of all stages; `damsm(x̂, e, mask, ē)` is L_DAMSM of images x̂."""

    def __init__(self, G, D, d_z, damsm, lam=1.0):
        super().__init__(G, D, d_z)
        self.damsm, self.lam = damsm, lam

    def g_loss(self, n, rng, *text):
        """L on n samples, one for each sentence, plus the KL."""
        images = self.generate(n, rng, *text)
        L_G = self.adversarial_loss(images, text[-1])
        return L_G + self.lam * self.damsm(images[-1], *text)  # eq: attngan-total-loss


def attngan(shape, d_z, d, damsm, lam=1.0, d_c=32, width=dcgan.WIDTH, rng=None):
    """An AttnGAN for images of `shape` (C, 32, 32) in [−1, 1] and embeddings of d numbers."""
    D = discriminators(shape, d, width, rng)
    return AttnGAN(Generator(d_z, d, d_c, shape[0], rng=rng), D, d_c + d_z, damsm, lam)
