"""The derivations as programs: every line holds, and no mistake of the slides does."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from minigen.lecture import errata
from minigen.lecture.steps import Step, cli

FOLDER = Path(__file__).parent.parent / "demos" / "derivations"
DERIVATIONS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", DERIVATIONS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_line_is_as_derived(name, seed):
    module = importlib.import_module(f"demos.derivations.{name}")
    parts = module.derive(np.random.default_rng(seed))
    steps = [step for _, steps in parts for step in steps]
    assert [s.formula for s in steps if s.holds == bool(s.error)] == []
    assert {s.error for s in steps if s.error} <= {e.number for e in errata()}


@pytest.mark.parametrize("name", DERIVATIONS)
def test_a_derivation_prints_both_sides_of_each_line(name, capsys):
    module = importlib.import_module(f"demos.derivations.{name}")
    module.main(["--seed", "3"])
    out = capsys.readouterr().out
    assert out.count("  =  ") >= 5 and "slide error" in out and ("≠" in out or ">" in out)


def test_the_five_derivations_of_the_slides_are_there():
    assert DERIVATIONS == ["diffusion_kernel", "elbo", "f_divergence_bound",
                           "optimal_discriminator", "transposed_convolution"]


@pytest.mark.parametrize("step, holds, text", [
    (Step("a", 1.0, "=", 1 + 1e-14), True, "  a\n    1  =  1"),
    (Step("a", 1.0, "=", 1 + 1e-9), False, "  a\n    1  ≠  1.000000001"),
    (Step("a", -2.0, "≤", -2.0, error=7), True, "  slide error 7: a\n    -2  ≤  -2"),
    (Step("a", 2, "<", 2), False, "  a\n    2  ≥  2"),
    (Step("a", np.array([-0.0, 0.5]), "=", np.array([0.0, 0.25])), False,
     "  a\n    0    ≠  0\n    0.5     0.25"),
    (Step("a", np.eye(2, dtype=int), "=", np.eye(2)), True, None),
])
def test_a_step_is_judged_by_its_numbers(step, holds, text):
    assert step.holds is holds
    assert text is None or str(step) == text


@pytest.mark.parametrize("step", [Step("1 = 2", 1, "=", 2), Step("1 = 1", 1, "=", 1, error=3)])
def test_what_is_not_as_derived_ends_with_an_error(step, capsys):
    with pytest.raises(SystemExit, match=step.formula):
        cli("doc", lambda rng: [("title", [step])], [])
    assert step.formula in capsys.readouterr().out
