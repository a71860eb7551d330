"""Progressive growing of GANs (Karras et al. 2018): training starts with small images; then, stage
by stage, layers that double the resolution are added to both networks.

    x = (1 − α) up(x_low) + α x_high         α from 0 to 1: a new layer is faded in

x_low is the generator's output without the new layer, x_high its output with it. The discriminator
fades in its new layer in the same way, and the real images are made as sharp as the generated ones:

    h = (1 − α) read_low(down(x)) + α down(layer(read_high(x)))
    x_real = (1 − α) up(down(x)) + α x

so nothing changes abruptly when a layer is added. The losses are those of WGAN-GP.

Differs from the paper: two doublings, one convolution per resolution; tanh on the generator's
output; codes z are not normalised to a hypersphere; no equalised learning rate (weights rescaled
at run time); D gets no minibatch standard deviation, and its loss no drift term 0.001 E[D(x)²].
"""

from minigen import avg_pool2d, interpolate, mean, nn, square, tanh, tensor
from minigen.models.gan.gan import leaky
from minigen.models.gan.wgan_gp import WGANGP

WIDTHS = (128, 64, 32)  # channels of each stage, from the smallest images


def up(x):
    return interpolate(x, scale_factor=2)


def down(x):
    return avg_pool2d(x, 2)


def fade(low, high, alpha):
    """Blend `low`, the result without the new layer, into `high`, with it, both of one shape."""
    return (1 - alpha) * low + alpha * high  # eq: progressive-growing


def pixel_norm(h):
    """The channels at each pixel, divided by their root mean square."""
    return h / (mean(square(h), axis=1, keepdims=True) + 1e-8) ** 0.5


class Growing:
    """What both networks share: the `stage` k = 0, 1, … and α, both set by `grow`, and for each
    stage one of `layers` and one of `image`, the layers that read or output images."""

    stage, alpha = 0, 1.0

    def parameters(self, stage):
        """The parameters in use at a stage, by name."""
        image_layers = self.image[max(0, stage - 1):stage + 1]
        return nn.parameters([self.fixed, self.layers[:stage + 1], image_layers])


class Generator(Growing):
    """Codes (N, d_z) → images (N, C, H / 2^j, W / 2^j) in [−1, 1], j stages before the last."""

    def __init__(self, d_z, shape, widths=WIDTHS, rng=None):
        C, H, W = shape
        halves = len(widths) - 1
        if H % 2**halves or W % 2**halves:
            raise ValueError(f"progressive: height and width must be divisible by {2**halves}, got "
                             f"{H}×{W}")
        self.fixed = nn.ConvTranspose2d(d_z, widths[0], (H >> halves, W >> halves), rng=rng)
        self.layers = [nn.Sequential(nn.Conv2d(a, b, 3, 1, 1, rng=rng), leaky, pixel_norm)
                       for a, b in zip((widths[0], *widths), widths, strict=False)]
        self.image = [nn.Sequential(nn.Conv2d(a, C, 1, rng=rng), tanh) for a in widths]

    def __call__(self, z):
        h = pixel_norm(leaky(self.fixed(z.reshape(*z.shape, 1, 1))))
        h = self.layers[0](h)
        for layer in self.layers[1:self.stage + 1]:
            before, h = h, layer(up(h))
        x = self.image[self.stage](h)
        if self.stage:
            x = fade(up(self.image[self.stage - 1](before)), x, self.alpha)
        return x


class Critic(Growing):
    """Images of the generator's current size, (N, C, ., .) → numbers (N, 1)."""

    def __init__(self, shape, widths=WIDTHS, rng=None):
        C, H, W = shape
        halves, last = len(widths) - 1, widths[0]
        self.image = [nn.Sequential(nn.Conv2d(C, a, 1, rng=rng), leaky) for a in widths]
        self.layers = [nn.Sequential(nn.Conv2d(b, a, 3, 1, 1, rng=rng), leaky)
                       for a, b in zip((last, *widths), widths, strict=False)]
        self.fixed = nn.Conv2d(last, 1, (H >> halves, W >> halves), rng=rng)

    def __call__(self, x):
        h = self.image[self.stage](x)
        for k in range(self.stage, 0, -1):
            h = down(self.layers[k](h))
            if k == self.stage:
                h = fade(self.image[k - 1](down(x)), h, self.alpha)
        return self.fixed(self.layers[0](h)).flatten(1)


def grow(game, stage, alpha):
    """Set both networks to a stage, its new layers weighted by α. ValueError if out of range."""
    stages = len(game.G.layers)
    if stage not in range(stages) or not 0 <= alpha <= 1:
        raise ValueError(f"grow: there are the stages 0 to {stages - 1}, and α from 0 to 1; got "
                         f"{stage} and {alpha}")
    for net in (game.G, game.D):
        net.stage, net.alpha = stage, alpha


def progress(fraction, stages):
    """The stage and α after a share of the training, 0 to 1: all stages last equally long, and each
    but the first fades in during its first half."""
    k = min(int(fraction * stages), stages - 1)
    return k, min(1.0, 2 * (fraction * stages - k)) if k else 1.0


def match_resolution(x, game):
    """Real images x (N, C, H, W) at the generator's current resolution and sharpness: a tensor."""
    for _ in game.G.layers[game.G.stage + 1:]:
        x = down(x)
    return fade(up(down(x)), x, game.G.alpha) if game.G.stage else tensor(x)


def progressive(shape, d_z, widths=WIDTHS, rng=None):
    """A WGAN-GP with growing networks for images of `shape` (C, H, W) in [−1, 1]."""
    return WGANGP(Generator(d_z, shape, widths, rng), Critic(shape, widths, rng), d_z)
