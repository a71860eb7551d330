"""minigen.data.download against a server on localhost."""

import gzip
import hashlib
import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import data_files
import numpy as np
import pytest
from data_files import (
    IMAGES,
    LABELS,
    assert_in_message,
    cifar_bytes,
    digits,
    flip,
    mnist_files,
    records,
)

from minigen.data import DataError, cifar10, download, load

alone = data_files.alone  # an autouse fixture


@pytest.fixture
def server():
    """(address, pages, asked): a server on localhost that serves the bytes in `pages`, or 404, and
    records the requested paths in `asked`."""
    pages, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path not in pages:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(pages[self.path])))
            self.end_headers()
            self.wfile.write(pages[self.path])

        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", pages, asked
    httpd.shutdown()
    httpd.server_close()


def publish(monkeypatch, name, mirrors, files, archive=None):
    sums = {f: "sha256:" + hashlib.sha256(data).hexdigest() for f, data in files.items()}
    monkeypatch.setitem(download.SOURCES, name, download.Source(mirrors, sums, archive))


def everything_under(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_download_second_mirror_serves(server, monkeypatch, tmp_path):
    address, pages, asked = server
    files = mnist_files()
    publish(monkeypatch, "mnist", (f"{address}/a/", f"{address}/b/"), files)
    for level, (f, data) in enumerate(files.items(), 1):  # compressed differently: other bytes
        pages[f"/b/{f}.gz"] = gzip.compress(data, level, mtime=level)
    d = load("mnist", download=True)
    np.testing.assert_array_equal(d.train_x[:, 0], digits()[0])
    assert everything_under(tmp_path / "cache") == sorted(f"mnist/{f}.gz" for f in files)
    assert len(asked) == 5, "the mirror that serves is asked first from then on"
    np.testing.assert_array_equal(load("mnist").train_x, d.train_x)  # from the cache
    load("mnist", download=True)
    assert len(asked) == 5, "what is there is not fetched again"
    (tmp_path / "cache" / "mnist" / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError, match="incomplete"):
        load("mnist")
    load("mnist", download=True)
    assert asked[5:] == [f"/a/{LABELS}.gz", f"/b/{LABELS}.gz"], "only the missing file is fetched"


def test_download_refuses_what_is_corrupt(server, monkeypatch, tmp_path):
    address, pages, _ = server
    files = mnist_files()
    mirrors = tuple(f"{address}/{m}/" for m in "abcd") + ("http://127.0.0.1:9/e/",)
    publish(monkeypatch, "mnist", mirrors, files)
    whole = gzip.compress(files[IMAGES])
    pages[f"/b/{IMAGES}.gz"] = gzip.compress(files[IMAGES].replace(b"\x07", b"\x08"))
    pages[f"/c/{IMAGES}.gz"] = whole[:-2000]
    pages[f"/d/{IMAGES}.gz"] = flip(whole)
    with pytest.raises(DataError) as err:
        load("mnist", download=True)
    assert_in_message(str(err.value), "mnist could not be downloaded",
                      *(m + IMAGES for m in mirrors), "HTTP 404",
                      "does not have the published contents", "corrupt gzip", "no connection")
    assert ".part" not in str(err.value)
    assert everything_under(tmp_path / "cache") == []
    assert list((tmp_path / "cache" / "mnist").iterdir()) == []
    pages[f"/a/{IMAGES}.gz"] = whole  # a downloaded file is kept if a later one fails
    with pytest.raises(DataError, match=LABELS):
        load("mnist", download=True)
    assert everything_under(tmp_path / "cache") == [f"mnist/{IMAGES}.gz"]


def tarball(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_download_archive(server, monkeypatch, tmp_path):
    address, pages, _ = server
    files = {f: cifar_bytes(*records(3, i)) for i, f in enumerate((*cifar10.TRAIN, cifar10.TEST))}
    publish(monkeypatch, "cifar10", (f"{address}/",), files, "cifar.tar.gz")
    inside = [(f"cifar-10-batches-bin/{f}", data) for f, data in files.items()]
    pages["/cifar.tar.gz"] = tarball([("../evil.txt", b"x"), ("cifar.tar.gz", b"x"),
                                      ("test_batch.bin", "/etc/passwd"), *inside])
    d = load("cifar10", download=True)
    assert len(d.train_x) == 15 and len(d.test_x) == 3
    np.testing.assert_array_equal(d.test_x, records(3, 5)[0])
    assert everything_under(tmp_path) == sorted(f"cache/cifar10/{f}" for f in files)

    for k, (page, part) in enumerate([(tarball(inside[:-1]), "lacks test_batch.bin"),
                                      (b"<html>", "not a gzip file"),
                                      (pages["/cifar.tar.gz"][:9000], "")]):
        pages["/cifar.tar.gz"] = page
        with pytest.raises(DataError, match="could not be downloaded.*" + part):
            download.fetch("cifar10", tmp_path / str(k))
        assert everything_under(tmp_path / str(k)) == []


def test_download_into_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/mnist: cannot be written"):
        download.fetch("mnist", tmp_path / "file" / "mnist")


def test_sources():
    assert set(download.SOURCES) == {"mnist", "fashion-mnist", "cifar10"}
    for source in download.SOURCES.values():
        assert len(source.mirrors) >= 2 and all(m.endswith("/") for m in source.mirrors)
        for checksum in source.checksums.values():
            assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", checksum)
        assert len(set(source.checksums.values())) == len(source.checksums)
