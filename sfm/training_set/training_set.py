"""The training set.

Queries, candidates, positives, guarded negatives and the geometry benchmark of a selection.

One `TrainingSet` is one `training_set.h5`. Every index is int64 and points into `images`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from sfm.training_set import cirtorch
from sfm.training_set.tables import TrainingTables


class TrainingSet(TrainingTables):
    """All arrays of training_set.h5, and its other forms."""

    def to_cirtorch(
        self, pkl: Path | str, images_dir: Path | str | None = None, photo_root: Path | str | None = None
    ) -> None:
        """The reference's training list and image tree: see `sfm.training_set.cirtorch.to_cirtorch`."""
        cirtorch.to_cirtorch(self, Path(pkl), images_dir, photo_root)

    @classmethod
    def from_cirtorch(cls, pkl: Path | str) -> Self:
        """The reference's training list as a training set: see `sfm.training_set.cirtorch.from_cirtorch`."""
        return cirtorch.from_cirtorch(Path(pkl), cls)
