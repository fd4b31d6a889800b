"""Write, read, open and validate the HDF5 files of this project.

Everything that is written is checked against its layout first (`storage/schemas.py`). Equal content gives equal bytes:
no time stamps, a fixed file format, sorted order. The files open with h5ls, HDFView, h5web and plain h5py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from storage.schemas import Dataset, Layout, UnknownSchema, layout
from storage.sources import ArraySource, FileSource, decode, type_name
from storage.validation import Violation, check

RESERVED_ATTRIBUTES = ("schema", "schema_version", "stage", "options", "inputs", "description")
"""Root attributes that every file has; callers' own facts go beside them."""

# The oldest format that holds our types: every HDF5 tool of the last ten years reads it, and its groups carry no times.
_LIBVER = ("earliest", "v110")
_COMPRESS_FROM = 4096  # bytes; below, chunk bookkeeping costs more than compression saves
_CHUNK_BYTES = 1 << 18
_FAST_FROM = 1 << 20  # bytes; gzip-1 there. LZF would be faster, but only h5py reads it.


class ArtifactError(ValueError):
    """A file that is not what it should be; the message names the file, the place and the remedy."""


class InvalidArrays(ArtifactError):
    """Arrays that break their layout; nothing was written."""


class NotAnArtifact(ArtifactError):
    """Not an HDF5 file, or an HDF5 file that this project did not write."""


class DamagedArtifact(ArtifactError):
    """A file that is truncated or whose bytes changed."""


class WrongSchema(ArtifactError):
    """An artifact of another kind or version than was asked for."""


class MissingItem(ArtifactError):
    """An item or a dataset that the file does not hold."""


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

    `arrays`: dataset path -> array or list of str, shapes and types as declared; types that hold the declared one's
    values without loss (int32 for int64) are converted, nothing else. `attributes`: facts that are not content
    (seconds, dates, sentences): numbers, text, number lists; mappings become JSON. Raises InvalidArrays, UnknownSchema.
    """
    declared = layout(schema_name)
    prepared = _prepare(declared, arrays)
    _raise_invalid(check(ArraySource(prepared), declared), declared)
    with _new_file(Path(path)) as file:
        _write_root(file, declared, stage, options, inputs, attributes)
        for name in sorted(prepared):
            _write_dataset(file, declared, name, prepared[name])


class ItemWriter:
    """Stream a file with one group per item (features, descriptors, matches), one item in memory at a time.

        with ItemWriter(path, "features", stage="features", options=options, inputs=inputs) as writer:
            digest = writer.add(sha256, keypoints=..., descriptors=..., scores=..., image_size=...)

    The file appears at `path` when the block ends well and not at all otherwise. Items added in the same order give the
    same bytes.
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
        self._opened = _new_file(Path(path))
        self._provenance = (stage, options, inputs, attributes)
        self._sizes: dict[str, tuple[int, str]] = {}
        self.items: list[str] = []
        self._file: h5py.File | None = None

    def __enter__(self) -> ItemWriter:
        self._file = self._opened.__enter__()
        _write_root(self._file, self._layout, *self._provenance)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException as failure:
            self._opened.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._opened.__exit__(kind, error, trace)

    def add(self, item: str | Sequence[str], **arrays: Any) -> str:
        """Write one item ("a", or "a/b" or ("a", "b") where items are pairs) -> content digest of its group, 64 hex.

        Raises InvalidArrays for a bad name, a second item of the same name or arrays that break the layout.
        """
        name = item if isinstance(item, str) else "/".join(item)
        self._check_name(name)
        prepared = _prepare(self._layout, {f"{name}/{field}": value for field, value in arrays.items()})
        problems = check(ArraySource(prepared), self._layout, partial=True)
        if not prepared:
            problems.append(Violation(name, "has no arrays; leave the item out"))
        _raise_invalid(problems + self._shared_sizes(prepared), self._layout)
        for path in sorted(prepared):
            _write_dataset(self._open_file, self._layout, path, prepared[path])
        self.items.append(name)
        return _group_digest(self._open_file[name])

    def add_table(self, arrays: Mapping[str, Any]) -> None:
        """Write plain datasets of the layout, such as the columns `attempts/...` of matches."""
        prepared = _prepare(self._layout, arrays)
        problems = [
            Violation(path, "is already in the file; write each table once")
            for path in prepared
            if path in self._open_file
        ]
        problems += check(ArraySource(prepared), self._layout, partial=True)
        _raise_invalid(problems, self._layout)
        for path in sorted(prepared):
            _write_dataset(self._open_file, self._layout, path, prepared[path])

    @property
    def _open_file(self) -> h5py.File:
        if self._file is None:
            raise ArtifactError("this ItemWriter is not open; use it as `with ItemWriter(...) as writer:`")
        return self._file

    def _check_name(self, name: str) -> None:
        parts = name.split("/")
        wanted = self._layout.item_prefix.count("{")
        if len(parts) != wanted or any(part in ("", ".", "..") for part in parts) or "\0" in name:
            raise InvalidArrays(
                f"item {name!r}: a name in {self._layout.name!r} looks like {self._layout.item_prefix}"
            )
        if parts[0] in self._layout.reserved:
            raise InvalidArrays(
                f"item {name!r}: {parts[0]!r} is a table of schema {self._layout.name!r}; rename the item"
            )
        if name in self._open_file:
            raise InvalidArrays(f"item {name!r} is already in the file; add each item once")

    def _shared_sizes(self, prepared: Mapping[str, NDArray[Any]]) -> list[Violation]:
        """Sizes that all items share (upper-case names), against the first item that had them."""
        problems = []
        for path, array in prepared.items():
            found = self._layout.find(path)
            for symbol, length in zip(found[0].dims if found else (), array.shape, strict=False):
                if not isinstance(symbol, str) or symbol.islower():
                    continue
                wanted, by = self._sizes.setdefault(symbol, (length, path))
                if length != wanted:
                    problems.append(
                        Violation(path, f"has {symbol} = {length}, but {by} has {wanted}; they must agree")
                    )
        return problems

    def _finish(self) -> None:
        missing = [
            Violation(dataset.path, f"is missing ({dataset.description}); write it with add_table")
            for dataset in self._layout.datasets
            if not dataset.item_keys and not dataset.optional and dataset.path not in self._open_file
        ]
        _raise_invalid(missing, self._layout)


def read(
    path: Path | str, schema_name: str | None = None, fields: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The datasets of a file by path, all or `fields`; strings as numpy str arrays, a scalar as a 0-d array.

    A file of an accepted older version is upgraded. Raises NotAnArtifact, DamagedArtifact, WrongSchema, MissingItem.
    """
    with open_artifact(path, schema_name) as artifact:
        if not artifact.is_current:
            upgraded = artifact.upgraded()
            return {name: upgraded[name] for name in fields or upgraded}
        return {name: artifact[name] for name in (artifact.paths() if fields is None else fields)}


def read_items(
    path: Path | str, ids: Iterable[str] | None = None, fields: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    """(item, its arrays by name below the item) for the wanted items in their order, or for all in sorted order.

    One item in memory at a time. Raises MissingItem for an id or field that the file does not hold.
    """
    with open_artifact(path) as artifact:
        for item in artifact.items() if ids is None else ids:
            yield item, artifact.item(item, fields)


class Artifact:
    """An open file: its schema, provenance and datasets, read when asked for. A context manager."""

    def __init__(self, path: Path, file: h5py.File, declared: Layout) -> None:
        self.path = path
        self.file = file
        self.layout = declared
        self.schema = declared.name
        self.version = declared.version
        self.attributes: dict[str, Any] = _attributes(path, file)
        self.stage: str = str(self.attributes.pop("stage", ""))
        self.options: dict[str, Any] = _json_attribute(path, self.attributes, "options", dict)
        self.inputs: list[str] = _json_attribute(path, self.attributes, "inputs", list)
        for name in RESERVED_ATTRIBUTES:
            self.attributes.pop(name, None)

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
        return sorted(walk(self.file).datasets)

    def items(self) -> list[str]:
        """Names of all items, sorted; [] for a layout without items."""
        prefix = self.layout.item_prefix
        if not prefix:
            return []
        depth = prefix.count("/") + 1
        items = {
            "/".join(path.split("/")[:depth])
            for path in self.paths()
            if (self.layout.find(path) or ("", ()))[1]
        }
        return sorted(items)

    def item(self, item: str, fields: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """The arrays of one item by their names below it. Raises MissingItem."""
        group = _link(self.file, item)
        if not isinstance(group, h5py.Group) or item.split("/")[0] in self.layout.reserved:
            raise MissingItem(
                f"{self.path}: no item {item!r} in this {self.schema} file; ask for one of items()"
            )
        return {name: self[f"{item}/{name}"] for name in (sorted(group) if fields is None else fields)}

    def dataset(self, path: str) -> h5py.Dataset:
        """The dataset itself, for slices. Raises MissingItem."""
        found = _link(self.file, path)
        if not isinstance(found, h5py.Dataset):
            raise MissingItem(
                f"{self.path}: no dataset {path!r} in this {self.schema} file; it has: {_some(self.paths())}"
            )
        return found

    def __contains__(self, path: str) -> bool:
        return isinstance(_link(self.file, path), h5py.Dataset)

    def __getitem__(self, path: str) -> NDArray[Any]:
        dataset = self.dataset(path)
        try:
            return _from_file(dataset)
        except (OSError, RuntimeError) as error:
            raise DamagedArtifact(
                f"{self.path}: dataset {path!r} cannot be read ({error}); rebuild it"
            ) from error

    def upgraded(self) -> dict[str, NDArray[Any]]:
        """All arrays, in the layout of the current version."""
        arrays = {path: self[path] for path in self.paths()}
        current = layout(self.schema)
        return arrays if self.is_current or current.upgrade is None else current.upgrade(self.version, arrays)

    def validate(self, max_rows: int | None = None) -> list[Violation]:
        """Every broken promise of the layout; see `validate`."""
        return _validate_open(self.file, self.layout, max_rows)


def open_artifact(path: Path | str, schema_name: str | None = None) -> Artifact:
    """Open a file for reading and check that it is one of ours, of `schema_name` where given.

    Raises FileNotFoundError, NotAnArtifact (foreign), DamagedArtifact (truncated), WrongSchema (kind or version).
    """
    file = _open(Path(path))
    try:
        declared = _layout_of(Path(path), file)
        if schema_name is not None and declared.name != schema_name:
            layout(schema_name)
            raise WrongSchema(
                f"{path}: this is a {declared.name!r} file, {schema_name!r} was asked for; give that one"
            )
        return Artifact(Path(path), file, declared)
    except BaseException:
        file.close()
        raise


def validate(path: Path | str, max_rows: int | None = None) -> list[Violation]:
    """Every broken promise of a file, with its path; [] = sound. Never raises for a bad file.

    Values are read in slices; those of datasets with more than `max_rows` rows are not read.
    """
    try:
        with open_artifact(path) as artifact:
            return artifact.validate(max_rows)
    except (ArtifactError, OSError, UnknownSchema) as error:
        return [Violation("/", str(error))]


# ---- reading ------------------------------------------------------------------------------------------------------


class Walk:
    """What a file holds: groups and datasets by path, and links that lead elsewhere."""

    def __init__(self) -> None:
        self.groups: dict[str, h5py.Group] = {}
        self.datasets: dict[str, h5py.Dataset] = {}
        self.strange: dict[str, str] = {}


def walk(file: h5py.Group) -> Walk:
    """Everything below a group, by path without a leading slash; soft and external links are named, never followed."""
    found = Walk()
    pending, seen = [("", file)], {_address(file)}
    while pending:
        prefix, group = pending.pop()
        for name in group:
            path = f"{prefix}{name}"
            try:
                child = _child(group, name)
                if child is None:
                    found.strange[path] = "is a link to somewhere else; copy what it points to"
                elif isinstance(child, h5py.Dataset):
                    found.datasets[path] = child
                elif not isinstance(child, h5py.Group):
                    found.strange[path] = "is a named type, which no schema has; remove it"
                elif _address(child) in seen:
                    found.strange[path] = (
                        "is a second link to a group that is elsewhere in the file; remove it"
                    )
                else:
                    seen.add(_address(child))
                    found.groups[path] = child
                    pending.append((f"{path}/", child))
            except (OSError, RuntimeError, KeyError) as error:
                found.strange[path] = f"cannot be opened ({error}); rebuild the artifact"
    return found


def _address(group: h5py.Group) -> int:
    return int(h5py.h5o.get_info(group.id).addr)


def _child(group: h5py.Group, name: str) -> Any:
    """The object behind a hard link, None for any other link."""
    return group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None


def _link(file: h5py.File, path: str) -> Any:
    """The object at `path` through hard links only, None where there is none."""
    current: Any = file
    for part in path.strip("/").split("/"):
        if not isinstance(current, h5py.Group) or part not in current:
            return None
        current = _child(current, part)
    return current


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the path of an HDF5 file")
    with path.open("rb") as stream:
        signature = stream.read(8)
    if signature != b"\x89HDF\r\n\x1a\n":
        raise NotAnArtifact(
            f"{path}: not an HDF5 file (it begins with {signature!r}); give a file that a stage wrote"
        )
    try:
        # Artifacts never change once they are published, so no lock: they open on any file system, read-only ones too.
        return h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError) as error:
        raise DamagedArtifact(f"{path}: truncated or damaged HDF5 file ({error}); rebuild it") from error


def _attributes(path: Path, file: h5py.File) -> dict[str, Any]:
    try:
        return {name: _plain_value(value) for name, value in file.attrs.items()}
    except (OSError, RuntimeError) as error:
        raise DamagedArtifact(f"{path}: its attributes cannot be read ({error}); rebuild it") from error


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value.item() if isinstance(value, np.generic) else value


def _json_attribute(path: Path, attributes: Mapping[str, Any], name: str, kind: type) -> Any:
    try:
        value = json.loads(attributes.get(name, ""))
    except (TypeError, ValueError):
        value = None
    if not isinstance(value, kind):
        raise DamagedArtifact(
            f"{path}: root attribute {name!r} is not a JSON {kind.__name__}; rebuild the file"
        )
    return value


def _layout_of(path: Path, file: h5py.File) -> Layout:
    attributes = _attributes(path, file)
    if "schema" not in attributes or "schema_version" not in attributes:
        found = f"its root holds: {_some(sorted(file)) or 'nothing'}"
        raise NotAnArtifact(f"{path}: HDF5, but without the attributes schema and schema_version; {found}")
    try:
        return layout(str(attributes["schema"]), int(attributes["schema_version"]))
    except (UnknownSchema, TypeError) as error:
        raise WrongSchema(f"{path}: {error}") from error


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", ... {len(names) - most} more" if len(names) > most else "")


def _from_file(dataset: h5py.Dataset) -> NDArray[Any]:
    values = np.asarray(dataset[()])
    if type_name(dataset.dtype) == "str" or dataset.dtype.kind == "S":
        return decode(values).astype(str)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _validate_open(file: h5py.File, declared: Layout, max_rows: int | None) -> list[Violation]:
    found = walk(file)
    problems = [Violation(path, text) for path, text in found.strange.items()]
    for path, dataset in found.datasets.items():
        if dataset.external or dataset.is_virtual:
            problems.append(Violation(path, "keeps its values in another file; copy them into this one"))
    problems += [
        Violation(path, "has no description attribute; write files with storage.hdf5")
        for path, each in [*found.groups.items(), *found.datasets.items()]
        if not each.attrs.get("description")
    ]
    problems += _empty_groups(found, declared)
    return problems + check(FileSource(found.datasets), declared, max_rows=max_rows)


def _empty_groups(found: Walk, declared: Layout) -> list[Violation]:
    filled = {path[:at] for path in found.datasets for at in range(len(path)) if path[at] == "/"}
    needs = ", ".join(dataset.path for dataset in declared.patterns if not dataset.optional)
    remedy = f"an item needs {needs}" if needs else "remove it"
    return [Violation(path, f"is an empty group; {remedy}") for path in sorted(set(found.groups) - filled)]


# ---- writing ------------------------------------------------------------------------------------------------------


class _new_file:
    """A new HDF5 file under a temporary name, renamed to `path` when the block ends well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.{os.getpid()}.partial")

    def __enter__(self) -> h5py.File:
        self.file = h5py.File(self.partial, "w", libver=_LIBVER, track_order=False)
        return self.file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.file.close()
        if kind is None:
            os.replace(self.partial, self.path)
        else:
            self.partial.unlink(missing_ok=True)


def _prepare(declared: Layout, arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Arrays in their declared types; what cannot be converted without loss stays as it is for `check` to report."""
    prepared = {}
    for path, value in arrays.items():
        found = declared.find(path)
        prepared[path] = np.asarray(value) if found is None else _convert(path, found[0], value)
    return prepared


def _convert(path: str, dataset: Dataset, value: Any) -> NDArray[Any]:
    wanted = dataset.dtypes[0]
    if wanted == "str" or wanted.startswith("S"):
        return _convert_text(path, wanted, value)
    if not hasattr(value, "dtype"):
        array = np.asarray(value)
        target = np.dtype(wanted)
        converted = array.astype(target) if array.dtype.kind in "biuf" else array
        exact = target.kind == "f" or np.array_equal(converted, array)
        return _rank(converted if exact else array, dataset)
    array = np.asarray(value)
    if type_name(array.dtype) in dataset.dtypes:
        return array
    for each in dataset.dtypes:
        if array.dtype.kind in "biuf" and (
            array.size == 0 or np.can_cast(array.dtype, np.dtype(each), "safe")
        ):
            return array.astype(each)
    return array


def _rank(array: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """An empty list has lost its trailing sizes: give them back where they are numbers."""
    trailing = dataset.dims[1:]
    if array.shape == (0,) and trailing and all(isinstance(size, int) for size in trailing):
        return array.reshape(0, *trailing)
    return array


def _convert_text(path: str, wanted: str, value: Any) -> NDArray[Any]:
    array = np.asarray(value, dtype=object)
    texts = decode(array) if all(isinstance(each, (str, bytes)) for each in array.reshape(-1)) else None
    if texts is None:
        return np.asarray(value)
    if any("\0" in text for text in texts.reshape(-1)):
        raise InvalidArrays(f"{path}: a text holds a zero byte, which HDF5 cannot keep; remove it")
    if wanted == "str":
        return texts
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts.reshape(-1)]
    longest = max(map(len, encoded), default=0)
    length = int(wanted[1:])
    return np.array(encoded, dtype=f"S{length if longest <= length else longest}").reshape(texts.shape)


def _raise_invalid(problems: Sequence[Violation], declared: Layout) -> None:
    if problems:
        shown = "; ".join(map(str, problems[:5])) + (
            f"; ... {len(problems) - 5} more" if len(problems) > 5 else ""
        )
        raise InvalidArrays(f"not a valid {declared.name!r} (version {declared.version}): {shown}")


def _write_root(
    file: h5py.File,
    declared: Layout,
    stage: str,
    options: Mapping[str, Any],
    inputs: Sequence[str],
    attributes: Mapping[str, Any] | None,
) -> None:
    clash = sorted(set(attributes or ()) & set(RESERVED_ATTRIBUTES))
    if clash:
        raise InvalidArrays(f"attribute {clash[0]!r} is written by storage.hdf5 itself; choose another name")
    file.attrs["schema"] = declared.name
    file.attrs["schema_version"] = declared.version
    file.attrs["stage"] = stage
    file.attrs["options"] = _json(dict(options))
    file.attrs["inputs"] = _json(list(inputs))
    file.attrs["description"] = declared.description
    for name in sorted(attributes or ()):
        value = (attributes or {})[name]
        file.attrs[name] = _json(value) if isinstance(value, Mapping) else value


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _write_dataset(file: h5py.File, declared: Layout, path: str, array: NDArray[Any]) -> None:
    found = declared.find(path)
    assert found is not None  # check() has refused undeclared datasets
    group = _describe_groups(file, declared, path)
    values, dtype = _stored(array)
    dataset = group.create_dataset(
        path.rsplit("/", 1)[-1], data=values, dtype=dtype, track_times=False, **_storage(values)
    )
    dataset.attrs["description"] = found[0].description
    if found[0].unit:
        dataset.attrs["unit"] = found[0].unit


def _describe_groups(file: h5py.File, declared: Layout, path: str) -> h5py.Group:
    """The group that holds `path`, made with its parents, each with its description."""
    group: h5py.Group = file
    parts = path.split("/")[:-1]
    for depth, part in enumerate(parts, start=1):
        if part in group:
            group = group[part]
        else:
            group = group.create_group(part)
            group.attrs["description"] = declared.group_description("/".join(parts[:depth]))
    return group


def _stored(array: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    if array.dtype != object:
        little = array.dtype.newbyteorder("<")
        return np.ascontiguousarray(array, dtype=little).reshape(array.shape), little
    encoded = np.empty(array.shape, dtype=object)
    encoded[...] = [text.encode("utf-8", "surrogateescape") for text in array.reshape(-1)]
    return encoded, h5py.string_dtype("utf-8")


def _storage(values: NDArray[Any]) -> dict[str, Any]:
    """Chunks along items and gzip with shuffle for arrays worth it; text is stored elsewhere in the file anyway."""
    if values.dtype == object or values.ndim == 0 or values.nbytes < _COMPRESS_FROM:
        return {}
    rows = max(1, min(len(values), _CHUNK_BYTES // max(1, values.nbytes // len(values))))
    level = 1 if values.nbytes >= _FAST_FROM else 4
    return {
        "chunks": (rows, *values.shape[1:]),
        "compression": "gzip",
        "compression_opts": level,
        "shuffle": True,
    }


def _group_digest(group: h5py.Group) -> str:
    from storage.digests import group_sha256

    return group_sha256(group)
