"""Artifacts that are not HDF5: the tensors of a network, the keys of a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from storage.files.digests import UnreadableContent, safetensors_header
from storage.hdf5.check import Violation
from storage.inspect.tree import Node

KINDS = (".json", ".safetensors")
_MOST_JSON = 64 << 20
_SHOWN_KEYS = 64
_Look = tuple[Node | None, dict[str, Any], list[Violation]]


def look_into(path: Path) -> _Look:
    """(tree, attributes, problems) of a file of one of KINDS; a damaged one never raises."""
    try:
        return _network(path) if path.suffix == ".safetensors" else _json(path)
    except (
        UnreadableContent,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        return None, {}, [Violation("/", f"cannot be read ({error}); rebuild the file")]


def _network(path: Path) -> _Look:
    with path.open("rb") as file:
        header, told, start = safetensors_header(file, path)
    problems = []
    nodes = []
    for name, entry in sorted(header.items()):
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= path.stat().st_size - start:
            problems.append(Violation(name, "lies outside of the file; it is truncated: rebuild it"))
        shape = tuple(map(int, entry["shape"]))
        nodes.append(Node(name, "dataset", shape=shape, type=str(entry["dtype"]), stored_bytes=end - begin))
    return Node("", "group", children=tuple(nodes)), told, problems


def _json(path: Path) -> _Look:
    if path.stat().st_size > _MOST_JSON:
        return None, {"content": "JSON, not read for its size"}, []
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        return None, {"content": _summary(content)}, []
    return None, {name: _summary(value) for name, value in list(content.items())[:_SHOWN_KEYS]}, []


def _summary(value: Any) -> Any:
    """A number or short text as it is, lists and objects by their length."""
    if isinstance(value, dict | list):
        return f"{len(value)} {'keys' if isinstance(value, dict) else 'values'}"
    return value if not isinstance(value, str) or len(value) <= 200 else f"{value[:200]}..."
