"""minigen.data: the readers against files written here, every message, the real files where
MINIGEN_DATA names them, and batching."""

import gzip
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import data_files
import numpy as np
import pytest
from data_files import (
    IMAGES,
    LABELS,
    REAL,
    TEST_IMAGES,
    TEST_LABELS,
    assert_in_message,
    cifar_bytes,
    digits,
    flip,
    idx,
    mnist_files,
    real,
    records,
    write,
)

from minigen.data import (
    NAMES,
    DataError,
    batch_indices,
    batches,
    cifar10,
    download,
    in_order,
    load,
    mnist,
)

alone = data_files.alone  # an autouse fixture


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("sub", ["", "own"])
def test_idx_files(tmp_path, name, zipped, sub):
    files = mnist_files()
    if zipped:
        files = {f"{f}.gz": gzip.compress(data) for f, data in files.items()}
    write(tmp_path / "d" / (name if sub else ""), files)
    d = load(name, tmp_path / "d")
    for x, y, (want_x, want_y) in ((d.train_x, d.train_y, digits(20, 0)),
                                   (d.test_x, d.test_y, digits(10, 1))):
        assert x.dtype == np.uint8 and y.dtype == np.int64
        np.testing.assert_array_equal(x, want_x[:, None])
        np.testing.assert_array_equal(y, want_y)
    assert len(d.classes) == 10 and d.shape == (1, 28, 28)
    assert "20 training and 10 test images" in str(d) and str(tmp_path) in str(d)


@pytest.mark.parametrize("numbers", [(1,), (2, 5), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("sub", ["", "cifar10", "cifar-10-batches-bin"])
def test_cifar_files(tmp_path, numbers, sub):
    batch = {i: records(4 + i, i) for i in numbers}
    files = {f"data_batch_{i}.bin": cifar_bytes(*b) for i, b in batch.items()}
    write(tmp_path / sub, files | {"test_batch.bin": cifar_bytes(*records(3, 9))})
    d = load("cifar10", tmp_path)
    np.testing.assert_array_equal(d.train_x, np.concatenate([x for x, _ in batch.values()]))
    np.testing.assert_array_equal(d.train_y, np.concatenate([y for _, y in batch.values()]))
    np.testing.assert_array_equal(d.test_x, records(3, 9)[0])
    assert d.train_x.dtype == np.uint8 and d.train_y.dtype == np.int64
    assert f"{len(d.train_x)} training and 3 test" in str(d)


def test_environment_and_limits(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_DATA", str(write(tmp_path, mnist_files())))
    d = load("mnist", n_train=7, n_test=2)
    assert (len(d.train_x), len(d.train_y), len(d.test_x), len(d.test_y)) == (7, 7, 2, 2)
    np.testing.assert_array_equal(d.train_x, load("mnist").train_x[:7])
    other = write(tmp_path / "other", mnist_files(30))
    assert len(load("mnist", other).train_x) == 30  # an argument takes precedence
    with pytest.raises(DataError, match="n_train is 0"):
        load("mnist", n_train=0)


def changed(name, change):
    def damage(files):
        files[name] = change(files[name])
    return damage


X, Y = digits()
DAMAGE = {
    "truncated": (changed(IMAGES, lambda b: b[:-100]),
                  IMAGES, "truncated", "15,596 bytes came", "15,696 expected"),
    "header": (changed(IMAGES, lambda b: b[:9]), IMAGES, "truncated", "9 bytes", "16"),
    "empty": (changed(LABELS, lambda b: b""), LABELS, "truncated", "0 bytes"),
    "long": (changed(LABELS, lambda b: b + b"\0"), LABELS, "too long", "29 bytes came", "28"),
    "magic": (changed(IMAGES, lambda b: b"<!DOCTYPE html>" + b),
              IMAGES, "magic number 0x3c21444f", "0x00000803"),
    "swapped": (changed(IMAGES, lambda b: idx(Y)), IMAGES, "magic number 0x00000801"),
    "broken off": (changed(IMAGES, lambda b: gzip.compress(b)[:-3000]),
                   IMAGES, "truncated", "bytes came", "15,696 expected"),
    "corrupt": (changed(LABELS, lambda b: flip(gzip.compress(b * 9))), LABELS, "corrupt gzip"),
    "corrupt and broken off": (changed(LABELS, lambda b: b"\x1f\x8b\x08\x00" + bytes([255] * 40)),
                               LABELS, "corrupt gzip"),
    "size": (changed(IMAGES, lambda b: idx(X[:, :27])), IMAGES, "27×28", "expected 28×28"),
    "none": (changed(TEST_IMAGES, lambda b: idx(X[:0])), TEST_IMAGES, "no data", "0×28×28"),
    "label": (changed(LABELS, lambda b: idx(np.where(np.arange(20) == 13, 10, Y))),
              LABELS, "label 10 at position 13", "0 to 9"),
    "counts": (changed(LABELS, lambda b: idx(Y[:19])), LABELS, "19 labels for 20 images"),
    "test counts": (changed(TEST_LABELS, lambda b: idx(Y)), TEST_LABELS, "20 labels for 10"),
    "missing": (lambda files: files.pop(TEST_LABELS), "incomplete", "missing", TEST_LABELS),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_idx(tmp_path, case):
    damage, *parts = DAMAGE[case]
    files = mnist_files()
    damage(files)
    write(tmp_path, files)
    with pytest.raises(DataError) as err:
        load("mnist", tmp_path)
    assert_in_message(str(err.value), str(tmp_path), *parts)


def test_labels_of_the_other_set(tmp_path, monkeypatch):
    files = mnist_files()
    checksum = "sha256:" + hashlib.sha256(files[TEST_LABELS]).hexdigest()
    monkeypatch.setitem(download.SOURCES["mnist"].checksums, TEST_LABELS, checksum)
    write(tmp_path, files)
    assert len(load("mnist", tmp_path).test_y) == 10
    with pytest.raises(DataError) as err:
        load("fashion-mnist", tmp_path)
    assert_in_message(str(err.value), TEST_LABELS, "the labels of mnist, not of fashion-mnist")


GOOD, TESTS = cifar_bytes(*records(5)), cifar_bytes(*records(2))
BAD_CIFAR = {
    "truncated": ({"data_batch_3.bin": GOOD[:-1], "test_batch.bin": TESTS},
                  "data_batch_3.bin", "15,364 bytes came", "4 whole records", "3,072 bytes more"),
    "empty": ({"data_batch_1.bin": GOOD, "test_batch.bin": b""}, "test_batch.bin", "no data"),
    "label": ({"data_batch_1.bin": GOOD[:3073] + b"\x0a" + GOOD[3074:], "test_batch.bin": TESTS},
              "data_batch_1.bin", "label 10 in record 1", "0 to 9"),
    "no test": ({"data_batch_1.bin": GOOD}, "incomplete", "missing test_batch.bin"),
    "no train": ({"test_batch.bin": TESTS}, "incomplete", "none of data_batch_1.bin"),
    "pickles": ({"data_batch_1": b"\x80\x02}q.", "test_batch": b"\x80\x02}q."},
                "data_batch_1 belongs to the Python version", "pickles", "never opened"),
    "archive": ({"cifar-10-binary.tar.gz": b""}, "unpack", "cifar-10-binary.tar.gz there first"),
}


@pytest.mark.parametrize("case", BAD_CIFAR)
def test_damaged_cifar(tmp_path, case):
    files, *parts = BAD_CIFAR[case]
    write(tmp_path, files)
    with pytest.raises(DataError) as err:
        load("cifar10", tmp_path)
    assert_in_message(str(err.value), str(tmp_path), *parts)


def test_pickles_are_never_opened(tmp_path):
    assert not re.search(r"^\s*(import|from) pickle|allow_pickle=True|pickle\.",
                         Path(cifar10.__file__).read_text(), re.M)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="Python version"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_folder_without_files(tmp_path, name, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(DataError) as err:
        load(name, folder)
    file = "data_batch_1.bin" if name == "cifar10" else "t10k-labels-idx1-ubyte[.gz]"
    assert_in_message(str(err.value), str(folder), str(tmp_path / "cache" / name), file,
                      "--download", "https://", "--data-dir", "MINIGEN_DATA")
    with pytest.raises(DataError, match="absent: no such folder .the data folder given"):
        load(name, tmp_path / "absent")
    with pytest.raises(DataError, match="~nobodyx.data: no such folder"):
        load(name, "~nobodyx/data")
    monkeypatch.setenv("MINIGEN_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="gone: no such folder .MINIGEN_DATA"):
        load(name)


def test_unreadable(tmp_path):
    with pytest.raises(DataError, match="cannot be read .Is a directory"):
        mnist.read_labels(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        cifar10.read_batch(tmp_path / "absent.bin")


def test_unknown_name():
    with pytest.raises(DataError) as err:
        load("cifar-10")
    assert_in_message(str(err.value), "unknown data set 'cifar-10'", "did you mean 'cifar10'?",
                      *NAMES)
    with pytest.raises(DataError) as err:
        load("zzz")
    assert_in_message(str(err.value), *NAMES)
    assert "mean" not in str(err.value)


@real
def test_real_mnist():
    if not (Path(REAL) / "mnist").is_dir():
        pytest.skip("MINIGEN_DATA has no folder mnist")
    d = load("mnist", REAL)
    assert d.train_x.shape == (60000, 1, 28, 28) and d.test_x.shape == (10000, 1, 28, 28)
    assert d.train_y[:5].tolist() == [5, 0, 4, 1, 9] and d.test_y[:3].tolist() == [7, 2, 1]
    assert np.bincount(d.train_y).tolist() == [5923, 6742, 5958, 6131, 5842,
                                               5421, 5918, 6265, 5851, 5949]
    assert abs(d.train_x.mean() / 255 - 0.1307) < 1e-4  # the mean everyone normalises with
    for file, checksum in download.SOURCES["mnist"].checksums.items():
        path = Path(REAL) / "mnist" / f"{file}.gz"
        if path.exists():
            assert download.matches(download.contents(path), checksum), file


@real
def test_real_cifar10():
    if not (Path(REAL) / "cifar10").is_dir():
        pytest.skip("MINIGEN_DATA has no folder cifar10")
    d = load("cifar10", REAL)
    assert d.shape == (3, 32, 32) and len(d.train_x) == len(d.train_y) >= 1000
    assert set(d.train_y) == set(range(10))
    # planes in the order R, G, B: each mean within 0.02 of that published for the training set
    means = d.train_x.mean((0, 2, 3)) / 255
    np.testing.assert_allclose(means, (0.4914, 0.4822, 0.4465), atol=0.02)
    # pixels are stored row by row: neighbours along either axis are alike
    x = d.test_x.astype(float)
    assert abs(np.diff(x, axis=2)).mean() < 20 and abs(np.diff(x, axis=3)).mean() < 20


def test_import_is_light():
    code = "import sys, minigen.data; print({'pooch', 'PIL', 'requests'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=Path(__file__).parent.parent)
    assert out.stdout.strip() == "set()"


@pytest.mark.parametrize("n, size", [(10, 5), (10, 3), (7, 7), (5, 13), (1, 4), (64, 1)])
def test_every_image_once_per_epoch(n, size):
    steps = -(-3 * n // size)
    line = np.concatenate([batch_indices(n, size, 3, t) for t in range(steps)])
    assert len(line) == steps * size, "every batch is full"
    for epoch in range(3):
        assert sorted(line[epoch * n:(epoch + 1) * n]) == list(range(n))


def test_batch_is_a_function_of_seed_and_step():
    steps = range(200)  # 16 epochs: more than are cached
    there = [batch_indices(100, 8, 5, t) for t in steps]
    back = [batch_indices(100, 8, 5, t) for t in reversed(steps)][::-1]
    np.testing.assert_array_equal(there, back)
    assert not np.array_equal(there, [batch_indices(100, 8, 6, t) for t in steps])
    line = np.concatenate(there)
    assert not np.array_equal(line[:100], line[100:200]), "epochs are shuffled differently"
    assert not np.array_equal(line[:100], np.arange(100))
    assert line.dtype == np.int64
    first = np.random.default_rng((5, 0)).permutation(100)  # the generator of step 0's noise
    assert not np.array_equal(line[:100], first)


def test_batches():
    x, y = np.arange(50)[:, None] * 2, np.arange(50)
    run = list(batches(x, y, batch_size=8, seed=1, stop=20))
    assert len(run) == 20
    resumed = list(batches(x, y, batch_size=8, seed=1, start=13, stop=20))
    for (a, b), (c, d) in zip(run[13:], resumed, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)
        np.testing.assert_array_equal(a[:, 0], 2 * b)
    alone = batches(y, batch_size=8, seed=1)  # endless
    np.testing.assert_array_equal(next(alone), run[0][1])
    a = batch_indices(50, 50, 1, 0)
    a[:] = 0  # a caller may write to it
    assert sorted(batch_indices(50, 50, 1, 0)) == list(range(50))


def test_in_order():
    x, y = np.arange(11), np.arange(11) + 1
    parts = list(in_order(x, y, batch_size=4))
    assert [len(a) for a, _ in parts] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([b for _, b in parts]), y)
    np.testing.assert_array_equal(np.concatenate(list(in_order(x, batch_size=4))), x)


def test_batching_errors():
    for n, size, step in ((0, 4, 0), (4, 0, 0), (4, 4, -1)):
        with pytest.raises(ValueError, match="batch_indices needs n >= 1"):
            batch_indices(n, size, 0, step)
    with pytest.raises(ValueError, match=r"one length; got \[3, 4\]"):
        next(batches(np.zeros(3), np.zeros(4), batch_size=1, seed=0))
