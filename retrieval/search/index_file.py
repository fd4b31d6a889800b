"""The file of a search index: written whole, and refused by name where it is damaged or another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from retrieval.search.options import IndexOptions
from storage.files.errors import ArtifactError
from storage.hdf5.access import HDF5_ERRORS
from storage.hdf5.file import write
from storage.hdf5.open import Artifact, open_artifact
from storage.keys.options import first_error
from storage.outside.guarded import read_outside

SCHEMA = "search_index"
HASHED_BYTES = 64 << 20
DIGESTS = "photos/sha256"
_LARGE = ("descriptors", "faiss")
REMEDY = "build it again with `retrieval-sfm index`"


class UnusableIndex(ValueError):
    """An index file that is damaged, of another version, or made by another network or whitening."""


@dataclass(frozen=True, eq=False)
class StoredIndex:
    """An index file: descriptors [N, D] as a memory map, the other datasets by path, what made it."""

    descriptors: NDArray[np.float32]
    arrays: Mapping[str, NDArray[Any]]
    options: IndexOptions
    made: Mapping[str, Any]


def write_index(
    path: Path,
    arrays: Mapping[str, Any],
    options: IndexOptions,
    made: Mapping[str, Any],
    inputs: Sequence[str],
) -> None:
    """Write the datasets of a `search_index`; made: network, whitening (digests), about."""
    engine = arrays.get("faiss")
    attributes = {
        "kind": options.kind,
        "network": made["network"],
        "whitening": made["whitening"],
        "dimension": int(arrays["descriptors"].shape[1]),
        "about": json.dumps(made["about"], sort_keys=True),
        "faiss_sha256": "" if engine is None else rows_sha256(engine),
        "descriptors_sha256": rows_sha256(arrays["descriptors"]),
    }
    settings = options.model_dump(mode="json")
    write(path, SCHEMA, arrays, stage=SCHEMA, options=settings, inputs=inputs, attributes=attributes)


def read_index(path: Path, wanted: Mapping[str, Any], *, verify: bool, trusted: bool = False) -> StoredIndex:
    """Read and check a `search_index`; wanted: attribute -> what it must be, None = anything.

    trusted: an artifact of a store, which is opened here; any other is opened in a process of its own, and
    here only the bytes of its descriptors are mapped. Raises UnusableIndex.
    """
    try:
        found = look(path) if trusted else read_outside("retrieval.search.index_file:look", path)
        mapped = {name: each.mapped(path) for name, each in found.pieces.items()}
    except (ArtifactError, *HDF5_ERRORS, RecursionError) as error:
        if isinstance(error, UnusableIndex):
            raise
        raise UnusableIndex(f"'{path}' is no readable index ({error}); {REMEDY}") from error
    _check_made(path, found.made, wanted)
    descriptors = mapped.pop("descriptors")
    arrays = {**found.arrays, **mapped}
    _check_arrays(path, descriptors, arrays, found.made, found.options, verify)
    return StoredIndex(descriptors, arrays, found.options, found.made)


@dataclass(frozen=True)
class Piece:
    """A dataset that lies in one piece of the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, mapped: NDArray[Any]) -> Piece:
        """Of a memory map."""
        return cls(int(getattr(mapped, "offset", 0)), tuple(map(int, mapped.shape)), mapped.dtype.str)

    def mapped(self, path: Path) -> NDArray[Any]:
        """Its values as a memory map, however large they are."""
        dtype = np.dtype(self.dtype)
        if not prod(self.shape):
            return np.empty(self.shape, dtype)
        if self.offset + prod(self.shape) * dtype.itemsize > path.stat().st_size:
            raise ValueError("it ends before its descriptors do")
        return np.memmap(path, dtype, "r", self.offset, self.shape)


@dataclass(frozen=True, eq=False)
class _Parts:
    arrays: dict[str, NDArray[Any]]
    pieces: dict[str, Piece]
    options: IndexOptions
    made: dict[str, Any]


def look(path: Path, *, watch: Callable[[str], None] = lambda _: None) -> _Parts:
    """Everything but the large datasets, of which it says where they lie."""
    with open_artifact(path, SCHEMA) as artifact:
        made = _made(artifact)
        if broken := artifact.validate(max_rows=0):  # which datasets there are, their shapes and types
            raise UnusableIndex(f"'{path}' is damaged: {broken[0]}; {REMEDY}")
        options = _options(artifact)
        arrays, pieces = {}, {}
        for name in artifact.paths():
            watch(name)
            if name in _LARGE:
                pieces[name] = _piece(artifact, name)
            elif name == DIGESTS:  # as it is stored: half a million texts take longer than the search
                arrays[name] = np.asarray(artifact.dataset(name)[()])
            else:
                arrays[name] = artifact[name]
    return _Parts(arrays, pieces, options, made)


def _piece(artifact: Artifact, name: str) -> Piece:
    dataset = artifact.dataset(name)
    offset = dataset.id.get_offset()
    if dataset.size and offset is None:
        raise UnusableIndex(f"'{artifact.path}': {name} do not lie in one uncompressed piece; {REMEDY}")
    return Piece(offset or 0, tuple(map(int, dataset.shape)), dataset.dtype.str)


def digest_texts(path: Path, digests: NDArray[Any]) -> tuple[str, ...]:
    """[N] S64 -> N texts. Raises UnusableIndex."""
    width = digests.dtype.itemsize
    try:
        joined = np.ascontiguousarray(digests).tobytes().decode("ascii")
    except UnicodeDecodeError as error:
        raise UnusableIndex(f"'{path}' holds digests that are none ({error.reason}); {REMEDY}") from error
    return tuple(joined[at : at + width] for at in range(0, len(joined), width))


def rows_sha256(rows: NDArray[Any]) -> str:
    """sha256 of the values of an array, little-endian, read in pieces."""
    digest = hashlib.sha256()
    step = max(1, HASHED_BYTES // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        digest.update(np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def _options(artifact: Artifact) -> IndexOptions:
    try:
        return IndexOptions.model_validate(artifact.options)
    except ValidationError as error:
        raise UnusableIndex(f"'{artifact.path}' has other options: {first_error(error)}; {REMEDY}") from error


def _made(artifact: Artifact) -> dict[str, Any]:
    made = dict(artifact.attributes)
    made["about"] = json.loads(str(made.get("about", "null")))
    names = ("kind", "network", "whitening", "dimension", "faiss_sha256", "descriptors_sha256")
    absent = [name for name in (*names, "about") if name not in made]
    if absent or not isinstance(made["about"], dict):
        raise UnusableIndex(
            f"'{artifact.path}' does not say its {absent[0] if absent else 'about'}; {REMEDY}"
        )
    return made


def _check_made(path: Path, made: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for what, value in wanted.items():
        if value is None or value == made[what]:
            continue
        if what == "dimension":
            raise UnusableIndex(
                f"'{path}' holds descriptors of {made[what]} dimensions, not {value}; {REMEDY}"
            )
        there, given = (f"{what} '{each[:12]}'" if each else f"no {what}" for each in (made[what], value))
        raise UnusableIndex(f"'{path}' was made with {there}, not {given}; give what made it, or {REMEDY}")


def _check_arrays(
    path: Path,
    descriptors: NDArray[Any],
    arrays: Mapping[str, NDArray[Any]],
    made: Mapping[str, Any],
    options: IndexOptions,
    verify: bool,
) -> None:
    """What the file says of itself holds, bytes are those written; descriptors are read for `verify` only."""
    if descriptors.shape[1] != made["dimension"]:
        raise UnusableIndex(
            f"'{path}' says dimension {made['dimension']} and holds {descriptors.shape}; {REMEDY}"
        )
    if options.kind != made["kind"]:
        raise UnusableIndex(f"'{path}' says kind {made['kind']} and {options.kind}; {REMEDY}")
    if "faiss" in arrays and rows_sha256(arrays["faiss"]) != made["faiss_sha256"]:
        raise UnusableIndex(f"'{path}': its faiss index is not what was written; it is damaged: {REMEDY}")
    if verify and rows_sha256(descriptors) != made["descriptors_sha256"]:
        raise UnusableIndex(f"'{path}': its descriptors are not what was written; it is damaged: {REMEDY}")
