"""Spatial verification of what a search found, with the local features that a run of the store has."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sfm.features.sift import FeatureOptions, extract_features
from sfm.matching.match import ImageMatcher, MatchingOptions
from sfm.photographs.outcome import Outcome
from sfm.photographs.working import WorkingOptions, working_copy
from storage.files.scratch import scratch_folder
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks.engine.chunks import file_of_items

if TYPE_CHECKING:
    from retrieval.describe.images import Box

logger = logging.getLogger(__name__)


class NoLocalFeatures(ValueError):
    """Nothing to verify with: no run of the store has local features of the collection."""


@dataclass(frozen=True)
class LocalFeatures:
    """Local features of photographs (sha256 -> file), and how they were made and are matched."""

    files: Mapping[str, Path]
    working: WorkingOptions
    features: FeatureOptions
    matching: MatchingOptions

    @classmethod
    def of(cls, store: Store, collection: str) -> LocalFeatures:
        """Those of the collection's latest run that has any. Raises NoLocalFeatures."""
        record = ledger.latest(store, collection, status=None, having=("features",))
        if record is None:
            raise NoLocalFeatures(
                f"no run in {str(store.root)!r} has local features of {collection!r}; make them with "
                "`retrieval-sfm run PHOTOS --until reconstruct`, or search without --spatial"
            )
        return cls._of_run(store, record)

    @classmethod
    def _of_run(cls, store: Store, record: RunRecord) -> LocalFeatures:
        options = record.options.get("reconstruction", {})
        features = FeatureOptions.model_validate(options.get("features", {}))
        if features.learned:
            raise NoLocalFeatures(
                f"run {record.id} has learned features from {str(features.hloc_file)!r}, which no query "
                "can be given here; search without --spatial"
            )
        return cls(
            file_of_items(store, [ref for ref in record.refs_of("features") if store.is_intact(ref)]),
            WorkingOptions.model_validate(options.get("working", {})),
            features,
            MatchingOptions.model_validate(options.get("matching", {})),
        )

    def inliers(self, photograph: Path, box: Box | None, shas: list[str]) -> NDArray[np.int64]:
        """Matches of each photograph (sha256) with the query, or its part, that agree with one geometry [n].

        0 = too few to count, -1 = its features are not known. Raises NoLocalFeatures for a query without
        features, ChildFailed.
        """
        found = np.full(len(shas), -1, dtype=np.int64)
        known = [place for place, sha in enumerate(shas) if sha in self.files]
        if len(known) < len(shas):
            logger.warning("%d of %d photographs have no local features", len(shas) - len(known), len(shas))
        with scratch_folder("spatial") as folder:
            query = self._describe(photograph, box, folder)
            matcher = ImageMatcher(
                [query, *(shas[place] for place in known)],
                {**self.files, query: folder / "features.h5"},
                self.matching,
            )
            pairs = np.array([[0, place] for place in range(1, len(known) + 1)], dtype=np.int64)
            found[known] = matcher(pairs.reshape(-1, 2))
        return found

    def _describe(self, photograph: Path, box: Box | None, folder: Path) -> str:
        """Write the query's features to `folder`; its id, which is no photograph's, be it one of them."""
        content = photograph.read_bytes() if box is None else _cropped(photograph, box)
        outcome, copy = working_copy(content, self.working)
        if outcome.status != "ok":
            raise NoLocalFeatures(f"the query {str(photograph)!r} is {outcome.status}: {outcome.reason}")
        query = hashlib.sha256(b"query\n" + content).hexdigest()
        (folder / f"{query}.jpg").write_bytes(copy)
        photographs: list[tuple[str, Path, Outcome]] = [(query, folder, outcome)]
        extract_features(photographs, self.features, folder / "features.h5")
        return query


def _cropped(photograph: Path, box: Box) -> bytes:
    """The part of the upright photograph as PNG, at full resolution."""
    from PIL import Image

    from retrieval.describe.images import load_photograph

    buffer = io.BytesIO()
    Image.fromarray(load_photograph(photograph, None, box)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
