"""The benchmarks run, and both sides of each, minigen and PyTorch, compute the same."""

import importlib
import json
import sys

import numpy as np
import pytest

import bench
import scaling
import side_by_side
from minigen import kernels
from minigen.train import UserError


@pytest.mark.parity
@pytest.mark.parametrize("model", bench.MODELS)
def test_both_sides_take_the_same_first_step(model, tmp_path):
    pytest.importorskip("torch")
    rows = bench.main(["--quick", "--only", model, "--json", str(tmp_path / "found.json")])
    assert rows[0]["what"] == f"{bench.MODELS[model]}: train" and rows[0]["losses"] == "agree"
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["rows"] == rows and found["threads"] >= 1
    for row in rows:
        assert np.isfinite(row["ratio"]) and row["ratio"] == row["pytorch"] / row["minigen"]


@pytest.mark.parity
def test_a_run_that_is_cut_short_leaves_what_it_has_measured(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    row = {"what": "VAE: train", "minigen": 1.0, "pytorch": 2.0, "ratio": 2.0}

    def measure(subject, args):
        if subject != "vae":
            raise KeyboardInterrupt
        return [row]

    monkeypatch.setattr(bench, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--only", "models", "--json", str(tmp_path / "found.json")])
    assert json.loads((tmp_path / "found.json").read_text())["rows"] == [row]


def test_losses_that_differ_are_called_so():
    assert bench.agreement(1.00009, 1, 1e-4)["losses"] == "agree"
    assert bench.agreement(1.00011, 1, 1e-4)["losses"] == "DIFFER by 1.1e-04"


def test_means_are_geometric():
    rows = [{"what": f"{m}: train", "ratio": r} for m, r in (("VAE", 4.0), ("DDPM", 1.0))]
    rows += [{"what": "conv2d 1→2: forward", "ratio": 3.0},
             {"what": "attention, T = 4: forward", "ratio": 9.0}]
    assert bench.summary(rows) == {"training steps, geometric mean": 2.0,
                                   "convolutions, forward": 3.0}


SMALL = {"n": 2, "side": 6, "heads": 2, "lengths": (20,), "square": 40, "many": 2048}


@pytest.mark.parity
def test_both_sides_of_a_kernel_compute_the_same():
    """On the CPU, which does not round factors: the rows of tf32 and bf16 are skipped."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)

    def first(y):
        y = [a for a in y if a is not None] if isinstance(y, (tuple, list)) else [y]
        return np.asarray(y[0].detach() if isinstance(y[0], torch.Tensor) else y[0])

    def run(function, library, xs):
        return side_by_side.kernels.Row(library, lambda: xs, function)()

    for name, (shapes, work, unit, ours, theirs) in side_by_side.kernels.table(**SMALL).items():
        if name == "random_normal" or "bf16" in name or "tf32" in name:
            continue
        xs = [rng.standard_normal(shape, np.float32) for shape in shapes]
        there = [torch.tensor(x, requires_grad=True) for x in xs]
        if name == "adam":  # in place: the first step, with t = 1 in ours
            there[3].data = there[2].data = torch.zeros_like(there[2])
            p = xs[0].copy()
            kernels.adam(p, xs[1], 0 * p, 0 * p, (1.0, 1e-3, 1), 0.9, 0.999, 1e-8, 0.0, False)
            run(theirs, torch, there)
            here, there = p, there[0]
        else:
            here, there = run(ours, kernels, xs), run(theirs, torch, there)
        here, there = first(here), first(there)
        np.testing.assert_allclose(here.reshape(there.shape), there, rtol=2e-3, atol=2e-4,
                                   err_msg=name)
        assert work > 0 and unit in bench.UNITS


@pytest.mark.parametrize("model", bench.MODELS)
def test_a_model_on_a_device_takes_the_step_it_takes_on_the_cpu(cupy, model, tmp_path):
    build = importlib.import_module(f"side_by_side.{model}").minigen
    losses = [build(tmp_path, side_by_side.Target(device), batch=2, side=8)["train"]()
              for device in ("cpu", "cuda")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_kernels_run_on_a_device(cupy):
    target = side_by_side.Target("cuda")
    for name, run in side_by_side.kernels.minigen(None, target, **SMALL).items():
        if "fp32" not in name:
            run()


def test_rates_of_kernels():
    class Side:
        time = staticmethod(lambda name, seconds: 1.0 if "/s" in name else 2.0)

    rows = {row["what"]: row for row in bench.rates(Side, Side, 0.1, 1)}
    matmul = rows["matmul, bf16, 4096³"]
    assert matmul["ratio"] == 1.0 and matmul["minigen"] == 2000.0
    # an eighth of the ceiling's work, in twice its time
    assert matmul["rate"] == "0.0687 TFLOP/s, 6% of 1.1"
    assert rows["silu"]["rate"].endswith("GB/s, 3% of 2.15")
    assert "| 0.0687 TFLOP/s, 6% of 1.1 |" in bench.markdown(rows.values())


@pytest.mark.parity
def test_a_device_that_is_not_there(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(UserError, match="--device cuda needs CuPy"):
        bench.main(["--device", "cuda"])
    with pytest.raises(UserError, match="--only kernels is not measured on this device"):
        bench.main(["--only", "kernels"])


def test_the_scaling_demo(tmp_path):
    scaling.main(["--quick", "--out", str(tmp_path)])
    assert "| 4 of 28×28 |" in (tmp_path / "scaling.md").read_text()
    assert (tmp_path / "scaling.png").stat().st_size > 1000


def test_a_side_that_dies_is_one_clear_line(capfd):
    with pytest.raises(UserError, match="the minigen side ended"):
        bench.Side("minigen", "no_such_module", "/nowhere", 1)
