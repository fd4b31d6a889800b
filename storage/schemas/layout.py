"""What an HDF5 layout is: declarations as data, from which writing, reading, checking, inspection and docs
follow.

A `Layout` is a named, versioned list of `Dataset`s. Sizes are named: `("R", 3)` is R rows of 3, `("R+1",)`
one more than R. An upper-case name is one size in the whole file; a lower-case name is a size of its own in
every item of a pattern such as `{photo}/keypoints`, which declares one dataset per item.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from storage.schemas.rules import Rule

Arrays = dict[str, Any]
RowOrder = Literal["any", "unique", "rising", "increasing"]

SHARE: dict[str, Any] = {"nan": True, "minimum": 0, "maximum": 1}
"""What holds for a dataset of shares: 0..1, nan = none."""
_SIZE = re.compile(r"([A-Za-z_]+)(?:\+(\d+))?")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class UnknownSchema(ValueError):
    """A schema name or version that is not declared."""


@dataclass(frozen=True)
class Dataset:
    """One dataset of a layout: where it is, its shape in named sizes, its type, what it means and what must
    hold for it.

    `dtype` is "str" (UTF-8, variable length), "S64" (fixed ASCII) or a numpy name; a tuple lists what is
    accepted, the first being the one that plain lists become. Floats are finite unless `nan`.
    """

    path: str
    dims: tuple[str | int, ...]
    dtype: str | tuple[str, ...]
    description: str
    unit: str = ""
    optional: bool = False
    index: str = ""  # the size that the values point into: 0 <= value < size
    none: bool = False  # -1 = none is allowed beside the index or the minimum; for S64 an empty text
    csr: str = ""  # this is an indptr; the size of the columns that it cuts into rows
    rows: RowOrder = (
        "any"  # order of the values within one CSR row: rising allows equals, increasing does not
    )
    nan: bool = False
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str | int, ...] = ()  # the only values allowed
    unique: bool = False  # no value twice in the dataset
    below: str = ""  # path of a dataset whose value must be larger, element by element
    mapped: bool = False  # one uncompressed piece of the file, for `Artifact.mapped`

    @property
    def dtypes(self) -> tuple[str, ...]:
        return (self.dtype,) if isinstance(self.dtype, str) else self.dtype

    @cached_property
    def item_keys(self) -> tuple[str, ...]:
        """Names between braces in the path: ("first", "second") for `{first}/{second}/matches0`."""
        return tuple(_PLACEHOLDER.findall(self.path))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        parts = [
            part if index % 2 == 0 else f"(?P<{part}>[^/]+)"
            for index, part in enumerate(_PLACEHOLDER.split(self.path))
        ]
        return re.compile(
            "".join(re.escape(part) if index % 2 == 0 else part for index, part in enumerate(parts))
        )

    def matches(self, path: str) -> tuple[str, ...] | None:
        """The item that `path` belongs to (() for a plain dataset), or None where it is not this dataset."""
        found = self.pattern.fullmatch(path)
        return found.groups() if found else None

    def at(self, item: tuple[str, ...]) -> str:
        """The path of this dataset in one item."""
        values = iter(item)
        return _PLACEHOLDER.sub(lambda _: next(values), self.path)


@dataclass(frozen=True)
class ItemsListed:
    """The items of `key` are exactly the values of the dataset `path`."""

    key: str
    path: str


@dataclass(frozen=True)
class Layout:
    """A kind of file: its datasets, what each group means, and the versions that readers still accept.

    `previous` are complete layouts of older versions; `upgrade` turns their arrays into this version's.
    """

    name: str
    version: int
    description: str
    datasets: tuple[Dataset, ...]
    groups: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)  # optional root attributes, for docs
    listed: tuple[ItemsListed, ...] = ()
    previous: tuple[Layout, ...] = ()
    upgrade: Callable[[int, Arrays], Arrays] | None = None
    rules: tuple[Rule, ...] = ()  # between columns

    def before(self, version: int, *added: str) -> Layout:
        """An older version, without the groups and datasets whose paths begin with one of `added`."""
        return replace(
            self,
            version=version,
            datasets=tuple(each for each in self.datasets if not each.path.startswith(added)),
            groups={name: text for name, text in self.groups.items() if not name.startswith(added)},
        )

    @cached_property
    def _plain(self) -> dict[str, Dataset]:
        return {dataset.path: dataset for dataset in self.datasets if not dataset.item_keys}

    @cached_property
    def patterns(self) -> tuple[Dataset, ...]:
        """The datasets that exist once per item."""
        return tuple(dataset for dataset in self.datasets if dataset.item_keys)

    def find(self, path: str) -> tuple[Dataset, tuple[str, ...]] | None:
        """The declaration of `path` and the item that it belongs to, None where there is no such dataset."""
        if path in self._plain:
            return self._plain[path], ()
        for dataset in self.patterns:
            item = dataset.matches(path)
            if item is not None and path.split("/")[0] not in self.reserved:
                return dataset, item
        return None

    @cached_property
    def reserved(self) -> frozenset[str]:
        """First path segments of plain datasets: no item at the top of the file may be called so."""
        return frozenset(path.split("/")[0] for path in self._plain)

    @cached_property
    def item_prefix(self) -> str:
        """The group that an item is, as a pattern: `{first}/{second}`; "" for a layout without items."""
        if not self.patterns:
            return ""
        path = self.patterns[0].path
        return path[: path.rindex("}") + 1]

    def group_description(self, path: str) -> str:
        """What a group means; items are described by their pattern."""
        if path in self.groups:
            return self.groups[path]
        for pattern, text in self.groups.items():
            if "{" in pattern and Dataset(pattern, (), "", "").matches(path):
                return text
        return f"{path.rsplit('/', 1)[-1]} of {self.name}"


def size_of(symbol: str | int, sizes: Mapping[str, int]) -> int | None:
    """The number behind a size such as 3, "R" or "R+1"; None while the name is unknown."""
    if isinstance(symbol, int):
        return symbol
    name, extra = split_size(symbol)
    return sizes[name] + extra if name in sizes else None


def split_size(symbol: str) -> tuple[str, int]:
    """("R", 1) of "R+1"."""
    found = _SIZE.fullmatch(symbol)
    if found is None:
        raise ValueError(f"size {symbol!r} is not a name or a name plus a number; write it like R or R+1")
    return found[1], int(found[2] or 0)
