"""Search by inner product, by an index that keeps a collection; exact search: retrieval.nearest.exact."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.nearest.exact import check_depth, search
from retrieval.nearest.expansion import Reranking, alpha_query_expansion, reranked
from retrieval.nearest.topk import InvalidDescriptors, check_pair
from retrieval.search import approximate
from retrieval.search.guarded import GuardedFaiss
from retrieval.search.index_file import DIGESTS, UnusableIndex, digest_texts, read_index, write_index
from retrieval.search.options import IndexOptions
from retrieval.whitening.whitening import Whitening
from storage.files.errors import DamagedArtifact
from storage.files.scratch import scratch_rows
from storage.files.whole import unfinished_folder

__all__ = ["InvalidDescriptors", "SearchIndex", "UnusableIndex", "search"]
Rows = NDArray[np.float32]
RECALL_OF, RECALL_AT = 10, (10, 100)
"""Recall: share of the exact first 10 that stand among the first 10, and 100, found."""


@dataclass(frozen=True, eq=False)
class SearchIndex:
    """Descriptors of a collection [N, D] float32, the name of each, what made them, what finds them quickly.

    descriptors: an array, or a memory map where they are more than memory. network, whitening: content
    digests, whitening "" for none; a query must come from the same two. sha256: of the photographs, () =
    unknown. transform: the whitening itself, so that a query can be whitened. about: facts of the caller, as
    JSON. recall: {depth: share of the exact first 10 found}, {} where nothing can be measured. path:
    of the file that it was read from.
    """

    descriptors: Rows
    names: tuple[str, ...]
    network: str
    whitening: str = ""
    sha256: tuple[str, ...] = ()
    options: IndexOptions = field(default_factory=IndexOptions)
    transform: Whitening | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    recall: Mapping[int, float] = field(default_factory=dict)
    engine: Any = None
    path: Path | None = None

    @classmethod
    def build(
        cls,
        descriptors: Rows,
        names: Sequence[str],
        *,
        network: str,
        whitening: str = "",
        sha256: Sequence[str] = (),
        options: IndexOptions | None = None,
        transform: Whitening | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> SearchIndex:
        """An index of descriptors [N, D], its recall measured; no copy is made where they are float32.

        Memory: see retrieval.search.approximate. Raises InvalidDescriptors.
        """
        rows = descriptors if descriptors.dtype == np.float32 else np.asarray(descriptors, dtype=np.float32)
        _check_rows(rows, names, sha256)
        options = options or IndexOptions()
        index = cls(
            rows, tuple(names), network, whitening, tuple(sha256), options, transform, dict(about or {})
        )
        if options.kind == "exact":
            for _ in approximate.blocks(rows):  # every value is looked at
                pass
        else:
            index = replace(index, engine=approximate.build(rows, options, index._held()))
        return index._measured()

    def add(self, descriptors: Rows, names: Sequence[str], *, sha256: Sequence[str] = ()) -> SearchIndex:
        """An index with more photographs behind those that it has, the recall measured again.

        ivf_pq keeps the quantisers that it learnt. This index is not to be used any more. A memory map grows
        in a temporary file of its folder. Raises InvalidDescriptors.
        """
        more = np.asarray(descriptors, dtype=np.float32)
        check_pair(more, self.descriptors, "added descriptors", "descriptors of the index")
        if bool(self.sha256) != bool(len(sha256)) and len(self.names):
            raise InvalidDescriptors("digests of some photographs only; give sha256 for all or for none")
        joined = (*self.names, *names)
        _check_rows(more, names, sha256)
        _check_names(joined)
        for _ in approximate.blocks(more):
            pass
        if self.engine is not None:
            approximate.add(self.engine, more)
        grown = replace(
            self, descriptors=_joined(self.descriptors, more), names=joined, sha256=(*self.sha256, *sha256)
        )
        return grown._measured()

    def search(
        self,
        descriptors: Rows,
        k: int,
        *,
        expansion: tuple[int, float] | None = None,
        reranking: Reranking | None = None,
        threads: int = 1,
    ) -> tuple[Rows, NDArray[np.int64]]:
        """(scores [Q, k], positions [Q, k]) of descriptors [Q, D], best first.

        expansion: (neighbours, alpha) of alpha query expansion; reranking: what is done to the lists after
        it, all photographs where there are fewer than its `top`. Of an approximate index scores are
        approximate too, unless they were compared anew. Raises InvalidDescriptors, UnusableIndex.
        """
        check_pair(descriptors, self.descriptors, "queries", "descriptors of the index")
        queries = np.ascontiguousarray(descriptors, dtype=np.float32)
        check_depth(k, len(self.names))
        if not np.isfinite(queries).all():
            raise InvalidDescriptors("queries hold nan or infinite values; check the descriptors")
        try:
            if expansion is not None:
                queries = self._expanded(queries, *expansion, threads)
            depth = min(max(k, reranking.top if reranking else 0), len(self.names))
            scores, ranks = self._nearest(queries, depth, threads)
            if reranking is not None:
                scores, ranks = reranked(queries, self.descriptors, ranks, scores, **dict(reranking))
            return scores[:, :k], ranks[:, :k]
        except (InvalidDescriptors, DamagedArtifact) as error:
            if self.path is None:
                raise
            raise UnusableIndex(f"'{self.path}' is damaged: {error}; build it again") from error

    def query(self, descriptors: Rows, k: int, **how: Any) -> tuple[Rows, list[list[str]]]:
        """(scores [Q, k], names best first) of descriptors [Q, D]; how: as `search` takes it."""
        scores, ranks = self.search(descriptors, k, **how)
        return scores, [[self.names[position] for position in row] for row in ranks]

    def save(self, path: Path, *, inputs: Sequence[str] = ()) -> None:
        """Write a `search_index` file (storage.schemas), atomically; the rows go through block by block.

        inputs: content digests of what it was made from. Raises storage.hdf5.InvalidArrays.
        """
        arrays: dict[str, Any] = {
            "photos/name": list(self.names),
            "descriptors": self.descriptors,
            "recall/depth": np.array(list(self.recall), dtype=np.int64),
            "recall/value": np.array(list(self.recall.values()), dtype=np.float64),
        }
        if self.sha256:
            arrays["photos/sha256"] = list(self.sha256)
        if self.transform is not None:
            arrays["whitening/mean"] = self.transform.mean
            arrays["whitening/projection"] = self.transform.projection[: self.descriptors.shape[1]]
        if self.engine is not None:
            arrays["faiss"] = approximate.to_bytes(self.engine)
        made = {"network": self.network, "whitening": self.whitening, "about": dict(self.about)}
        write_index(path, arrays, self.options, made, inputs)

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        network: str | None = None,
        whitening: str | None = None,
        dimension: int | None = None,
        verify: bool = False,
        trusted: bool = False,
    ) -> SearchIndex:
        """Read an index; where given, network, whitening and dimension must be those that made it.

        Descriptors stay on the disk; verify: read all of them and check their digest; trusted: it is an
        artifact of a store. Raises UnusableIndex that names the file, what is wrong or differs, and the
        remedy.
        """
        wanted = {"network": network, "whitening": whitening, "dimension": dimension}
        stored = read_index(path, wanted, verify=verify, trusted=trusted)
        arrays, engine = stored.arrays, None
        if stored.options.kind != "exact":
            try:
                opened = approximate.from_bytes if trusted else partial(GuardedFaiss, path)
                engine = opened(arrays["faiss"], stored.descriptors, stored.options)
            except (approximate.UnusableFaiss, DamagedArtifact, KeyError) as error:
                raise UnusableIndex(f"'{path}' has no usable faiss index: {error}; build it again") from error
        transform = None
        if "whitening/mean" in arrays:
            transform = Whitening(arrays["whitening/mean"], arrays["whitening/projection"])
        recall = zip(arrays["recall/depth"].tolist(), arrays["recall/value"].tolist(), strict=True)
        return cls(
            stored.descriptors,
            tuple(arrays["photos/name"].tolist()),
            stored.made["network"],
            stored.made["whitening"],
            digest_texts(path, arrays[DIGESTS]) if DIGESTS in arrays else (),
            stored.options,
            transform,
            stored.made["about"],
            dict(recall),
            engine,
            path,
        )

    def _held(self) -> NDArray[np.int64]:
        """Positions whose descriptors are the queries of the measured recall."""
        return approximate.sample(len(self.names), self.options.recall_queries, self.options.seed)

    def _measured(self) -> SearchIndex:
        """With its recall, over held queries; and the number of cells to visit, where that is open."""
        depths = sorted({min(depth, len(self.names) - 1) for depth in RECALL_AT if len(self.names) > 1})
        if self.options.kind == "exact" or not depths:
            return replace(self, recall=dict.fromkeys(depths, 1.0))
        held = self._held()
        queries = np.ascontiguousarray(self.descriptors[held])
        exact = _without(search(self.descriptors, queries, min(RECALL_OF, depths[0]) + 1)[1], held)
        for options in self._choices():
            index = replace(self, options=options)
            found = _without(index._nearest(queries, depths[-1] + 1, 1)[1], held)
            pairs = list(zip(exact, found, strict=True))
            recall = {d: float(np.mean([np.isin(e, f[:d]).mean() for e, f in pairs])) for d in depths}
            if recall[depths[-1]] >= options.wanted_recall:
                break
        return replace(index, recall=recall)

    def _choices(self) -> list[IndexOptions]:
        """The options, or where `probes` is open those with 8, 16, 32, ... up to all cells."""
        if self.options.kind != "ivf_pq" or self.options.probes is not None:
            return [self.options]
        lists = approximate.num_lists(self.engine)
        tried = [2**power for power in range(3, 32) if 2**power < lists]
        return [self.options.model_copy(update={"probes": probes}) for probes in (*tried, lists)]

    def _nearest(self, queries: Rows, k: int, threads: int) -> tuple[Rows, NDArray[np.int64]]:
        if self.engine is None:
            return search(self.descriptors, queries, k)
        again = self.options.rerank if self.options.kind == "ivf_pq" else 0
        depth = min(max(k, again), len(self.names))
        scores, ranks = approximate.search(self.engine, queries, depth, self.options, threads=threads)
        if again:
            scores, ranks = self._compared_anew(queries, ranks)
        scores, ranks = scores[:, :k], ranks[:, :k]
        short = np.flatnonzero((ranks < 0).any(axis=1))  # cells or a graph that ended before k were found
        if len(short):
            scores[short], ranks[short] = search(self.descriptors, queries[short], k)
        return scores, ranks

    def _compared_anew(self, queries: Rows, ranks: NDArray[np.int64]) -> tuple[Rows, NDArray[np.int64]]:
        """Candidates [Q, R] in the order of their exact similarity, ties by lower position; -1 last."""
        ranks = np.sort(ranks, axis=1)
        scores = np.empty(ranks.shape, dtype=np.float32)
        for row, (query, candidates) in enumerate(zip(queries, ranks, strict=True)):
            scores[row] = self.descriptors[np.maximum(candidates, 0)] @ query
        scores[ranks < 0] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ranks, order, axis=1)

    def _expanded(self, queries: Rows, neighbours: int, alpha: float, threads: int) -> Rows:
        count = min(neighbours, len(self.names))
        if count < 1:
            return queries
        _, ranks = self._nearest(queries, count, threads)
        pairs = zip(queries, ranks, strict=True)
        rows = [
            alpha_query_expansion(query[None], np.asarray(self.descriptors[near]), count, alpha)
            for query, near in pairs
        ]
        return np.concatenate(rows)


def _without(ranks: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks [Q, k + 1] -> [Q, k]: each query's own position goes, else the last."""
    is_own = ranks == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    return ranks[~is_own].reshape(len(ranks), -1)


def _check_rows(rows: Rows, names: Sequence[str], sha256: Sequence[str]) -> None:
    if rows.ndim != 2 or len(rows) != len(names) or 0 in rows.shape:
        raise InvalidDescriptors(
            f"descriptors {rows.shape} for {len(names)} names; one row per name, at least one"
        )
    if len(sha256) not in (0, len(names)):
        raise InvalidDescriptors(f"{len(sha256)} digests for {len(names)} names; one per name, or none")
    _check_names(names)


def _check_names(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidDescriptors(f"the name {twice!r} stands for two photographs; names must differ")


def _joined(rows: Rows, more: Rows) -> Rows:
    """[N + n, D]; where `rows` is a memory map, in a temporary file beside it that is gone with it."""
    if not isinstance(rows, np.memmap):
        return np.concatenate([rows, more])
    folder = Path(rows.filename).parent if isinstance(rows.filename, str | Path) else None
    with unfinished_folder(folder or Path(tempfile.gettempdir())) as place:
        grown = scratch_rows(place / "rows", (len(rows) + len(more), rows.shape[1]))
    start = 0
    for part in (rows, more):
        for block in approximate.blocks(part):
            grown[start : start + len(block)] = block
            start += len(block)
    return grown
