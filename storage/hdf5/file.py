"""Write, read, open and validate the HDF5 files of this project.

Everything that is written is checked against its layout first (`storage/schemas/`). Equal content gives equal
bytes: no time stamps, a fixed file format, sorted order. The files open with h5ls, HDFView, h5web and
plain h5py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
from numpy.typing import NDArray

from storage.files.errors import (
    ArtifactError,
    InvalidArrays,
    MissingItem,
    WrongSchema,
)
from storage.hdf5.check import Violation, check
from storage.hdf5.open import open_artifact
from storage.hdf5.sources import ArraySource
from storage.hdf5.writer import new_file, prepare, raise_invalid, write_dataset, write_root
from storage.schemas.registry import layout


def write(
    path: Path | str,
    schema_name: str,
    arrays: Mapping[str, Any],
    *,
    stage: str,
    options: Mapping[str, Any],
    inputs: Sequence[str],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write one whole file, checked against its layout, by an atomic rename.

    `arrays`: dataset path -> array or list, shapes and types as declared; types that hold no more than the
    declared one (int32 for int64) and plain lists are converted, nothing else. `attributes`: facts that are
    not content (seconds, sentences): text, numbers, lists of numbers; the rest becomes JSON. Raises
    InvalidArrays, UnknownSchema.
    """
    declared = layout(schema_name)
    prepared = prepare(declared, arrays)
    raise_invalid(check(ArraySource(prepared), declared), declared)
    with new_file(Path(path)) as file:
        write_root(file, declared, stage, options, inputs, attributes)
        for name in sorted(prepared):
            write_dataset(file, declared, name, prepared[name])


class ItemWriter:
    """Stream a file with one group per item (features, descriptors, matches), one item in memory at a time.

        with ItemWriter(path, "features", stage="features", options=options, inputs=inputs) as writer:
            digest = writer.add(sha256, keypoints=..., descriptors=..., scores=..., image_size=...)

    The file appears at `path` when the block ends well and not at all otherwise. Items added in the same
    order give the same bytes; the content digest does not depend on the order.
    """

    def __init__(
        self,
        path: Path | str,
        schema_name: str,
        *,
        stage: str,
        options: Mapping[str, Any],
        inputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self._layout = layout(schema_name)
        if not self._layout.item_prefix:
            raise WrongSchema(f"schema {schema_name!r} has no items; use storage.hdf5.write")
        self._path = Path(path)
        self._provenance = (stage, options, inputs, attributes)
        self._sizes: dict[str, tuple[int, str]] = {}
        self._stack = ExitStack()
        self._open: h5py.File | None = None
        self.items: list[str] = []

    def __enter__(self) -> ItemWriter:
        self._open = self._stack.enter_context(new_file(self._path))
        self._stack.push(self._finish)
        write_root(self._open, self._layout, *self._provenance)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        self._open = None

    def add(self, item: str | Sequence[str], **arrays: Any) -> str:
        """Write one item ("a", or "a/b" or ("a", "b") where items are pairs) -> content digest of its group,
        64 hex.

        Raises InvalidArrays for a bad name, a second item of the same name or arrays that break the layout.
        """
        from storage.hdf5.digests import group_sha256

        name = item if isinstance(item, str) else "/".join(item)
        self._check_name(name)
        if not arrays:
            raise InvalidArrays(f"item {name!r} has no arrays; leave the item out")
        self._write({f"{name}/{field}": value for field, value in arrays.items()})
        self.items.append(name)
        return group_sha256(self._file[name])

    def add_table(self, arrays: Mapping[str, Any]) -> None:
        """Write plain datasets of the layout by path, such as the columns `attempts/...` of matches."""
        for path in arrays:
            if path in self._file:
                raise InvalidArrays(f"{path}: is already in the file; write each table once")
        self._write(arrays)

    @property
    def _file(self) -> h5py.File:
        if self._open is None:
            raise ArtifactError("this ItemWriter is not open; use it as `with ItemWriter(...) as writer:`")
        return self._open

    def _write(self, arrays: Mapping[str, Any]) -> None:
        prepared = prepare(self._layout, arrays)
        problems = check(ArraySource(prepared), self._layout, partial=True)
        raise_invalid(problems + self._shared_sizes(prepared), self._layout)
        for path in sorted(prepared):
            write_dataset(self._file, self._layout, path, prepared[path])

    def _check_name(self, name: str) -> None:
        parts, schema = name.split("/"), self._layout.name
        wanted = self._layout.item_prefix.count("{")
        if len(parts) != wanted or any(part in ("", ".", "..") for part in parts) or "\0" in name:
            raise InvalidArrays(
                f"item {name!r}: the items of {schema!r} are named {self._layout.item_prefix}"
            )
        if parts[0] in self._layout.reserved:
            raise InvalidArrays(
                f"item {name!r}: {parts[0]!r} is a table of schema {schema!r}; rename the item"
            )
        if name in self._file:
            raise InvalidArrays(f"item {name!r} is already in the file; add each item once")

    def _shared_sizes(self, prepared: Mapping[str, NDArray[Any]]) -> list[Violation]:
        """Sizes that all items share (upper-case names) against the first item that had them."""
        problems = []
        for path, array in prepared.items():
            found = self._layout.find(path)
            if found is None or not found[1]:
                continue
            for symbol, length in zip(found[0].dims, array.shape, strict=False):
                if isinstance(symbol, int) or symbol.islower():
                    continue
                wanted, by = self._sizes.setdefault(symbol, (length, path))
                if length != wanted:
                    text = (
                        f"has {symbol} = {length}, but {by} has {wanted}; it is one number in the whole file"
                    )
                    problems.append(Violation(path, text))
        return problems

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        missing = [
            Violation(dataset.path, f"is missing ({dataset.description}); write it with add_table")
            for dataset in self._layout.datasets
            if not dataset.item_keys and not dataset.optional and dataset.path not in self._file
        ]
        raise_invalid(missing, self._layout)


def read(
    path: Path | str, schema_name: str | None = None, fields: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The datasets of a file by path, all or `fields`; text as numpy str arrays, a scalar as a 0-d array.

    A file of an accepted older version is upgraded. Raises NotAnArtifact, DamagedArtifact, WrongSchema,
    MissingItem.
    """
    with open_artifact(path, schema_name) as artifact:
        if artifact.is_current:
            return {name: artifact[name] for name in (artifact.paths() if fields is None else fields)}
        arrays = artifact.upgraded()
        absent = [name for name in fields or () if name not in arrays]
        if absent:
            raise MissingItem(f"{path}: no dataset {absent[0]!r} in this {artifact.schema} file")
        return {name: arrays[name] for name in (arrays if fields is None else fields)}


def read_items(
    path: Path | str, ids: Iterable[str] | None = None, fields: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    """(item, its arrays by name below the item) for the wanted items in their order, or for all in sorted
    order.

    One item in memory at a time. Raises MissingItem for an id or field that the file does not hold.
    """
    with open_artifact(path) as artifact:
        for item in artifact.items() if ids is None else ids:
            yield item, artifact.item(item, fields)
