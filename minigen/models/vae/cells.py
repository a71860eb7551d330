"""The networks of NVAE's groups (nvae.py), made of residual cells:

    Cell(h) = h + 0.1 f(h),     f: twice a batch norm, swish (`silu`) and a 3×3 convolution

The factor 0.1 makes a deep network nearly the identity at first.

Differs from the paper: no squeeze and excitation, which brought nothing here; dense convolutions.
"""

from minigen import concatenate, interpolate, nn, pixel_shuffle, silu, split
from minigen.dist import Normal


def conv(C, K, size, rng):
    """A convolution that keeps height and width, `size` odd: (N, C, H, W) → (N, K, H, W)."""
    return nn.Conv2d(C, K, size, padding=size // 2, rng=rng)


class Cell(nn.Sequential):
    """A residual cell: (N, K, H, W) → the same shape."""

    def __init__(self, K, rng=None):
        half = lambda: (nn.BatchNorm2d(K), silu, conv(K, K, 3, rng))
        super().__init__(*half(), *half())

    def __call__(self, h):
        return h + 0.1 * super().__call__(h)  # eq: nvae-cell


class Group:
    """A step of the top-down network, for a z_l of d_z channels and states h_l of K; `after` are
    layers that follow the step."""

    def __init__(self, K, d_z, after=(), rng=None):
        self.p = nn.Sequential(silu, conv(K, 2 * d_z, 1, rng))
        self.mix = conv(K, K, 1, rng)
        self.q = nn.Sequential(silu, conv(K, 2 * d_z, 3, rng))
        self.merge = conv(K + d_z, K, 1, rng)
        self.cell = Cell(K, rng)
        self.after = nn.Sequential(*after)

    def prior(self, h):
        """p(z_l | z_{<l}) from h_l (N, K, H, W): a `Normal` over (N, d_z, H, W)."""
        return Normal(*split(self.p(h), 2, axis=1))

    def delta(self, h, s):
        """(Δμ, log Δσ²), or (μ̂, log σ̂²), from h_l and the features s_l: (N, 2 d_z, H, W)."""
        return self.q(s + self.mix(h))

    def __call__(self, h, z):
        """h_{l+1} from h_l and z_l."""
        return self.after(self.cell(self.merge(concatenate([h, z], axis=1))))


def enlarge(C, K, rng):
    """A layer from one resolution to the next: (N, C, H, W) → (N, K, 2H, 2W)."""
    return nn.Sequential(conv(C, K, 1, rng), lambda h: interpolate(h, scale_factor=2))


def decoder(K, C, rng):
    """The network after the last group: (N, K, H, W) to an image's logits, (N, C, 2H, 2W)."""
    return nn.Sequential(
        Cell(K, rng), nn.BatchNorm2d(K), silu, conv(K, 4 * K, 3, rng),
        lambda h: silu(pixel_shuffle(h, 2)), conv(K, C, 3, rng))
