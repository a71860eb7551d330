"""Diffusion autoencoders (Preechakul et al. 2022): an image as two codes, semantic and stochastic.

    z = Enc(x_0)                           the semantic code, d numbers
    L = E w_t ‖ε − ε_θ(x_t, t, z)‖²        the decoder, a DDIM given z, trained with Enc
                                           (w_t = 1 / ᾱ_t, as in velocity.py; in the paper 1)
    x_T                                    the stochastic code, as large as the image: the DDIM
                                           without noise, run backwards from x_0

Both codes together give back the image, almost exactly. z with another x_T ~ N(0, I) gives images
that agree in what z encodes; x_T decides everything else. An autoencoder must encode all of x_0 in
z, and blurs what does not fit; here z can be limited to what is worth encoding.

The distribution of z is known only through encoded images. So a second, small DDIM learns it, on
codes standardised so that each number has mean 0 and variance 1, and images can be sampled: z from
this DDIM, x_T from N(0, I). Interpolation and editing use the standardised codes too:

    between two images     z on the line from z₁ to z₂, x_T on the arc (slerp)
    an attribute           z ← z + s √d w / ‖w‖, w the normal of a linear classifier of codes

Differs from the paper: z is added to the time embedding (the paper scales by each separately); the
encoder is an autoencoder's, not half a U-Net; the networks predict the velocity (velocity.py), from
which ε_θ follows; and an encoding step is the step of `DDIM` solved for x_t, not one that uses the
prediction at x_{t−1}: so fewer steps suffice.
"""

import numpy as np

from minigen import concatenate, nn, no_grad, silu, tensor
from minigen.dist import noise
from minigen.models.diffusion.ddim import DDIM
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import Denoiser, unet_and_embed
from minigen.models.diffusion.schedule import respaced
from minigen.models.diffusion.slerp import slerp
from minigen.models.diffusion.velocity import Velocity
from minigen.nn import initializers
from minigen.nn.unet import AdaGN, SpaceToDepthUNet
from minigen.tensor import as_array


class SemanticDenoiser(Denoiser):
    """A Denoiser conditioned on codes of length d; `embed` returns (N, D)."""

    def __init__(self, unet, embed, d, D, rng=None):
        super().__init__(unet, embed)
        self.d, self.code = d, nn.Linear(d, D, rng=rng)

    def __call__(self, x_t, t, z):
        """Images (N, C, H, W), integers t (N,), codes z (N, d). ValueError for other codes."""
        if z.shape != (len(x_t), self.d):
            raise ValueError(f"diffusion autoencoder: codes are {z.shape}, expected "
                             f"({len(x_t)}, {self.d})")
        return self.unet(x_t, self.embed(t) + self.code(z))


def semantic_denoiser(shape, d, widths=(32, 64), D=128, rng=None):
    """A SemanticDenoiser for images of `shape` (C, H, W), whose U-Net sees each 2×2 pixels as one
    position."""
    C, H, W = shape
    unet, embed = unet_and_embed((4 * C, H // 2, W // 2), widths, D, rng=rng)
    return SemanticDenoiser(SpaceToDepthUNet(unet), embed, d, D, rng)


class CodeMLP:
    """The network of the diffusion over codes: each layer sees the noised code again, and its
    output is normalised and conditioned on the time."""

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
    `prior` a CodeMLP; both train on all steps of the `schedule` and sample in `steps` of them."""

    def __init__(self, encoder, net, prior, schedule, steps=50):
        self.encoder, self.d, few = encoder, net.d, respaced(schedule, steps)
        net, prior = (Velocity(each, schedule) for each in (net, prior))
        self.ddpm, self.ddim = DDPM(net, schedule), DDIM(net, few)
        self.ddpm_z, self.ddim_z = DDPM(prior, schedule), DDIM(prior, few)
        self.mu = tensor(np.zeros(self.d, np.float32))
        self.sigma = tensor(np.ones(self.d, np.float32))

    def loss(self, x, rng):
        """The loss of encoder and decoder on images x (N, C, H, W): a scalar."""
        z = self.encoder(tensor(x))  # eq: dae-loss
        return self.ddpm.loss(x, rng, z)

    def fit_statistics(self, codes):
        """Set μ and σ to those of `codes` (n, d), the encoded training images: from now on, z is
        (Enc(x) − μ) / σ. ValueError if a number is the same in all codes."""
        mu, sigma = codes.mean(0), codes.std(0)
        if not sigma.all():
            raise ValueError(f"diffusion autoencoder: number {sigma.argmin()} is the same in all "
                             f"codes {codes.shape}, expected some variance")
        initializers.values(self.mu, mu)
        initializers.values(self.sigma, sigma)

    def loss_z(self, z, rng):
        """The loss of the DDIM of codes z (N, d): a scalar."""
        return self.ddpm_z.loss(z, rng)

    def encode_semantic(self, x):
        """z of images x (N, C, H, W): (N, d)."""
        return (self.encoder(tensor(x)) - self.mu) / self.sigma

    def unstandardise(self, z):
        """Codes z (N, d) as the decoder takes them, not standardised: Enc(x) = μ + σ z."""
        return self.mu + self.sigma * z

    def encode(self, x):
        """Both codes of images x (N, C, H, W): z (N, d) and x_T, of the shape of x."""
        with no_grad():
            z = self.encode_semantic(x)
        return z, self.ddim.encode(x, self.unstandardise(z))  # eq: dae-stochastic-code

    def decode(self, z, x_T):
        """The images (N, C, H, W) decoded from codes z (N, d) and x_T (N, C, H, W)."""
        return self.ddim.decode(x_T, self.unstandardise(z))

    def mean(self, z, x_T):
        """The mean images of codes z (N, d): x̂_0 as predicted from pure noise x_T (N, C, H, W)."""
        T = self.ddim.schedule.T
        with no_grad():
            return self.ddim.predict_x0(x_T, T, self.ddim.eps(x_T, T, self.unstandardise(z)))

    def interpolation(self, one, other, n):
        """n images on the path from the codes z (1, d) and x_T (1, C, H, W) of one image to those
        of another, ends included."""
        (z_1, x_1), (z_2, x_2) = ([as_array(code) for code in codes] for codes in (one, other))
        lam = np.linspace(0, 1, n, dtype=z_1.dtype)[:, None]
        x_T = slerp(x_1.reshape(1, -1), x_2.reshape(1, -1), lam[:, 0])
        return self.decode((1 - lam) * z_1 + lam * z_2, x_T.reshape(n, *x_1.shape[1:]))

    def sample(self, n, shape, rng):
        """n images of `shape` (C, H, W): z from the DDIM of codes, x_T from N(0, I)."""
        z = self.ddim_z.sample(n, (self.d,), rng)
        return self.decode(z, noise(rng, z, (n, *shape)))


def edit_attribute(z, w, s):
    """Codes z (N, d) moved along the normal w, (d,) or (N, d), of a linear classifier: s, a number
    or (N, 1), is how much more of its attribute they get, less if s < 0. For scale, ‖z‖ is about
    √d."""
    z, s, w = as_array(z), np.asarray(s, z.dtype), as_array(w)
    unit_w = w / np.linalg.norm(w, axis=-1, keepdims=True)
    return z + s * z.shape[1] ** 0.5 * unit_w  # eq: dae-manipulation
