"""Named sizes: which datasets of a file must have how many rows, and which of them disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from storage.hdf5.sources import Source
from storage.schemas.layout import Dataset, size_of, split_size

Item = tuple[tuple[str, ...], tuple[str, ...]]  # names of the placeholders, their values
Votes = dict[tuple[Item | None, str], dict[str, int]]  # (item, size) -> what each path says


@dataclass(frozen=True)
class Column:
    """A dataset that is there, its declaration, its item and the sizes that hold for it."""

    path: str
    dataset: Dataset
    item: Item
    sizes: dict[str, int] = field(default_factory=dict)


def check_sizes(source: Source, columns: list[Column]) -> Iterator[tuple[str, str]]:
    """(path, text) of each dataset that disagrees: what most say is the size (the first of equals).

    Fills in every column's sizes: those of the whole file and those of its own item.
    """
    votes = _votes(source, columns)
    chosen: dict[Item | None, dict[str, int]] = {}
    for (item, name), lengths in votes.items():
        chosen.setdefault(item, {})[name] = Counter(lengths.values()).most_common(1)[0][0]
    for column in columns:
        shape = source.shape(column.path)
        column.sizes.update({**chosen.get(None, {}), **chosen.get(column.item, {})})
        if len(shape) != len(column.dataset.dims):
            continue
        for axis, length in enumerate(shape):
            text = _disagrees(column, axis, length, votes)
            if text:
                yield column.path, text


def _votes(source: Source, columns: list[Column]) -> Votes:
    """What each dataset says about each size; the item None is the whole file."""
    votes: Votes = {}
    for column in columns:
        shape = source.shape(column.path)
        if len(shape) != len(column.dataset.dims):
            continue
        for symbol, length in zip(column.dataset.dims, shape, strict=True):
            name, extra = split_size(symbol) if isinstance(symbol, str) else ("", 0)
            if name and length >= extra:
                votes.setdefault((_scope(column, name), name), {}).setdefault(column.path, length - extra)
    return votes


def _scope(column: Column, name: str) -> Item | None:
    """The item that a size belongs to: lower-case names do, upper-case names are the file's."""
    return column.item if column.dataset.item_keys and name.islower() else None


def _disagrees(column: Column, axis: int, length: int, votes: Votes) -> str:
    symbol = column.dataset.dims[axis]
    wanted = size_of(symbol, column.sizes)
    if length == wanted:
        return ""
    begin = f"has {length} along axis {axis}"
    if isinstance(symbol, int) or wanted is None:
        return f"{begin}, the schema says {symbol}"
    name, extra = split_size(symbol)
    if length < extra:
        return f"{begin}, but {symbol} is at least {extra}; an empty CSR has indptr [0]"
    others = votes[_scope(column, name), name]
    by = next(path for path, size in others.items() if size == column.sizes[name])
    return f"{begin}, but {by} makes it {wanted} ({symbol}); give both the same number of rows"
