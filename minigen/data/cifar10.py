"""CIFAR-10, binary version: records of 1 label byte and 3,072 pixel bytes (32×32 red, then green,
then blue). Any subset of data_batch_1.bin ... data_batch_5.bin will do. Nothing is ever unpickled.
https://www.cs.toronto.edu/~kriz/cifar.html
"""

import numpy as np

from .dataset import DataError, Dataset

CLASSES = ("airplane", "automobile", "bird", "cat", "deer",
           "dog", "frog", "horse", "ship", "truck")
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = "test_batch.bin"
LOOKED_FOR = f"data_batch_1.bin to data_batch_5.bin and {TEST}"
SUBFOLDERS = (".", "cifar-10-batches-bin")  # the second is the folder in the published archive
HOMEPAGES = {"cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html"}
RECORD = 1 + 3 * 32 * 32


def found(folder):
    """Is any of the six files in `folder`?"""
    return any((folder / f).is_file() for f in (*TRAIN, TEST))


def hint(folder):
    """What in `folder` may explain why `found` is False (the Python version of the data, or the
    packed archive), as a phrase for the error message, or "" if there is nothing of the kind."""
    python = ("data_batch_1", "test_batch", "cifar-10-batches-py", "cifar-10-python.tar.gz")
    for name in python:
        if (folder / name).exists():
            return (f"{folder / name} belongs to the Python version, which is made of pickles and "
                    "never opened; the binary version is needed")
    if (folder / "cifar-10-binary.tar.gz").exists():
        return f"unpack {folder / 'cifar-10-binary.tar.gz'} there first"
    return ""


def read(name, folder):
    """The Dataset from `folder`: the training batches found there, in order, and the test batch.

    Raises DataError, naming the file, if one is damaged or if a split has no file at all.
    """
    train = [folder / f for f in TRAIN if (folder / f).is_file()]
    if not train:
        raise DataError(f"{folder}: {name} is incomplete, none of data_batch_1.bin to "
                        "data_batch_5.bin is there")
    if not (folder / TEST).is_file():
        raise DataError(f"{folder}: {name} is incomplete, missing {TEST}")
    x, y = zip(*map(read_batch, train), strict=True)
    return Dataset(name, np.concatenate(x), np.concatenate(y), *read_batch(folder / TEST),
                   CLASSES, f"from {folder}")


def read_batch(path):
    """uint8 (N, 3, 32, 32) and int64 (N,) from a .bin file; DataError if it is not valid."""
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as err:
        raise DataError(f"{path}: cannot be read ({err.strerror})") from None
    records, rest = divmod(len(raw), RECORD)
    if rest:
        raise DataError(f"{path}: truncated or not CIFAR-10, {len(raw):,} bytes came: {records:,} "
                        f"whole records of {RECORD:,} bytes and {rest:,} bytes more")
    if not records:
        raise DataError(f"{path}: no data, the file is empty")
    raw = raw.reshape(records, RECORD)
    labels = raw[:, 0].astype(np.int64)
    if labels.max() > 9:
        i = int(labels.argmax())
        raise DataError(f"{path}: label {labels[i]} in record {i:,}, expected 0 to 9: "
                        "not CIFAR-10's binary version")
    return raw[:, 1:].reshape(records, 3, 32, 32).copy(), labels
