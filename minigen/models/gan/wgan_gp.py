"""WGAN with gradient penalty (Gulrajani et al. 2017): a penalty pulls the critic's slope towards 1.

    L_D = E_z[D(x̃)] − E_x[D(x)] + λ E_x̂[(‖∇_x̂ D(x̂)‖₂ − 1)²],    x̃ = G(z)
    x̂ = ε x + (1 − ε) x̃,  ε ~ U[0, 1]        between a real and a generated sample

The loss contains a gradient, so its own gradient differentiates D twice. The norm is taken for each
sample separately, so D must not mix the samples of a batch: no batch norm in the critic.
"""

from minigen import flatten, grad, mean, nn, norm, optim, square, sum, tensor
from minigen.models.gan import dcgan
from minigen.models.gan.gan import leaky
from minigen.models.gan.wgan import WGAN


class WGANGP(WGAN):
    """`lam` is λ."""

    def __init__(self, G, D, d_z, lam=10.0):
        super().__init__(G, D, d_z)
        self.lam = lam

    def d_loss(self, x, rng, *given):
        """−distance + λ · penalty, on the real samples x and as many generated ones."""
        x_fake = self.fake_batch(x, rng, *given)
        distance = mean(self.D(x, *given)) - mean(self.D(x_fake, *given))
        return -distance + self.lam * penalty(self.D, random_interpolates(x, x_fake, rng), *given)


def random_interpolates(x, x_fake, rng):
    """x̂ = ε x + (1 − ε) x̃ with one ε per sample: untracked, shaped like x (N, ...)."""
    eps = tensor(rng.random((len(x), *[1] * (x.ndim - 1)), x.dtype))
    return eps * x + (1 - eps) * x_fake  # eq: wgan-gp-penalty


def penalty(D, x_hat, *given):
    """E[(‖∇D(x̂)‖ − 1)²] over the points x̂ (N, ...), differentiable in D's parameters."""
    x_hat = tensor(x_hat, requires_grad=True)
    grad_D = grad(sum(D(x_hat, *given)), x_hat, create_graph=True)
    return mean(square(norm(flatten(grad_D, 1), axis=1) - 1))  # eq: wgan-gp-penalty


def critic(shape, width=dcgan.WIDTH, rng=None, outputs=1):
    """DCGAN's discriminator without its batch norm: images of `shape` → (N, outputs)."""
    C, H, W = shape
    K1, K2, K3 = width, 2 * width, 4 * width
    small, _ = dcgan.sizes(H, W)
    return nn.Sequential(
        nn.Conv2d(C, K1, 4, 2, 1, rng=rng), leaky,
        nn.Conv2d(K1, K2, 4, 2, 1, rng=rng), leaky,
        nn.Conv2d(K2, K3, 4, 2, 1, rng=rng), leaky,
        nn.Conv2d(K3, outputs, small, rng=rng), lambda a: a.flatten(1))


def wgan_gp(shape, d_z, width=dcgan.WIDTH, rng=None):
    """A WGAN-GP for images of `shape` (C, H, W) in [−1, 1]."""
    return WGANGP(dcgan.generator(d_z, shape, width, rng), critic(shape, width, rng), d_z)


def adam(params, lr=1e-4):
    """Adam with the paper's settings, without momentum."""
    return optim.Adam(params, lr, betas=(0.0, 0.9))
