"""unCLIP, DALL·E 2 (Ramesh et al. 2022): CLIP inverted, from a text to its code (CLIP embedding),
to the code of an image, to the image.

    P(x | y) = P(x, z | y) = P(x | z, y) P(z | y)       y a text, x an image, z = f(x) its CLIP code

The first equality holds because z is a function of x. The prior samples z: a diffusion of codes
whose network predicts the clean code itself, ẑ, and is trained with ‖z − ẑ‖². The decoder samples
x: a diffusion of images given z and y, whose network likewise predicts the clean image (clean.py).

    √d ẑ = prior(z_t, t, g(y)),            z_t = √ᾱ_t √d z + √(1 − ᾱ_t) ε
    x̂ = unet(x_t, e),                      e = TimeEmbedding(t) + A z + B g(y)

Networks are given a code as √d z, whose numbers have a mean square of 1, like those of noise. The
code 0 means none, ∅. In training each code is dropped now and then, so that both networks can be
guided and the decoder works without a text. DDIM encodes an image as two codes, z, what CLIP sees,
and x_T, everything else, and decodes the image from the two. They can be altered separately:

    variations           z fixed, x_T sampled anew
    interpolation        z_λ on the path from z₁ to z₂, x_T fixed
    text diffs           z ← z + λ (g(c₁) − g(c₀)), x_T fixed

The path is an arc of the sphere on which CLIP's codes lie, with equal angles for equal shares λ:

    slerp(z₁, z₂, λ) = (sin((1 − λ) Ω) z₁ + sin(λ Ω) z₂) / sin Ω,      cos Ω = z₁·z₂

A text diff is slerp(z, d / ‖d‖, θ), d = g(c₁) − g(c₀): the sum above normalised to length 1, with
λ = sin(θ Ω) / (sin((1 − θ) Ω) ‖d‖).

Differs from the paper: both networks are given CLIP's code of the text, not its words too; the
prior uses the first code it samples, not the better of two, scaled to length 1; variations start
from a new x_T, as on the slide, not from the image's own with noise added at each step; images stay
small (cascade.py enlarges them).
"""

import numpy as np

from minigen import broadcast_to, nn, no_grad, stack
from minigen.dist import noise
from minigen.models.clip.clip import unit
from minigen.models.diffusion.denoiser import Denoiser, unet_and_embed
from minigen.models.diffusion.slerp import slerp
from minigen.nn.unet import SpaceToDepthUNet
from minigen.tensor import as_array


class CodeEmbedding:
    """A network's input layer for codes z (N, d), of length 1 or 0: √d z → (N, D), linearly."""

    def __init__(self, d, D, rng=None):
        self.d, self.linear = d, nn.Linear(d, D, rng=rng)

    def __call__(self, z):
        if z.ndim != 2 or z.shape[1] != self.d:
            raise ValueError(f"unclip: codes are {z.shape}, expected (N, {self.d})")
        return self.linear(self.d ** 0.5 * z)


class CodeDenoiser(Denoiser):
    """The decoder's network: a Denoiser given codes of d numbers; `embed` returns (N, D)."""

    def __init__(self, unet, embed, d, D, rng=None):
        super().__init__(unet, embed)
        self.image, self.text = CodeEmbedding(d, D, rng), CodeEmbedding(d, D, rng)

    def __call__(self, x_t, t, z, g):
        """Images (N, C, H, W), integers t (N,), codes z of images and g of texts, (N, d)."""
        return self.unet(x_t, self.embed(t) + self.image(z) + self.text(g))


def code_denoiser(shape, d, widths=(32, 64, 64), D=128, rng=None):
    """A CodeDenoiser for images of `shape` (C, H, W), with 2×2 pixels folded into one position."""
    C, H, W = shape
    unet, embed = unet_and_embed((4 * C, H // 2, W // 2), widths, D, rng=rng)
    return CodeDenoiser(SpaceToDepthUNet(unet), embed, d, D, rng)


class CodePrior:
    """The prior's network: a transformer over the text's code, the time, the noised code and a
    query, at whose position ẑ is read out."""

    def __init__(self, d, D=128, layers=2, heads=4, rng=None):
        self.text, self.noised = CodeEmbedding(d, D, rng), nn.Linear(d, D, rng=rng)
        self.time = nn.TimeEmbedding(D, rng=rng)
        self.query = nn.Embedding(1, D, rng)
        self.blocks = [nn.TransformerBlock(D, heads, rng) for _ in range(layers)]
        self.norm, self.last = nn.LayerNorm(D), nn.Linear(D, d, rng=rng)

    def __call__(self, z_t, t, g):
        """√d ẑ from noised codes z_t (N, d), integers t (N,) and codes g (N, d): (N, d)."""
        query = self.query(np.zeros(len(z_t), int))
        h = stack([self.text(g), self.time(t), self.noised(z_t), query], 1)
        for block in self.blocks:
            h = block(h, is_causal=True)
        return self.last(self.norm(h[:, -1]))


class UnCLIP:
    """`clip` is a trained CLIP; `prior` a DDPM of a Clean(CodePrior) with γ = 1; `decoder` a DDIM
    of a Clean(CodeDenoiser) for images of `shape` (C, H, W). `encode`, `decode` and the methods
    after them need η = 0."""

    def __init__(self, clip, prior, decoder, shape):
        self.clip, self.prior, self.decoder, self.shape = clip, prior, decoder, tuple(shape)

    def loss(self, x, rng, y):
        """The sum of the prior's and the decoder's loss, which share no weights, and its two parts,
        for images x (N, C, H, W) with texts y."""
        with no_grad():
            z, g = self.clip.f(x), self.clip.g(y)
        prior = self.prior.loss(z.shape[1] ** 0.5 * z, rng, drop_codes(g, 0.1, rng))
        decoder = self.decoder.loss(x, rng, drop_codes(z, 0.1, rng), drop_codes(g, 0.5, rng))
        return prior + decoder, {"prior": prior, "decoder": decoder}

    def sample_code(self, g, rng):
        """z ~ P(z | y), of length 1, for codes g (N, d) of texts: (N, d)."""
        return unit(self.prior.sample(len(g), g.shape[1:], rng, g))  # eq: dalle2-factorisation

    def sample(self, y, rng):
        """Images sampled for texts y, (N, C, H, W), and their codes (N, d)."""
        with no_grad():
            g = self.clip.g(y)
        z = self.sample_code(g, rng)
        return self.decoder.sample(len(g), self.shape, rng, z, g), z  # eq: dalle2-factorisation

    def encode(self, x):
        """Both codes of images x (N, C, H, W): z (N, d) and x_T, of the shape of x."""
        with no_grad():
            z = self.clip.f(x)
        return z, self.decoder.encode(x, z, no_code(z))

    def decode(self, z, x_T):
        """The images decoded from codes z (N, d) and x_T (N, C, H, W); one of either serves all.

        Raises ValueError for other shapes."""
        n = max(len(z), len(x_T))
        if z.ndim != 2 or x_T.shape[1:] != self.shape or {len(z), len(x_T)} - {1, n}:
            raise ValueError(f"unclip: codes z {z.shape} and x_T {x_T.shape}, expected (N, d) and "
                             f"(N, {str(self.shape)[1:-1]}), or one of either for all")
        z, x_T = (broadcast_to(a, (n, *a.shape[1:])) for a in (z, x_T))
        return self.decoder.decode(x_T, z, no_code(z))

    def variations(self, z, n, rng):
        """n images with the one code z (1, d)."""
        x_T = noise(rng, nn.like(self.decoder.net), (n, *self.shape))
        return self.decode(z, x_T)  # eq: dalle2-variations

    def interpolation(self, z_1, z_2, x_T, n):
        """n images from code z_1 (1, d) to z_2 (1, d), ends included, with the one x_T."""
        return self.decode(slerp(z_1, z_2, np.linspace(0, 1, n)), x_T)  # eq: dalle2-interpolation

    def text_diff(self, z, x_T, c_0, c_1, theta):
        """The image with codes z and x_T, changed from what text c_0 describes to what c_1
        describes: z is turned by shares θ (n,) of the angle to the difference of their codes. n
        images, from n images or all from one. In the paper θ is ¼ to ½."""
        with no_grad():
            g_0, g_1 = self.clip.g(c_0), self.clip.g(c_1)
        return self.decode(text_diff_slerp(z, g_0, g_1, theta), x_T)  # eq: dalle2-text-diff


def no_code(code):
    """∅ in place of codes: the `null` of ClassifierFree (guidance.py)."""
    return 0 * code


def drop_codes(code, p, rng):
    """Codes (N, ...), each dropped (set to 0) with probability p."""
    return code * (rng.random((len(code), *[1] * (code.ndim - 1))) >= p)


def text_diff_slerp(z, g_0, g_1, theta):
    """Codes z turned by shares θ (n,) of the angle to the difference of texts' codes g_0 and g_1,
    all (n, d) or (1, d): (n, d). ValueError if there is no difference."""
    d = as_array(g_1) - as_array(g_0)
    if (np.abs(d).max(1) < 1e-5).any():  # up to rounding, which differs from batch to batch
        raise ValueError("unclip: the two texts have one code, and no difference to turn along")
    return slerp(z, unit(d), theta)  # eq: dalle2-text-diff
