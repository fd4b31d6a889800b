"""`inspect`: look into a file, at the rows of a dataset, or at what differs between two files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.table import Column, Table

from flows.cli.common import out, put, say, tell, usage
from storage.files.escaping import shown

if TYPE_CHECKING:
    from storage.inspect.difference import Change, Difference
    from storage.inspect.preview import Preview

_SHOWN_CHANGES = 60


def inspect(
    file: Annotated[Path, typer.Argument(help="an HDF5 file, a folder of the store, any other file")],
    other: Annotated[
        Path | None, typer.Argument(help="a second one: what differs between the two, options first")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="PATH", help="first rows of this dataset, or of a group's columns")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, max=100_000, help="how many rows of it")] = 10,
    full: Annotated[bool, typer.Option("--full", help="read and check every value")] = False,
    json: Annotated[bool, typer.Option("--json", help="as JSON, for programs")] = False,
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="seconds that reading one dataset may take without an answer")
    ] = 20.0,
    tuples: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="contact sheet of a training set's tuples")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=200, help="queries on the contact sheet")] = 12,
    photos: Annotated[
        Path | None, typer.Option(help="folder of the photographs, where the file's run does not know it")
    ] = None,
) -> None:
    """Look into a file: layout, shapes, types, units, where it comes from, what is wrong with it; of a
    training set also its splits, overlaps, scale changes and photographs that are no queries. Exit code 1:
    something is wrong with it, or the two differ."""
    with usage():
        if other is not None and (dataset or tuples):
            raise ValueError("two files are compared as wholes; give one file with --dataset or --tuples")
        if other is not None:
            _show_difference(file, other, full, json, time_limit)
            return
        if dataset is not None:
            _show_preview(file, dataset, rows, json, time_limit)
            return
    schema = _describe(file, full, json, time_limit)
    if tuples is not None:
        _write_sheet(file, schema, tuples, photos, count)


def _describe(file: Path, full: bool, json: bool, time_limit: float) -> str:
    """Print what a file is; its schema. Exit code 1 where something is wrong with it."""
    with usage():
        from storage.inspect.guarded import describe_limited

        description = describe_limited(file, full=full, time_limit_s=time_limit)
    if json:
        put(description.to_json())
    else:
        out.print(description)
    if description.violations:
        raise typer.Exit(1)
    if description.schema == "training_set" and not json:
        from flows.run.tuple_sheets import tables

        with usage():
            for part in tables(file):
                if isinstance(part, Table):
                    out.print()
                out.print(part, highlight=False, markup=False)
    return description.schema


def _show_preview(file: Path, dataset: str, rows: int, json: bool, time_limit: float) -> None:
    from storage.inspect.guarded import guarded

    found: Preview = guarded("storage.inspect.preview:preview", file, dataset, rows, time_limit_s=time_limit)
    if json:
        put(found.to_json())
        return
    for column in found.columns:
        shape = " x ".join(map(str, column.shape)) or "scalar"
        unit = f"  {column.unit}" if column.unit else ""
        say(f"{column.path}  [{shape}]  {column.type}{unit}  {column.description}")
    for table in _tables(found, out.width):
        out.print(table)
    hidden = [f"{found.total - len(found.rows)} more rows"] if found.total > len(found.rows) else []
    hidden += [f"{found.left_out} more columns"] if found.left_out else []
    say(f"{found.total} rows" + (f"; not shown: {', '.join(hidden)}" if hidden else ""))


def _tables(found: "Preview", width: int) -> list[Table]:
    """The rows as tables one below the other, each with as many columns as `width` characters hold."""
    cells = [[shown(_cell(value)) for value in column] for column in zip(*found.rows, strict=True)]
    names = [shown(name) for name in found.header]
    room = width - len(str(len(found.rows))) - 4
    bands: list[list[int]] = [[]]
    used = 0
    for at, name in enumerate(names):
        needed = 3 + max(cell_len(text) for text in (name, *(cells[at] if cells else ())))
        if bands[-1] and used + needed > room:
            bands.append([])
            used = 0
        bands[-1].append(at)
        used += needed
    tables = []
    for band in bands:
        tables.append(Table("", *(Column(names[at], overflow="fold") for at in band)))
        for number in range(len(found.rows)):
            tables[-1].add_row(str(number), *(cells[at][number] for at in band))
    return tables


def _show_difference(file: Path, other: Path, full: bool, json: bool, time_limit: float) -> None:
    from storage.inspect.guarded import guarded

    found: Difference = guarded(
        "storage.inspect.difference:difference", file, other, time_limit_s=time_limit, full=full
    )
    if json:
        put(found.to_json())
    else:
        _print_difference(found)
    if not found.same:
        raise typer.Exit(1)


def _print_difference(found: "Difference") -> None:
    titles = (("options", found.options), ("where they come from", found.made), ("datasets", found.datasets))
    for title, changes in titles:
        if changes:
            out.print(_change_table(title, changes, found))
        if len(changes) > _SHOWN_CHANGES:
            say(f"... {len(changes) - _SHOWN_CHANGES} more; --json lists all")
    for name in found.unread:
        say(f"not read for its size: {name}; --full reads it")
    what = "the same options and the same content" if found.same else "different"
    if found.unread and not found.options and not found.datasets:
        what = "no difference in what was read"
    say(f"{what}; {found.equal} datasets have equal values")


def _change_table(title: str, changes: "tuple[Change, ...]", found: "Difference") -> Table:
    table = Table("", shown(found.first), shown(found.second), title=title, title_justify="left")
    for change in changes[:_SHOWN_CHANGES]:
        table.add_row(*(shown(text) for text in (change.name, change.first, change.second)))
    return table


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _write_sheet(file: Path, schema: str, tuples: Path, photos: Path | None, count: int) -> None:
    with usage():
        from flows.run.tuple_sheets import NotATrainingSet, write_sheet

        if schema != "training_set":
            raise NotATrainingSet(f"{file}: only a training_set.h5 has tuples, this is {schema or 'another'}")
        tell(write_sheet(file, tuples, photos, count))
