"""The notation (symbols in formulas and code) and the map of the lecture, from notation.toml."""

import functools
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from minigen.models import MODELS

__all__ = ["Kind", "Symbol", "model_taxonomy", "symbol_of", "symbol_of_name", "symbols"]


@dataclass(frozen=True)
class Symbol:
    """A symbol: its name, how formulas write it, what the code calls it, and what it means."""

    name: str
    formula: tuple
    code: tuple
    meaning: str


@dataclass(frozen=True)
class Kind:
    """A kind of model: its families, as ``(title, {model: module})``, or the kinds it contains."""

    title: str
    description: str
    families: list = field(default_factory=list)
    kinds: list = field(default_factory=list)


@functools.cache
def _notation():
    text = Path(__file__).with_name("notation.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@functools.cache
def symbols():
    """All symbols, in the order of notation.toml."""
    return [Symbol(**row | {"formula": tuple(row["formula"]), "code": tuple(row["code"])})
            for row in _notation()["symbol"]]


@functools.cache
def symbol_of(text):
    """The name of the symbol that formulas write as `text`, None if there is none."""
    return next((s.name for s in symbols() if text in s.formula), None)


@functools.cache
def symbol_of_name(name):
    """The name of the symbol that a name in the code stands for, decided by the longest match:
    ``x_t`` is x, ``alpha_bar_prev`` is ᾱ. None if nothing matches."""
    fits = [(len(code), s.name) for s in symbols() for code in s.code
            if name == code or name.startswith(f"{code}_")]
    return max(fits)[1] if fits else None


def model_taxonomy():
    """The kinds of model, which contain every entry of `minigen.models.MODELS`."""
    families = {}
    for model, target in MODELS.items():
        module = target.partition(":")[0]
        families.setdefault(module.split(".")[2], {})[model] = module
    kinds = [_kind(row, families) for row in _notation()["map"]]
    rest = Kind("Others", "Not on the map yet.", sorted(families.items()))
    return kinds + [rest] * bool(families)


def _kind(row, families):
    titles = row.get("families", {}).items()
    return Kind(row["title"], row["description"],
                [(title, families.pop(name)) for name, title in titles],
                [_kind(inner, families) for inner in row.get("kinds", ())])
