"""What the attributes of a file say, and what is wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from storage.files.digests import is_digest
from storage.hdf5.access import HDF5_ERRORS
from storage.hdf5.check import Violation
from storage.hdf5.sources import FileSource, Watch, blocks
from storage.hdf5.walk import Walk
from storage.inspect.made import MOST_BYTES
from storage.schemas.layout import Layout


def provenance_problems(attributes: Mapping[str, Any]) -> list[Violation]:
    """Root attributes that are missing or not what every file has; the layout's name is checked elsewhere."""
    return [Violation("/", text) for text in _problems(attributes)]


def _problems(attributes: Mapping[str, Any]) -> Iterator[str]:
    for name, kind in {"options": dict, "inputs": list}.items():
        if not isinstance(json_of(attributes, name, None), kind):
            yield f"root attribute {name!r} is missing or not a JSON {kind.__name__}; rebuild the file"
    for position, each in enumerate(json_of(attributes, "inputs", [])):
        if not isinstance(each, str) or not is_digest(each):
            shown = repr(each)[:80]
            yield f"root attribute 'inputs' has {shown} at [{position}]; each is a sha256 in hexadecimal"
    for name in ("stage", "description"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            yield f"root attribute {name!r} is missing or no text; rebuild the file"


def unit_problems(found: Walk, declared: Layout) -> list[Violation]:
    """Datasets whose attribute `unit` is not the declared one."""
    problems = []
    for path, dataset in found.datasets.items():
        known = declared.find(path)
        if known is None:
            continue
        try:
            unit = dataset.attrs.get("unit", "")
        except HDF5_ERRORS:  # reported as an attribute that cannot be read
            continue
        unit = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)
        if unit != known[0].unit:
            text = f"has {unit!r} as attribute 'unit', the schema says {known[0].unit!r}; rebuild the file"
            problems.append(Violation(path, text))
    return problems


def value_digest_problems(
    found: Walk, attributes: Mapping[str, Any], full: bool, watch: Watch
) -> list[Violation]:
    """Datasets whose values have another sha256 than the root attribute `<dataset>_sha256` says.

    Above MOST_BYTES they are read with `full` alone.
    """
    problems = []
    source = FileSource(found.datasets, watch)
    for path, dataset in found.datasets.items():
        wanted = attributes.get(f"{path}_sha256")
        if not wanted or (not full and dataset.nbytes > MOST_BYTES):
            continue
        try:
            digest = hashlib.sha256()
            for _, block in blocks(source, path):
                little = block.dtype.newbyteorder("<")
                digest.update(np.ascontiguousarray(block, dtype=little).tobytes())
        except HDF5_ERRORS:  # reported where its values are checked
            continue
        if digest.hexdigest() != wanted:
            text = (
                f"has the sha256 {digest.hexdigest()[:16]}..., the root attribute says {str(wanted)[:16]}..."
            )
            problems.append(Violation(path, f"{text}; rebuild the file"))
    return problems


def json_of(attributes: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value of an attribute that holds JSON, `default` where it is missing or of another type."""
    try:
        value = json.loads(attributes.get(name, ""))
    except (TypeError, ValueError):
        return default
    return value if default is None or isinstance(value, type(default)) else default
