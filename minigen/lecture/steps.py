"""A derivation as a program: each line is a number beside the one it should equal."""

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minigen.demo import at_least

__all__ = ["Step", "cli"]

TOLERANCE = 1e-12  # for float64, after a few dozen operations
RELATIONS = {"=": partial(np.isclose, rtol=TOLERANCE, atol=TOLERANCE),
             "≤": np.less_equal, "<": np.less}
NEGATION = {"=": "≠", "≤": ">", "<": "≥"}


@dataclass(frozen=True)
class Step:
    """One line: a formula, its value, and the relation that should hold to another value.

    error: the number of the slide error that this line shows: then the relation must not hold
    """

    formula: str
    value: Any
    relation: str
    other: Any
    error: int = 0

    @property
    def holds(self):
        """Whether the relation holds, for an array in every component."""
        return bool(np.all(RELATIONS[self.relation](self.value, self.other)))

    @property
    def sides(self):
        """The left side, the relation that actually holds, and the right side, as text."""
        sign = self.relation if self.holds else NEGATION[self.relation]
        return "\n".join(_digits(self.value)), sign, "\n".join(_digits(self.other))

    def __str__(self):
        head = f"slide error {self.error}: {self.formula}" if self.error else self.formula
        left, sign, right = self.sides
        left, right = left.split("\n"), right.split("\n")
        width, rows = max(map(len, left)), len(left)
        signs = [sign if i == (rows - 1) // 2 else " " for i in range(rows)]
        return "\n".join([f"  {head}", *(f"    {a:<{width}}  {s}  {b}".rstrip() for a, s, b
                                         in zip(left, signs, right, strict=True))])


def _digits(value):
    """The lines of text for a number, a column or a matrix."""
    value = np.asarray(value) + 0  # turns −0 into 0
    if value.ndim == 2:
        return str(value).split("\n")
    return [f"{v:.11g}" if value.dtype.kind == "f" else str(v) for v in value.reshape(-1)]


def cli(doc, derive, argv=None):
    """Print a derivation. `derive(rng)` gives pairs of a title and its steps. SystemExit(1) if a
    line does not hold although it is no slide error, or holds although it is one."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--seed", type=at_least(0), default=0,
                        help="seed of the numbers used in the computation")
    sys.stdout.reconfigure(errors="replace")  # for terminals that have no Σ
    parts = derive(np.random.default_rng(parser.parse_args(argv).seed))
    for title, steps in parts:
        print(f"\n{title}\n")
        print("\n".join(map(str, steps)))
    wrong = [step.formula for _, steps in parts for step in steps
             if step.holds == bool(step.error)]
    if wrong:
        raise SystemExit("\nnot as derived: " + "; ".join(wrong))
