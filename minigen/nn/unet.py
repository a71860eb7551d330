"""The U-Net (Ronneberger et al. 2015): an encoder and a decoder, joined at every resolution.

    d_ℓ = up(d_{ℓ+1}) ⊕ e_ℓ        (⊕: channels side by side)

On the way down the image loses its detail; each joint brings back what the encoder saw there.
"""

from minigen.nn.layers import Conv2d, ConvTranspose2d
from minigen.ops import concatenate, relu


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
