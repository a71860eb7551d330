"""Images to learn from. `load(name)` gives a Dataset; `batches` cuts it up, resumably.

glyphs, scenes: drawn by our own code from a seed, so nothing is needed and nothing is downloaded.
mnist, fashion-mnist, cifar10: read from a folder of yours, or downloaded when you ask.
"""

import os
from difflib import get_close_matches
from pathlib import Path

from . import cifar10, glyphs, mnist, scenes
from .batching import batch_indices, batches, in_order
from .dataset import DataError, Dataset
from .download import cache_folder
from .download import fetch as _fetch
from .scale import signed, unsigned

__all__ = ["NAMES", "DataError", "Dataset", "batch_indices", "batches", "in_order", "load",
           "signed", "unsigned"]

DRAWN = {"glyphs": glyphs, "scenes": scenes}
READ = {"mnist": mnist, "fashion-mnist": mnist, "cifar10": cifar10}
NAMES = (*DRAWN, *READ)


def load(name, data_dir=None, download=False, n_train=None, n_test=None, seed=0):
    """The Dataset called `name`, one of NAMES; its str() says how many images it has and where
    they came from.

    data_dir: the folder to read from, as DIR/<name> or DIR itself. Default: the environment
        variable MINIGEN_DATA, if set. The user's cache folder is looked in last.
    download: fetch into the cache folder what is found nowhere
    n_train, n_test: keep the first so many images of a split. Default: all there are, or 10,000
        and 2,000 of glyphs and scenes
    seed: what glyphs and scenes are drawn from; the others ignore it

    Raises DataError, one line, for an unknown name and for files missing or damaged.
    """
    if name not in NAMES:
        near = get_close_matches(name, NAMES, 1)
        raise DataError(f"unknown data set {name!r}{f'; did you mean {near[0]!r}?' if near else ''}"
                        f" (there are: {', '.join(NAMES)})")
    for split, n in (("n_train", n_train), ("n_test", n_test)):
        if n is not None and n < 1:
            raise DataError(f"{split} is {n}; at least one image is needed")
    if name in DRAWN:
        sizes = {"n_train": n_train, "n_test": n_test}
        return DRAWN[name].load(seed=seed, **{k: n for k, n in sizes.items() if n is not None})
    try:
        folder = _folder(name, data_dir, download)
    except OSError as e:
        raise DataError(f"{e.filename}: cannot be looked into ({e.strerror})") from None
    whole = READ[name].read(name, folder)
    return whole.first(n_train, n_test)


def _folder(name, data_dir, download):
    """The first folder with files of data set `name`."""
    reader = READ[name]
    named = data_dir or os.environ.get("MINIGEN_DATA")
    try:
        named = named and Path(named).expanduser()
    except RuntimeError:  # of a ~name that is nobody's
        named = Path(named)
    if named and not named.is_dir():
        raise DataError(f"{named}: no such folder "
                        f"({'the data folder given' if data_dir else 'MINIGEN_DATA'})")
    roots = [named / name, named] if named else []
    places = [root / sub for root in roots for sub in reader.SUBFOLDERS]
    for place in places:
        if reader.found(place):
            return place
    cache = cache_folder() / name
    if download:
        return _fetch(name)  # transfers nothing when all is there
    if reader.found(cache):
        return cache
    roots.append(cache)
    hints = [hint for hint in map(reader.hint, places) if hint]
    raise DataError(
        f"no {name} files in {' or '.join(map(str, roots))} (looked for {reader.LOOKED_FOR}); "
        + (hints[0] + "; " if hints else "")
        + f"--download (download=True) fetches them, or get them from {reader.HOMEPAGES[name]} "
        "and name their folder with --data-dir or MINIGEN_DATA")
