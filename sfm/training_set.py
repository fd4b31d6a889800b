"""The training set.

Queries, candidates, positives, guarded negatives and the geometry benchmark of a selection.

One `TrainingSet` is one `training_set.h5`. Every index is int64 and points into `images`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage import hdf5
from storage.outside import read_outside

SCHEMA = "training_set"


@dataclass(frozen=True, eq=False)
class Ragged:
    """A list of images per row: row i is image[indptr[i]:indptr[i + 1]]."""

    indptr: NDArray[np.int64]
    image: NDArray[np.int64]

    @classmethod
    def from_rows(cls, rows: Sequence[NDArray[np.int64]]) -> Ragged:
        indptr = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        return cls(indptr, np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int64))

    def row(self, index: int) -> NDArray[np.int64]:
        return self.image[self.indptr[index] : self.indptr[index + 1]]

    def __len__(self) -> int:
        return self.indptr.size - 1


@dataclass(frozen=True, eq=False)
class Images:
    """Accepted photographs [N] of the scene. model -1 = none; split 0 train, 1 val, 2 test."""

    name: NDArray[Any]
    sha256: NDArray[np.bytes_]
    cluster: NDArray[np.int64]
    model: NDArray[np.int64]
    split: NDArray[np.int8]
    registered: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Queries:
    """Queries [Q], by image."""

    image: NDArray[np.int64]
    split: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The images of a query's model with the nearest camera centres, nearest first (CSR over queries).

    shared_points [C], overlap [C] float32 = shared / points of the query, scale_change [C] float32 (nan =
    no shared point), center_distance_rank [C] from 0. A strategy for positives is a filter on these.
    """

    indptr: NDArray[np.int64]
    image: NDArray[np.int64]
    shared_points: NDArray[np.int64]
    overlap: NDArray[np.float32]
    scale_change: NDArray[np.float32]
    center_distance_rank: NDArray[np.int64]

    @property
    def query(self) -> NDArray[np.int64]:
        """[C] the position of each candidate's query."""
        return np.repeat(np.arange(self.indptr.size - 1), np.diff(self.indptr))


@dataclass(frozen=True, eq=False)
class Positives:
    """m1_pool: nearest cameras; m2: most shared points, -1 = none [Q]; m3: enough overlap, similar scale."""

    m1_pool: Ragged
    m2: NDArray[np.int64]
    m3: Ragged


@dataclass(frozen=True, eq=False)
class Negatives:
    """Verdicts [V] on singletons against query clusters; no verdict = not allowed.

    max_inliers -1 = never matched. excluded: per query the images of other clusters that are none of its
    negatives; where it is given it is complete, and singletons need no verdict.
    """

    image: NDArray[np.int64]
    cluster: NDArray[np.int64]
    max_inliers: NDArray[np.int64]
    allowed: NDArray[np.bool_]
    excluded: Ragged | None = None

    @classmethod
    def known(cls, excluded: Ragged) -> Negatives:
        """Nothing needs a verdict: every image of another cluster is a negative unless excluded."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(nothing, nothing, nothing, np.empty(0, dtype=bool), excluded)


@dataclass(frozen=True, eq=False)
class Dropped:
    """Clusters [Z] that show what a benchmark shows, and the pair that gave each away.

    photographs: how many; inliers: -1 = the two are the same file; similarity: of their descriptors.
    """

    cluster: NDArray[np.int64]
    photographs: NDArray[np.int64]
    split: NDArray[np.int8]
    benchmark_image: NDArray[Any]
    photograph: NDArray[Any]
    inliers: NDArray[np.int64]
    similarity: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Geometry benchmark of one split: queries [.], database [.], labels per query.

    All other images are negatives.
    """

    queries: NDArray[np.int64]
    database: NDArray[np.int64]
    easy: Ragged
    hard: Ragged
    junk: Ragged


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """All arrays of training_set.h5.

    `summary`: counts, reasons and warnings of the selection; no part of the content.
    """

    images: Images
    queries: Queries
    candidates: Candidates
    positives: Positives
    negatives: Negatives
    benchmark: Mapping[str, Benchmark]
    summary: Mapping[str, Any] = field(default_factory=dict)
    dropped: Dropped | None = None

    @classmethod
    def from_h5(cls, path: Path | str) -> TrainingSet:
        """Read training_set.h5 of a store."""
        with hdf5.open_artifact(Path(path), SCHEMA) as artifact:
            text = artifact.attributes.get("summary", "{}")
        return cls._of(hdf5.read(Path(path), SCHEMA), text)

    @classmethod
    def from_outside(cls, path: Path) -> TrainingSet:
        """Read somebody's training_set.h5, all of it checked. Raises ArtifactError that names the file."""
        found = read_outside("storage.outside_hdf5:read_whole", path, SCHEMA)
        try:
            return cls._of(found.arrays, found.attributes.get("summary", "{}"))
        except (ValueError, TypeError, RecursionError) as error:
            raise hdf5.DamagedArtifact(
                f"{path}: root attribute 'summary' is no JSON of counts ({error}); rebuild the file"
            ) from error

    @classmethod
    def _of(cls, arrays: dict[str, NDArray[Any]], summary: Any) -> TrainingSet:
        arrays["images/sha256"] = arrays["images/sha256"].astype("S64")
        positives = Positives(
            _ragged(arrays, "positives/m1_pool"), arrays["positives/m2"], _ragged(arrays, "positives/m3")
        )
        benchmark = {split: _benchmark(arrays, f"benchmark/{split}") for split in ("val", "test")}
        return cls(
            Images(**_group(arrays, "images", Images)),
            Queries(**_group(arrays, "queries", Queries)),
            Candidates(**_group(arrays, "candidates", Candidates)),
            positives,
            _negatives(arrays),
            benchmark,
            json.loads(str(summary)),
            Dropped(**_group(arrays, "dropped", Dropped)) if "dropped/cluster" in arrays else None,
        )

    def arrays(self) -> dict[str, Any]:
        """Dataset path -> array, as training_set.h5 holds them."""
        groups = ["images", "queries", "candidates", "negatives"] + ["dropped"] * (self.dropped is not None)
        result = {
            f"{group}/{each.name}": getattr(getattr(self, group), each.name)
            for group in groups
            for each in fields(getattr(self, group))
            if each.name != "excluded"
        }
        result["positives/m2"] = self.positives.m2
        rows = {"positives/m1_pool": self.positives.m1_pool, "positives/m3": self.positives.m3}
        if self.negatives.excluded is not None:
            rows["negatives/excluded"] = self.negatives.excluded
        for split, labels in self.benchmark.items():
            at = f"benchmark/{split}"
            result |= {f"{at}/queries": labels.queries, f"{at}/database": labels.database}
            rows |= {f"{at}/{label}": getattr(labels, label) for label in ("easy", "hard", "junk")}
        for at, ragged in rows.items():
            result |= {f"{at}/indptr": ragged.indptr, f"{at}/image": ragged.image}
        return result

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

    def to_cirtorch(
        self, pkl: Path | str, images_dir: Path | str | None = None, photo_root: Path | str | None = None
    ) -> None:
        """The reference's training list and image tree: see `sfm.exchange.to_cirtorch`."""
        from sfm import exchange

        exchange.to_cirtorch(self, Path(pkl), images_dir, photo_root)

    @classmethod
    def from_cirtorch(cls, pkl: Path | str) -> TrainingSet:
        """The reference's training list as a training set: see `sfm.exchange.from_cirtorch`."""
        from sfm import exchange

        return exchange.from_cirtorch(Path(pkl))


def no_benchmark() -> Benchmark:
    """The benchmark of a split that has no model: no query, no database."""
    nothing = np.empty(0, dtype=np.int64)
    return Benchmark(nothing, nothing, Ragged.from_rows([]), Ragged.from_rows([]), Ragged.from_rows([]))


def no_candidates(num_queries: int) -> Candidates:
    """Of queries whose shared points are unknown."""
    nothing, nothing32 = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    return Candidates(
        np.zeros(num_queries + 1, dtype=np.int64), nothing, nothing, nothing32, nothing32, nothing
    )


def _negatives(arrays: Mapping[str, NDArray[Any]]) -> Negatives:
    verdicts = {each.name: arrays[f"negatives/{each.name}"] for each in fields(Negatives)[:-1]}
    known = "negatives/excluded/indptr" in arrays
    return Negatives(**verdicts, excluded=_ragged(arrays, "negatives/excluded") if known else None)


def _group(arrays: Mapping[str, NDArray[Any]], group: str, kind: type) -> dict[str, NDArray[Any]]:
    return {each.name: arrays[f"{group}/{each.name}"] for each in fields(kind)}


def _ragged(arrays: Mapping[str, NDArray[Any]], at: str) -> Ragged:
    return Ragged(arrays[f"{at}/indptr"], arrays[f"{at}/image"])


def _benchmark(arrays: Mapping[str, NDArray[Any]], at: str) -> Benchmark:
    labels = {label: _ragged(arrays, f"{at}/{label}") for label in ("easy", "hard", "junk")}
    return Benchmark(arrays[f"{at}/queries"], arrays[f"{at}/database"], **labels)
