"""What every loader returns, and the one exception for mistakes that a user can fix."""

from dataclasses import dataclass, fields, replace

import numpy as np


class DataError(ValueError):
    """Data that is missing, damaged or misnamed: one line that says what, where and what to do."""


@dataclass(frozen=True, repr=False, eq=False)
class Dataset:
    """Labelled images in two splits.

    train_x, test_x: uint8 (N, C, H, W), 0 is black and 255 full intensity
    train_y, test_y: int64 (N,), an index into `classes`
    source: where the images come from, for printing: a folder, or how they were made
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: tuple[str, ...]
    source: str

    @property
    def shape(self):
        """(C, H, W) of one image."""
        return self.train_x.shape[1:]

    def first(self, n_train=None, n_test=None):
        """The Dataset cut to the first n_train and n_test images of its splits (None: all)."""
        limits = {"train": n_train, "test": n_test}
        cut = {f.name: getattr(self, f.name)[:limits[split]] for f in fields(self)
               if (split := f.name.partition("_")[0]) in limits}
        return replace(self, **cut)

    def __str__(self):
        return (f"{self.name}: {len(self.train_x):,} training and {len(self.test_x):,} test images "
                f"of {'×'.join(map(str, self.shape))}, {len(self.classes)} classes, {self.source}")

    def __repr__(self):
        return f"<{self}>"
