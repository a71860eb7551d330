"""CycleGAN (Zhu, Park, Isola & Efros 2017): translation between two collections of images, X and Y,
without any matching pairs.

    L_GAN(G, D_Y) + L_GAN(F, D_X) + λ (E‖F(G(x)) − x‖₁ + E‖G(F(y)) − y‖₁)

G translates from X to Y and F from Y to X; D_Y and D_X tell translations from images of Y and X.
The discriminators alone would let G return any image of Y for x. Cycle consistency, F(G(x)) ≈ x and
G(F(y)) ≈ y, makes G preserve in its translation all that it was given.

L_GAN is the GAN's, log D_Y(y) + log(1 − D_Y(G(x))), on the slides and in the paper's equation 1.
Here, as in the paper's training, it is least squares (lsgan.py): D's target is 1 for images of its
collection and 0 for translations; G wants D to output 1. ‖·‖₁ is a mean over pixels.

Differs from the paper: smaller networks, for images of 28×28 or 32×32: the translators downsample
once and have three residual blocks; the discriminators judge pix2pix.py's patches. D's loss is not
halved. The discriminators see only the newest translations, not a history of 50.
"""

from minigen import l1_loss, mean, nn, no_grad, relu, square, tanh
from minigen.models.image_to_image.pix2pix import patch_discriminator


class CycleGAN:
    """`G` maps images x (N, C, H, W) to images like y, `F` images y back; `D_X`, `D_Y` map images
    to numbers of any shape. `lam` is λ.

    The losses also take the translations G_x = G(x) and F_y = F(y), which both players' steps can
    share.
    """

    def __init__(self, G, F, D_X, D_Y, lam=10.0):
        self.G, self.F, self.D_X, self.D_Y, self.lam = G, F, D_X, D_Y, lam

    def translate(self, x, y):
        """G(x), F(G(x)), F(y) and G(F(y)), untracked."""
        with no_grad():
            G_x, F_y = self.G(x), self.F(y)
            return G_x, self.F(G_x), F_y, self.G(F_y)

    def d_loss(self, x, y, G_x, F_y):
        """What D_Y and D_X minimise: how far they are from 1 on images, from 0 on translations."""
        return lsgan_d_loss(self.D_Y, y, G_x) + lsgan_d_loss(self.D_X, x, F_y)

    def cycle_loss(self, x, y, G_x, F_y):
        """E‖F(G(x)) − x‖₁ + E‖G(F(y)) − y‖₁."""
        return l1_loss(self.F(G_x), x) + l1_loss(self.G(F_y), y)  # eq: cycle-consistency

    def g_loss(self, x, y, G_x, F_y):
        """What G and F minimise."""
        adversarial = mean(square(self.D_Y(G_x) - 1)) + mean(square(self.D_X(F_y) - 1))
        return adversarial + self.lam * self.cycle_loss(x, y, G_x, F_y)  # eq: cycle-loss


def lsgan_d_loss(D, real, fake):
    """E (D(real) − 1)² + E D(fake)², with no gradient into the translator."""
    return mean(square(D(real) - 1)) + mean(square(D(fake.detach())))


def translator(C, K, width=16, rng=None):
    """A residual network from images (N, C, H, W) to (N, K, H, W) in [−1, 1], H and W even."""
    return nn.Sequential(
        nn.Conv2d(C, width, 3, 1, 1, rng=rng), instance_norm(width), relu,
        nn.Conv2d(width, 2 * width, 4, 2, 1, rng=rng), instance_norm(2 * width), relu,
        *(Residual(2 * width, rng) for _ in range(3)),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, rng=rng), instance_norm(width), relu,
        nn.Conv2d(width, K, 3, 1, 1, rng=rng), tanh)


class Residual:
    """x plus two convolutions of it: (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, C, rng=None):
        self.net = nn.Sequential(nn.Conv2d(C, C, 3, 1, 1, rng=rng), instance_norm(C), relu,
                                 nn.Conv2d(C, C, 3, 1, 1, rng=rng), instance_norm(C))

    def __call__(self, x):
        return x + self.net(x)


def instance_norm(C):
    """Normalises each channel of each image by its own mean and variance."""
    return nn.GroupNorm(C, C)


def cyclegan(C, K, width=16, lam=10.0, rng=None):
    """A CycleGAN between images of C channels, X, and images of K, Y, in [−1, 1]."""
    return CycleGAN(translator(C, K, width, rng), translator(K, C, width, rng),
                    patch_discriminator(C, 2 * width, rng),
                    patch_discriminator(K, 2 * width, rng), lam)
