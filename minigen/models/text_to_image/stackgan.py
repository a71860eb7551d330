"""StackGAN and StackGAN++ (Zhang et al. 2017, 2018): a small image, then a larger one from it.

    x̂₁ = G₁(z, c),    x̂₂ = G₂(x̂₁, c)        two stages: a sketch, and its refinement

StackGAN++ has any number of scales i, trained together. Each has a discriminator that judges twice,
an image alone and an image with its sentence ē:

    L_{Dᵢ} = −½ E_{xᵢ}[log Dᵢ(xᵢ)]    − ½ E_{x̂ᵢ}[log(1 − Dᵢ(x̂ᵢ))]          is it real?
             −½ E_{xᵢ}[log Dᵢ(xᵢ, ē)] − ½ E_{x̂ᵢ}[log(1 − Dᵢ(x̂ᵢ, ē))]       does it match?
           [ −½ E_{xᵢ}[log(1 − Dᵢ(xᵢ, ê))]             ê: the sentence of another image ]
    L_{Gᵢ} = −½ E_{x̂ᵢ}[log Dᵢ(x̂ᵢ)]    − ½ E_{x̂ᵢ}[log Dᵢ(x̂ᵢ, ē)]

Where G is given nothing but noise, the colours of each scale should agree with the scale before:

    λ₁ ‖μ_{sᵢ} − μ_{sᵢ₋₁}‖² + λ₂ ‖Σ_{sᵢ} − Σ_{sᵢ₋₁}‖²_F        μ, Σ: of a sample's pixels (R, G, B)

Conditioning augmentation (from the first paper): what both generators are conditioned on is sampled
around the embedding, so that G also learns to generate for the neighbourhood of a sentence,

    c = μ(ē) + σ(ē) ⊙ ε,  ε ~ N(0, I),      and L_G gets  KL(N(μ(ē), σ²(ē)) ‖ N(0, I))

Dᵢ outputs two logits for each image. The term in brackets, for real images with a mismatched
sentence, is not on the slide; the authors' code for both papers has it, and so has gan_cls.py.

Differs from the papers: DCGAN's blocks, two scales of 16×16 and 32×32; the losses of the second
paper for the two stages of the first, trained together; the KL is averaged over c's components, not
summed.
"""

from minigen import (
    avg_pool2d,
    expand_dims,
    logsigmoid,
    mean,
    nn,
    no_grad,
    relu,
    sum,
    swapaxes,
    tanh,
    tensor,
)
from minigen.dist import Normal, kl
from minigen.models.gan import dcgan
from minigen.models.gan.gan import Game, check_shape
from minigen.models.text_to_image.gan_cls import Discriminator, generator, mismatched, upsample


def two_stages(G_1, G_2, z, c):
    """The small image and the large one for noise z (N, d_z) and conditions c (N, d)."""
    x_1 = G_1(z, c)
    return x_1, G_2(x_1, c)  # eq: stackgan-two-stage


def d_loss(D, x, x_hat, e_bar):
    """L_{Dᵢ}, with no gradient into the generator; D(x, ē) returns logits without and with ē."""
    (real, real_e), (fake, fake_e) = D(x, e_bar), D(x_hat.detach(), e_bar)
    unconditional = -(mean(logsigmoid(real)) + mean(logsigmoid(-fake))) / 2
    conditional = -(mean(logsigmoid(real_e)) + mean(logsigmoid(-fake_e))) / 2
    return unconditional + conditional  # eq: stackganpp-d-loss


def g_loss(D, x_hat, e_bar):
    """L_{Gᵢ}."""
    fake, fake_e = D(x_hat, e_bar)
    return -(mean(logsigmoid(fake)) + mean(logsigmoid(fake_e))) / 2  # eq: stackganpp-g-loss


def colours(x):
    """The mean μ (N, C) and covariance Σ (N, C, C) of the pixels of each image x (N, C, H, W)."""
    pixels = x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])
    mu = mean(pixels, axis=2)
    centred = pixels - expand_dims(mu, 2)
    return mu, centred @ swapaxes(centred, 1, 2) / pixels.shape[2]


def colour_consistency(large, small, lam_1=1.0, lam_2=5.0):
    """How much the colours of images differ from those of the scale before, averaged over
    images."""
    (mu, sigma), (mu_before, sigma_before) = colours(large), colours(small)
    distance = lam_1 * sum((mu - mu_before) ** 2, 1)
    return mean(distance + lam_2 * sum((sigma - sigma_before) ** 2, (1, 2)))  # eq: stackganpp-color


class StageDiscriminator:
    """Dᵢ: from images of `shape` (C, H, W), sides divisible by 8, and embeddings ē (N, d) to two
    logits (N, 1): for the image alone, and for both."""

    def __init__(self, shape, d, width=dcgan.WIDTH, rng=None):
        self.conditional = Discriminator(shape, d, width, rng)
        self.unconditional = dcgan.Net(*dcgan.discriminator(shape, width)[-2:], rng=rng)

    def __call__(self, x, e_bar):
        h = self.conditional.convs(x)
        return self.unconditional(h), self.conditional.joint(h, e_bar)


class ConditioningAugmentation:
    """N(μ(ē), σ²(ē)), in d_c dimensions, for embeddings ē (N, d)."""

    def __init__(self, d, d_c, rng=None):
        self.mu, self.logvar = nn.Linear(d, d_c, rng=rng), nn.Linear(d, d_c, rng=rng)

    def __call__(self, e_bar):
        return Normal(self.mu(e_bar), self.logvar(e_bar))


class Generator:
    """From z (N, d_c + d_z), whose first d_c numbers are ε, and embeddings ē (N, d) to two
    images."""

    def __init__(self, shape, d_z, d, d_c, K, rng=None):
        C, H, W = shape
        self.augment = ConditioningAugmentation(d, d_c, rng)
        self.G_1 = nn.Conditioned(generator(d_z + d_c, (C, H // 2, W // 2), K, rng), d_c)
        self.G_2 = nn.Conditioned(dcgan.Net(
            nn.Conv2d(C + d_c, K, 3, 1, 1, bias=False), nn.BatchNorm2d(K), relu,
            nn.Conv2d(K, K, 3, 1, 1, bias=False), nn.BatchNorm2d(K), relu,
            *upsample(K, K), nn.Conv2d(K, C, 3, 1, 1), tanh, rng=rng), d_c)

    def __call__(self, z, e_bar):
        c, z = sample_condition(self.augment(e_bar), z)
        return list(two_stages(self.G_1, self.G_2, z, c))


def sample_condition(p, z):
    """c ~ p, a Normal in d_c dimensions, with the first d_c numbers of z (N, d_c + d_z) as ε; and
    the rest of z."""
    d_c = p.mu.shape[1]
    return p.mu + p.sigma * z[:, :d_c], z[:, d_c:]


class Stages(Game):
    """The common part of games with several scales: G(z, …, ē) generates a list of images, D is a
    list of discriminators. Real images are given at full size, and averaged down to smaller ones.
    """

    def d_loss(self, x, rng, *text):
        """Σᵢ L_{Dᵢ} on real images x (N, C, H, W), the term in brackets included. ValueError unless
        they have the size of the last stage's images."""
        x, e_bar, total = tensor(x), tensor(text[-1]), 0
        with no_grad():
            images = self.generate(len(x), rng, *text)
        check_shape(type(self).__name__, images[-1], x)
        for D, x_hat in zip(self.D, images, strict=True):
            x_i = avg_pool2d(x, x.shape[2] // x_hat.shape[2])
            _, mismatch = D(x_i, mismatched(e_bar))
            total = total + d_loss(D, x_i, x_hat, e_bar) - mean(logsigmoid(-mismatch)) / 2
        return total

    def adversarial_loss(self, images, e_bar):
        """Σᵢ L_{Gᵢ} of a list of images, plus the KL of the distribution around embeddings ē."""
        total = mean(kl(self.G.augment(tensor(e_bar)), Normal(0.0, 0.0)))
        for D, x_hat in zip(self.D, images, strict=True):
            total = total + g_loss(D, x_hat, tensor(e_bar))
        return total


class StackGAN(Stages):
    """The game of both stages: ``sample(n, rng, ē)`` returns two images for each sentence."""

    def g_loss(self, n, rng, e_bar):
        """Σᵢ L_{Gᵢ} on n samples, one for each sentence, plus the KL."""
        return self.adversarial_loss(self.generate(n, rng, e_bar), e_bar)


def stackgan(shape, d_z, d, d_c=32, K=48, width=dcgan.WIDTH, rng=None):
    """A StackGAN for images of `shape` (C, 32, 32) in [−1, 1] and embeddings of d numbers."""
    D = discriminators(shape, d, width, rng)
    return StackGAN(Generator(shape, d_z, d, d_c, K, rng), D, d_c + d_z)


def discriminators(shape, d, width, rng):
    """A discriminator for each of the two scales. ValueError for images that are not 32×32."""
    C, H, W = shape
    if (H, W) != (32, 32):
        raise ValueError(f"stackgan: images are {H}×{W}, expected 32×32, with a stage of 16×16")
    return [StageDiscriminator((C, H // 2, W // 2), d, width, rng),
            StageDiscriminator(shape, d, width, rng)]
