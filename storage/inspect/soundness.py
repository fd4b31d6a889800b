"""Everything that can be wrong with the content of an artifact: asked by publishing and `inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.files.digests import relative_files
from storage.files.errors import ArtifactError, WrongSchema
from storage.hdf5.access import open_file
from storage.hdf5.check import Violation
from storage.hdf5.open import layout_of, root_attributes, violations_of
from storage.hdf5.relations import related
from storage.hdf5.sources import UNWATCHED, FileSource, Watch
from storage.hdf5.walk import Walk, walk
from storage.inspect.other import KINDS as OTHER_KINDS
from storage.inspect.other import look_into
from storage.inspect.root import provenance_problems, unit_problems, value_digest_problems
from storage.inspect.tree import MAX_ROWS
from storage.schemas.layout import Layout

HDF5_KINDS = (".h5", ".hdf5")


def problems_of_artifact(path: Path, schema_name: str | None = None) -> list[Violation]:
    """All that is wrong with a file or a folder that was built, every value read; [] where all is sound.

    schema_name: the layout that the file must have. In a folder its HDF5 files and networks are looked at,
    and paths begin with the member's name. Raises OSError where the disk fails.
    """
    if path.is_dir():
        return [
            Violation(f"{name}: {each.path}", each.message)
            for name in relative_files(path)
            for each in _problems_of_file(path / name, None)
        ]
    return _problems_of_file(path, schema_name)


def _problems_of_file(path: Path, schema_name: str | None) -> list[Violation]:
    if path.suffix in OTHER_KINDS:
        return look_into(path)[2]
    if schema_name is None and path.suffix not in HDF5_KINDS:
        return []
    try:
        with open_file(path) as file:
            declared = layout_of(path, file)
            if schema_name not in (None, declared.name):
                raise WrongSchema(f"{path.name}: a {declared.name!r} file, not {schema_name!r}")
            return problems_of_hdf5(walk(file), root_attributes(path, file), declared)
    except ArtifactError as error:
        return [Violation("/", str(error))]


def problems_of_hdf5(
    found: Walk,
    attributes: Mapping[str, Any],
    declared: Layout,
    *,
    full: bool = True,
    watch: Watch = UNWATCHED,
) -> list[Violation]:
    """What a file promises and does not keep: names, types, sizes, values, provenance, units, the rules
    between its columns, digests of its values.

    Without `full` datasets of more than MAX_ROWS rows are not read. watch: told each path before it is read.
    """
    max_rows = None if full else MAX_ROWS
    problems = violations_of(found, declared, max_rows, watch) + provenance_problems(attributes)
    problems += unit_problems(found, declared)
    broken = {each.path for each in problems}
    problems += related(FileSource(found.datasets, watch), declared, broken, max_rows)
    return problems + value_digest_problems(found, attributes, full, watch)
