"""What differs between two artifacts: options first, then where they come from, then their values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from storage.hdf5.access import HDF5_ERRORS, open_file
from storage.hdf5.open import root_attributes
from storage.hdf5.sources import FileSource, Watch, blocks, type_name
from storage.hdf5.values import written
from storage.hdf5.walk import walk
from storage.inspect.made import sidecar_facts
from storage.inspect.tree import MAX_ROWS, rows_of

ABSENT = "—"
_IDENTITY = ("schema", "schema_version", "stage")
_MADE = ("stage version", "packages", "git revision", "machine")


@dataclass(frozen=True)
class Change:
    """One fact that differs: what it is, and how the first and the second file have it."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class Difference:
    """All that differs. options: dotted names; made: kind, inputs, versions; datasets: type, shape, values.

    equal: datasets with equal values; unread: datasets too large for a quick look, of equal type and shape.
    """

    first: str
    second: str
    options: tuple[Change, ...]
    made: tuple[Change, ...]
    datasets: tuple[Change, ...]
    equal: int = 0
    unread: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether options and content are the same; when and with which versions they were made may not."""
        return not self.options and not self.datasets and not self.unread

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "same": self.same}, indent=2, sort_keys=True)


def difference(
    first: Path | str,
    second: Path | str,
    *,
    full: bool = False,
    watch: Callable[[str], None] | None = None,
) -> Difference:
    """Compare two HDF5 files block by block; without `full`, datasets of many rows by type and shape only.

    Raises FileNotFoundError, NotAnArtifact, DamagedArtifact.
    """
    paths = Path(first), Path(second)
    tell = Watch(watch)
    with open_file(paths[0]) as one, open_file(paths[1]) as other:
        tell("/")
        attributes = [root_attributes(path, file) for path, file in zip(paths, (one, other), strict=True)]
        found = walk(one), walk(other)
        changes: list[Change] = []
        equal, unread = 0, []
        for name in sorted({*found[0].datasets, *found[1].datasets, *found[0].strange, *found[1].strange}):
            tell(name)
            pair = found[0].datasets.get(name), found[1].datasets.get(name)
            change = _header_change(name, *pair)
            if change is None and pair[0] is not None and not full and rows_of(pair[0]) > MAX_ROWS:
                unread.append(name)
                continue
            if change is None and pair[0] is not None and pair[1] is not None:
                change = _value_change(name, pair[0], pair[1], tell)
                equal += change is None
            if change is not None:
                changes.append(change)
    return Difference(
        str(first),
        str(second),
        _changes(*(_options(each) for each in attributes)),
        _changes(*(_made(path, each) for path, each in zip(paths, attributes, strict=True))),
        tuple(changes),
        equal,
        tuple(unread),
    )


def _changes(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[Change, ...]:
    names = sorted({*first, *second})
    pairs = ((name, first.get(name, ABSENT), second.get(name, ABSENT)) for name in names)
    return tuple(Change(*each) for each in pairs if each[1] != each[2])


def _options(attributes: Mapping[str, Any]) -> dict[str, str]:
    try:
        return _flat(json.loads(attributes.get("options", "{}")))
    except (TypeError, ValueError):
        return {"": "damaged"}


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """{"a.b": "3"} of {"a": {"b": 3}}."""
    if isinstance(value, dict) and value:
        return {
            k: v for key, each in value.items() for k, v in _flat(each, f"{name}.{key}".strip(".")).items()
        }
    return {name: json.dumps(value, sort_keys=True)}


def _made(path: Path, attributes: Mapping[str, Any]) -> dict[str, str]:
    """Everything about a file that is neither options nor datasets; "inputs[0]" is a content digest."""
    facts = {name: str(attributes.get(name, ABSENT)) for name in _IDENTITY}
    try:
        inputs = json.loads(attributes.get("inputs", "[]"))
    except (TypeError, ValueError):
        inputs = ["damaged"]
    facts |= {f"inputs[{at}]": str(digest) for at, digest in enumerate(inputs)}
    own = {**attributes, "options": "", "inputs": "", "description": ""}
    facts |= {name: str(value) for name, value in own.items() if name not in facts and value != ""}
    for name, value in sidecar_facts(path).items():
        if name in _MADE:
            facts |= _flat(value, name)
    facts.pop("machine.peak_memory_bytes", None)
    return facts


def _header_change(name: str, first: h5py.Dataset | None, second: h5py.Dataset | None) -> Change | None:
    texts = [ABSENT if each is None else f"{type_name(each.dtype)} {each.shape}" for each in (first, second)]
    return Change(name, *texts) if texts[0] != texts[1] else None


def _value_change(name: str, first: h5py.Dataset, second: h5py.Dataset, tell: Watch) -> Change | None:
    """The first value that differs, with how many do and how far apart numbers are."""
    sources = FileSource({name: first}, tell), FileSource({name: second}, tell)
    count, place, texts, apart = 0, "", ("", ""), 0.0
    try:
        for (start, one), (_, other) in zip(*(blocks(each, name) for each in sources), strict=True):
            if one.size == 0:
                continue
            same = np.asarray(one == other)
            if one.dtype.kind == "f":
                same |= np.isnan(one) & np.isnan(other)
            if one.dtype.kind in "iuf":
                with np.errstate(invalid="ignore"):
                    gaps = np.abs(one.astype(np.float64) - other.astype(np.float64))[~same]
                apart = max(apart, float(np.nanmax(gaps, initial=0.0))) if gaps.size else apart
            if not same.all() and not count:
                at = np.unravel_index(int(np.argmin(same)), same.shape)
                place = ", ".join(str(int(i) + (start if axis == 0 else 0)) for axis, i in enumerate(at))
                texts = written(one[at]), written(other[at])
            count += int(same.size - same.sum())
    except HDF5_ERRORS as error:
        return Change(name, "cannot be read", " ".join(str(error).split()))
    if not count:
        return None
    spread = f"; {count} of {first.size} differ" + (f", by {apart:.3g} at most" if apart else "")
    return Change(f"{name}[{place}]", texts[0], texts[1] + spread)
