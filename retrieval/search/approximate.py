"""Approximate nearest neighbours by faiss: IVF-PQ and HNSW over rows that stay on the disk.

Everything is built in one thread from fixed seeds, so that the same rows give the same bytes: k-means in
several threads differs in rounding, a graph built by several is another one on every run.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from math import isqrt
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.nearest.topk import InvalidDescriptors
from retrieval.search.options import IndexOptions

logger = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])

Rows = NDArray[np.float32]
BLOCK_BYTES = 64 << 20
"""Rows that are held at once, beside the training sample in its reduced dimensions."""
MIN_ROWS = 1024
"""Fewest rows that the 256 centres of a code byte can be learnt from with any sense."""
POINTS_PER_CENTRE = 39
ITERATIONS = 20


class UnusableFaiss(ValueError):
    """Bytes that are no faiss index of the kind that they should be."""


class Elsewhere(ABC):
    """An index that another process holds: the functions of this module that take one are called there."""

    @abstractmethod
    def call(self, function: str, *arguments: Any, **named: Any) -> Any:
        """What the function of this name returns, called on the index with these further arguments."""


def _where_it_is(function: Function) -> Function:
    @wraps(function)
    def called(index: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(index, Elsewhere):
            return index.call(function.__name__, *arguments, **named)
        return function(index, *arguments, **named)

    return called  # type: ignore[return-value]


def build(rows: Rows, options: IndexOptions, held: NDArray[np.int64]) -> Any:
    """A faiss index over rows [N, D] (an array or a memory map), searched by inner product.

    held: positions that must not be trained on (queries that measure the recall). Peak memory: BLOCK_BYTES a
    few times, two D x D float64, the training sample in reduced dimensions; hnsw: all rows.
    Raises InvalidDescriptors where there are too few rows or dimensions for the options.
    """
    index = _ivf_pq(rows, options, held) if options.kind == "ivf_pq" else _hnsw(rows.shape[1], options)
    add(index, rows)
    return index


@_where_it_is
def add(index: Any, rows: Rows) -> None:
    """Add rows [n, D] behind those that are there, block by block."""
    with _threads(1):
        for block in blocks(rows):
            index.add(block)


@_where_it_is
def search(
    index: Any, queries: Rows, k: int, options: IndexOptions, *, threads: int = 1
) -> tuple[Rows, NDArray[np.int64]]:
    """(similarities [Q, k], positions [Q, k]), best first; position -1 where fewer were found. Raises
    InvalidDescriptors for an index whose insides name rows that it has not."""
    faiss = _faiss()
    if options.kind == "ivf_pq":
        inner = faiss.extract_index_ivf(index)
        parameters = faiss.SearchParametersIVF(nprobe=min(options.probes or inner.nlist, inner.nlist))
        parameters = faiss.SearchParametersPreTransform(index_params=parameters)
    else:
        parameters = faiss.SearchParametersHNSW(efSearch=max(options.search_effort, k))
    with _threads(threads):
        scores, positions = index.search(np.ascontiguousarray(queries), k, params=parameters)
    if positions.min(initial=0) < -1 or positions.max(initial=0) >= index.ntotal:
        raise InvalidDescriptors(f"faiss found rows that are not there, it has {index.ntotal}")
    return scores, positions


@_where_it_is
def num_lists(index: Any) -> int:
    """Cells of an ivf_pq index."""
    return int(_faiss().extract_index_ivf(index).nlist)


@_where_it_is
def to_bytes(index: Any) -> NDArray[np.uint8]:
    """The index serialised [B], a graph without its descriptors."""
    faiss = _faiss()
    flags = faiss.IO_FLAG_SKIP_STORAGE if isinstance(index, faiss.IndexHNSW) else 0
    return np.asarray(faiss.serialize_index(index, flags))


def from_bytes(content: NDArray[np.uint8], rows: Rows, options: IndexOptions) -> Any:
    """The index of `to_bytes`; a graph gets its rows [N, D] back, in memory. Raises UnusableFaiss."""
    faiss = _faiss()
    try:
        index = faiss.deserialize_index(np.ascontiguousarray(content), faiss.IO_FLAG_SKIP_STORAGE)
    except RuntimeError as error:
        raise UnusableFaiss(f"faiss cannot read it ({str(error).splitlines()[0]})") from error
    wanted = faiss.IndexPreTransform if options.kind == "ivf_pq" else faiss.IndexHNSWFlat
    if not isinstance(index, wanted):
        raise UnusableFaiss(f"it holds a {type(index).__name__}, not what {options.kind} needs")
    if (index.ntotal, index.d) != rows.shape:
        raise UnusableFaiss(f"it holds {index.ntotal} rows of {index.d}, the file has {rows.shape}")
    if isinstance(index, faiss.IndexHNSW):
        storage = faiss.IndexFlatIP(rows.shape[1])
        for block in blocks(rows):
            storage.add(block)
        index.storage, index.own_fields = storage, False
        index.referenced_objects = [storage]
    return index


def blocks(rows: Rows) -> Iterator[Rows]:
    """Rows [N, D] in contiguous float32 pieces of BLOCK_BYTES. Raises InvalidDescriptors on nan, infinity."""
    step = max(1, BLOCK_BYTES // (4 * max(1, rows.shape[1])))
    for start in range(0, len(rows), step):
        block = np.ascontiguousarray(rows[start : start + step], dtype=np.float32)
        if not np.isfinite(block).all():
            raise InvalidDescriptors(
                f"rows {start}..{start + len(block) - 1} hold nan or infinite values; check the descriptors"
            )
        yield block


def sample(
    num_rows: int, count: int, seed: int, without: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """`count` different positions of num_rows (fewer where there are no more), ascending, not `without`."""
    order = np.random.default_rng(seed).permutation(num_rows)
    if without is not None:
        order = order[~np.isin(order, without)]
    return np.sort(order[:count]).astype(np.int64)


def _ivf_pq(rows: Rows, options: IndexOptions, held: NDArray[np.int64]) -> Any:
    """Reduction by the second moment, rotation, coarse cells, codes of what remains in a cell."""
    faiss = _faiss()
    num_rows, dimension = rows.shape
    if num_rows < MIN_ROWS or options.code_bytes > dimension:
        raise InvalidDescriptors(
            f"ivf_pq of {num_rows} descriptors of {dimension} dimensions: it needs {MIN_ROWS} "
            f"descriptors and code_bytes (now {options.code_bytes}) up to that; use kind exact or hnsw"
        )
    kept = max(1, min(options.reduced, dimension) // options.code_bytes) * options.code_bytes
    chosen = sample(num_rows, options.training_sample, options.seed + 1, held)
    matrix = _reduction(rows, chosen, kept, options.seed)
    reduced = np.concatenate([part @ matrix.T for part in _chosen_blocks(rows, chosen)])
    lists = options.lists or 4 * isqrt(num_rows)
    lists = max(1, min(lists, len(chosen) // POINTS_PER_CENTRE))
    with _threads(1):
        inner = faiss.IndexIVFPQ(
            faiss.IndexFlatIP(kept), kept, lists, options.code_bytes, 8, faiss.METRIC_INNER_PRODUCT
        )
        inner.by_residual = True
        for parameters in (inner.cp, inner.pq.cp):
            parameters.seed, parameters.niter = options.seed + 1, ITERATIONS
            parameters.min_points_per_centroid = 1
        inner.train(reduced)
    transform = faiss.LinearTransform(dimension, kept, False)
    faiss.copy_array_to_vector(np.ascontiguousarray(matrix).ravel(), transform.A)
    transform.is_trained = True
    index = faiss.IndexPreTransform(transform, inner)  # faiss keeps references to the parts
    logger.info(
        "ivf_pq: %d lists, %d dimensions in %d bytes, learnt from %d rows",
        lists, kept, options.code_bytes, len(chosen),
    )  # fmt: skip
    return index


def _reduction(rows: Rows, chosen: NDArray[np.int64], kept: int, seed: int) -> Rows:
    """[kept, D]: the axes of largest second moment, then a random rotation that spreads it over them evenly.

    Not centred: an inner product of projections is then the best approximation of the inner product.
    """
    moment = np.zeros((rows.shape[1], rows.shape[1]))
    for part in _chosen_blocks(rows, chosen):
        moment += part.T @ part
    axes = np.linalg.eigh(moment)[1][:, ::-1][:, :kept].T
    axes *= np.sign(axes[np.arange(kept), np.abs(axes).argmax(axis=1)])[:, None]
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(kept, kept)))
    return (rotation @ axes).astype(np.float32)


def _chosen_blocks(rows: Rows, chosen: NDArray[np.int64]) -> Iterator[Rows]:
    step = max(1, BLOCK_BYTES // (4 * rows.shape[1]))
    for start in range(0, len(chosen), step):
        yield from blocks(rows[chosen[start : start + step]])


def _hnsw(dimension: int, options: IndexOptions) -> Any:
    faiss = _faiss()
    index = faiss.IndexHNSWFlat(dimension, options.links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = options.build_effort
    return index


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Inside, faiss uses this many threads."""
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _faiss() -> Any:
    """The library, imported where it is needed; its type stubs know half of it."""
    return import_module("faiss")
