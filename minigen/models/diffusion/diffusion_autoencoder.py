"""Diffusion autoencoders (Preechakul et al. 2022): an image as two codes, what it is and the rest.

    z = Enc(x_0)                           the semantic code, of d numbers
    L = E w_t ‖ε − ε_θ(x_t, t, z)‖²        the decoder, a DDIM that is told z; Enc learns with it
                                           (w_t = 1 / ᾱ_t, as in velocity.py; in the paper 1)
    x_T                                    the stochastic code: the DDIM, without noise, run
                                           backwards from x_0, as large as the image

From both comes the image, all but exactly. From z and any other x_T ~ N(0, I) come images that are
alike in what z says; all else, x_T decides. An autoencoder must say x_0 with z alone, and blurs
what it cannot; here z may keep to what is worth saying.

Codes z are known by what was encoded, not by a law. So a second DDIM learns it, a small one, of the
codes as they are when each number has mean 0 and variance 1, and images can be drawn: z from it,
x_T from N(0, I). In these units codes are also met and altered:

    between two images     z on the line from z₁ to z₂, x_T on the arc (slerp)
    an attribute           z ← z + s √d w / ‖w‖, w the normal of a linear classifier of codes

Differs from the paper: z is added to the embedding of the time (the paper scales by both apart);
the encoder is an autoencoder's, not half a U-Net; networks give the velocity (velocity.py), from
which ε_θ follows; and a step backwards is the step of `DDIM` solved for x_t, not one with the
network's word at x_{t−1}: fewer steps do.
"""

import numpy as np

from minigen import concatenate, nn, no_grad, silu, tensor
from minigen.dist import noise
from minigen.models.diffusion import velocity
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import Denoiser, denoiser
from minigen.models.diffusion.schedule import respaced
from minigen.models.diffusion.unclip import slerp
from minigen.nn import initializers
from minigen.nn.unet import AdaGN, Folded
from minigen.tensor import as_array, xp


class SemanticDenoiser(Denoiser):
    """A Denoiser that is told codes of length d; `embed` gives (N, D)."""

    def __init__(self, unet, embed, d, D, rng=None):
        super().__init__(unet, embed)
        self.d, self.code = d, nn.Linear(d, D, rng=rng)

    def __call__(self, x_t, t, z):
        """Images (N, C, H, W), integers t (N,) and codes z (N, d). ValueError for other codes."""
        if z.shape != (len(x_t), self.d):
            raise ValueError(f"diffusion autoencoder: codes are {z.shape}, expected "
                             f"({len(x_t)}, {self.d})")
        return self.unet(x_t, self.embed(t) + self.code(z))


def semantic_denoiser(shape, d, widths=(32, 64), D=128, rng=None):
    """A SemanticDenoiser for images of `shape` (C, H, W), of which it sees 2×2 pixels as one place.
    """
    C, H, W = shape
    net = denoiser((4 * C, H // 2, W // 2), widths, D, rng=rng)
    return SemanticDenoiser(Folded(net.unet), net.embed, d, D, rng)


class CodeMLP:
    """The network of the diffusion of codes: each layer sees the noised code again, is normalised
    and told the time."""

    def __init__(self, d, widths=(256, 256, 256), D=64, rng=None):
        self.embed = nn.TimeEmbedding(D, rng=rng)
        pairs = zip((0, *widths), widths, strict=False)
        self.layers = [nn.Linear(K + d, L, rng=rng) for K, L in pairs]
        self.inject = [AdaGN(K, D, rng) for K in widths]
        self.last = nn.Linear(widths[-1], d, rng=rng)

    def __call__(self, z_t, t):
        """Codes (N, d) and integers t (N,): (N, d)."""
        e, h = silu(self.embed(t)), z_t
        for k, (layer, inject) in enumerate(zip(self.layers, self.inject, strict=True)):
            h = inject(layer(concatenate([h, z_t], axis=1) if k else h), e)
        return self.last(h)


class DiffusionAutoencoder:
    """`encoder` maps images (N, C, H, W) in [−1, 1] to codes (N, d), `net` is a SemanticDenoiser,
    `prior` a CodeMLP; both learn on all steps of the `schedule` and draw in `steps` of them."""

    def __init__(self, encoder, net, prior, schedule, steps=50):
        self.encoder, self.d, few = encoder, net.d, respaced(schedule, steps)
        net, prior = (velocity.Velocity(each, schedule) for each in (net, prior))
        self.ddpm, self.ddim = DDPM(net, schedule), DDIM(net, few)
        self.ddpm_z, self.ddim_z = DDPM(prior, schedule), DDIM(prior, few)
        self.mu = tensor(np.zeros(self.d, np.float32))
        self.sigma = tensor(np.ones(self.d, np.float32))
        self.weight = velocity.weight(schedule)

    def loss(self, x, rng):
        """The loss of encoder and decoder on images x (N, C, H, W), and its parts (none)."""
        z = self.encoder(tensor(x))  # eq: dae-loss
        return self.ddpm.loss(x, rng, z, weight=self.weight)

    def standardise(self, codes):
        """Let z be (Enc(x) − μ) / σ from now on, μ and σ those of `codes` (n, d), which are what
        the encoder gives to the training images. ValueError if a number is the same in all."""
        mu, sigma = codes.mean(0), codes.std(0)
        if not sigma.all():
            raise ValueError(f"diffusion autoencoder: number {sigma.argmin()} is the same in all "
                             f"codes {codes.shape}, expected some variance")
        initializers.values(self.mu, mu)
        initializers.values(self.sigma, sigma)

    def loss_z(self, z, rng):
        """The loss of the DDIM of codes z (N, d), and its parts (none)."""
        return self.ddpm_z.loss(z, rng, weight=self.weight)

    def semantic(self, x):
        """z of images x (N, C, H, W): (N, d)."""
        return (self.encoder(tensor(x)) - self.mu) / self.sigma

    def raw(self, z):
        """What the decoder is told of codes z (N, d): Enc(x) = μ + σ z."""
        return self.mu + self.sigma * z

    def encode(self, x):
        """Both codes of images x (N, C, H, W): z (N, d) and x_T, of the shape of x."""
        with no_grad():
            z = self.semantic(x)
        return z, self.ddim.encode(x, self.raw(z))  # eq: dae-stochastic-code

    def decode(self, z, x_T):
        """The images (N, C, H, W) of codes z (N, d) and x_T (N, C, H, W)."""
        return self.ddim.decode(x_T, self.raw(z))

    def mean(self, z, x_T):
        """The mean of the images of codes z (N, d): what is seen in noise x_T (N, C, H, W)."""
        T = self.ddim.schedule.T
        with no_grad():
            return self.ddim.predict_x0(x_T, T, self.ddim.eps(x_T, T, self.raw(z)))

    def between(self, one, other, n):
        """n images on the way from the codes z (1, d) and x_T (1, C, H, W) of one image to those of
        another, ends included."""
        (z_1, x_1), (z_2, x_2) = ([as_array(code) for code in codes] for codes in (one, other))
        lam = np.linspace(0, 1, n, dtype=z_1.dtype)[:, None]
        x_T = slerp(x_1.reshape(1, -1), x_2.reshape(1, -1), lam[:, 0])
        return self.decode((1 - lam) * z_1 + lam * z_2, x_T.reshape(n, *x_1.shape[1:]))

    def sample(self, n, shape, rng):
        """n images of `shape` (C, H, W): z drawn by the DDIM of codes, x_T from N(0, I)."""
        z = self.ddim_z.sample(n, (self.d,), rng)
        return self.decode(z, noise(rng, xp(z.data).empty((n, *shape), z.dtype)))


def moved(z, w, s):
    """Codes z (N, d) with more of what a linear classifier of normal w, (d,) or (N, d), looks for,
    by s, a number or (N, 1), less if s < 0. As a measure, ‖z‖ is √d or so."""
    z, s, w = as_array(z), np.asarray(s, z.dtype), as_array(w)
    unit_w = w / np.linalg.norm(w, axis=-1, keepdims=True)
    return z + s * z.shape[1] ** 0.5 * unit_w  # eq: dae-manipulation
