"""The command line of a demo: defaults, mistakes reported in one line, the progress bar."""

import contextlib
import json
import os
import pty
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_demo
from tiny_demo import RUN, STEPS, go, log, main, program

from minigen import data
from minigen.demo import Demo, cli
from minigen.train import UserError

disturb = tiny_demo.disturb  # a fixture


def test_defaults_depend_on_the_data(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "50 on glyphs, 4,000 on mnist" in text and "Only the first" not in text
    assert "of the middle (default: 8)" in text and "(default: None)" not in text
    run = Demo("x", "doc", ["--out", str(tmp_path)], steps={"glyphs": 7}, batch=3)
    assert (run.args.steps, run.args.batch, len(run.batch(0))) == (7, 3, 3)
    assert run.data.name == "glyphs" and run.batch(2).dtype == np.uint8
    assert np.array_equal(run.batch(2), run.data.train_x[data.batch_indices(10_000, 3, 0, 2)])


def test_first_weights_are_not_the_noise_of_a_step(tmp_path):
    rng = Demo("x", "doc", ["--quick", "--out", str(tmp_path)], steps=1, batch=1).rng
    assert rng.random() not in (np.random.default_rng(0).random(),
                                np.random.default_rng((0, 0)).random())


def test_quick_is_quick_and_has_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["--quick"])
    assert len(log("runs/tiny-glyphs-quick")) == 4
    numbers = json.loads(Path("runs/tiny-glyphs-quick/metrics.json").read_text())
    assert numbers["train_images"] == 64 and numbers["test_images"] == 32


def test_a_demo_may_draw_its_samples_itself(tmp_path, capsys):
    run = Demo("x", "doc", ["--out", str(tmp_path)], data=("ring", "glyphs"), steps=5, batch=3)
    run.finish({"modes": 8})
    assert run.data is None and "5 steps of 3 samples" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"steps", "modes", "seconds"}
    run.fit(lambda t, rng: {"loss": 1.0})
    assert not (tmp_path / "metrics.json").exists()  # this new run has not ended yet


# ----------------------------------------------------------------------------------------- mistakes

def test_a_demo_may_need_more_than_one_image_a_step():
    with pytest.raises(UserError, match="--batch: '1' is not a whole number from 2"):
        Demo("x", "doc", ["--batch", "1"], steps=1, batch=8, min_batch=2)


@pytest.mark.parametrize("flags, words", [
    (("--data", "mnits"), ("--data", "mnits", "glyphs", "mnist")),
    (("--data", "mnist", "--data-dir", "EMPTY/nowhere"), ("/nowhere", "no such folder")),
    (("--data", "mnist", "--data-dir", "EMPTY"),
     ("train-images-idx3-ubyte", "--download", "https://")),
    (("--steps", "0"), ("--steps", "'0'", "from 1")),
    (("--batch", "many"), ("--batch", "'many'")),
    (("--seed", "-1"), ("--seed",)),
    (("--frobnicate",), ("--frobnicate", "--help")),
    (("--device", "tpu"), ("--device", "tpu", "cuda")),
])
def test_mistakes_are_one_line(tmp_path, flags, words, capsys, monkeypatch):
    monkeypatch.delenv("MINIGEN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flags = [f.replace("EMPTY", str(tmp_path)) for f in flags]
    with pytest.raises(SystemExit) as e:
        cli(lambda: go(tmp_path / "out", *flags))
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out, why", [("file", "File exists"), ("file/below", "Not a directory"),
                                      ("/proc/tiny", "No such file")])
def test_unwritable_folder_is_found_before_training(tmp_path, out, why, disturb):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"cannot be written \\({why}"):
        go(tmp_path / out)
    assert not STEPS


def test_read_only_folder(tmp_path, monkeypatch):
    def refuse(dir):
        raise OSError(30, "Read-only file system")
    monkeypatch.setattr("minigen.demo.TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"cannot be written \(Read-only file system\)"):
        go(tmp_path)


def test_cuda_without_cupy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(UserError, match="--device cuda needs CuPy: pip install"):
        go(tmp_path, "--device", "cuda")


def test_cuda_without_a_device(tmp_path, monkeypatch):
    class cupy:
        class cuda:
            class runtime:
                def getDeviceCount():
                    raise RuntimeError("cudaErrorNoDevice")
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(UserError, match="no CUDA device can be used .*cudaErrorNoDevice"):
        go(tmp_path, "--device", "cuda")


def test_precision_is_for_a_device(tmp_path):
    go(tmp_path)
    kept = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(UserError, match="bf16 is for the products of a device"):
        go(tmp_path, "--precision", "bf16")
    assert (tmp_path / "last.safetensors").read_bytes() == kept
    go(tmp_path, "--precision", "fp32")  # which rounds nothing


# ------------------------------------------------------------------------------------- the terminal

def test_interrupt_elsewhere(capsys):
    def interrupted():
        raise KeyboardInterrupt
    with pytest.raises(SystemExit) as e:
        cli(interrupted)
    assert e.value.code == 130 and capsys.readouterr().err == "interrupted\n"


def test_bar_on_a_terminal(tmp_path):
    ours, theirs = pty.openpty()
    p = program(*RUN, "--out", str(tmp_path), stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # so a pty reports that its other side is closed
        while chunk := os.read(ours, 4096):
            shown += chunk
    out, _ = p.communicate(timeout=200)
    assert p.returncode == 0
    assert b"0/20" in shown and b"20/20" in shown and b"loss 0." in shown
    assert "step 2 of 20" not in out and "weight" in out
