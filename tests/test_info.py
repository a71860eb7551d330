"""`python -m minigen info` prints what is available, and how to install or fix the rest."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from minigen import info
from minigen.__main__ import main
from minigen.train import UserError


def printed(capsys):
    main(["info"])
    return capsys.readouterr().out


def test_what_is_there_is_printed(capsys):
    out = printed(capsys)
    for name in ("python", "numpy", "numba", "blas", "g++", "driver", "cupy", "cache"):
        assert f"\n{name} " in f"\n{out}", name


def test_what_is_broken_comes_with_its_cure(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(info.shutil, "which", lambda name: None)
    for version, devices, extra in ((None, [], "nvrtc"), ((12, 4), ["a card"], "cuda12"),
                                    ((13, 0), ["a card"], "cuda13")):
        monkeypatch.setattr(info, "driver", lambda v=version, d=devices: (v, d))
        out = printed(capsys)
        assert f"fix it: pip install '.[{extra}]'" in out
        assert "fix it: sudo apt-get install g++" in out and out.count("fix it") == 2
        assert ("a card" in out) == bool(devices)


def test_what_the_environment_sets_is_checked(capsys, monkeypatch):
    monkeypatch.setenv("MINIGEN_KERNELS", "reference")
    assert "\nMINIGEN_KERNELS reference\n" in printed(capsys) and info.module("cpu") is np
    with pytest.raises(UserError, match="MINIGEN_KERNELS=reference: --device cuda takes cuda;"):
        info.module("cuda")
    for name in ("MINIGEN_KERNELS", "MINIGEN_PRECISION"):
        monkeypatch.setenv(name, "foo")
        assert f"{name} foo\n{'':10} fix it: unset {name}\n" in printed(capsys)
        with pytest.raises(UserError, match=f"{name}=foo: --device cpu takes .*; unset {name} for"):
            info.module("cpu")
        monkeypatch.delenv(name)


def test_the_environment_names_a_version_for_the_whole_process():
    code = ("import numpy as np; from minigen import kernels; "
            "kernels.matmul(np.ones((2, 2)), np.ones((2, 2)), None)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=os.environ | {"MINIGEN_KERNELS": "tpu"})
    assert "MINIGEN_KERNELS=tpu: matmul has reference, cpu" in done.stderr


def test_a_path_with_letters_that_the_terminal_has_not(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    monkeypatch.setenv("HOME", str(tmp_path / "é"))
    monkeypatch.delenv("CUPY_CACHE_DIR", raising=False)
    main(["info"])
    sys.stdout.seek(0)
    assert f"\ncache      {tmp_path}/?/.cupy/kernel_cache, 0 files" in sys.stdout.read()


def test_cupys_cache_is_where_it_was_told_to_be(capsys, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", "/nowhere/else")
    assert "\ncache      /nowhere/else, 0 files" in printed(capsys)


def test_other_commands_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["inform"])
    assert "choose from" in capsys.readouterr().err
