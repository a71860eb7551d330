"""GAN dissection (Bau et al. 2019): what a generator's units draw, and whether they cause it.

    r = h(z), x = f(r)       the generator, cut in two; a unit u is a channel r_u of r (N, U, h, w)
    s_c(x)                   1 at each pixel of x that shows the concept c, 0 elsewhere: (N, H, W)

    IoU_{u,c} = E_z|(r_u↑ > t_u) ∧ s_c(x)| / E_z|(r_u↑ > t_u) ∨ s_c(x)|       do they agree?
    δ_{U→c} = E_z[s_c(f(r with U on))] − E_z[s_c(f(r with U off))]            is it the cause?

↑ enlarges a unit's map to the size of x. A unit that is off is 0 everywhere, one that is on has the
same high value everywhere.

Differs from the paper: the concepts are colours, which a formula finds (`colour`), in place of what
a trained network segments; t_u is a quantile of r_u; U are the units of the largest IoU.
"""

import numpy as np

from minigen import interpolate, nn, no_grad, tensor
from minigen.data import unsigned

TOP = 0.05  # the share of a unit's values that count as high


def thresholds(r):
    """t_u, above which a share `TOP` of the unit's values lies: r (N, U, h, w) to (U,)."""
    return np.quantile(r, 1 - TOP, axis=(0, 2, 3)).astype(r.dtype)


def enlarged(r, size):
    """r↑: the maps r (N, U, h, w), bilinearly, at `size` (H, W)."""
    return interpolate(tensor(r), size=size, mode="bilinear").numpy()


def agreement(r, s, t):
    """IoU_{u,c} for each unit: r (N, U, h, w), s (N, H, W) booleans, t (U,) to (U,); 0 where both
    are empty."""
    on, s = enlarged(r, s.shape[1:]) > t[:, None, None], s[:, None]
    shared, either = (a.sum((0, 2, 3)) for a in (on & s, on | s))
    return shared / np.maximum(either, 1)  # eq: dissection-agreement


def forced(r, units, value):
    """A copy of r (N, U, h, w) in which `units`, a list, have a value everywhere, or one each."""
    r = r.copy()
    r[:, units] = np.reshape(value, (-1, 1, 1))
    return r


def causal_effect(f, r, units, high, s):
    """δ_{U→c} of the set of `units`: f maps r to images, `high` (n,) are the units' values when on,
    s maps images to booleans."""
    on, off = (s(f(forced(r, units, value))).mean() for value in (high, 0))
    return on - off  # eq: dissection-causal-effect


def cut(G, layer):
    """h and f: the generator, a Sequential, up to its `layer` (included), and the rest; f gives
    images in [0, 1]. Both take and give arrays, and compute in evaluation mode."""
    def part(net, after):
        def run(x):
            with nn.evaluation(net), no_grad():
                return after(net(tensor(x)).numpy())
        return run
    return part(G[:layer + 1], np.asarray), part(G[layer + 1:], unsigned)


TOLERANCE = 15  # degrees of hue


def colour(hue):
    """The concept of a colour: a function that finds the pixels of images (N, 3, H, W) in [0, 1]
    whose hue is within TOLERANCE of `hue`, in degrees, and which are neither grey nor dark."""
    def s(x):
        from matplotlib.colors import rgb_to_hsv
        h, saturation, value = np.moveaxis(rgb_to_hsv(x.transpose(0, 2, 3, 1).clip(0, 1)), -1, 0)
        apart = np.abs((360 * h - hue + 180) % 360 - 180)
        return (apart <= TOLERANCE) & (saturation > 0.4) & (value > 0.4)
    return s
