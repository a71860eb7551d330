"""What the tests of minigen.data share: small data sets spelled out byte by byte."""

import os

import numpy as np
import pytest

from minigen.data import download, mnist

REAL = os.environ.get("MINIGEN_DATA")
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = mnist.FILES


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No data folder of the user's, an empty cache folder, no proxy."""
    monkeypatch.delenv("MINIGEN_DATA", raising=False)
    monkeypatch.setattr("minigen.data.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("NO_PROXY", "*")


def idx(a):
    """The bytes of an idx file, spelled out independently of the reader."""
    return (bytes([0, 0, 8, a.ndim]) + b"".join(n.to_bytes(4, "big") for n in a.shape)
            + a.astype(np.uint8).tobytes())


def digits(n=20, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28)), np.arange(n) % 10


def mnist_files(n_train=20, n_test=10):
    (x, y), (tx, ty) = digits(n_train, 0), digits(n_test, 1)
    return {IMAGES: idx(x), LABELS: idx(y), TEST_IMAGES: idx(tx), TEST_LABELS: idx(ty)}


def records(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3, 32, 32)), np.arange(n) % 10


def cifar_bytes(x, y):
    return b"".join(bytes([label]) + image.astype(np.uint8).tobytes()
                    for image, label in zip(x, y, strict=True))


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def assert_in_message(message, *parts):
    """Assert that the message is one line and contains all the parts."""
    assert "\n" not in message
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"


def flip(data):
    """The gzip stream with its middle byte changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle + 1:]


real = pytest.mark.skipif(not REAL, reason="set MINIGEN_DATA to a folder with the real files")
