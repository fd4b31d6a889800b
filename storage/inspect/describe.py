"""Look inside an artifact: a tree with shapes, types, units, sizes, statistics, without reading it whole.

    print(describe("scene.h5"))            # text; rich.print shows it in colour; .to_json() for programs

Damaged and foreign files are described as far as they can be read; what is wrong is listed, never raised.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import h5py

from storage.files.errors import ArtifactError
from storage.hdf5.access import open_file
from storage.hdf5.check import Violation
from storage.hdf5.open import RESERVED_ATTRIBUTES, layout_of, root_attributes
from storage.hdf5.sources import Watch
from storage.hdf5.walk import walk
from storage.inspect.made import compare_bytes, digest_problems, sidecar_facts
from storage.inspect.other import KINDS as OTHER_KINDS
from storage.inspect.other import look_into
from storage.inspect.render import Description
from storage.inspect.root import json_of
from storage.inspect.soundness import HDF5_KINDS, problems_of_hdf5
from storage.inspect.tree import MAX_ROWS, rows_of, tree
from storage.keys.artifacts import MANIFEST
from storage.schemas.layout import Layout

_SHOWN_MEMBERS = 32


def describe(
    path: Path | str,
    *,
    full: bool = False,
    watch: Callable[[str], None] | None = None,
    refused: Collection[str] = (),
) -> Description:
    """Describe an HDF5 file, a directory artifact (with manifest.json) or any other file.

    `full` reads and checks every value and lists every item. `watch` is told each path before it is read;
    those in `refused` are not. Raises FileNotFoundError only.
    """
    path = Path(path)
    if path.is_dir():
        return _describe_directory(path, full, watch, refused)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; give the path of an artifact")
    if not path.is_file():
        return Description(str(path), "special", 0, violations=(Violation("/", "is no file; give one"),))
    if path.suffix in OTHER_KINDS:
        return _describe_other(path, full)
    try:
        with open_file(path) as file:
            return _describe_hdf5(path, file, full, Watch(watch, refused))
    except (ArtifactError, OSError) as error:
        return Description(str(path), "file", path.stat().st_size, violations=(Violation("/", str(error)),))


def _describe_hdf5(path: Path, file: h5py.File, full: bool, watch: Watch) -> Description:
    watch("/")
    found = walk(file)
    max_rows = None if full else MAX_ROWS
    attributes: dict[str, Any] = {}
    declared: Layout | None = None
    try:
        attributes = root_attributes(path, file)
        declared = layout_of(path, file)
        violations = problems_of_hdf5(found, attributes, declared, full=full, watch=watch)
        violations += digest_problems(path, full)
    except ArtifactError as error:
        violations = [Violation("/", str(error))]
    version = attributes.get("schema_version")
    return Description(
        path=str(path),
        kind="hdf5",
        bytes=path.stat().st_size,
        schema=str(attributes.get("schema", "")),
        version=version if isinstance(version, int) else None,
        stage=str(attributes.get("stage", "")),
        options=json_of(attributes, "options", {}),
        inputs=tuple(map(str, json_of(attributes, "inputs", []))),
        attributes={name: each for name, each in attributes.items() if name not in RESERVED_ATTRIBUTES},
        made=sidecar_facts(path),
        root=tree(found, declared, str(attributes.get("description", "")), full, watch),
        violations=tuple(violations),
        unchecked=tuple(
            sorted(name for name, each in found.datasets.items() if max_rows and rows_of(each) > max_rows)
        ),
    )


def _describe_other(path: Path, full: bool) -> Description:
    """A network or a JSON file: its tensors or its keys, and whether it is as it was made."""
    root, attributes, problems = look_into(path)
    return Description(
        path=str(path),
        kind=path.suffix[1:],
        bytes=path.stat().st_size,
        attributes=attributes,
        made=sidecar_facts(path),
        root=root,
        violations=(*problems, *digest_problems(path, full)),
    )


def _describe_directory(
    path: Path, full: bool, watch: Callable[[str], None] | None, refused: Collection[str]
) -> Description:
    """A folder: its manifest against what is there (sizes, digests of small files), each HDF5 member."""
    problems: list[Violation] = []
    listed: dict[str, tuple[int, str]] = {}
    try:
        listed = _manifest_files(json.loads((path / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        problems.append(Violation(MANIFEST, "is missing; this folder is not an artifact"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        problems.append(Violation(MANIFEST, f"cannot be read ({error}); rebuild the artifact"))
    files = {each.relative_to(path).as_posix(): each for each in sorted(path.rglob("*")) if each.is_file()}
    files.pop(MANIFEST, None)
    problems += [
        Violation(name, "is in the manifest, but not there; rebuild") for name in listed if name not in files
    ]
    if listed:
        problems += [
            Violation(name, "is not in the manifest; remove it") for name in files if name not in listed
        ]
    for name, (size, sha256) in listed.items():
        if name in files:
            problems += [Violation(name, text) for text in compare_bytes(files[name], sha256, size, full)]
    problems += digest_problems(path, full)
    shown = list(files.values())[: None if full else _SHOWN_MEMBERS]
    return Description(
        path=str(path),
        kind="directory",
        bytes=sum(each.stat().st_size for each in files.values()),
        violations=tuple(problems),
        attributes={"files": len(files)},
        made=sidecar_facts(path),
        members=tuple(_describe_member(each, path, full, watch, refused) for each in shown),
    )


def _describe_member(
    path: Path, folder: Path, full: bool, watch: Callable[[str], None] | None, refused: Collection[str]
) -> Description:
    """An HDF5 file or a network in full, others by their size; paths within: `member.h5: path`."""
    if path.suffix == ".safetensors":
        return _describe_other(path, full)
    if path.suffix in HDF5_KINDS:
        begin = f"{path.relative_to(folder).as_posix()}: "
        own = [each.removeprefix(begin) for each in refused if each.startswith(begin)]
        tell = None if watch is None else lambda each: watch(begin + each)
        return describe(path, full=full, watch=tell, refused=own)
    return Description(str(path), "file", path.stat().st_size)


def _manifest_files(manifest: Any) -> dict[str, tuple[int, str]]:
    """{relative path: (bytes, sha256)} of a manifest {"files": [{"path", "bytes", "sha256", ...}, ...]}."""
    return {str(each["path"]): (int(each["bytes"]), str(each["sha256"])) for each in manifest["files"]}
