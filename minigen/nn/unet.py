"""The U-Net (Ronneberger et al. 2015): an encoder and a decoder, with a skip at each resolution.

    d_ℓ = up(d_{ℓ+1}) ⊕ e_ℓ        (⊕: channel concatenation)

On the way down the image loses detail; each skip connection brings back what the encoder saw there.
"""

import math

from minigen.nn import initializers
from minigen.nn.layers import (
    Conv2d,
    ConvTranspose2d,
    GroupNorm,
    GroupNormSiLU,
    Linear,
    MultiheadAttention,
)
from minigen.nn.transformer import as_maps, positions
from minigen.ops import (
    concatenate,
    group_norm_silu,
    pixel_shuffle,
    pixel_unshuffle,
    relu,
    silu,
    split,
)


class UNet:
    """(N, C, H, W) → (N, out_channels, H, W); H and W divisible by 2^(len(widths) − 1)."""

    def __init__(self, in_channels, out_channels, widths=(16, 32, 64), rng=None):
        self.widths = tuple(widths)
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.first = Conv2d(in_channels, widths[0], 3, padding=1, rng=rng)
        self.down = [Conv2d(a, b, 4, stride=2, padding=1, rng=rng) for a, b in pairs]
        self.up = [ConvTranspose2d(b, a, 4, stride=2, padding=1, rng=rng) for a, b in pairs]
        self.merge = [Conv2d(2 * a, a, 3, padding=1, rng=rng) for a in widths[:-1]]
        self.last = Conv2d(widths[0], out_channels, 3, padding=1, rng=rng)

    def __call__(self, x):
        """An image of the same size. ValueError if a side cannot be halved often enough."""
        factor = 2 ** len(self.down)
        if x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(f"UNet: height and width must be divisible by {factor}, got {x.shape}")
        e = [relu(self.first(x))]
        for down in self.down:
            e.append(relu(down(e[-1])))
        d = e.pop()
        for up, merge in zip(self.up[::-1], self.merge[::-1], strict=True):
            d = concatenate([up(d), e.pop()], axis=1)  # eq: unet-skip
            d = relu(merge(d))
        return self.last(d)


# ---------------------------------------------------------------------------------- with time
# The blocks take an embedding e to which silu has been applied, once for all of them.

class AddTime:
    """Time enters a block by addition, the same at every position: silu(GN(h + W e))."""

    def __init__(self, channels, D, rng=None):
        self.norm = GroupNormSiLU(groups(channels), channels)
        self.linear = Linear(D, channels, rng=rng)

    def __call__(self, h, e):
        """h (N, C, H, W) and an embedding e (N, D): (N, C, H, W)."""
        b = self.linear(e)[:, :, None, None]
        return self.norm(h + b)  # eq: ddpm-time-injection


class AdaGN:
    """Time enters a block by adaptive group normalisation (Dhariwal & Nichol 2021):
    silu(y_s GN(h) + y_b), (y_s − 1, y_b) = W e."""

    def __init__(self, channels, D, rng=None):
        self.groups = groups(channels)
        self.linear = Linear(D, 2 * channels, rng=rng)

    def __call__(self, h, e):
        """h (N, C, H, W) and an embedding e (N, D): (N, C, H, W)."""
        y_s, y_b = split(self.linear(e), 2, axis=1)
        return group_norm_silu(h, self.groups, 1 + y_s, y_b)  # eq: ddpm-time-injection


class ResidualBlock:
    """x + conv(inject(conv(silu(GN(x))), e)): (N, C, H, W) → (N, K, H, W). `inject` is AddTime or
    AdaGN. The last convolution starts at 0, and so the block as its skip: the identity if C = K."""

    def __init__(self, C, K, D, inject=AdaGN, rng=None):
        self.norm = GroupNormSiLU(groups(C), C)
        self.first = Conv2d(C, K, 3, padding=1, rng=rng)
        self.inject = inject(K, D, rng=rng)
        self.second = ZeroConv2d(K, K, 3, padding=1)
        self.skip = Conv2d(C, K, 1, rng=rng) if C != K else None

    def __call__(self, x, e):
        h = self.second(self.inject(self.first(self.norm(x)), e))
        return (x if self.skip is None else self.skip(x)) + h


class SelfAttention2d:
    """x + attention of every position to every position: (N, C, H, W) → the same shape."""

    def __init__(self, channels, heads=1, rng=None):
        self.norm = GroupNorm(groups(channels), channels)
        self.attention = MultiheadAttention(channels, heads, rng=rng)

    def __call__(self, x):
        p = positions(self.norm(x))  # (N, HW, C)
        return x + as_maps(self.attention(p, p, p), x.shape)


class DenseMixing:
    """x + C₂ W₂ silu(W₁ C₁ GN(x) + W e): from every position to every position, with weights for
    each pair, where a convolution has them for each offset: (N, C, H, W) → the same shape, with
    H×W = `size`.

    C₁, C₂: 1×1 convolutions to `channels` and back, C₂ initially 0; W₁, W₂: linear layers to d_h
    numbers and back
    """

    def __init__(self, C, size, D, channels=32, d_h=1024, rng=None):
        self.norm = GroupNorm(groups(C), C)
        self.first, self.second = Conv2d(C, channels, 1, rng=rng), ZeroConv2d(channels, C, 1)
        self.shape = (channels, *size)
        self.gather = Linear(math.prod(self.shape), d_h, rng=rng)
        self.scatter = Linear(d_h, math.prod(self.shape), rng=rng)
        self.time = Linear(D, d_h, rng=rng)

    def __call__(self, x, e):
        h = silu(self.gather(self.first(self.norm(x)).flatten(1)) + self.time(e))
        return x + self.second(self.scatter(h).reshape(len(x), *self.shape))


class ZeroConv2d(Conv2d):
    """A convolution whose initial weight and bias are 0."""

    def init(self, rng):
        initializers.constant(self.weight, 0)
        initializers.constant(self.bias, 0)


class TimeUNet:
    """The U-Net of diffusion models (Ho et al. 2020): residual blocks conditioned on the time,
    self-attention at the lowest resolution, and skip connections by channel concatenation. Images
    (N, C, H, W) and embeddings e (N, D) → (N, out_channels, H, W); H and W divisible by
    `factor` = 2^(len(widths) − 1).

    widths: the channels at each resolution; blocks: residual blocks at each, on either way;
    mix: an optional layer at the lowest resolution after the attention, mix(h, e, *given)

    Differs from the paper: one skip connection per resolution, not per block, which halves the
    work.
    """

    def __init__(self, in_channels, out_channels, D, widths=(32, 64, 64), blocks=1, heads=1,
                 inject=AdaGN, mix=None, rng=None):
        def column(C, K):
            return [ResidualBlock(C if i == 0 else K, K, D, inject, rng) for i in range(blocks)]

        *upper, lowest = widths
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.factor = 2 ** len(upper)
        self.first = Conv2d(in_channels, widths[0], 3, padding=1, rng=rng)
        self.encode = [column(K, K) for K in upper]
        self.down = [Conv2d(a, b, 3, stride=2, padding=1, rng=rng) for a, b in pairs]
        self.middle = [ResidualBlock(lowest, lowest, D, inject, rng),
                       SelfAttention2d(lowest, heads, rng),
                       ResidualBlock(lowest, lowest, D, inject, rng)]
        self.mix = mix
        self.up = [ConvTranspose2d(b, a, 4, stride=2, padding=1, rng=rng) for a, b in pairs]
        self.decode = [column(2 * K, K) for K in upper]
        self.norm = GroupNormSiLU(groups(widths[0]), widths[0])
        self.last = ZeroConv2d(widths[0], out_channels, 3, padding=1)

    def __call__(self, x, e, *given):
        """`given` is for `mix`. ValueError if a side cannot be halved often enough."""
        *_, h = self.decoded(x, e, *given)
        return self.last(self.norm(h))

    def decoded(self, x, e, *given):
        """Yields the activations on the way up, one per resolution, from the lowest: first those
        of the middle (N, widths[-1], ., .), last those of the full resolution (N, widths[0], H, W).
        """
        if x.shape[2] % self.factor or x.shape[3] % self.factor:
            raise ValueError(f"TimeUNet: height and width must be divisible by {self.factor}, got "
                             f"{x.shape}")
        h, e, skips = self.first(x), silu(e), []
        for column, down in zip(self.encode, self.down, strict=True):
            for block in column:
                h = block(h, e)
            skips.append(h)
            h = down(h)
        before, attention, after = self.middle
        h = attention(before(h, e))
        h = after(h if self.mix is None else self.mix(h, e, *given), e)
        yield h
        for column, up in zip(self.decode[::-1], self.up[::-1], strict=True):
            h = concatenate([up(h), skips.pop()], axis=1)
            for block in column:
                h = block(h, e)
            yield h


class SpaceToDepthUNet:
    """A TimeUNet that sees each 2×2 pixels as one position, with four times the channels: images
    (N, C, H, W) and embeddings e (N, D) → (N, K, H, W), for a `unet` from 4C to 4K channels, which
    also gets all further arguments. The full resolution, the most expensive, is left out."""

    def __init__(self, unet):
        self.unet = unet

    def __call__(self, x, e, *given):
        """ValueError if a side is odd."""
        if x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"SpaceToDepthUNet: height and width must be even, got {x.shape}")
        return pixel_shuffle(self.unet(pixel_unshuffle(x, 2), e, *given), 2)


def groups(channels):
    """The number of groups of a group normalisation: gcd(channels, 8), so at most 8."""
    return math.gcd(channels, 8)
