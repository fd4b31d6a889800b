"""Harder queries: which photographs are altered, how, and where their descriptors are.

Light and by itself, so that what compares descriptors does not depend on what makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.describe.rows import Files, descriptor_rows
from storage.files.digests import json_sha256

if TYPE_CHECKING:
    from retrieval.describe.options import Box

SPLITS = ("val", "test")
NEEDED = (
    "images/sha256",
    *(f"{path.format(split)}" for split in SPLITS for path in ("benchmark/{}/queries", "harder/{}/box")),
)
"""Of training_set.h5: what says which queries are altered and how."""
CHANGES = ("detail", "half", "quarter", "dark")
"""detail: the box alone, as large as the whole photograph is described; half, quarter: described at 1/2 and
1/4 of the size; dark: late light, see `retrieval.describe.altered`."""


class AlteredQuery(NamedTuple):
    """A photograph (sha256) and what is done to it. box: the detail, as shares of the upright photograph's
    sides; None where the change needs none."""

    sha256: str
    change: str
    box: Box | None

    @property
    def item(self) -> str:
        """Id of its descriptor, 64 hex: the content, the change and the box, whatever the photograph's
        name."""
        return json_sha256([self.change, self.sha256, self.box])

    def made_from(self, network: str) -> str:
        """What its descriptor is made from: the same, and the network's digest."""
        return json_sha256([self.change, self.sha256, self.box, network])


def altered_queries(arrays: Mapping[str, Any], split: str) -> Iterator[tuple[str, int, AlteredQuery]]:
    """(change, row of the benchmark's queries, what to describe) of every query that has a detail, in order
    of queries; none where the training set knows no details."""
    path = f"harder/{split}/box"
    if path not in arrays:
        return
    queries = np.asarray(arrays[f"benchmark/{split}/queries"])
    shas = np.asarray(arrays["images/sha256"])[queries].astype(str)
    for row, (sha, box) in enumerate(zip(shas.tolist(), np.asarray(arrays[path]).tolist(), strict=True)):
        if box[0] == box[0]:
            for change in CHANGES:
                yield change, row, AlteredQuery(sha, change, tuple(box) if change == "detail" else None)


def altered_rows(arrays: Mapping[str, Any], files: Files) -> dict[tuple[str, str], NDArray[np.float32]]:
    """(split, change) -> [Q, D] descriptors of the benchmark's queries, zeros where there is no detail; no
    split without details. arrays: of training_set.h5; files: item -> file."""
    found: dict[tuple[str, str], NDArray[np.float32]] = {}
    for split in SPLITS:
        if f"harder/{split}/box" in arrays:
            items = {change: [""] * len(arrays[f"benchmark/{split}/queries"]) for change in CHANGES}
            for change, row, query in altered_queries(arrays, split):
                items[change][row] = query.item
            if any(items[CHANGES[0]]):
                found |= {(split, change): descriptor_rows(files, each) for change, each in items.items()}
    return found
