"""The lecture's equations: what the slides state, and where the code computes and checks it.

`equations.toml` is the catalogue, which `equations()` reads. A line of code that computes an
equation ends in the comment ``eq: id``, and so does an assertion that verifies one; `scan()` finds
both. ``python -m minigen.lecture`` prints the index, shows an equation beside its code, and proves
that its check can fail.
"""

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from minigen.lecture.tags import Scan, TaggedLine, checkout, scan

__all__ = ["Equation", "Erratum", "Lecture", "Place", "Scan", "TaggedLine", "checkout",
           "equations", "errata", "families", "lectures", "scan"]


@dataclass(frozen=True)
class Lecture:
    """One of the five lectures: its own title and the course it belongs to."""

    title: str
    course: str


@dataclass(frozen=True)
class Place:
    """A place on the slides: the lecture's number, the line of its text, the slide's heading."""

    lecture: int
    line: int
    heading: str

    def __str__(self):
        lecture = lectures()[self.lecture]
        return f"“{lecture.title}” ({lecture.course}), under “{self.heading}”"


@dataclass(frozen=True)
class Erratum:
    """A mistake on a slide: what is printed, what is correct, and the equations it concerns.
    `source` is the publication that shows the mistake, if no test can."""

    number: int
    equations: tuple
    places: tuple
    printed: str
    correct: str
    source: str = ""


@dataclass(frozen=True)
class Equation:
    """An entry of the catalogue. The header of equations.toml explains its fields."""

    id: str
    family: str
    status: str
    places: tuple
    latex: str
    unicode: str
    statement: str
    paper: str = ""
    shown: tuple = ()

    @property
    def errata(self):
        """The slide errors that concern this equation."""
        return [e for e in errata() if self.id in e.equations]

    @property
    def parts(self):
        """The LaTeX split into ``(is_formula, text)`` pairs."""
        parts = enumerate(re.split(r"\$", self.latex))
        return [(i % 2 == 1, text) for i, text in parts if text]


@functools.cache
def _catalogue():
    text = Path(__file__).with_name("equations.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _place(text):
    where, heading = text.split(" ", 1)
    lecture, line = where.split(":")
    return Place(int(lecture), int(line), heading)


def _entry(kind, row):
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
                | {"places": tuple(_place(p) for p in row["places"])})


@functools.cache
def equations():
    """All equations by id, in the order of the slides."""
    rows = [_entry(Equation, row) for row in _catalogue()["equation"]]
    return {e.id: e for e in rows}


@functools.cache
def errata():
    """The slide errors, sorted by number."""
    return sorted((_entry(Erratum, row) for row in _catalogue()["erratum"]), key=lambda e: e.number)


@functools.cache
def lectures():
    """The lectures, in order."""
    return [Lecture(**row) for row in _catalogue()["lecture"]]


def families():
    """The titles of the families of equations, by family name."""
    return _catalogue()["family"]
