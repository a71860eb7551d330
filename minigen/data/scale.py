"""The ranges of images: bytes as in files, [0, 1] for display, [−1, 1] like the outputs of tanh."""

import numpy as np

from minigen.tensor import Tensor, xp


def signed(images):
    """Bytes 0 … 255 to [−1, 1]: float32 of the same shape. TypeError if they are not uint8."""
    if images.dtype != np.uint8:
        raise TypeError(f"signed: expected uint8 images, got {images.dtype}")
    return xp(images).asarray(images, np.float32) / np.float32(127.5) - np.float32(1)


def unsigned(x):
    """[−1, 1] to [0, 1], with values outside clipped: an array like x, which may be a tensor.
    TypeError if x does not hold floats."""
    x = x.data if isinstance(x, Tensor) else x
    if x.dtype.kind != "f":
        raise TypeError(f"unsigned: expected floats in [−1, 1], got {x.dtype}")
    return (x.clip(-1, 1) + 1) / 2
