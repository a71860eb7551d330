"""Image data sets. `load(name)` returns a Dataset; `batches` yields its minibatches, resumably.

glyphs, scenes: drawn by this package from a seed; no files are needed and nothing is downloaded.
mnist, fashion-mnist, cifar10: read from a folder that you name, or downloaded on request.
"""

import os
from difflib import get_close_matches
from pathlib import Path

from . import cifar10, glyphs, mnist, scenes
from .batching import batch_indices, batches, in_batches, in_order
from .dataset import DataError, Dataset
from .download import cache_folder
from .download import fetch as _fetch
from .scale import signed, unsigned

__all__ = ["NAMES", "DataError", "Dataset", "batch_indices", "batches", "in_batches", "in_order",
           "load", "signed", "unsigned"]

DRAWN = {"glyphs": glyphs, "scenes": scenes}
READ = {"mnist": mnist, "fashion-mnist": mnist, "cifar10": cifar10}
NAMES = (*DRAWN, *READ)


def load(name, data_dir=None, download=False, n_train=None, n_test=None, seed=0):
    """The Dataset called `name`, one of NAMES; its str() says how many images it has and where
    they came from.

    data_dir: the folder to read from, as DIR/<name> or DIR itself. Default: the environment
        variable MINIGEN_DATA, if set. The user's cache folder is searched last.
    download: if the data set is not found there, fetch it into the cache folder
    n_train, n_test: how many images of each split to keep, from its beginning. Default: all, or
        10,000 and 2,000 for glyphs and scenes
    seed: the seed from which glyphs and scenes are drawn; the other data sets ignore it

    Raises DataError, one line, for an unknown name and for missing or damaged files.
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
    """The first folder that contains files of data set `name`."""
    reader = READ[name]
    named = data_dir or os.environ.get("MINIGEN_DATA")
    try:
        named = named and Path(named).expanduser()
    except RuntimeError:  # ~name of a user who does not exist
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
        return _fetch(name)  # transfers nothing if all files are there
    if reader.found(cache):
        return cache
    roots.append(cache)
    hints = [hint for hint in map(reader.hint, places) if hint]
    raise DataError(
        f"no {name} files in {' or '.join(map(str, roots))} (looked for {reader.LOOKED_FOR}); "
        + (hints[0] + "; " if hints else "")
        + f"--download (download=True) fetches them, or get them from {reader.HOMEPAGES[name]} "
        "and name their folder with --data-dir or MINIGEN_DATA")
