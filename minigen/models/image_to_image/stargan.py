"""StarGAN (Choi et al. 2018): one generator translates between all pairs of domains.

    L_adv = E_x[D_src(x)] − E_{x,c}[D_src(G(x, c))] − λ_gp E_x̂[(‖∇_x̂ D_src(x̂)‖₂ − 1)²]
    L_cls^r = E_{x,c′}[−log D_cls(c′ | x)]             c′: the domain of the image x
    L_cls^f = E_{x,c}[−log D_cls(c | G(x, c))]         c: the domain that is asked for
    L_rec = E_{x,c,c′} ‖x − G(G(x, c), c′)‖₁

    L_D = −L_adv + λ_cls L_cls^r,   L_G = L_adv + λ_cls L_cls^f + λ_rec L_rec

A CycleGAN (cyclegan.py) needs two generators and two discriminators for each pair of domains. Here
the domain is an input: G(x, c) translates x to c from wherever it comes, and D has two outputs,
whether a patch looks real (D_src) and the domain (D_cls). D learns D_cls from images alone, G from
its translations alone. L_rec, cycle consistency, makes G change nothing but what c asks for.

A domain is a vector c of n attributes, each 0 or 1, so that several can be changed at once:
log D_cls(c | x) = Σ_k c_k log p_k + (1 − c_k) log(1 − p_k), p = σ(logits). G gets each as a
constant channel of its input.

D_src(x) is a mean over patches, ‖·‖₁ over pixels.

Differs from the paper: L_G is without the penalty, as in the authors' program, though its x̂ depend
on G; G adds to x what a U-Net (unet.py) proposes, so that at first it changes
little. The paper's residual network draws the whole image, which it learns in some hundred thousand
steps; it also has instance norm, which subtracts constant channels, and with them most of c except
at the border. D halves images of 32×32 four times, not images of 128×128 six times.
"""

from minigen import binary_cross_entropy_with_logits, l1_loss, mean, nn, no_grad, tanh
from minigen.models.gan.gan import check_shape, leaky
from minigen.models.gan.wgan_gp import penalty, random_interpolates
from minigen.nn import Conditioned


class StarGAN:
    """`G(x, c)` maps images x (N, C, H, W) and domains c (N, n) to images; `D` maps images to
    D_src, a number for each (N,), and D_cls, the logits of the attributes (N, n).

    The losses also take G_x = G(x, c), which both players' steps can share. They raise ValueError
    if its shape is not that of x, or that of a domain not (N, n).
    """

    def __init__(self, G, D, lam_cls=1.0, lam_rec=10.0, lam_gp=10.0):
        self.G, self.D = G, D
        self.lam_cls, self.lam_rec, self.lam_gp = lam_cls, lam_rec, lam_gp

    def translate(self, x, c):
        """G(x, c), untracked."""
        with no_grad():
            return self.G(x, c)

    def d_loss(self, x, c_prime, G_x, rng):
        """L_D, with no gradient into G, and its parts: E[D_src(x)] − E[D_src(G(x, c))], the penalty
        and L_cls^r."""
        fake = check_shape("StarGAN", G_x, x).detach()
        src, cls = self.D(x)
        distance = mean(src) - mean(self.D(fake)[0])  # eq: stargan-adversarial
        slope = penalty(lambda x_hat: self.D(x_hat)[0], random_interpolates(x, fake, rng))
        L_adv = distance - self.lam_gp * slope  # eq: stargan-adversarial
        L_cls = classification_loss(cls, c_prime)
        L_D = -L_adv + self.lam_cls * L_cls  # eq: stargan-objective
        return L_D, {"distance": distance, "penalty": slope, "L_cls_r": L_cls}

    def g_loss(self, x, c_prime, c, G_x):
        """L_G without E[D_src(x)], which does not depend on G, and without the penalty, which is
        for D only; and its parts, L_cls^f and L_rec."""
        src, cls = self.D(check_shape("StarGAN", G_x, x))
        L_cls = classification_loss(cls, c)
        L_rec = l1_loss(self.G(G_x, c_prime), x)  # eq: stargan-reconstruction
        L_G = -mean(src) + self.lam_cls * L_cls + self.lam_rec * L_rec  # eq: stargan-objective
        return L_G, {"L_cls_f": L_cls, "L_rec": L_rec}


def classification_loss(logits, c):
    """E[−log D_cls(c | x)] for logits (N, n) and domains c (N, n) of 0 and 1: a scalar in nats."""
    nats = binary_cross_entropy_with_logits(logits, c, reduction="sum")
    return nats / len(c)  # eq: stargan-classification


class Generator:
    """x + 2 tanh(f(x, c)), with a U-Net f: images (N, C, H, W), H and W divisible by 4, and domains
    c (N, n) to images. Any value in [−1, 1] can be reached from any other."""

    def __init__(self, C, n, width, rng=None):
        self.f = Conditioned(nn.UNet(C + n, C, (width, 2 * width, 4 * width), rng), n)

    def __call__(self, x, c):
        return x + 2 * tanh(self.f(x, c))


class Discriminator:
    """Images of `shape` (C, H, W) to D_src (N,), the mean of H/16 × W/16 patches, and the logits of
    n attributes (N, n). Both have the same layers but the last, and no norm among them: the penalty
    is of each image. ValueError unless H and W are divisible by 16."""

    def __init__(self, shape, n, width, rng=None):
        C, H, W = shape
        if H % 16 or W % 16:
            raise ValueError("stargan: height and width must be divisible by 16, got "
                             f"{H}×{W}: pad the images")
        sizes = (C, width, 2 * width, 4 * width, 8 * width)
        self.body = nn.Sequential(*(
            layer for a, b in zip(sizes, sizes[1:], strict=False)
            for layer in (nn.Conv2d(a, b, 4, 2, 1, rng=rng), leaky)))  # (N, 8 width, H/16, W/16)
        self.src = nn.Conv2d(8 * width, 1, 3, padding=1, bias=False, rng=rng)
        self.cls = nn.Conv2d(8 * width, n, (H // 16, W // 16), bias=False, rng=rng)

    def __call__(self, x):
        h = self.body(x)
        return mean(self.src(h), axis=(1, 2, 3)), self.cls(h).flatten(1)


def stargan(shape, n, width=16, lam_rec=10.0, rng=None):
    """A StarGAN for images of `shape` (C, H, W) in [−1, 1] and n attributes."""
    return StarGAN(Generator(shape[0], n, width, rng), Discriminator(shape, n, width, rng),
                   lam_rec=lam_rec)
