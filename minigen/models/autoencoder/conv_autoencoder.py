"""The convolutional autoencoder of the slides: four convolutions downsample, four transposed
convolutions upsample. Each decoder layer restores the input size of the matching encoder layer.

Differs from the slides: ELU in place of ReLU. Without normalisation, ReLU layers died in some runs
(every image got the same code), and in the other runs they learnt more slowly.
"""

from minigen import elu, nn, sigmoid
from minigen.models.autoencoder.autoencoder import Autoencoder
from minigen.ops import conv_output_size, conv_transpose_output_size

# (channels, filter size, stride, padding): 28 → 14 → 7 → 4 → 1, or 32 → 16 → 8 → 4 → 1. The last
# layer's channels are the code.
LAYERS = [(32, 4, 2, 1), (64, 4, 2, 1), (128, 3, 2, 1), (None, 4, 1, 0)]


def convolutional(shape, d_z, rng=None):
    """An `Autoencoder` for images of `shape` (C, H, W), H = W = 28 or 32, with codes (N, d_z)."""
    C, H, W = shape
    if H != W or H not in (28, 32):
        raise ValueError(f"convolutional: images must be 28×28 or 32×32, got {H}×{W}")
    channels = [C] + [K or d_z for K, *_ in LAYERS]
    sizes = [H]
    for _, k, s, p in LAYERS:
        sizes.append(conv_output_size(sizes[-1], k, s, p))

    down, up = [], []
    for i, (_, k, s, p) in enumerate(LAYERS):  # eq: ae-conv-shape
        down += [nn.Conv2d(channels[i], channels[i + 1], k, s, p, rng=rng), elu]
        missing = sizes[i] - conv_transpose_output_size(sizes[i + 1], k, s, p)
        up = [nn.ConvTranspose2d(channels[i + 1], channels[i], k, s, p, missing, rng=rng),
              elu, *up]
    encoder = nn.Sequential(*down[:-1], lambda z: z.flatten(1))  # no activation on the codes
    decoder = nn.Sequential(lambda z: z.reshape(len(z), d_z, 1, 1), *up[:-1], sigmoid)
    return Autoencoder(encoder, decoder)
