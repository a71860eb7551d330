"""A small DRAW and a small alignDRAW in float64, and their layers in NumPy."""

import numpy as np

from minigen import nn
from minigen.models.text_to_image import align_draw as align
from minigen.models.vae import draw as model

RNG = np.random.default_rng
SHAPE = (2, 5, 7)


def double(net, seed=0, scale=1.0):
    nn.init(net, RNG(seed))
    nn.astype(net, np.float64)
    for p in nn.parameters(net).values():
        p.data[...] *= scale
    return net


def sigma(a):
    return 1 / (1 + np.exp(-a))


def affine(layer, x):
    return x @ layer.weight.numpy().T + (layer.bias.numpy() if layer.bias is not None else 0)


def lstm(cell, x, h, c):
    """A step for each row and unit, in the form of four layers."""
    W, b, d = cell.W.weight.numpy(), cell.W.bias.numpy(), cell.d_h
    i, f, o, g = (np.concatenate([h, x], 1) @ W[k * d:(k + 1) * d].T + b[k * d:(k + 1) * d]
                  for k in range(4))
    c = c * sigma(f) + np.tanh(g) * sigma(i)
    return np.tanh(c) * sigma(o), c


def words(n=4):
    """Captions of different lengths, from 1 word to 5."""
    y = RNG(3).integers(1, 6, (n, 5))
    for row, length in zip(y, (5, 3, 1, 4), strict=False):
        row[length:] = 0
    return y


def tiny(kind):
    """A model in float64 with larger weights than usual, and what is given with four images."""
    if kind == "draw":
        return double(model.DRAW(SHAPE, 3, 2, 4, 2, 3), 1, 1.5), ()
    net = double(align.AlignDRAW(SHAPE, 6, 3, 2, 4, 2, 3, 3, 3), 1, 1.5)
    return net, net.language(words())
