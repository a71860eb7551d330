"""A tiny demo, which the tests of training call or start as a program, and what they share to
inspect the folder that it writes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minigen as mg
from minigen import nn, optim, train
from minigen.demo import Demo, cli
from minigen.tensor import write

RUN = ("--quick", "--steps", "20")
STEPS = []  # the steps taken by `main` in this process
DISTURB = {}  # step: a function of the model, called within that step


class Tiny:
    """A denoising autoencoder, with a buffer that every loss updates."""

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


# ---------------------------------------------------------------------------------------- its tests

@pytest.fixture
def disturb():
    STEPS.clear()
    yield DISTURB
    DISTURB.clear()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run of 20 steps."""
    out = tmp_path_factory.mktemp("whole")
    go(out)
    return out


def go(out, *flags):
    return main([*RUN, "--out", str(out), *flags])


def program(*argv, **kw):
    root = Path(__file__).resolve().parent.parent
    env = os.environ | {"PYTHONPATH": str(root), "MPLBACKEND": "agg"} | kw.pop("env", {})
    return subprocess.Popen([sys.executable, __file__, *argv], env=env, text=True,
                            stdout=subprocess.PIPE, **kw)


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


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set SIG_IGN
    cli(main)
