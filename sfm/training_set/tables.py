"""The tables of a training set, as training_set.h5 holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from storage.files.errors import DamagedArtifact
from storage.hdf5 import file as hdf5
from storage.outside.guarded import read_outside
from storage.schemas import training_set as schema
from storage.schemas.table import Ragged, Table
from storage.schemas.training_set import Benchmark, Dropped, Harder, Images, Matched, Positives, Queries

SCHEMA = "training_set"
_MEASURED = ("val", "test")
_GROUPS = ("images", "queries", "candidates", "positives", "negatives", "matched", "dropped")


class Candidates(schema.Candidates):
    """The images of a query's model with the nearest camera centres, nearest first (CSR over queries)."""

    @property
    def query(self) -> NDArray[np.int64]:
        """[C] the position of each candidate's query."""
        return np.repeat(np.arange(self.indptr.size - 1), np.diff(self.indptr))


class Negatives(schema.Negatives):
    """Verdicts [V] on singletons against query clusters; no verdict = not allowed."""

    @classmethod
    def known(cls, excluded: Ragged) -> Negatives:
        """Nothing needs a verdict: every image of another cluster is a negative unless excluded."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(nothing, nothing, nothing, np.empty(0, dtype=bool), excluded)


@dataclass(frozen=True, eq=False)
class TrainingTables:
    """All arrays of training_set.h5.

    `summary`: counts, reasons and warnings of the selection; no part of the content. harder: by split; none
    where no 3D model says what the queries show. matched: none where nothing was matched.
    """

    images: Images
    queries: Queries
    candidates: Candidates
    positives: Positives
    negatives: Negatives
    benchmark: Mapping[str, Benchmark]
    summary: Mapping[str, Any] = field(default_factory=dict)
    dropped: Dropped | None = None
    harder: Mapping[str, Harder] = field(default_factory=dict)
    matched: Matched | None = None

    @classmethod
    def from_h5(cls, path: Path | str) -> Self:
        """Read training_set.h5 of a store."""
        with hdf5.open_artifact(Path(path), SCHEMA) as artifact:
            text = artifact.attributes.get("summary", "{}")
        return cls._of(hdf5.read(Path(path), SCHEMA), text)

    @classmethod
    def from_outside(cls, path: Path) -> Self:
        """Read somebody's training_set.h5, all of it checked. Raises ArtifactError that names the file."""
        found = read_outside("storage.hdf5.outside:read_whole", path, SCHEMA)
        try:
            return cls._of(found.arrays, found.attributes.get("summary", "{}"))
        except (ValueError, TypeError, RecursionError) as error:
            raise DamagedArtifact(
                f"{path}: root attribute 'summary' is no JSON of counts ({error}); rebuild the file"
            ) from error

    @classmethod
    def _of(cls, arrays: dict[str, NDArray[Any]], summary: Any) -> Self:
        arrays["images/sha256"] = arrays["images/sha256"].astype("S64")
        return cls(
            Images.of(arrays, "images"),
            Queries.of(arrays, "queries"),
            Candidates.of(arrays, "candidates"),
            Positives.of(arrays, "positives"),
            Negatives.of(arrays, "negatives"),
            {split: Benchmark.of(arrays, f"benchmark/{split}") for split in _MEASURED},
            json.loads(str(summary)),
            Dropped.of(arrays, "dropped") if "dropped/cluster" in arrays else None,
            {s: Harder.of(arrays, f"harder/{s}") for s in _MEASURED if f"harder/{s}/box" in arrays},
            Matched.of(arrays, "matched") if "matched/first" in arrays else None,
        )

    def arrays(self) -> dict[str, Any]:
        """Dataset path -> array, as training_set.h5 holds them."""
        tables: dict[str, Table | None] = {
            **{name: getattr(self, name) for name in _GROUPS},
            **{f"benchmark/{split}": labels for split, labels in self.benchmark.items()},
            **{f"harder/{split}": details for split, details in self.harder.items()},
        }
        return {
            at: array for group, table in tables.items() if table for at, array in table.arrays(group).items()
        }

    def to_h5(
        self,
        path: Path | str,
        *,
        stage: str = "training_set",
        options: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
    ) -> None:
        """Write training_set.h5, checked against its layout."""
        hdf5.write(
            Path(path),
            SCHEMA,
            self.arrays(),
            stage=stage,
            options=options or {},
            inputs=list(inputs),
            attributes={"summary": json.dumps(self.summary, sort_keys=True)},
        )


def no_candidates(num_queries: int) -> Candidates:
    """Of queries whose shared points are unknown."""
    nothing, nothing32 = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    return Candidates(
        np.zeros(num_queries + 1, dtype=np.int64), nothing, nothing, nothing32, nothing32, nothing
    )
