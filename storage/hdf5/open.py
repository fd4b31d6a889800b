"""Open a file of this project for reading, and say everything that is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from storage.files.errors import ArtifactError, DamagedArtifact, MissingItem, NotAnArtifact, WrongSchema
from storage.hdf5.access import HDF5_ERRORS, names_in, open_file
from storage.hdf5.check import Violation, check
from storage.hdf5.sources import UNWATCHED, FileSource, decode, type_name
from storage.hdf5.texts import rows_of_texts
from storage.hdf5.walk import Walk, at_path, walk
from storage.schemas.layout import Layout, UnknownSchema
from storage.schemas.registry import layout

RESERVED_ATTRIBUTES = ("schema", "schema_version", "stage", "options", "inputs", "description")
"""Root attributes that every file has; callers' own facts go beside them."""


class Artifact:
    """An open file: its schema, provenance and datasets, each read when asked for. A context manager.

    `artifact["pairs/first"]` is an array (text as numpy str), `artifact.dataset(path)` the h5py dataset for
    slices.
    """

    def __init__(self, path: Path, file: h5py.File, declared: Layout) -> None:
        self.path = path
        self.file = file
        self.layout = declared
        self.schema = declared.name
        self.version = declared.version
        attributes = root_attributes(path, file)
        self.stage: str = str(attributes.get("stage", ""))
        self.options: dict[str, Any] = _json_attribute(path, attributes, "options", dict)
        self.inputs: list[str] = _json_attribute(path, attributes, "inputs", list)
        self.attributes = {name: each for name, each in attributes.items() if name not in RESERVED_ATTRIBUTES}
        self._paths: list[str] | None = None

    def __enter__(self) -> Artifact:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()

    @property
    def is_current(self) -> bool:
        """Whether the file has the version that this package writes."""
        return self.version == layout(self.schema).version

    def paths(self) -> list[str]:
        """Paths of all datasets, sorted."""
        if self._paths is None:
            self._paths = sorted(walk(self.file).datasets)
        return list(self._paths)

    def items(self) -> list[str]:
        """Names of all items, sorted; [] for a layout without items."""
        if not self.layout.item_prefix:
            return []
        depth = self.layout.item_prefix.count("/") + 1
        found = ((path, self.layout.find(path)) for path in self.paths())
        return sorted({"/".join(path.split("/")[:depth]) for path, each in found if each and each[1]})

    def item(self, item: str, fields: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """The arrays of one item by their names below it. Raises MissingItem."""
        group = self._at(item)
        depth = self.layout.item_prefix.count("/")
        if not isinstance(group, h5py.Group) or item.count("/") != depth or item in self.layout.reserved:
            raise MissingItem(
                f"{self.path}: no item {item!r} in this {self.schema} file; ask for one of items()"
            )
        return {
            name: self[f"{item}/{name}"]
            for name in (names_in(group, self.path) if fields is None else fields)
        }

    def dataset(self, path: str) -> h5py.Dataset:
        """The dataset itself, for slices. Raises MissingItem."""
        found = self._at(path)
        if not isinstance(found, h5py.Dataset):
            there = _some(self.paths())
            raise MissingItem(f"{self.path}: no dataset {path!r} in this {self.schema} file; it has: {there}")
        return found

    def __contains__(self, path: str) -> bool:
        return isinstance(self._at(path), h5py.Dataset)

    def __getitem__(self, path: str) -> NDArray[Any]:
        dataset = self.dataset(path)
        try:
            texts = dataset.dtype.kind == "O" and dataset.ndim > 0
            values = rows_of_texts(dataset, 0, len(dataset)) if texts else np.asarray(dataset[()])
            if dataset.dtype.kind == "S" or type_name(dataset.dtype) == "str":
                return decode(values).astype(str)
            return values.astype(values.dtype.newbyteorder("="), copy=False)
        except HDF5_ERRORS as error:
            raise DamagedArtifact(
                f"{self.path}: {path!r} cannot be read ({error}); rebuild the file"
            ) from error

    def mapped(self, path: str) -> NDArray[Any]:
        """A dataset as a read-only memory map of the file, for those that lie in one uncompressed piece.

        It stays valid when the artifact is closed. Raises MissingItem, DamagedArtifact.
        """
        dataset = self.dataset(path)
        try:
            offset, shape, dtype = dataset.id.get_offset(), dataset.shape, dataset.dtype
            if not dataset.size:
                return np.empty(shape, dtype)
            if offset is None:
                raise ValueError("it does not lie in one uncompressed piece")
            return np.memmap(self.path, dtype, "r", offset, shape)
        except HDF5_ERRORS as error:
            raise DamagedArtifact(
                f"{self.path}: {path!r} cannot be mapped ({error}); rebuild the file"
            ) from error

    def upgraded(self) -> dict[str, NDArray[Any]]:
        """All arrays, in the layout of the current version."""
        arrays = {path: self[path] for path in self.paths()}
        current = layout(self.schema)
        return arrays if self.is_current or current.upgrade is None else current.upgrade(self.version, arrays)

    def validate(self, max_rows: int | None = None) -> list[Violation]:
        """Every broken promise of the layout; values of datasets above `max_rows` rows are not read."""
        return violations_of(walk(self.file), self.layout, max_rows)

    def _at(self, path: str) -> Any:
        try:
            return at_path(self.file, path)
        except HDF5_ERRORS as error:
            raise DamagedArtifact(
                f"{self.path}: {path!r} cannot be opened ({error}); rebuild the file"
            ) from error


def open_artifact(path: Path | str, schema_name: str | None = None) -> Artifact:
    """Open a file for reading and check that it is one of ours, of `schema_name` where given.

    Raises FileNotFoundError, NotAnArtifact (foreign), DamagedArtifact (truncated), WrongSchema (kind or
    version).
    """
    file = open_file(Path(path))
    try:
        declared = layout_of(Path(path), file)
        if schema_name is not None and declared.name != schema_name:
            layout(schema_name)
            raise WrongSchema(
                f"{path}: a {declared.name!r} file, {schema_name!r} was asked for; give one of that kind"
            )
        return Artifact(Path(path), file, declared)
    except BaseException:
        file.close()
        raise


def validate(path: Path | str, max_rows: int | None = None) -> list[Violation]:
    """Every broken promise of a file, each with its path ("/" = the file itself); [] = sound. A bad file
    never raises.

    Values are read in slices; those of datasets with more than `max_rows` rows are not read.
    """
    try:
        with open_artifact(path) as artifact:
            return artifact.validate(max_rows)
    except (ArtifactError, OSError, UnknownSchema) as error:
        return [Violation("/", str(error))]


def root_attributes(path: Path, file: h5py.File) -> dict[str, Any]:
    """The root attributes as plain Python values. Raises DamagedArtifact."""
    try:
        return {name: _plain_value(value) for name, value in file.attrs.items()}
    except HDF5_ERRORS as error:
        raise DamagedArtifact(f"{path}: its attributes cannot be read ({error}); rebuild the file") from error


def layout_of(path: Path, file: h5py.File) -> Layout:
    """The layout that a file says it has. Raises NotAnArtifact, WrongSchema, DamagedArtifact."""
    attributes = root_attributes(path, file)
    absent = [name for name in ("schema", "schema_version") if name not in attributes]
    if absent:
        found = f"its root holds {_some(names_in(file, path)) or 'nothing'}"
        raise NotAnArtifact(
            f"{path}: HDF5 without the root attribute {absent[0]!r}, not a file of ours; {found}"
        )
    version = attributes["schema_version"]
    if not isinstance(version, int) or isinstance(version, bool):
        raise WrongSchema(
            f"{path}: root attribute 'schema_version' is {version!r}, no integer; rebuild the file"
        )
    try:
        return layout(str(attributes["schema"]), version)
    except UnknownSchema as error:
        raise WrongSchema(f"{path}: {error}") from error


def violations_of(
    found: Walk, declared: Layout, max_rows: int | None, watch: Callable[[str], None] = UNWATCHED
) -> list[Violation]:
    """All that is wrong with what a walk found: odd objects, missing descriptions, broken promises."""
    problems = [Violation(path, text) for path, text in found.strange.items()]
    for path, each in [*found.groups.items(), *found.datasets.items()]:
        problems += [Violation(path, text) for text in _attribute_problems(path, each, watch)]
    filled = {path[:at] for path in found.datasets for at in range(len(path)) if path[at] == "/"}
    needs = ", ".join(dataset.path for dataset in declared.patterns if not dataset.optional)
    remedy = f"an item needs {needs}" if needs else "remove it"
    unreadable = {path.rsplit("/", at)[0] for path in found.strange for at in range(path.count("/") + 1)}
    empty = sorted(set(found.groups) - filled - unreadable - set(declared.groups))
    problems += [Violation(path, f"is an empty group; {remedy}") for path in empty]
    known = {problem.path for problem in problems if problem.path in found.strange}
    return problems + [
        each
        for each in check(FileSource(found.datasets, watch), declared, max_rows=max_rows)
        if each.path not in known
    ]


def _attribute_problems(
    path: str, each: h5py.Group | h5py.Dataset, watch: Callable[[str], None]
) -> list[str]:
    try:
        watch(path)
        described = each.attrs.get("description")
    except HDF5_ERRORS as error:
        return [f"has attributes that cannot be read ({error}); rebuild the file"]
    return [] if described else ["has no attribute 'description'; write files with storage.hdf5"]


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, np.ndarray):
        return decode(value).tolist() if value.dtype.kind in "SO" else value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def _json_attribute(path: Path, attributes: Mapping[str, Any], name: str, kind: type) -> Any:
    try:
        value = json.loads(attributes.get(name, ""))
    except (TypeError, ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        found = "missing" if name not in attributes else "damaged"
        raise DamagedArtifact(
            f"{path}: root attribute {name!r} (a JSON {kind.__name__}) is {found}; rebuild the file"
        )
    return value


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", ... {len(names) - most} more" if len(names) > most else "")
