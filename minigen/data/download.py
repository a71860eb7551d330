"""Downloading on request: from a list of mirrors, verified, into the user's cache folder.

Checksums are of the decompressed contents, so a mirror that recompresses the files passes too. A
file gets its final name only after it has been verified: every file in the cache is complete.
"""

import os
import sys
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from .dataset import DataError
from .files import contents, matches

TIMEOUT = 30  # seconds without a byte after which a mirror is abandoned


@dataclass(frozen=True)
class Source:
    """Where a data set is published, and what its files hold.

    mirrors: URL prefixes ending in "/", tried in order
    checksums: file name -> "sha256:..." or "md5:..." of the decompressed contents
    archive: the tar.gz that holds all the files; without one each is served as <file>.gz
    """

    mirrors: tuple[str, ...]
    checksums: dict[str, str]
    archive: str | None = None


SOURCES = {
    "mnist": Source(  # checksums: computed from the decompressed original files
        ("https://ossci-datasets.s3.amazonaws.com/mnist/",
         "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        {"train-images-idx3-ubyte":
         "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
         "train-labels-idx1-ubyte":
         "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
         "t10k-images-idx3-ubyte":
         "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
         "t10k-labels-idx1-ubyte":
         "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"}),
    "fashion-mnist": Source(  # checksums: MD5 of the decompressed files, as others publish them
        ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
         "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
        {"train-images-idx3-ubyte": "md5:f4a8712d7a061bf5bd6d2ca38dc4d50a",
         "train-labels-idx1-ubyte": "md5:9018921c3c673c538a1fc5bad174d6f9",
         "t10k-images-idx3-ubyte": "md5:8181f5470baa50b63fa0f6fddb340f0a",
         "t10k-labels-idx1-ubyte": "md5:15d484375f8d13e6eb1aabb0c3f46965"}),
    "cifar10": Source(  # checksums: as published with torchvision for Ruby
        ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
        {"data_batch_1.bin":
         "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
         "data_batch_2.bin":
         "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
         "data_batch_3.bin":
         "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
         "data_batch_4.bin":
         "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
         "data_batch_5.bin":
         "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
         "test_batch.bin":
         "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"},
        archive="cifar-10-binary.tar.gz"),
}


def cache_folder():
    """The user's cache folder for minigen, at the place that is usual on this platform."""
    import pooch
    return Path(pooch.os_cache("minigen"))


def fetch(name, folder=None):
    """Download data set `name` into `folder` (default: <cache folder>/<name>); return the folder.

    Files that are already there are kept. Raises DataError, with the failure of every mirror, if a
    file cannot be obtained, and DataError if the folder cannot be written.
    """
    source = SOURCES[name]
    folder = cache_folder() / name if folder is None else Path(folder)
    mirrors = list(source.mirrors)
    for served, checksums in _served(source):
        wanted = {f: c for f, c in checksums.items() if not (folder / _kept(f, source)).is_file()}
        if wanted:
            _fetch(name, served, wanted, source, mirrors, folder)
    return folder


def _served(source):
    """(name on the server, checksums of its contents) for each file to transfer."""
    if source.archive:
        return [(source.archive, source.checksums)]
    return [(f"{f}.gz", {f: c}) for f, c in source.checksums.items()]


def _kept(file, source):
    return file if source.archive else f"{file}.gz"


def _fetch(name, served, checksums, source, mirrors, folder):
    """Try `mirrors` in turn; the one that succeeds moves to the front of the list."""
    failures = []
    for mirror in list(mirrors):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".part-")
        except OSError as err:
            raise DataError(f"{folder}: cannot be written ({err.strerror})") from None
        with scratch as tmp:
            try:
                _transfer(mirror + served, Path(tmp) / served)
                if source.archive:
                    _unpack(Path(tmp) / served, checksums)
                for file, checksum in checksums.items():
                    if not matches(contents(Path(tmp) / _kept(file, source)), checksum):
                        raise DataError(f"{file} does not have the published contents")
                for file in checksums:
                    os.replace(Path(tmp) / _kept(file, source), folder / _kept(file, source))
            except (OSError, DataError, tarfile.TarError, zlib.error, EOFError) as err:
                failures.append(f"{mirror}{served}: {_short(err, tmp)}")
            else:
                mirrors.sort(key=lambda m, best=mirror: m != best)
                return
    raise DataError(f"{name} could not be downloaded: " + "; ".join(failures))


def _transfer(url, path):
    import pooch
    progress = sys.stderr.isatty()
    pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=TIMEOUT)(
        url, str(path), None)


def _unpack(archive, checksums):
    """Extract those regular files of a tar.gz whose base names are keys of `checksums` into the
    archive's own folder. Folders, links and paths in the archive are ignored."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            name = member.name.rpartition("/")[2]
            if member.isfile() and name in checksums:
                (archive.parent / name).write_bytes(tar.extractfile(member).read())
    missing = [name for name in checksums if not (archive.parent / name).is_file()]
    if missing:
        raise DataError(f"the archive lacks {' '.join(missing)}")


def _short(err, tmp):
    """A failure in one phrase, without the name of the scratch folder."""
    import requests
    if isinstance(err, requests.HTTPError):
        return f"HTTP {err.response.status_code} {err.response.reason}"
    if isinstance(err, requests.Timeout):
        return f"no answer within {TIMEOUT} s"
    if isinstance(err, requests.ConnectionError):
        return "no connection"
    return str(err).replace(f"{tmp}{os.sep}", "")
