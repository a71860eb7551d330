"""The folders that the demos write: the pictures and numbers that the site shows."""

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NoRuns", "Run", "runs_in"]


class NoRuns(Exception):
    """The given folder has no run of a demo with a picture."""


@dataclass(frozen=True)
class Run:
    """One run of a demo: its folder, the demo, the data set, the pictures by name, the numbers."""

    folder: Path
    system: str
    data: str
    pictures: dict
    numbers: dict


def runs_in(folder):
    """The runs with pictures in a folder, which may itself be a run; NoRuns if there is none."""
    folder = Path(folder)
    found = [_run(path.parent) for path in sorted([*folder.glob("config.json"),
                                                   *folder.glob("*/config.json")])]
    found = [run for run in found if run and run.pictures]
    if not found:
        raise NoRuns(f"--runs {folder}: no folder with a demo's pictures is there; "
                     f"`python demos/vae.py --out {folder}/vae-glyphs` makes one")
    return found


def _run(folder):
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        numbers = folder / "metrics.json"
        numbers = json.loads(numbers.read_text(encoding="utf-8")) if numbers.exists() else {}
        pictures = {path.stem: path for path in sorted(folder.iterdir())
                    if path.suffix in (".png", ".gif")}
        return Run(folder, config["system"], config["options"]["data"], pictures, numbers)
    except (ValueError, KeyError, TypeError):  # the configuration of another program
        return None
