"""SinGAN (Shaham, Dekel & Michaeli 2019): a generative model of a single image. What repeats in an
image are its patches; a pyramid of GANs, one for each size of the image, learns their looks.

    x_0, …, x_N                                    the image x_0, and made smaller by rⁿ
    x̃_N = G_N(z_N),  x̃_n = G_n(z_n, (x̃_{n+1})↑)    a sample, from scale N to scale 0
    G_n(z_n, x↑) = x↑ + ψ_n(z_n + x↑)              ψ_n adds what the larger size shows in addition

    min_{G_n} max_{D_n} L_adv(G_n, D_n) + α L_rec(G_n)        one scale after the other, from N to 0
    L_rec = ‖G_n(0, (x_{n+1}^rec)↑) − x_n‖²,  ‖G_N(z*) − x_N‖² at scale N
    σ_n ∝ ‖(x_{n+1}^rec)↑ − x_n‖                              the standard deviation of z_n

The convolutions see 11×11 pixels at a time: much of x_N, so scale N arranges the image, and little
of x_0, so scale 0 draws details. D_n scores every patch, and L_adv is that of WGAN-GP (wgan_gp.py)
for the mean score. Noise z* at scale N and none at the others gives x itself.

The networks are convolutions, so a sample may have any size. Any image can take the place of
x̃_{n+1}: G_n, …, G_0 give its patches the looks of those of x. It may be a painting, or an image
with something pasted into it. `enlarge` gives G_0 the image x itself, enlarged by r.

Differs from the paper: images are resized by bilinear interpolation and by means over areas; D has
no norm, and sees the image with mirrored edges; G and D take turns, where the paper takes three
steps of each; the width is the same at all scales, where the paper doubles it every four. Instance
norm in ψ sees the whole image: it is the paper's batch norm for a single image, but the authors'
finished scales use running averages. To enlarge, the paper trains with α = 100 and an r of which
the enlargement is a power. As in the authors' program, the noise of scale N is the same for all
channels, the penalty takes the gradient's norm at each pixel, and σ_n is 0.1 times the RMSE.
"""

import math

import numpy as np

from minigen import grad, interpolate, mean, mse_loss, nn, no_grad, norm, pad, square, sum, tanh
from minigen.models.gan.gan import leaky
from minigen.models.gan.wgan_gp import random_interpolates
from minigen.models.image_to_image.cyclegan import instance_norm
from minigen.tensor import tensor, to_device_of, write

LAYERS = 5  # convolutions with 3×3 filters: each output sees PATCH × PATCH pixels
PATCH = 2 * LAYERS + 1
BORDER = ((0, 0), (0, 0), (LAYERS, LAYERS), (LAYERS, LAYERS))  # by which they narrow images
ALPHA, LAM, NOISE = 10.0, 0.1, 0.1  # α; λ, the weight of the gradient penalty; σ_n / RMSE


class SinGAN:
    """The pyramid for an image x (C, H, W) in [−1, 1]: N + 1 scales, the smallest with `smallest`
    pixels at its shorter side; r is about `factor`.

    `noise`, where a method takes it, is a function of n and the shape of x̃_n that gives z_n, and
    `size` is the (H, W) of scale 0. Raises ValueError for an x of another shape or too small.
    """

    def __init__(self, x, smallest=25, factor=4 / 3, width=32, rng=None):
        if np.ndim(x) != 3 or not PATCH <= smallest <= min(x.shape[1:]):
            raise ValueError(f"SinGAN: the image is {np.shape(x)}, to be reduced to {smallest}: "
                             f"expected (C, H, W), and H, W ≥ the smallest size ≥ {PATCH}")
        C, *self.size = x.shape
        ratio = min(self.size) / smallest
        self.N = round(math.log(ratio, factor))
        self.r = ratio ** (1 / self.N) if self.N else factor
        self.x = [tensor(shrink(x[None], size)) for size in self.sizes(self.size)]
        self.psi = [residual(C, width, rng) for _ in self.x]
        self.D = [critic(C, width, rng) for _ in self.x]
        self.sigma = tensor(np.ones(self.N + 1, np.float32))
        rng = nn.initializers.generator(rng)
        self.z_star = tensor(rng.standard_normal((1, 1, *self.x[self.N].shape[2:]), np.float32))

    def sizes(self, size):
        """(H / rⁿ, W / rⁿ), rounded, for n = 0 … N."""
        return [tuple(round(side / self.r**n) for side in size) for n in range(self.N + 1)]

    def white(self, rng):
        """The noise of samples, N(0, σ_n²); at scale N it is the same for all channels."""
        shape_of = lambda n, m, C, *size: (m, 1 if n == self.N else C, *size)
        return lambda n, shape: self.sigma[n] * to_device_of(
            rng.standard_normal(shape_of(n, *shape), self.sigma.dtype), self.sigma.data)

    def fixed(self, n, shape):
        """The noise of the reconstruction: z* at scale N, 0 at the others."""
        return self.z_star if n == self.N else 0  # eq: singan-reconstruction

    def G(self, n, noise, up):
        """x̃_n (m, C, H, W), given x↑, the enlarged image of scale n + 1."""
        z = noise(n, up.shape)
        return up + self.psi[n](z + up)  # eq: singan-residual

    @no_grad()
    def rise(self, up, k, n, noise, size):
        """(x̃_{n+1})↑, untracked, given (x̃_{k+1})↑, k ≥ n."""
        for i in range(k, n, -1):
            x, larger = self.G(i, noise, up), self.sizes(size)[i - 1]  # eq: singan-pyramid
            up = interpolate(x, size=larger, mode="bilinear")  # eq: singan-pyramid
        return up

    def below(self, n, m, noise, size=None):
        """(x̃_{n+1})↑ of m images, drawn from scale N on; 0 at scale N itself."""
        size = size or self.size
        zeros = np.zeros((m, self.x[0].shape[1], *self.sizes(size)[self.N]), self.sigma.dtype)
        up = tensor(to_device_of(zeros, self.sigma.data))
        return self.rise(up, self.N, n, noise, size)

    # Training: `begin(n)` before the steps of each scale, N first ---------------------------------

    def begin(self, n):
        """Set σ_n, and continue with the weights of scale n + 1. Scale N needs neither."""
        if n < self.N:
            rmse = mse_loss(self.below(n, 1, self.fixed), self.x[n]) ** 0.5
            sigma_n = NOISE * rmse.item()  # eq: singan-noise-level
            write(self.sigma, lambda a: a.__setitem__(n, sigma_n))
            for networks in (self.psi, self.D):
                nn.load_state_dict(networks[n], nn.state_dict(networks[n + 1]))

    def fake(self, n, m, rng):
        """m samples x̃_n, which depend on ψ_n, but on no other scale's."""
        noise = self.white(rng)
        return self.G(n, noise, self.below(n, m, noise))

    def d_loss(self, n, m, rng):
        """What D_n minimises, on m samples, with no gradient into ψ_n."""
        x, x_fake, D = self.x[n], self.fake(n, m, rng).detach(), self.D[n]
        distance = mean(D(x)) - mean(D(x_fake))  # eq: singan-objective
        x_hat = random_interpolates(x_fake, x, rng)  # an ε for each of the m samples, but one x
        return LAM * penalty(D, x_hat) - distance  # eq: singan-objective

    def g_loss(self, n, m, rng):
        """What ψ_n minimises, on m samples, and L_rec."""
        x_rec = self.G(n, self.fixed, self.below(n, 1, self.fixed))
        L_rec = mse_loss(x_rec, self.x[n])  # eq: singan-reconstruction
        L_adv = -mean(self.D[n](self.fake(n, m, rng)))
        return L_adv + ALPHA * L_rec, {"L_rec": L_rec}  # eq: singan-objective

    # Images (m, C, H, W), untracked --------------------------------------------------------------

    @no_grad()
    def sample(self, m, rng, size=None):
        """m samples, of the size of x unless another is given."""
        noise = self.white(rng)
        return self.G(0, noise, self.below(0, m, noise, size))

    @no_grad()
    def reconstruct(self):
        """x, as the pyramid has learnt it."""
        return self.G(0, self.fixed, self.below(0, 1, self.fixed))

    @no_grad()
    def inject(self, x, n, rng):
        """Other images x, reduced to scale n + 1 and drawn by G_n, …, G_0, n < N: the smaller n is,
        the less they change."""
        if x.ndim != 4 or n not in range(self.N):
            raise ValueError(f"SinGAN: x is {x.shape} and n is {n}: expected (m, C, H, W) and n "
                             f"from 0 to {self.N - 1}")
        noise, size = self.white(rng), x.shape[2:]
        sizes = self.sizes(size)
        small = to_device_of(shrink(x, sizes[n + 1]), self.sigma.data)
        up = interpolate(small, size=sizes[n], mode="bilinear")  # eq: singan-injection
        return self.G(0, noise, self.rise(up, n, 0, noise, size))  # eq: singan-injection

    @no_grad()
    def enlarge(self, x, times, rng):
        """Images x, `times` times made larger by r and sharpened by G_0."""
        for _ in range(times):
            size = [round(self.r * side) for side in x.shape[2:]]
            up = interpolate(x, size=size, mode="bilinear")
            x = self.G(0, self.white(rng), up)  # eq: singan-super-resolution
        return x


def penalty(D, x_hat):
    """E[(‖∇D(x̂)‖ − 1)²] over the pixels of images x̂ (m, C, H, W), D the sum of all scores."""
    x_hat = tensor(x_hat, requires_grad=True)
    grad_D = grad(sum(D(x_hat)), x_hat, create_graph=True)
    return mean(square(norm(grad_D, axis=1) - 1))  # eq: singan-objective


def residual(C, width, rng=None):
    """ψ: images (m, C, H, W) to images of the same size in [−1, 1], from edges padded with 0."""
    block = lambda a: (nn.Conv2d(a, width, 3, bias=False, rng=rng), instance_norm(width), leaky)
    return nn.Sequential(lambda x: pad(x, BORDER), *block(C),
                         *(layer for _ in range(LAYERS - 2) for layer in block(width)),
                         nn.Conv2d(width, C, 3, rng=rng), tanh)


def critic(C, width, rng=None):
    """D: images (m, C, H, W) to a score for the patch around each pixel, (m, 1, H, W). Without the
    mirrored edges, pixels there would be in few patches, and G would learn their colours badly."""
    block = lambda a: (nn.Conv2d(a, width, 3, rng=rng), leaky)
    return nn.Sequential(lambda x: pad(x, BORDER, "reflect"), *block(C),
                         *(layer for _ in range(LAYERS - 2) for layer in block(width)),
                         nn.Conv2d(width, 1, 3, rng=rng))


def shrink(x, size):
    """Images x (m, C, H, W) reduced to `size`: each new pixel is the mean over its area."""
    for axis, new in zip((2, 3), size, strict=True):
        old = x.shape[axis]
        start, at = np.arange(new)[:, None] * old / new, np.arange(old)
        cover = np.minimum(start + old / new, at + 1) - np.maximum(start, at)
        share = cover.clip(0).astype(np.float32) * np.float32(new / old)  # (new, old)
        x = np.moveaxis(np.tensordot(x, share, (axis, 1)), -1, axis)
    return x
