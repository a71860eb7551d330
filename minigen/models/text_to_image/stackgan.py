"""StackGAN and StackGAN++ (Zhang et al. 2017, 2018): a small image first, a larger one from it.

    x̂₁ = G₁(z, c),    x̂₂ = G₂(x̂₁, c)        two stages: a sketch, and what is made of it

StackGAN++ has any number of scales i that learn together, each with a discriminator that judges
twice, an image by itself and an image with its sentence ē:

    L_{Dᵢ} = −½ E_{xᵢ}[log Dᵢ(xᵢ)]    − ½ E_{x̂ᵢ}[log(1 − Dᵢ(x̂ᵢ))]          is it real?
             −½ E_{xᵢ}[log Dᵢ(xᵢ, ē)] − ½ E_{x̂ᵢ}[log(1 − Dᵢ(x̂ᵢ, ē))]       does it fit?
    L_{Gᵢ} = −½ E_{x̂ᵢ}[log Dᵢ(x̂ᵢ)]    − ½ E_{x̂ᵢ}[log Dᵢ(x̂ᵢ, ē)]

and where nothing is given but noise, the colours of one scale are to be those of the one before:

    λ₁ ‖μ_{sᵢ} − μ_{sᵢ₋₁}‖² + λ₂ ‖Σ_{sᵢ} − Σ_{sᵢ₋₁}‖²_F        μ, Σ: of a sample's pixels (R, G, B)

Dᵢ gives two logits for each image. Differs from the papers: a sentence's code is given as it is,
without a normal distribution around it.
"""

from minigen import expand_dims, logsigmoid, mean, nn, sum, swapaxes
from minigen.models.gan.gan import leaky


def two_stages(G_1, G_2, z, c):
    """The small image and the large one for codes z (N, d_z) and c (N, d)."""
    x_1 = G_1(z, c)
    return x_1, G_2(x_1, c)  # eq: stackgan-two-stage


def d_loss(D, x, x_hat, e_bar):
    """L_{Dᵢ}, with no way back into the generator; D(x, ē) gives logits without and with ē."""
    (real, real_e), (fake, fake_e) = D(x, e_bar), D(x_hat.detach(), e_bar)
    alone = -(mean(logsigmoid(real)) + mean(logsigmoid(-fake))) / 2
    given = -(mean(logsigmoid(real_e)) + mean(logsigmoid(-fake_e))) / 2
    return alone + given  # eq: stackganpp-d-loss


def g_loss(D, x_hat, e_bar):
    """L_{Gᵢ}."""
    fake, fake_e = D(x_hat, e_bar)
    return -(mean(logsigmoid(fake)) + mean(logsigmoid(fake_e))) / 2  # eq: stackganpp-g-loss


def colours(x):
    """μ (N, C) and Σ (N, C, C) of the pixels of each image x (N, C, H, W)."""
    pixels = x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])
    mu = mean(pixels, axis=2)
    apart = pixels - expand_dims(mu, 2)
    return mu, apart @ swapaxes(apart, 1, 2) / pixels.shape[2]


def colour_consistency(large, small, lam_1=1.0, lam_2=5.0):
    """How much the colours of images differ from those of the scale before, a mean over images."""
    (mu, sigma), (mu_before, sigma_before) = colours(large), colours(small)
    apart = lam_1 * sum((mu - mu_before) ** 2, 1)
    return mean(apart + lam_2 * sum((sigma - sigma_before) ** 2, (1, 2)))  # eq: stackganpp-color


class Judge:
    """Dᵢ: images (N, C, H, W), sides a multiple of 4 of at least 8, and codes ē (N, d) to two
    logits (N, 1): of the image alone, and of both."""

    def __init__(self, shape, d, width=32, rng=None):
        C, H, W = shape
        self.net = nn.Sequential(
            nn.Conv2d(C, width, 4, 2, 1, rng=rng), leaky,
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False, rng=rng),
            nn.BatchNorm2d(2 * width), leaky)
        self.alone = nn.Conv2d(2 * width, 1, (H // 4, W // 4), rng=rng)
        self.both = nn.Labelled(nn.Conv2d(2 * width + d, 2 * width, 1, rng=rng), d)
        self.given = nn.Conv2d(2 * width, 1, (H // 4, W // 4), rng=rng)

    def __call__(self, x, e_bar):
        h = self.net(x)
        return self.alone(h).flatten(1), self.given(leaky(self.both(h, e_bar))).flatten(1)
