"""Training, its folder of results and its command line. This file is itself the demo it tests."""

import contextlib
import json
import os
import pickle
import pty
import re
import resource
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from PIL import Image

import minigen as mg
from minigen import data, nn, optim, pictures, train
from minigen.demo import Demo, cli
from minigen.tensor import write
from minigen.train import UserError

RUN = ("--quick", "--steps", "20")
STEPS = []  # the steps taken by `main` in this process
DISTURB = {}  # step: what else happens in it, a function of the model


class Tiny:
    """An autoencoder of noisy images, with a buffer that every use writes."""

    def __init__(self, width):
        self.encoder, self.decoder = nn.Linear(784, width), nn.Linear(width, 784)
        self.running_mean = mg.tensor(np.zeros(width, np.float32))

    def loss(self, x, rng):
        h = self.encoder(x + 0.1 * rng.standard_normal(x.shape, np.float32))
        mean = h.data.mean(0)
        write(self.running_mean, lambda a: a.__iadd__(0.1 * (mean - a)))
        y = self.decoder(mg.tanh(h - self.running_mean.data.copy()))
        error, size = ((y - x) ** 2).mean(), (y ** 2).mean()
        return error + 0.01 * size, {"error": error, "size": size}


def main(argv=None):
    """A tiny demo.

    Only the first line is shown."""
    run = Demo("tiny", main.__doc__, argv, data=("glyphs", "mnist"), batch=32,
               steps={"glyphs": 50, "mnist": 4000},
               flags=lambda p: p.add_argument("--width", type=int, default=8, help="of the middle"))
    model = Tiny(run.args.width)
    nn.init(model, run.rng)
    opt = optim.Adam(nn.parameters(model), lr=1e-2)
    ema = nn.EMA(nn.parameters(model))

    def step(t, rng):
        x = run.batch(t).reshape(-1, 784) / np.float32(255)
        loss, parts = model.loss(x, rng)
        STEPS.append(t)
        DISTURB.get(t, lambda model: None)(model)
        numbers = train.descend(opt, loss, parts)
        time.sleep(float(os.environ.get("SLOW", 0)))
        return numbers

    run.fit(step, model=model, opt=opt, ema=ema)
    nn.eval(model)
    run.picture("samples", run.rng.random((20, 1, 28, 28)))
    run.finish({"weight": model.encoder.weight.data.sum(), "nothing": float("nan")})
    return run


@pytest.fixture
def disturb():
    STEPS.clear()
    yield DISTURB
    DISTURB.clear()


def go(out, *flags):
    return main([*RUN, "--out", str(out), *flags])


def arrays(out):
    found, _ = nn.load_arrays(Path(out, "last.safetensors"))
    return {key: (a.dtype, a.shape, a.tobytes()) for key, a in found.items()}


def log(out):
    lines = [json.loads(line) for line in Path(out, "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def same(a, b):
    """Two runs are equal bit for bit: weights, optimiser, averages, logs, pictures, numbers."""
    assert arrays(a) == arrays(b)
    assert log(a) == log(b)
    assert Path(a, "samples.png").read_bytes() == Path(b, "samples.png").read_bytes()
    first, second = (json.loads(Path(p, "metrics.json").read_text()) for p in (a, b))
    assert first["weight"] == second["weight"]


def program(*argv, **kw):
    root = Path(__file__).resolve().parent.parent
    env = os.environ | {"PYTHONPATH": str(root), "MPLBACKEND": "agg"} | kw.pop("env", {})
    return subprocess.Popen([sys.executable, __file__, *argv], env=env, text=True,
                            stdout=subprocess.PIPE, **kw)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run of 20 steps."""
    out = tmp_path_factory.mktemp("whole")
    go(out)
    return out


# ---------------------------------------------------------------------------------- a run

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
    began = time.perf_counter()
    main(["--quick"])
    assert time.perf_counter() - began < 4
    assert len(log("runs/tiny-glyphs-quick")) == 4


def test_an_older_checkpoint_is_put_aside(tmp_path):
    go(tmp_path)
    old = (tmp_path / "last.safetensors").read_bytes()
    go(tmp_path, "--seed", "1")
    assert (tmp_path / "previous.safetensors").read_bytes() == old
    assert len(log(tmp_path)) == 20


# ---------------------------------------------------------------------------------- resuming

def test_resume_equals_the_uninterrupted_run(tmp_path, whole, capsys):
    go(tmp_path, "--steps", "10")
    assert arrays(tmp_path) != arrays(whole)
    main(["--resume", "--out", str(tmp_path), "--steps", "20"])  # the other options as they were
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
    _, err = p.communicate(timeout=20)
    assert p.returncode == 130
    assert "Traceback" not in err
    stopped = err.strip().splitlines()[-1]
    again = re.fullmatch(r"stopped after step (\d+) of 20, saved; to go on: python .*test_train.py "
                         r"(--resume --out .*)", stopped)
    assert again and 4 <= int(again[1]) < 20
    main(again[2].split())
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
    assert abs(seconds - before - spent) < 0.2
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert before < last["seconds"] < seconds


def test_checkpoint_every_so_often(tmp_path, monkeypatch, disturb):
    monkeypatch.setattr(train, "SAVE_EVERY", 0)
    disturb[5] = lambda model: os._exit(7)  # as if the power went
    if (child := os.fork()) == 0:
        try:
            go(tmp_path)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert nn.load_arrays(tmp_path / "last.safetensors")[1]["step"] == "5"


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
    config["versions"]["threads"] = 99
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no such file: .*last.safetensors"):
        go(tmp_path, "--resume")
    assert "note: threads was 99" in capsys.readouterr().out


# ---------------------------------------------------------------------------------- checkpoints

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


def test_weights_that_are_no_run_cannot_be_gone_on_with(tmp_path):
    nn.save({"model": {"p": mg.tensor([1.0])}}, tmp_path / "last.safetensors")
    with pytest.raises(UserError, match="not a checkpoint of a training run"):
        train.fit(None, 5, seed=0, out=tmp_path, resume=True, model={"p": mg.tensor([1.0])})


# ---------------------------------------------------------------------------------- the disk

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


# ---------------------------------------------------------------------------------- bad flags

@pytest.mark.parametrize("flags, words", [
    (("--data", "mnits"), ("--data", "mnits", "glyphs", "mnist")),
    (("--data", "mnist", "--data-dir", "/nowhere"), ("/nowhere", "no such folder")),
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
    flags = [str(tmp_path) if f == "EMPTY" else f for f in flags]
    with pytest.raises(SystemExit) as e:
        cli(lambda: go(tmp_path / "out", *flags))
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not (tmp_path / "out").exists()


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


def test_interrupt_elsewhere(capsys):
    def interrupted():
        raise KeyboardInterrupt
    with pytest.raises(SystemExit) as e:
        cli(interrupted)
    assert e.value.code == 130 and capsys.readouterr().err == "interrupted\n"


# ---------------------------------------------------------------------------------- not finite

@pytest.fixture
def net():
    params = {"net.0.weight": mg.tensor(np.full((3, 2), 2.0, np.float32), requires_grad=True),
              "net.0.bias": mg.tensor(np.zeros(3, np.float32), requires_grad=True)}
    return params, optim.SGD(params, 0.1)


def overflow(params, x):
    return mg.exp(mg.linear(x, *params.values())).sum()


def huge_weight(params, x):
    return (mg.linear(x * 1e38, *params.values()) * 0).sum()


def twice(params, x):
    y = mg.linear(x, *params.values())
    return mg.exp(y).sum() + mg.log(y - y).sum()


def mask(params, x):
    """Minus infinity on purpose, harmless; then log 0, which is not."""
    y = mg.linear(x, *params.values())
    e = mg.exp(mg.where(np.arange(3) < 2, y, -np.inf) - y)
    return (mg.log(e) * e).sum()


@pytest.mark.parametrize("loss, x, words", [
    (overflow, 100.0, ("the loss is inf", "from exp:", "12 of 12 values", "inputs reach 400")),
    (huge_weight, 2.0, ("the loss is nan", "from matmul with parameter net.0.weight:", "12 of 12",
                        "reach 2e+38")),
    (mask, 1.0, ("the loss is nan", "from log:", "4 of 12 values", "reach 1")),
    (twice, 100.0, ("the loss is nan", "from exp:")),
    (overflow, np.nan, ("an input of shape (4, 2) has 8 of 8 values",)),
])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_loss_not_finite_names_the_operation(net, loss, x, words):
    params, opt = net
    before = nn.state_dict(params)
    with pytest.raises(FloatingPointError) as e:
        train.descend(opt, loss(params, mg.tensor(np.full((4, 2), x, np.float32))))
    assert all(word in str(e.value) for word in words), e.value
    assert opt.t == 0
    assert all(np.array_equal(a, before[key]) for key, a in nn.state_dict(params).items())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parameter_not_finite_is_named(net):
    params, opt = net
    params["net.0.bias"].data[1] = np.inf
    with pytest.raises(FloatingPointError, match=r"net.0.bias of shape \(3,\) has 1 of 3"):
        train.descend(opt, overflow(params, mg.tensor(np.ones((4, 2), np.float32))))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_gradient_not_finite_names_the_operation(net):
    params, opt = net
    y = mg.linear(mg.tensor(np.zeros((4, 2), np.float32)), *params.values())
    with pytest.raises(FloatingPointError, match="discriminator is 0 but its gradient by net.0.wei"
                       ".* is not finite: .*derivative .* of sqrt: 12 of 12 .* from 0 to 0"):
        train.descend(opt, mg.sqrt(y).sum(), name="discriminator")
    with pytest.raises(FloatingPointError, match="derivative .* of power"):  # first on the way back
        train.descend(opt, mg.sqrt(y).sum() + (y ** 0.5).sum())
    assert opt.t == 0


def test_finite_numbers_with_an_infinite_sum_pass(net):
    params, opt = net
    loss = params["net.0.weight"].sum() * 0 + params["net.0.bias"].sum() * 3e38
    train.descend(opt, loss)  # the gradient of the bias is three times 3e38
    assert opt.t == 1


def test_descend(net):
    params, opt = net
    loss = (params["net.0.weight"] ** 2).sum() + params["net.0.bias"].sum() * 0
    numbers = train.descend(opt, loss, {"half": loss / 2}, name="d_loss", max_norm=1.0)
    assert numbers == {"d_loss": 24.0, "half": 12.0}
    assert all(type(value) is float for value in numbers.values())
    moved = np.linalg.norm(2 - params["net.0.weight"].data)
    assert abs(moved - 0.1) < 1e-6  # lr times the limited norm


def test_run_stops_at_a_number_that_is_not_finite(tmp_path, disturb, monkeypatch, capsys):
    monkeypatch.setattr(train, "SAVE_EVERY", 0)
    disturb[5] = lambda model: model.decoder.weight.data.fill(3e38)  # seen in step 7
    with pytest.raises(SystemExit) as e:
        cli(lambda: go(tmp_path))
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.count("\n") == 1 and err.startswith("error: step 7: the loss")
    assert "come from power:" in err and "last.safetensors keeps step 6" in err
    assert nn.load_arrays(tmp_path / "last.safetensors")[1]["step"] == "6"


def test_every_number_a_step_returns_must_be_finite(tmp_path):
    with pytest.raises(UserError, match="step 2: kl is inf; .* keeps step 0"):
        train.fit(lambda t, rng: {"loss": 1.0, "kl": 1.0 if t < 1 else np.inf}, 3, seed=0,
                  out=tmp_path, model=Tiny(2))


# ---------------------------------------------------------------------------------- the terminal

def test_compiling_is_said(tmp_path, capsys):
    @numba.njit
    def inner(x): return x * 2
    @numba.njit
    def freshly_made(x): return inner(x) + 1

    train.fit(lambda t, rng: {"loss": freshly_made(1.0)}, 3, seed=0, out=tmp_path, model=Tiny(2))
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "compiling freshly_made ..." and out.count("compiling") == 1


def test_bar_on_a_terminal(tmp_path):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (25, 100))
    p = program(*RUN, "--out", str(tmp_path), stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a pty says that the other side is closed
        while chunk := os.read(ours, 4096):
            shown += chunk
    out, _ = p.communicate(timeout=20)
    assert p.returncode == 0
    assert b"0/20" in shown and b"20/20" in shown and b"loss 0." in shown
    assert "step 2 of 20" not in out and "weight" in out


# ---------------------------------------------------------------------------------- pictures

def test_grid():
    x = np.zeros((5, 1, 2, 3))
    x[0], x[1], x[4, 0, 1, 2] = 1, 0.5, 7
    sheet = pictures.grid(x, columns=2, gap=1)
    assert sheet.shape == (10, 9) and sheet.dtype == np.uint8
    assert (sheet[1:3, 1:4] == 255).all() and (sheet[1:3, 5:8] == 128).all()
    assert (sheet[0] == pictures.GREY).all() and (sheet[7:, 5:] == pictures.GREY).all()
    assert sheet[8, 3] == 255 and (sheet[7, 1:4] == 0).all()
    colour = pictures.grid(mg.tensor(np.arange(24, dtype=np.uint8).reshape(1, 3, 2, 4)), gap=0)
    assert colour.shape == (2, 4, 3) and colour[1, 2].tolist() == [6, 14, 22]
    for bad in (np.zeros((2, 28, 28)), np.zeros((2, 2, 4, 4)), np.zeros((0, 1, 4, 4)),
                np.full((1, 1, 2, 2), np.nan)):
        with pytest.raises(ValueError, match="grid: images"):
            pictures.grid(bad)


def test_png_is_small_and_sharp(tmp_path):
    sheet = pictures.grid(data.load("glyphs", n_train=100, n_test=1).train_x)
    pictures.save(tmp_path / "a.png", sheet)
    assert (tmp_path / "a.png").stat().st_size < 100_000
    back = np.asarray(Image.open(tmp_path / "a.png"))
    zoom = back.shape[1] // sheet.shape[1]
    assert zoom == 2 and np.array_equal(back, sheet.repeat(2, 0).repeat(2, 1))


def test_curves(tmp_path):
    lines = [{"step": t, "loss": 1 / t, "seconds": t} | ({"fid": t} if t % 50 == 0 else {})
             for t in range(1, 201)]
    pictures.curves(lines, tmp_path / "two.png")
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pictures.curves(tmp_path / "log.jsonl", tmp_path / "same.png")
    assert (tmp_path / "two.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    assert Image.open(tmp_path / "two.png").size == (840, 280)  # two axes: time has none
    pictures.curves([], tmp_path / "empty.png")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    cli(main)
