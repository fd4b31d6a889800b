"""Table classes: a group of a file as a class, each column a field that says what must hold.

    @dataclass(frozen=True, eq=False)
    class Points(Table, rows="P"):
        xyz: Floats = column("float64", "position in the world of its model", "model units", dims=(3,))
        model: Ints = column("int64", "model that the point belongs to", index="M")

`Points.datasets("points")` declares them for a layout, `Points.of(arrays, "points")` reads them. They hold
arrays and nothing that shapes them. A text may have names in braces that `datasets` fills in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from storage.schemas.layout import Dataset, RowOrder

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Texts = NDArray[Any]
_COLUMNS = "columns"


class Column(NamedTuple):
    """A dataset of a table. at: path below the field's own, "" = itself; rows: "" = those of the table."""

    at: str
    declared: Dataset
    rows: str


def column(
    dtype: str | tuple[str, ...],
    description: str,
    unit: str = "",
    *,
    dims: tuple[str | int, ...] = (),
    rows: str = "",
    order: RowOrder = "any",
    **holds: Any,
) -> Any:
    """A field [rows, *dims], None where it is optional and not there. order: of the values in a row of a CSR;
    holds: further fields of Dataset; `below` names a column of the same table."""
    declared = Dataset("", dims, dtype, description, unit, rows=order, **holds)
    return _field(Column("", declared, rows))


def ragged(size: str, begins: str, images: str, *, rows: str, order: RowOrder, optional: bool = False) -> Any:
    """A field that is a list of images per row: indptr [rows + 1] and image [size]."""
    image = Dataset("", (), "int64", images, index="N", rows=order, optional=optional)
    parts = (
        Column("/indptr", Dataset("", (), "int64", begins, csr=size, optional=optional), f"{rows}+1"),
        Column("/image", image, size),
    )
    return _field(*parts)


def _field(*parts: Column) -> Any:
    metadata = {_COLUMNS: parts}
    return field(default=None, metadata=metadata) if parts[0].declared.optional else field(metadata=metadata)


@dataclass(frozen=True, eq=False)
class Ragged:
    """A list of images per row: row i is image[indptr[i]:indptr[i + 1]]."""

    indptr: Ints
    image: Ints

    @classmethod
    def from_rows(cls, rows: Sequence[Ints]) -> Self:
        indptr = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        return cls(indptr, np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int64))

    def row(self, index: int) -> Ints:
        return self.image[self.indptr[index] : self.indptr[index + 1]]

    def __len__(self) -> int:
        return self.indptr.size - 1


class Table:
    """One group of a file; subclasses are frozen dataclasses of `column` and `ragged` fields."""

    _rows: ClassVar[str] = ""

    def __init_subclass__(cls, rows: str = "", **more: Any) -> None:
        super().__init_subclass__(**more)
        cls._rows = rows or cls._rows

    @classmethod
    def datasets(
        cls,
        group: str,
        *,
        rows: str = "",
        means: Mapping[str, str] | None = None,
        optional: bool = False,
        **names: str,
    ) -> tuple[Dataset, ...]:
        """The declarations of a group. rows: its size, where it is not the table's; means: other descriptions
        of some columns; optional: all of it; names: what stands in braces."""
        found = []
        for each, part in cls._columns():
            declared = part.declared
            size = (part.rows or rows or cls._rows).format(**names)
            said = (means or {}).get(each.name, declared.description).format(**names)
            found.append(
                replace(
                    declared,
                    path=f"{group}/{path_of(each.name)}{part.at}",
                    dims=(size, *declared.dims),
                    description=said,
                    optional=optional or declared.optional,
                    csr=declared.csr.format(**names),
                    below=declared.below and f"{group}/{declared.below}",
                )
            )
        return tuple(found)

    @classmethod
    def of(cls, arrays: Mapping[str, Any], group: str) -> Self:
        """A group of a file's arrays by path; optional columns that are not there are None."""
        found: dict[str, list[Any]] = {}
        for each, part in cls._columns():
            found.setdefault(each.name, []).append(arrays.get(f"{group}/{path_of(each.name)}{part.at}"))
        return cls(
            **{
                name: None if values[0] is None else values[0] if len(values) == 1 else Ragged(*values)
                for name, values in found.items()
            }
        )

    def arrays(self, group: str) -> dict[str, Any]:
        """Path -> array, without optional columns that are None."""
        found: dict[str, Any] = {}
        for each, part in self._columns():
            value = getattr(self, each.name)
            if value is not None:
                inner = part.at.removeprefix("/")
                path = f"{group}/{path_of(each.name)}{part.at}"
                found[path] = getattr(value, inner) if inner else value
        return found

    def taken(self, rows: NDArray[Any]) -> Self:
        """Some rows of the table, by mask or position; lists of images and their bounds stay as they are."""
        found = {
            each.name: getattr(self, each.name)
            for each, part in self._columns()
            if not part.at and not part.rows
        }
        return replace(self, **{name: value[rows] for name, value in found.items() if value is not None})  # type: ignore[type-var]

    @classmethod
    def _columns(cls) -> Iterator[tuple[Field[Any], Column]]:
        for each in fields(cls):  # type: ignore[arg-type]
            for part in each.metadata[_COLUMNS]:
                yield each, part


def path_of(name: str) -> str:
    """`params_indptr` lies at `params/indptr`, any other column under its name."""
    return name.replace("params_", "params/")
