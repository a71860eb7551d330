"""A run that was stopped and resumed equals, bit for bit, one that was not stopped."""

import json
import os
import re
import signal
import subprocess
import time

import numpy as np
import pytest
import tiny_demo
from tiny_demo import RUN, STEPS, arrays, go, log, main, program, same

import minigen as mg
from minigen import nn, optim, train
from minigen.train import UserError

whole = tiny_demo.whole  # a fixture, as is the next
disturb = tiny_demo.disturb


def test_resume_equals_the_uninterrupted_run(tmp_path, whole, capsys):
    go(tmp_path, "--steps", "10")
    assert arrays(tmp_path) != arrays(whole)
    main(["--resume", "--out", str(tmp_path), "--steps", "20"])  # the other options are kept
    same(tmp_path, whole)
    assert "going on after step 10 of 20" in capsys.readouterr().out
    names = arrays(whole)
    assert {key.partition(".")[0] for key in names} == {"model", "opt", "ema"}
    assert {"model.running_mean", "opt.t", "opt.state.decoder.bias.v", "ema.t",
            "ema.average.encoder.weight"} <= names.keys()


def test_lines_after_the_checkpoint_are_dropped(tmp_path, whole):
    go(tmp_path, "--steps", "10")
    with open(tmp_path / "log.jsonl", "a") as f:
        f.write('{"step": 11, "loss": 5}\n{"step": 12, "lo')
    go(tmp_path, "--resume")
    same(tmp_path, whole)


def test_finished_run_only_draws_again(tmp_path, whole, disturb):
    go(tmp_path)
    last = (tmp_path / "last.safetensors")
    before = last.read_bytes(), last.stat().st_mtime_ns
    for name in ("losses.png", "samples.png", "metrics.json"):
        (tmp_path / name).unlink()
    STEPS.clear()
    go(tmp_path, "--resume")
    assert not STEPS
    assert (last.read_bytes(), last.stat().st_mtime_ns) == before
    assert (tmp_path / "losses.png").exists()
    same(tmp_path, whole)


def test_time_of_earlier_commands_counts(tmp_path, disturb):
    disturb[3] = lambda model: time.sleep(0.5)
    go(tmp_path, "--steps", "10")
    before = float(nn.load_arrays(tmp_path / "last.safetensors")[1]["seconds"])
    assert before >= 0.5
    began = time.perf_counter()
    go(tmp_path, "--resume")
    spent = time.perf_counter() - began
    seconds = json.loads((tmp_path / "metrics.json").read_text())["seconds"]
    assert before < seconds <= before + spent + 0.06  # rounded to a tenth
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert before < last["seconds"] < seconds + 0.06


def test_checkpoint_every_so_often(tmp_path, monkeypatch, disturb):
    monkeypatch.setattr(train, "SAVE_EVERY", 0)
    disturb[5] = lambda model: os._exit(7)  # as in a power cut
    if (child := os.fork()) == 0:
        try:
            go(tmp_path)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert nn.load_arrays(tmp_path / "last.safetensors")[1]["step"] == "5"


# ------------------------------------------------------------------------------------------- Ctrl-C

def test_ctrl_c_saves_after_the_step(tmp_path, whole, disturb, capfd):
    disturb[7] = lambda model: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="after step 8 of 20, saved; to go on: .*--resume"):
        go(tmp_path)
    assert "Ctrl-C again" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(log(tmp_path)) == 8
    assert nn.load_arrays(tmp_path / "last.safetensors")[1]["step"] == "8"
    disturb.clear()
    go(tmp_path, "--resume")
    same(tmp_path, whole)


def test_second_ctrl_c_does_not_wait(tmp_path, whole, disturb):
    def twice(model):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    disturb[7] = twice
    with pytest.raises(KeyboardInterrupt, match="stopped within step 8; .*keeps step 0"):
        go(tmp_path)  # the running mean is written already: half a step is not saved
    disturb.clear()
    go(tmp_path, "--resume")
    same(tmp_path, whole)


def test_interrupt_before_anything_was_written_saves(tmp_path):
    def step(t, rng):
        if t == 3:
            raise KeyboardInterrupt
        return train.descend(opt, (p ** 2).sum())
    p = mg.tensor(np.ones(3, np.float32), requires_grad=True)
    opt = optim.SGD({"p": p}, 0.1)
    with pytest.raises(KeyboardInterrupt, match="after step 3 of 5, saved"):
        train.fit(step, 5, seed=0, out=tmp_path, model={"p": p}, opt=opt)
    assert nn.load_arrays(tmp_path / "last.safetensors")[1]["step"] == "3"


def test_sigint_to_a_program(tmp_path, whole):
    p = program(*RUN, "--out", str(tmp_path), env={"SLOW": "0.1"}, stderr=subprocess.PIPE)
    lines = iter(p.stdout.readline, "")
    assert any(line.startswith("step 4 of 20") for line in lines)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=200)
    assert p.returncode == 130
    assert "Traceback" not in err
    stopped = err.strip().splitlines()[-1]
    again = re.fullmatch(r"stopped after step (\d+) of 20, saved; to go on: python .*tiny_demo.py "
                         r"(--resume --out .*)", stopped)
    assert again and 4 <= int(again[1]) < 20
    main(again[2].split())
    same(tmp_path, whole)


# -------------------------------------------------------------------------------- what cannot go on

@pytest.mark.parametrize("flags, message", [
    (("--batch", "16"), "--batch is 16, but the run in .* has 8"),
    (("--seed", "3"), "--seed is 3, but"),
    (("--width", "9"), "--width is 9, but"),
    (("--data", "mnist"), "--data is mnist, but"),
    (("--steps", "5"), "has done 20 steps, more than the 5"),
])
def test_resume_with_other_options(whole, flags, message):
    before = {p: p.read_bytes() for p in whole.iterdir()}
    with pytest.raises(UserError, match=message):
        go(whole, *flags, "--resume")
    assert {p: p.read_bytes() for p in whole.iterdir()} == before


def test_resume_of_nothing_or_something_else(tmp_path, whole, capsys):
    with pytest.raises(UserError, match="there is no .*config.json"):
        go(tmp_path, "--resume")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="not the configuration of a run"):
        go(tmp_path, "--resume")
    config = json.loads((whole / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"system": "gan"}))
    with pytest.raises(UserError, match="is of gan, not of tiny"):
        go(tmp_path, "--resume")
    (tmp_path / "config.json").write_text(json.dumps(
        config | {"options": config["options"] | {"device": "tpu"}}))
    with pytest.raises(UserError, match="config.json: device is none of cpu, cuda"):
        go(tmp_path, "--resume")
    config["versions"]["threads"] = 99
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no such file: .*last.safetensors"):
        go(tmp_path, "--resume")
    assert "note: threads was 99" in capsys.readouterr().out
