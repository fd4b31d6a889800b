"""A photograph in, the nearest ones of an indexed collection out. Without Prefect: nothing is kept."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.nearest.expansion import Reranking
from retrieval.search.index import SearchIndex
from storage.files.scratch import scratch_folder
from storage.hdf5.digests import cached_content_sha256, content_sha256
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store

if TYPE_CHECKING:
    from retrieval.describe.images import Box
    from retrieval.networks.network import RetrievalNetwork

INDEX_FILE, NETWORK_FILE = "index.h5", "network.safetensors"
Inliers = Callable[[list[str]], NDArray[np.int64]]
"""sha256 of photographs, best first -> matches of each that agree with the query's geometry, -1 = unknown."""


class NoIndex(ValueError):
    """Nothing to search: no run that indexed, or files that are not there."""


@dataclass(frozen=True)
class Hit:
    """One photograph found: inliers where it was verified, -1 where its local features are unknown."""

    name: str
    score: float
    sha256: str = ""
    inliers: int | None = None


@dataclass(frozen=True)
class Question:
    """What is asked: a photograph or a part of one, how many, (neighbours, alpha) of query expansion, how the
    list is put in another order."""

    photograph: Path
    box: Box | None = None
    k: int = 20
    expansion: tuple[int, float] | None = None
    reranking: Reranking | None = None


@dataclass(frozen=True, eq=False)
class Collection:
    """An open index, its network, where its photographs are, and the run that indexed (None: files)."""

    index: SearchIndex
    network: RetrievalNetwork
    photos: Path | None = None
    store: Store | None = None
    record: RunRecord | None = None


def open_run(
    store: str | Path, run: str = "latest", *, whitening: Path | None = None, verify: bool = False
) -> Collection:
    """The collection of a run that indexed, or of the latest. Raises NoIndex, UnknownRun, UnusableIndex."""
    opened = Store.open(store)
    record = ledger.latest(opened, kind="index") if run == "latest" else ledger.load(opened, run)
    refs = record.refs_of("search_index") if record else ()
    if record is None or not refs:
        what = "no completed run that indexed a collection" if run == "latest" else f"no index in run {run!r}"
        raise NoIndex(f"{what} in {str(opened.root)!r}; make one with `retrieval-sfm index PHOTOS`")
    (weights,) = record.refs_of("indexed_network")
    for ref in (*refs, weights):
        if not opened.is_intact(ref):
            raise NoIndex(f"{ref.path} of run {record.id} is missing or damaged; index the collection again")
    folder = opened.path(weights)
    network = folder / NETWORK_FILE if folder.is_dir() else folder
    found = open_files(opened.path(refs[0]), network, whitening=whitening, verify=verify, trusted=True)
    photos = record.resources.get("photos")
    return replace(found, photos=Path(photos) if photos else None, store=opened, record=record)


def open_files(
    index: Path,
    network: Path | None = None,
    *,
    whitening: Path | None = None,
    verify: bool = False,
    trusted: bool = False,
) -> Collection:
    """An index file and the network that made it, or the folder that holds both; trusted: of a store.

    Raises NoIndex, UnusableIndex where network or whitening are others, UnreadableNetwork.
    """
    file = index / INDEX_FILE if index.is_dir() else index
    weights = network or file.parent / NETWORK_FILE
    for path, what in ((file, "index"), (weights, "network")):
        if not path.is_file():
            raise NoIndex(f"{str(path)!r} is no file; give the {what}, see `retrieval-sfm index --out`")
    with ThreadPoolExecutor(1) as beside:  # importing torch takes as long as a process to open the index in
        loading = beside.submit(_load_network, weights)
        try:
            digest = None if whitening is None else cached_content_sha256(whitening)
            made_by = network_sha256(weights)
            found = SearchIndex.load(file, network=made_by, whitening=digest, verify=verify, trusted=trusted)
        except ValueError:
            loading.result()  # of a network that cannot be read, that is the cause
            raise
        return Collection(found, loading.result())


def _load_network(file: Path) -> RetrievalNetwork:
    from retrieval.networks.network import load_network

    return load_network(file)


def network_sha256(file: Path) -> str:
    """The digest under which a store knows a network file, a published .pth as the import of it."""
    if file.suffix == ".safetensors":
        return content_sha256(file)
    from retrieval.networks.network import load_network, save_network

    with scratch_folder("network") as folder:
        save_network(load_network(file), folder / NETWORK_FILE)
        return content_sha256(folder / NETWORK_FILE)


def ask(
    collection: Collection,
    question: Question,
    *,
    verified: tuple[int, int, Inliers] | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> list[Hit]:
    """The photographs found, best first; fewer than k where the collection has no more.

    verified: (n, minimum, inliers): the first n are matched with the query, and those with at least so many
    inliers come first. Raises UnusableBox, UnreadablePhotograph, UnusableIndex, InvalidDescriptors.
    """
    from retrieval.search.query import describe_query

    index = collection.index
    row = describe_query(
        collection.network, index, question.photograph, question.box, device=device, threads=threads
    )
    depth = min(max(question.k, verified[0] if verified else 0), len(index.names))
    scores, ranks = index.search(
        row, depth, expansion=question.expansion, reranking=question.reranking, threads=threads or 1
    )
    hits = [
        Hit(index.names[place], score, index.sha256[place] if index.sha256 else "")
        for score, place in zip(scores[0].tolist(), ranks[0].tolist(), strict=True)
    ]
    return _reranked(hits, *verified)[: question.k] if verified else hits[: question.k]


def _reranked(hits: list[Hit], count: int, minimum: int, inliers: Inliers) -> list[Hit]:
    from retrieval.search.rerank import by_inliers

    first = hits[:count]
    found = inliers([hit.sha256 for hit in first])
    counted = [replace(hit, inliers=number) for hit, number in zip(first, found.tolist(), strict=True)]
    return [*(counted[place] for place in by_inliers(found, minimum).tolist()), *hits[count:]]
