"""A picture of a landscape, drawn from a seed, for models that learn from a single image: firs on a
meadow, hills, clouds. Its parts occur again and again in several sizes, but never twice the same.

Everything is a function of the place (u, v), in units of the picture's height, so the landscape of
a seed can be drawn with any number of pixels.
"""

import numpy as np

ASPECT, HORIZON, FIRS = 1.5, 0.5, 40  # width / height; v of the meadow's far end
FINER = 4  # a pixel is the mean of FINER × FINER points
SKY, HAZE, CLOUD = (0.30, 0.52, 0.84), (0.80, 0.88, 0.95), (0.98, 0.97, 0.96)
HILLS = ((0.36, (0.48, 0.55, 0.72)), (0.44, (0.30, 0.42, 0.50)))  # v of the ridge, colour
GRASS, STRAW = (0.35, 0.52, 0.18), (0.72, 0.70, 0.32)
SHADE, LIT, TRUNK = (0.05, 0.17, 0.12), (0.20, 0.38, 0.16), (0.25, 0.16, 0.10)


def draw(height=64, seed=0):
    """The landscape of a seed: uint8 (3, height, 1.5 height). ValueError for an odd height."""
    if height < 2 or height % 2:
        raise ValueError(f"landscape: the height must be even and positive, got {height}")
    rng, H = np.random.default_rng(seed), FINER * height
    W = int(ASPECT * H)
    v, u = (np.arange(H)[:, None] + 0.5) / H, (np.arange(W) + 0.5) / H
    x = mix(SKY, HAZE, v / HORIZON + 0 * u)
    x = mix(x, CLOUD, smooth(2 * waves(rng, 3 * u, 8 * v) - 1.2))
    for top, colour in HILLS:
        ridge = top + 0.04 * waves(rng, 4 * u, 0)
        shade = 0.5 * (v - ridge) + 0.04 * waves(rng, 12 * u, 12 * v)
        x = mix(x, colour + shade[..., None], v > ridge)
    meadow = mix(GRASS, STRAW, smooth(1.5 * waves(rng, 8 * u, 20 * v))) * (0.6 + v[..., None] / 2)
    x = mix(x, meadow, v > HORIZON + 0.01 * waves(rng, 4 * u, 0))
    for foot in np.sort(rng.random(FIRS) ** 1.3):  # from the most distant one to the nearest
        tall, at = (0.1 + 0.3 * foot) * rng.uniform(0.75, 1.25), rng.uniform(0, ASPECT)
        x = fir(x, (u - at) / tall, (HORIZON + 0.03 + 0.55 * foot - v) / tall)
    x = x.reshape(height, FINER, W // FINER, FINER, 3).mean((1, 3))
    return np.rint(255 * x.clip(0, 1)).astype(np.uint8).transpose(2, 0, 1)


def fir(x, side, up):
    """x with a fir on it, whose foot is where `side` and `up` are 0, and its top where up = 1."""
    x = mix(x, TRUNK, (abs(side) < 0.03) & (0 < up) & (up < 0.2))
    width = 0.28 * (1.05 - up) * (1.15 - 0.5 * (6 * up % 1))  # six rows of branches
    return mix(x, mix(SHADE, LIT, smooth(-6 * side)), (abs(side) < width) & (0.12 < up) & (up < 1))


def waves(rng, u, v, n=40):
    """A sum of n random waves at the places (u, v), their amplitudes falling with the frequency: a
    smooth random function of variance about 1."""
    total = 0
    for _ in range(n):
        f, (angle, phase) = 2 ** rng.uniform(0, 4), rng.uniform(0, 2 * np.pi, 2)
        along = np.cos(angle) * u + np.sin(angle) * v
        total = total + np.cos(2 * np.pi / 3 * f * along + phase) / np.sqrt(f)
    return total / np.sqrt(n / 5)


def smooth(t):
    return (1 + np.tanh(2 * t)) / 2


def mix(a, b, share):
    """Colours a (..., 3), with a share (...) of b in them."""
    share = np.asarray(share)[..., None]
    return np.asarray(a) * (1 - share) + np.asarray(b) * share
