"""MNIST and Fashion-MNIST: the idx files, plain or gzip'd.

An idx file starts with a big-endian header: the magic number 0x0000 08 d (08: unsigned bytes, d:
the number of dimensions) and d sizes of four bytes each. The data follow, one byte per entry.
http://yann.lecun.com/exdb/mnist, https://github.com/zalandoresearch/fashion-mnist
"""

from math import prod

import numpy as np

from .dataset import DataError, Dataset
from .download import SOURCES
from .files import contents, matches

CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": ("t-shirt", "trouser", "pullover", "dress", "coat",
                      "sandal", "shirt", "sneaker", "bag", "ankle boot"),
}
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
LOOKED_FOR = " ".join(f"{f}[.gz]" for f in FILES)
SUBFOLDERS = (".",)
HOMEPAGES = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion-mnist": "https://github.com/zalandoresearch/fashion-mnist",
}


def found(folder):
    """Is any of the four files in `folder`?"""
    return any(_locate(folder, f) for f in FILES)


def hint(folder):
    """What in `folder` may explain why `found` is False: always "", no such case is known."""
    return ""


def read(name, folder):
    """The Dataset `name` ("mnist" or "fashion-mnist") from the four files in `folder`.

    Raises DataError, naming the file, if one is missing, damaged or not what its name says.
    """
    paths = [_locate(folder, f) for f in FILES]
    missing = [f for f, path in zip(FILES, paths, strict=True) if path is None]
    if missing:
        raise DataError(f"{folder}: {name} is incomplete, missing {' '.join(missing)} "
                        "(plain or with .gz)")
    arrays = [read_images(p) if "images" in f else read_labels(p)
              for f, p in zip(FILES, paths, strict=True)]
    for x, y, path in ((*arrays[:2], paths[1]), (*arrays[2:], paths[3])):
        if len(x) != len(y):
            raise DataError(f"{path}: {len(y):,} labels for {len(x):,} images")
    other = "mnist" if name == "fashion-mnist" else "fashion-mnist"
    if matches(contents(paths[3]), SOURCES[other].checksums[FILES[3]]):  # both sets use these names
        raise DataError(f"{paths[3]}: these are the labels of {other}, not of {name}")
    return Dataset(name, *arrays, CLASSES[name], f"from {folder}")


def read_images(path):
    """uint8 (N, 1, 28, 28) from an idx3 file; DataError if the file is not one."""
    images = read_idx(path, 3)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{path}: images of {images.shape[1]}×{images.shape[2]}, expected 28×28")
    return images[:, None]


def read_labels(path):
    """int64 (N,) in 0..9 from an idx1 file; DataError if the file is not one."""
    labels = read_idx(path, 1)
    if labels.max() > 9:
        i = int(labels.argmax())
        raise DataError(f"{path}: label {labels[i]} at position {i:,}, expected 0 to 9")
    return labels.astype(np.int64)


def read_idx(path, ndim):
    """The uint8 array of `ndim` dimensions in an idx file, plain or gzip'd (whatever its name)."""
    raw = contents(path)
    header, expected = 4 + 4 * ndim, 0x0800 + ndim
    magic = int.from_bytes(raw[:4], "big")
    if len(raw) >= 4 and magic != expected:
        raise DataError(f"{path}: magic number 0x{magic:08x}, expected 0x{expected:08x}: "
                        f"not an idx{ndim} file")
    if len(raw) < header:
        raise DataError(f"{path}: truncated, {len(raw)} bytes came, the header alone has {header}")
    shape = tuple(np.frombuffer(raw, ">u4", ndim, offset=4).tolist())
    size = header + prod(shape)
    if len(raw) != size:
        wrong = "truncated" if len(raw) < size else "too long"
        raise DataError(f"{path}: {wrong}, {len(raw):,} bytes came, {size:,} expected "
                        f"for {'×'.join(map(str, shape))}")
    if 0 in shape:
        raise DataError(f"{path}: no data, its sizes are {'×'.join(map(str, shape))}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy()


def _locate(folder, file):
    for candidate in (folder / file, folder / f"{file}.gz"):
        if candidate.is_file():
            return candidate
    return None
