"""Inpainting (GLIDE; Nichol et al. 2021): a diffusion model fills the holes of an image, given the
rest of the image and a mask of the holes.

    ε_θ(x_t, t; x_0, m) = unet(x_t ⊕ (1 − m) ⊙ x_0 ⊕ m, t)        m: 1 in the holes, 0 elsewhere

(⊕: channel concatenation.) Its initial weights are those of a plain DDPM, which knows what images
look like, and 0 for the new channels, so that its first predictions are those of the plain DDPM. It
is then fine-tuned, with DDPM's loss, on random holes.

A plain DDPM can fill holes as well, if the known pixels are put in place at every step; but then it
sees them only through the noise of x_t when it has to decide what goes beside them.
"""

import numpy as np

from minigen import concatenate, nn, tensor
from minigen.models.diffusion.denoiser import Denoiser, unet_and_embed
from minigen.models.diffusion.threshold import static
from minigen.ops.math import check_floats
from minigen.tensor import as_array


class Inpainter(Denoiser):
    """A Denoiser conditioned on images x_0 outside their holes m, and on m."""

    def __call__(self, x_t, t, x_0, m):
        """Images x_t and x_0 (N, C, H, W), integers t (N,) and m (N, 1, H, W): (N, C, H, W).
        ValueError for other shapes."""
        N, _, H, W = x_t.shape
        if x_0.shape != x_t.shape or m.shape != (N, 1, H, W):
            raise ValueError(f"inpainting: images x_0 are {x_0.shape} and holes m {m.shape}, "
                             f"expected {x_t.shape} and {(N, 1, H, W)}")
        inputs = concatenate([x_t, (1 - m) * x_0, m], axis=1)  # eq: glide-inpaint-finetune
        return self.unet(inputs, self.embed(t))


def inpainter(shape, widths=(32, 64, 64), D=128, rng=None):
    """An Inpainter for images of `shape` (C, H, W): see `unet_and_embed`."""
    return Inpainter(*unet_and_embed(shape, widths, D, extra_channels=shape[0] + 1, rng=rng))


def init_from_plain(net, plain):
    """Set an Inpainter's weights, in place, to a plain Denoiser's; new channels are set to 0."""
    weights, padded = nn.state_dict(plain), np.zeros_like(net.unet.first.weight.numpy())
    first = weights["unet.first.weight"]
    padded[:, :first.shape[1]] = first  # eq: glide-inpaint-finetune
    nn.load_state_dict(net, weights | {"unet.first.weight": padded})


def random_masks(n, size, rng):
    """n masks (n, 1, H, W) of `size` (H, W), each with a rectangle of ones at a random position,
    between a third and two thirds as high and as wide as the image."""
    m = np.zeros((n, 1, *size), np.float32)
    for mask in m[:, 0]:
        h, w = (rng.integers(-(-side // 3), 2 * side // 3 + 1) for side in size)
        i, j = rng.integers(size[0] - h + 1), rng.integers(size[1] - w + 1)
        mask[i:i + h, j:j + w] = 1
    return m


def inpaint(sampler, x_0, m, rng, *given):
    """Images x_0 (N, C, H, W) with their holes m filled and the rest unchanged. `sampler` is a
    DDPM, `given` the conditioning of its network: (x_0, m) for an Inpainter. ValueError unless m
    (N, 1, H, W) is 0 and 1 and x_0 is finite, even in the holes, where its values do not matter;
    TypeError for bytes."""
    x_0, m = tensor(x_0), as_array(m)
    check_floats("inpaint", x_0)
    x_0, m = x_0.data, m.astype(x_0.dtype)
    if m.shape != (len(x_0), 1, *x_0.shape[2:]) or ((m != 0) & (m != 1)).any():
        raise ValueError(f"inpaint: masks are {m.shape}, from {m.min():g} to {m.max():g}, expected "
                         f"{(len(x_0), 1, *x_0.shape[2:])} of 1 in the holes and 0 elsewhere")
    if not np.isfinite(x_0).all():
        raise ValueError("inpaint: x_0 is not finite: write any number, such as 0, into its holes")
    keep_known = lambda x: m * static(x) + (1 - m) * x_0
    return keep_known(sampler.sample(len(x_0), x_0.shape[1:], rng, *given, threshold=keep_known))
