"""The folders that demos leave behind: the pictures and numbers that the page shows."""

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NoRuns", "Run", "runs_in"]


class NoRuns(Exception):
    """There is no run of a demo with a picture where one was said to be."""


@dataclass(frozen=True)
class Run:
    """One run: the demo, its data set, its pictures by name, its numbers."""

    folder: Path
    system: str
    data: str
    pictures: dict
    numbers: dict


def runs_in(folder):
    """The runs with pictures in a folder, or the run that it is; NoRuns if there is none."""
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
    except (ValueError, KeyError, TypeError):  # another program's configuration
        return None
