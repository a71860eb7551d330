"""GAN dissection (Bau et al. 2019): which concepts a generator's units match, and which they cause.

    r = h(z), x = f(r)       the generator, cut in two; a unit u is a channel r_u of r (N, U, h, w)
    s_c(x)                   1 at each pixel of x that shows the concept c, 0 elsewhere: (N, H, W)

    IoU_{u,c} = E_z|(r_u↑ > t_u) ∧ s_c(x)| / E_z|(r_u↑ > t_u) ∨ s_c(x)|       do they agree?
    δ_{U→c} = E_z[s_c(f(r with U on))] − E_z[s_c(f(r with U off))]            is it the cause?

↑ upsamples a unit's map to the size of x. A unit that is off is 0 everywhere; a unit that is on has
the same high value everywhere.

Differs from the paper: the concepts are colours, found by a formula (`scenes.shows`), not by a
trained segmentation network; t_u is a quantile of r_u; U is the set of units with the largest IoU.
"""

import numpy as np

from minigen import interpolate, nn, no_grad, tensor
from minigen.data import unsigned
from minigen.mask_metrics import iou

TOP = 0.05  # the share of a unit's values that count as high


def thresholds(r):
    """t_u, the threshold above which a share `TOP` of unit u's values lie: r (N, U, h, w) → (U,).
    """
    return np.quantile(r, 1 - TOP, axis=(0, 2, 3)).astype(r.dtype)


def upsampled(r, size):
    """r↑: the maps r (N, U, h, w) upsampled bilinearly to `size` (H, W)."""
    return interpolate(tensor(r), size=size, mode="bilinear").numpy()


def agreement(r, s, t):
    """IoU_{u,c} for each unit: r (N, U, h, w), booleans s (N, H, W) and t (U,) → (U,); 0 where the
    union is empty."""
    on, s = upsampled(r, s.shape[1:]) > t[:, None, None], s[:, None]
    return iou(on, s)


def intervene(r, units, value):
    """A copy of r (N, U, h, w) in which `units`, a list, are set everywhere to a value, shared or
    one for each unit."""
    r = r.copy()
    r[:, units] = np.reshape(value, (-1, 1, 1))
    return r


def causal_effect(f, r, units, high, s):
    """δ_{U→c} for the set `units`: f maps r to images, `high` (n,) holds the units' values when on,
    s maps images to booleans."""
    on, off = (s(f(intervene(r, units, value))).mean() for value in (high, 0))
    return on - off  # eq: dissection-causal-effect


def split_generator(G, layer):
    """h and f: the generator, a Sequential, up to and including `layer`, and the remaining layers;
    f returns images in [0, 1]. Both map arrays to arrays and run in evaluation mode."""
    def part(net, convert):
        def run(x):
            with nn.evaluation(net), no_grad():
                return convert(net(tensor(x)).numpy())
        return run
    return part(G[:layer + 1], np.asarray), part(G[layer + 1:], unsigned)
