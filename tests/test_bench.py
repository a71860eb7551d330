"""The benchmarks run, and both of their sides compute the same."""

import json

import numpy as np
import pytest

from demos import bench, scaling
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


def test_losses_that_differ_are_called_so():
    assert bench.agreement(1.00009, 1)["losses"] == "agree"
    assert bench.agreement(1.00011, 1)["losses"] == "DIFFER by 1.1e-04"


def test_means_are_geometric():
    rows = [{"what": f"{m}: train", "ratio": r} for m, r in (("VAE", 4.0), ("DDPM", 1.0))]
    rows += [{"what": "conv2d 1→2: forward", "ratio": 3.0},
             {"what": "attention, T = 4: forward", "ratio": 9.0}]
    assert bench.summary(rows) == {"training steps, geometric mean": 2.0,
                                   "convolutions, forward": 3.0}


def test_the_scaling_demo(tmp_path):
    scaling.main(["--quick", "--out", str(tmp_path)])
    assert "| 4 of 28×28 |" in (tmp_path / "scaling.md").read_text()
    assert (tmp_path / "scaling.png").stat().st_size > 1000


def test_a_side_that_dies_is_one_clear_line(capfd):
    with pytest.raises(UserError, match="the minigen side ended"):
        bench.Side("minigen", "no_such_module", "/nowhere", 1)
