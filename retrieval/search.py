"""Exact search by inner product, and the index that keeps a collection's descriptors with its names."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from retrieval.topk import SCORES_PER_BLOCK, InvalidDescriptors, check_pair, top_k
from storage.files import publish, remove, temporary_beside

__all__ = ["InvalidDescriptors", "SearchIndex", "UnusableIndex", "search"]
METADATA_KEY = "retrieval_sfm_index"
VERSION = 1


class UnusableIndex(ValueError):
    """An index file that is damaged, of another version, or made by another network or whitening."""


def search(
    database: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k database rows with the largest inner product, best first; ties go to the lower position.

    database: [N, D], may be a memory map larger than memory; queries: [Q, D] -> scores [Q, k], ranks [Q, k].
    Peak memory beside the inputs: SCORES_PER_BLOCK scores, one block of database rows, and 2 k per query.
    Raises InvalidDescriptors when shapes differ, k is not in 1..N, or a value is not finite.
    """
    check_pair(queries, database, "queries", "database")
    if not 1 <= k <= len(database):
        raise InvalidDescriptors(f"k is {k}; the database holds {len(database)}, so k is 1..{len(database)}")
    scores = np.empty((len(queries), 0), dtype=np.float32)
    ranks = np.empty((len(queries), 0), dtype=np.int64)
    step = max(k, SCORES_PER_BLOCK // max(1, len(queries)))
    for start in range(0, len(database), step):
        block = queries @ database[start : start + step].T
        best, positions = top_k(block, min(k, block.shape[1]))
        if not np.isfinite(best).all():
            raise InvalidDescriptors("similarities hold infinite values; check the descriptors")
        scores = np.concatenate([scores, best], axis=1)
        ranks = np.concatenate([ranks, positions + start], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, ranks = np.take_along_axis(scores, order, axis=1), np.take_along_axis(ranks, order, axis=1)
    return scores, ranks


@dataclass(frozen=True, eq=False)
class SearchIndex:
    """Descriptors of a collection [N, D] float32 and the name of each, with what made them.

    network, whitening: content digests, whitening "" for none; a query must come from the same two.
    """

    descriptors: NDArray[np.float32]
    names: tuple[str, ...]
    network: str
    whitening: str = ""

    @classmethod
    def build(
        cls, descriptors: NDArray[np.float32], names: Sequence[str], *, network: str, whitening: str = ""
    ) -> SearchIndex:
        """Check and keep them; no copy where they are float32. Raises InvalidDescriptors."""
        rows = np.asarray(descriptors, dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(names):
            raise InvalidDescriptors(f"descriptors {rows.shape} for {len(names)} names; one row per name")
        return cls(rows, tuple(names), network, whitening)

    def query(self, descriptors: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], list[list[str]]]:
        """(scores [Q, k], names best first) of descriptors [Q, D]. Raises InvalidDescriptors."""
        scores, ranks = search(self.descriptors, descriptors, k)
        return scores, [[self.names[position] for position in row] for row in ranks]

    def save(self, path: Path) -> None:
        """Write one safetensors file, atomically: descriptors, names, and what made them."""
        about = {"version": VERSION, "network": self.network, "whitening": self.whitening}
        encoded = [name.encode("utf-8", "surrogateescape") for name in self.names]
        tensors: dict[str, NDArray[Any]] = {
            "descriptors": np.ascontiguousarray(self.descriptors),
            "names": np.frombuffer(b"".join(encoded), dtype=np.uint8),
            "name_ends": np.cumsum([len(name) for name in encoded], dtype=np.int64),
        }
        temporary = temporary_beside(path, "index")
        try:
            save_file(tensors, str(temporary), {METADATA_KEY: json.dumps(about, sort_keys=True)})
            publish(temporary, path)
        except BaseException:
            remove(temporary)
            raise

    @classmethod
    def load(cls, path: Path, *, network: str | None = None, whitening: str | None = None) -> SearchIndex:
        """Read an index; where given, network and whitening must be those that made it.

        Raises UnusableIndex that names the file and what differs.
        """
        try:
            with safe_open(str(path), framework="numpy") as file:
                about = json.loads((file.metadata() or {})[METADATA_KEY])
                rows, text, ends = (file.get_tensor(name) for name in ("descriptors", "names", "name_ends"))
        except (OSError, SafetensorError, KeyError, ValueError, struct.error) as error:
            raise UnusableIndex(f"'{path}' is no readable index ({error}); build it again") from error
        if about.get("version") != VERSION:
            raise UnusableIndex(f"'{path}' is an index of version {about.get('version')}, not {VERSION}")
        for what, wanted in (("network", network), ("whitening", whitening)):
            if wanted is not None and wanted != about[what]:
                raise UnusableIndex(
                    f"'{path}' was made with {what} '{about[what][:12]}', not '{wanted[:12]}'; build it again"
                )
        raw, starts = text.tobytes(), np.concatenate([[0], ends[:-1]]).astype(np.int64)
        names = [
            raw[start:end].decode("utf-8", "surrogateescape") for start, end in zip(starts, ends, strict=True)
        ]
        return cls.build(rows, names, network=about["network"], whitening=about["whitening"])
