"""GLIDE (Nichol et al. 2021): text-conditional diffusion of images.

    h_1 … h_L = text(c)                         codes of the words of caption c, from a transformer
    x̂ = unet(x_t, e, h),                        e = TimeEmbedding(t) + A mean_l h_l
    p ← p + attention(Q p, K [p, B h], V [p, B h])

Thus the text as a whole conditions each block of the U-Net, as the time does, and at the lowest
resolution every position p attends to all positions and to all words. Padding has the code 0; a
text that is all padding is ∅, which replaces the caption for 10% of the images in training. Padding
counts in the mean and is attended to, so texts must be padded to the same length as in training.
Without guidance, captions are followed only loosely. They are followed better with classifier-free
guidance (guidance.py), or with guidance by a CLIP trained on noised images (clip_guidance.py).

Differs from the paper: the transformer is that of the guiding CLIP, and is frozen. One trained from
scratch with the U-Net had not learnt the names of colours after 2,000 steps of 16 scenes, with a
U-Net much like this: 37% of the colours that captions named were generated, and 32% of the others;
with CLIP's words 68% and 11%; with CLIP's transformer fine-tuned 62% and 12%. The mean of the words
replaces the last word; captions are dropped from the first step on, in the paper during
fine-tuning, for 20% of the images; images stay small.
"""

from minigen import concatenate, mean, nn
from minigen.models.diffusion.denoiser import Denoiser
from minigen.nn.unet import SpaceToDepthUNet, TimeUNet, groups


class TextAttention2d:
    """x + attention of every position to every position and to words, codes of length d: the `mix`
    of a TimeUNet."""

    def __init__(self, channels, d, heads=4, rng=None):
        self.norm = nn.GroupNorm(groups(channels), channels)
        self.word_proj = nn.Linear(d, channels, bias=False, rng=rng)
        self.attention = nn.MultiheadAttention(channels, heads, rng=rng)

    def __call__(self, x, e, words):
        """x (N, C, H, W) and words (N, L, d): (N, C, H, W). The embedding e is not used."""
        p = nn.positions(self.norm(x))  # (N, HW, C)
        context = concatenate([p, self.word_proj(words)], axis=1)  # (N, HW + L, C)
        return x + nn.as_maps(self.attention(p, context, context), x.shape)


class TextDenoiser(Denoiser):
    """A Denoiser conditioned on words, codes of length d; `embed` returns (N, D)."""

    def __init__(self, unet, embed, d, D, rng=None):
        super().__init__(unet, embed)
        self.d, self.text_proj = d, nn.Linear(d, D, rng=rng)

    def __call__(self, x_t, t, words):
        """Images (N, C, H, W), integers t (N,), words (N, L, d). ValueError if misshapen."""
        if words.ndim != 3 or words.shape[2] != self.d:
            raise ValueError(f"glide: words are {words.shape}, expected codes (N, L, {self.d})")
        return self.unet(x_t, self.embed(t) + self.text_proj(mean(words, 1)), words)


def text_denoiser(shape, d, widths=(64, 64), D=128, rng=None):
    """A TextDenoiser for images of `shape` (C, H, W), whose U-Net sees each 2×2 pixels as one
    position."""
    C = shape[0]
    mix = TextAttention2d(widths[-1], d, rng=rng)
    unet = TimeUNet(4 * C, 4 * C, D, widths, mix=mix, rng=rng)
    embed = nn.TimeEmbedding(D, rng=rng)
    return TextDenoiser(SpaceToDepthUNet(unet), embed, d, D, rng)


def encode_text(text, c):
    """The codes of the words of texts c (N, L) from a TextEncoder `text`, 0 for padding: (N, L, d).
    """
    words, mask = text.hidden(c)
    return words * mask[..., None].astype(words.dtype)
