"""Label-efficient segmentation (Baranchuk et al. 2022): a network that has learnt to remove noise
from unlabelled images knows which pixels are alike; a few labelled images suffice to name them.

    x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε                      ε ~ N(0, I), the same for all images and t
    f(x_0) = ⊕_{t, b} a_b(x_t, t)↑                     K features of each pixel
    L = Σ_m E −log p_m(y | f)                          M classifiers of pixels, y the class of one
    ŷ = argmax_k #{m: k = argmax_y p_m(y | f)}         the majority decides

a_b are the activations of block b of ε_θ's decoder, ↑ upsamples them bilinearly to the size of the
image, ⊕ puts them side by side as channels. ε_θ does not change; only the p_m, small MLPs, are
trained on the labels.

Differs from the paper: the U-Net has one block per resolution, so the b are resolutions, of which
all are used; features are normalised before they enter an MLP; there are five MLPs, not ten.
"""

import numpy as np

from minigen import concatenate, cross_entropy, interpolate, nn, no_grad, relu, tensor
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.diffusion.denoiser import denoiser


class Features:
    """f of a `ddpm` whose network is a Denoiser, at the integers `times`; `blocks` are indices of
    the decoder's blocks, 0 that of the lowest resolution; `eps` (1, C, H, W) is ε."""

    def __init__(self, ddpm, times, blocks, eps):
        self.ddpm, self.times, self.blocks, self.eps = ddpm, times, blocks, tensor(eps)

    def __call__(self, x_0):
        """Images (N, C, H, W) in [−1, 1]: (N, K, H, W), untracked."""
        with no_grad():
            maps = [interpolate(a, size=x_0.shape[2:], mode="bilinear")
                    for t in self.times for a in self.activations(tensor(x_0), t)]
            return concatenate(maps, axis=1)  # eq: segmentation-features

    def activations(self, x_0, t):
        """a_b(x_t, t) of each of the blocks: a list of (N, K_b, H_b, W_b)."""
        net = self.ddpm.net
        x_t = self.ddpm.q_sample(x_0, t, self.eps)
        e = net.embed(np.full(len(x_0), self.ddpm.schedule.times[t]))
        a = [*net.unet.decoded(x_t, e)]
        return [a[b] for b in self.blocks]


class PixelClassifiers:
    """M MLPs `nets`, each of which classifies a pixel by its K features alone."""

    def __init__(self, K, classes, M=5, widths=(128, 32), rng=None):
        self.classes = classes
        self.nets = [pixel_classifier(K, classes, widths, rng) for _ in range(M)]

    def loss(self, f, y):
        """L for features f (M, n, K) and classes y (M, n): each MLP has n pixels of its own.
        ValueError for other shapes."""
        if len(f) != len(self.nets) or f.shape[:2] != y.shape:
            raise ValueError(f"segmentation: features are {f.shape}, their classes {y.shape}, "
                             f"expected (M, n, K) and (M, n) for M = {len(self.nets)} MLPs")
        each = [cross_entropy(net(f[m]), y[m]) for m, net in enumerate(self.nets)]
        return sum(each)  # eq: segmentation-loss

    def __call__(self, maps):
        """ŷ for features (N, K, H, W): integers (N, H, W). Of classes with equally many votes, the
        first."""
        with nn.evaluation(self), no_grad():
            f = pixels(maps)
            votes = np.array([net(f).numpy().argmax(1) for net in self.nets])
        counts = [(votes == k).sum(0) for k in range(self.classes)]
        majority = np.argmax(counts, axis=0)  # eq: segmentation-vote
        return majority.reshape(len(maps), *maps.shape[2:])


def pixel_classifier(K, classes, widths, rng=None):
    """An MLP from K features to the logits of `classes`: (n, K) → (n, classes)."""
    layers = [nn.BatchNorm1d(K, affine=False)]
    for a, b in zip((K, *widths), widths, strict=False):
        layers += [nn.Linear(a, b, rng=rng), relu, nn.BatchNorm1d(b)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes, rng=rng))


class Segmenter:
    """Images (N, C, H, W) → the class of each pixel (N, H, W). `features` maps images to features
    (N, K, H, W), `classifiers` are PixelClassifiers of these."""

    def __init__(self, features, classifiers):
        self.features, self.classifiers = features, classifiers

    def __call__(self, x):
        return self.classifiers(self.features(x))


def segmenter(shape, classes, schedule, times, eps, widths=(16, 32, 64), rng=None):
    """A Segmenter of images of `shape` (C, H, W) into `classes`, by the features that all blocks of
    a DDPM give at the `times`, with the noise `eps` (1, C, H, W). Train its `features.ddpm` first,
    without labels, then its `classifiers`."""
    ddpm = DDPM(denoiser(shape, widths, rng=rng), schedule)
    features = Features(ddpm, times, range(len(widths)), eps)
    return Segmenter(features, PixelClassifiers(len(times) * sum(widths), classes, rng=rng))


def pixels(maps):
    """The vectors of K numbers at all pixels of maps (N, K, H, W): (N·H·W, K)."""
    return nn.positions(tensor(maps)).reshape(-1, maps.shape[1])
