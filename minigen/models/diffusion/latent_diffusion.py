"""Latent diffusion (Rombach et al. 2022), the method of Stable Diffusion: what is noised and
sampled is not the image but a small grid of codes, which a decoder turns into the image.

Stage 1 is an autoencoder with next to no pull towards the prior (λ is tiny):

    q(z | x) = N(μ(x), diag σ²(x)),    z ~ q(z | x)
    L_AE = E ‖x − D(z)‖² + λ KL(q(z | x) ‖ N(0, I))

Stage 2 is a DDPM of z / s, where s is the standard deviation of all z in a batch, so that the codes
are on the scale of the noise. It is conditioned on a text y through the codes of its words, τ_θ(y):

    L_LDM = E_{x, y, ε, t} ‖ε − ε_θ(z_t, t, τ_θ(y))‖²,    z_t = √ᾱ_t z / s + √(1 − ᾱ_t) ε
    p ← p + attention(Q p, K h, V h),    h = τ_θ(y)        at each position p: cross-attention

The autoencoder keeps what is visible and drops what is imperceptible: the diffusion need not learn
the latter, and each of its steps costs what a grid costs, not an image. λ is only large enough to
keep z from growing without bound. A larger λ blurs z, and the samples: with λ = 0.05, 0.005 and
0.0002 a CLIP found the right caption among 100 for 23%, 33% and 43% of the samples (100 sampled
scenes, w = 1, 100 s of training), although the reconstructions of the test images were much alike
(squared error 4.0, 2.8 and 3.6).

τ_θ is the transformer of a CLIP (`encode_text` of glide.py), frozen, as in Stable Diffusion.

Differs from the paper: ‖x − D(z)‖² alone, where the paper adds a perceptual distance of features
and a patch discriminator (vqgan.py); a grid of 8×8 is not downsampled further, so that the U-Net
consists of its lowest resolution; blocks are given the mean of the words with the time, as in
glide.py. The demo's network predicts the clean grid, not its noise (clean.py): L_LDM with a weight
for each t.
"""

import numpy as np

from minigen import mean, nn, no_grad, split, square, std, swapaxes, tensor
from minigen.dist import Normal, per_image
from minigen.models.diffusion.glide import TextDenoiser
from minigen.models.text_to_image.dalle import to_grid, to_image
from minigen.models.vae.vae import kl_to_prior
from minigen.nn import initializers
from minigen.nn.unet import ResidualBlock, TimeUNet, groups


class Autoencoder:
    """Stage 1. `encoder`: images x (N, C, H, W) → μ and log σ², concatenated (N, 2D, h, w);
    `decoder`: z (N, D, h, w) → images. `scale` is s, 1 until `rescale` has measured it."""

    def __init__(self, encoder, decoder, lam=2e-4):
        self.encoder, self.decoder, self.lam = encoder, decoder, lam
        self.scale = tensor(np.ones((), np.float32))

    def q(self, x):
        """q(z | x): a `Normal` over (N, D, h, w)."""
        return Normal(*split(self.encoder(x), 2, axis=1))

    def loss(self, x, rng):
        """L_AE averaged over images x, and its parts."""
        q = self.q(x)
        error = mean(per_image(square(x - self.decoder(q.sample(rng)))))
        kl = mean(per_image(kl_to_prior(q)))
        return error + self.lam * kl, {"squared_error": error, "kl": kl}

    def rescale(self, x, rng):
        """Set s to the standard deviation of z over images x."""
        with no_grad():
            s = std(self.q(x).sample(rng)).data
        initializers.values(self.scale, s)

    def encode(self, x, rng):
        """z / s of images x, z ~ q(z | x): untracked."""
        with no_grad():
            return self.q(x).sample(rng) / self.scale

    def decode(self, z):
        """The images decoded from codes z / s: untracked."""
        with no_grad():
            return self.decoder(tensor(z) * self.scale)


class SpatialTransformer:
    """Every position attends to words, codes of length d, then to all positions: images
    (N, C, H, W) and words (N, L, d) → (N, C, H, W)."""

    def __init__(self, C, d, heads=4, rng=None):
        self.norm, self.word_proj = nn.GroupNorm(groups(C), C), nn.Linear(d, C, bias=False, rng=rng)
        self.cross_attention = nn.MultiheadAttention(C, heads, rng=rng)
        self.block = nn.TransformerBlock(C, heads, rng)

    def __call__(self, x, words):
        N, C, H, W = x.shape
        p = swapaxes(x.reshape(N, C, H * W), 1, 2)  # (N, HW, C)
        q, h = swapaxes(self.norm(x).reshape(N, C, H * W), 1, 2), self.word_proj(words)
        p = self.block(p + self.cross_attention(q, h, h))
        return swapaxes(p, 1, 2).reshape(x.shape)


class CrossAttentionBlocks:
    """The `mix` of a TimeUNet: `depth` residual blocks, each followed by a SpatialTransformer."""

    def __init__(self, C, d, D, depth=2, rng=None):
        self.blocks = [ResidualBlock(C, C, D, rng=rng) for _ in range(depth)]
        self.transformers = [SpatialTransformer(C, d, rng=rng) for _ in range(depth)]

    def __call__(self, x, e, words):
        """x (N, C, H, W), an embedding e (N, D) and words (N, L, d): (N, C, H, W)."""
        for block, transformer in zip(self.blocks, self.transformers, strict=True):
            x = transformer(block(x, e), words)
        return x


def latent_denoiser(C, d, width=96, D=128, rng=None):
    """ε_θ: a TextDenoiser for images or grids (N, C, H, W) and words, codes of length d."""
    unet = TimeUNet(C, C, D, (width,), mix=CrossAttentionBlocks(width, d, D, rng=rng), rng=rng)
    embed = nn.TimeEmbedding(D, rng=rng)
    return TextDenoiser(unet, embed, d, D, rng)


class LatentDiffusion:
    """`autoencoder` is an Autoencoder, trained and rescaled; `diffusion` a DDPM of its grids, whose
    net takes z_t, t and words; to `generate`, it must be a DDIM without noise."""

    def __init__(self, autoencoder, diffusion):
        self.autoencoder, self.diffusion = autoencoder, diffusion

    def loss(self, x, rng, words):
        """L_LDM of images x (N, C, H, W) described by words (N, L, d): see `DDPM.loss`."""
        return self.diffusion.loss(self.autoencoder.encode(x, rng), rng, words)

    def generate(self, z_T, words):
        """The images generated from noise z_T (N, D, h, w) and words (N, L, d)."""
        return self.autoencoder.decode(self.diffusion.decode(z_T, words))


def autoencoder(C, D=4, rng=None):
    """An Autoencoder for images (N, C, H, W), H and W divisible by 4, with grids (D, H/4, W/4)."""
    return Autoencoder(to_grid(C, 2 * D, rng), to_image(D, C, rng))
