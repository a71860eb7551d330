"""GLIDE (Nichol et al. 2021): a diffusion of images that reads the caption.

    h_1 … h_L = text(c)                         codes of the words of a caption c, by a transformer
    x̂ = unet(x_t, e, h),                        e = TimeEmbedding(t) + A mean_l h_l
    p ← p + attention(Q p, K [p, B h], V [p, B h])

So the whole text reaches each block of the U-Net, as the time does, and at its lowest resolution
every place p looks at all places and at all words. A word that is not there has the code 0; a text
of such words is ∅, which takes the caption's place for 10% of the images in training. Words that
are not there count in the mean and are looked at, so a text must be as long, with them, as those of
training. Without guidance captions are followed loosely. They are followed better classifier-free
(`CodeGuided` of unclip.py) or led by a CLIP that reads noised images (clip_guidance.py).

Differs from the paper: the transformer is that of the CLIP which guides, and stays as it is. One
that began with the U-Net's first step had not found what colours are called after 2,000 steps of
16 scenes, with a U-Net much like this: of those that captions named 37% were drawn, of the others
32%; with CLIP's words 68% and 11%; where these went on learning, 62% and 12%. The mean of the words
takes the place of the last one; captions are left out from the first step on, there for 20% of the
images in a fine-tuning; images stay small.
"""

from minigen import concatenate, mean, nn, swapaxes
from minigen.models.diffusion.denoiser import Denoiser
from minigen.nn.unet import Folded, TimeUNet, groups


class WordAttention2d:
    """x + attention of every place to every place and to words of codes of length d: the `mix` of
    a TimeUNet."""

    def __init__(self, channels, d, heads=4, rng=None):
        self.norm = nn.GroupNorm(groups(channels), channels)
        self.words = nn.Linear(d, channels, bias=False, rng=rng)
        self.attention = nn.MultiheadAttention(channels, heads, rng=rng)

    def __call__(self, x, e, words):
        """x (N, C, H, W) and words (N, L, d): (N, C, H, W). The time e is not read."""
        N, C, H, W = x.shape
        p = swapaxes(self.norm(x).reshape(N, C, H * W), 1, 2)  # (N, HW, C)
        seen = concatenate([p, self.words(words)], axis=1)  # (N, HW + L, C)
        return x + swapaxes(self.attention(p, seen, seen), 1, 2).reshape(x.shape)


class TextDenoiser(Denoiser):
    """A Denoiser that is told words of codes of length d; `embed` gives (N, D)."""

    def __init__(self, unet, embed, d, D, rng=None):
        super().__init__(unet, embed)
        self.d, self.whole = d, nn.Linear(d, D, rng=rng)

    def __call__(self, x_t, t, words):
        """Images (N, C, H, W), integers t (N,) and words (N, L, d). ValueError for other words."""
        if words.ndim != 3 or words.shape[2] != self.d:
            raise ValueError(f"glide: words are {words.shape}, expected codes (N, L, {self.d})")
        return self.unet(x_t, self.embed(t) + self.whole(mean(words, 1)), words)


def text_denoiser(shape, d, widths=(64, 64), D=128, rng=None):
    """A TextDenoiser for images of `shape` (C, H, W), of which it sees 2×2 pixels as one place."""
    C = shape[0]
    mix = WordAttention2d(widths[-1], d, rng=rng)
    unet = TimeUNet(4 * C, 4 * C, D, widths, mix=mix, rng=rng)
    embed = nn.TimeEmbedding(D, rng=rng)
    return TextDenoiser(Folded(unet), embed, d, D, rng)


def read(text, c):
    """The codes of the words of texts c (N, L) by a TextEncoder `text`, 0 where there is no word:
    (N, L, d)."""
    words, there = text.words(c)
    return words * there[..., None].astype(words.dtype)
