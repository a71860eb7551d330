"""Training: the files of a run, its checkpoints, and a full disk."""

import contextlib
import json
import pickle
import re
import resource

import numba
import numpy as np
import pytest
import tiny_demo
from tiny_demo import Tiny, go, log

import minigen as mg
from minigen import nn, optim, train
from minigen.demo import Demo, cli
from minigen.train import UserError

whole = tiny_demo.whole  # a fixture, as is the next
disturb = tiny_demo.disturb


# -------------------------------------------------------------------------------------------- a run

def test_what_a_run_leaves_and_says(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    go(out)
    assert {p.name for p in out.iterdir()} == {
        "config.json", "log.jsonl", "losses.png", "samples.png", "metrics.json",
        "last.safetensors"}
    config = json.loads((out / "config.json").read_text())
    assert config["system"] == "tiny"
    assert config["options"] == {"data": "glyphs", "steps": 20, "batch": 8, "seed": 0,
                                 "quick": True, "width": 8}
    assert config["versions"].keys() == {"python", "numpy", "numba", "minigen", "threads"}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics.items() >= {"steps": 20, "train_images": 64, "test_images": 32,
                               "nothing": None}.items()
    assert 0 < metrics["seconds"] < 60
    lines = log(out)
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert all(line.keys() == {"step", "loss", "error", "size"} for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]
    printed = capsys.readouterr()
    assert "20 steps of 8 images" in printed.out and "64 training" in printed.out
    assert len(re.findall(r"step \d+ of 20: .*loss", printed.out)) == 10
    assert not printed.err


def test_an_older_checkpoint_is_put_aside(tmp_path):
    go(tmp_path)
    old = (tmp_path / "last.safetensors").read_bytes()
    go(tmp_path, "--seed", "1")
    assert (tmp_path / "previous.safetensors").read_bytes() == old
    assert len(log(tmp_path)) == 20


def test_compiling_is_said(tmp_path, capsys):
    @numba.njit
    def inner(x): return x * 2
    @numba.njit
    def freshly_made(x): return inner(x) + 1

    train.fit(lambda t, rng: {"loss": freshly_made(1.0)}, 3, seed=0, out=tmp_path, model=Tiny(2))
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "compiling freshly_made ..." and out.count("compiling") == 1


def test_all_parts_of_a_run_go_on_with_it(tmp_path):
    model = nn.Linear(2, 1)
    opt, ema = optim.Adam(nn.parameters(model)), nn.EMA(nn.parameters(model))
    step = lambda t, rng: train.descend(opt, mg.mean(mg.square(model(np.ones((1, 2), np.float32)))))
    for parts in ({"opts": [opt]}, {"model": model, "averages": {"one": ema}}):
        with pytest.raises(TypeError, match="is within another part, .* a name of its own"):
            train.fit(step, 2, seed=0, out=tmp_path, **parts)
    train.fit(step, 2, seed=0, out=tmp_path, model=model, opt=opt)
    before = (tmp_path / "last.safetensors").read_bytes()
    for parts, seed, message in (({}, 0, "also holds opt, which would be lost: give all parts"),
                                 ({"opt": opt}, 1, "is of seed 0, not of 1")):
        with pytest.raises(UserError, match=message):
            train.fit(step, 4, seed=seed, out=tmp_path, resume=True, model=model, **parts)
    assert (tmp_path / "last.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match="steps must be an integer and not negative, got 2.5"):
        train.fit(step, 2.5, seed=0, out=tmp_path, model=model, opt=opt)


def test_fewer_steps_than_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="fit: steps must be an integer and not negative, got -1"):
        train.fit(None, -1, seed=0, out=tmp_path, model=Tiny(2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("numbers", [None, 0.5])
def test_a_step_that_gives_no_dict_is_refused(tmp_path, numbers):
    with pytest.raises(TypeError, match="the step gave a (NoneType|float), expected a dict of nu"):
        train.fit(lambda t, rng: numbers, 1, seed=0, out=tmp_path, model=Tiny(2))


# -------------------------------------------------------------------------------------- checkpoints

def test_checkpoint_gives_a_model_to_sample_from(whole, tmp_path):
    model, ema_of = Tiny(8), Tiny(8)
    ema = nn.EMA(nn.parameters(ema_of))
    about = train.load_checkpoint(whole / "last.safetensors", model=model, ema=ema)
    assert about["step"] == "20" and json.loads(about["config"])["system"] == "tiny"
    stored, _ = nn.load_arrays(whole / "last.safetensors")
    assert np.array_equal(model.decoder.weight.data, stored["model.decoder.weight"])
    assert ema.t == 20
    assert np.array_equal(ema.average["decoder.weight"], stored["ema.average.decoder.weight"])


def test_checkpoint_of_another_model_is_refused(whole):
    model = Tiny(9)
    before = nn.state_dict(model)
    with pytest.raises(UserError, match=r"of another model: .*\(8,\), the model's \(9,\).*; and \d "
                                        "more; it was left") as e:
        train.load_checkpoint(whole / "last.safetensors", model=model)
    assert "\n" not in str(e.value)
    assert all(np.array_equal(a, before[key]) for key, a in nn.state_dict(model).items())
    with pytest.raises(UserError, match="generator.decoder.bias is missing"):
        train.load_checkpoint(whole / "last.safetensors", generator=Tiny(8))


def damage(path, how):
    whole = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(whole[:-100])
    elif how == "cut in the header":
        path.write_bytes(whole[:50])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "pickle":
        path.write_bytes(pickle.dumps({"model": 1}))
    elif how == "weights only":
        nn.save(Tiny(8), path)
    elif how == "folder":
        path.mkdir()


@pytest.mark.parametrize("how", ["cut", "cut in the header", "empty", "pickle", "weights only",
                                 "folder"])
def test_unfit_checkpoint_is_refused_and_kept(tmp_path, whole, how, capsys):
    for name in ("config.json", "last.safetensors", "log.jsonl"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    last = tmp_path / "last.safetensors"
    damage(last, how)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(SystemExit) as e:
        cli(lambda: go(tmp_path, "--resume"))
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert "last.safetensors" in err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_numbers_that_numpy_has_not(tmp_path):
    head = b'{"w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    (tmp_path / "bf16").write_bytes(len(head).to_bytes(8, "little") + head + b"00")
    with pytest.raises(UserError, match="holds a dtype that NumPy does not have"):
        train.load_checkpoint(tmp_path / "bf16", w=nn.Linear(1, 1))


def test_weights_that_are_no_run_cannot_be_gone_on_with(tmp_path):
    nn.save({"model": {"p": mg.tensor([1.0])}}, tmp_path / "last.safetensors")
    with pytest.raises(UserError, match="not a checkpoint of a training run"):
        train.fit(None, 5, seed=0, out=tmp_path, resume=True, model={"p": mg.tensor([1.0])})
    for about in ({"step": "3"}, {"step": "x", "seconds": "1"}):
        nn.save_arrays(tmp_path / "last.safetensors", {"model.p": np.ones(1, np.float32)}, about)
        with pytest.raises(UserError, match="not a checkpoint of a training run"):
            train.fit(None, 5, seed=0, out=tmp_path, resume=True, model={"p": mg.tensor([1.0])})


# ----------------------------------------------------------------------------------------- the disk

@contextlib.contextmanager
def files_at_most(size):
    """No file can grow beyond `size` bytes: the system refuses, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch, disturb):
    monkeypatch.setattr(train, "SAVE_EVERY", 0)
    with contextlib.ExitStack() as full:
        disturb[10] = lambda model: full.enter_context(files_at_most(50_000))
        with pytest.raises(UserError, match=r"last.safetensors: cannot be written \(.*large"):
            go(tmp_path)
    found, about = nn.load_arrays(tmp_path / "last.safetensors")
    assert about["step"] == "10" and found["opt.t"] == 10
    assert not list(tmp_path.glob("*.part"))


def test_full_disk_for_the_log(tmp_path, disturb):
    with contextlib.ExitStack() as full:
        disturb[10] = lambda model: full.enter_context(files_at_most(100))
        with pytest.raises(UserError, match=r"log.jsonl: cannot be written \(File too large\)"):
            go(tmp_path)
    assert nn.load_arrays(tmp_path / "last.safetensors")[1]["step"] == "0"


def test_full_disk_for_the_results(tmp_path):
    run = Demo("x", "doc", ["--quick", "--out", str(tmp_path)], steps=1, batch=1)
    (tmp_path / "metrics.json").write_text("old")
    with files_at_most(10):
        with pytest.raises(UserError, match="metrics.json: cannot be written"):
            run.finish({})
        with pytest.raises(UserError, match="s.png: cannot be written"):
            run.picture("s", np.zeros((1, 1, 8, 8)))
    assert (tmp_path / "metrics.json").read_text() == "old"
