"""Reading a file's contents whatever its compression, and comparing them with a checksum."""

import gzip
import hashlib
import zlib

from .dataset import DataError


def contents(path):
    """The bytes of `path`, decompressed if they are gzip. For a truncated gzip stream, the bytes up
    to the break: an idx header among them then tells how much is missing. DataError if the stream
    is corrupt or the file cannot be read."""
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise DataError(f"{path}: cannot be read ({err.strerror})") from None
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        return gzip.decompress(raw)
    except EOFError:
        pass
    except (gzip.BadGzipFile, zlib.error) as err:
        raise DataError(f"{path}: corrupt gzip ({err})") from None
    try:
        return zlib.decompressobj(wbits=31).decompress(raw)
    except zlib.error as err:
        raise DataError(f"{path}: corrupt gzip ({err})") from None


def matches(data, checksum):
    """Do the bytes `data` have `checksum`, written "sha256:<hex>" or "md5:<hex>"?"""
    algorithm, expected = checksum.split(":")
    return hashlib.new(algorithm, data, usedforsecurity=False).hexdigest() == expected
