"""Images as bytes and in [−1, 1]."""

import numpy as np
import pytest

from minigen import data, tensor


def test_images_as_minus_one_to_one_and_back():
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    x = data.signed(images)
    assert x.dtype == np.float32 and (x.min(), x.max()) == (-1, 1)
    assert np.array_equal(np.rint(data.unsigned(x) * 255), images)
    assert np.array_equal(data.unsigned(tensor([-3.0, 0.0, 2.0])), [0, 0.5, 1])
    with pytest.raises(TypeError, match="unsigned: expected floats .* got uint8"):
        data.unsigned(images)
    with pytest.raises(TypeError, match="expected uint8 images, got float32"):
        data.signed(x)
