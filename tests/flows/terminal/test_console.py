"""All that the commands print goes through one module, which lets no control character through."""

import ast
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.table import Table
from rich.tree import Tree
from typer.testing import CliRunner

from flows.cli import main
from flows.terminal import console
from flows.terminal.console import PlainConsole, put, say, tell
from storage.files.escaping import shown as as_markup
from tests.official import needs, official

ROOT = Path(__file__).resolve().parents[3]
CASE = official("cases", "terminal_escapes", "esc.h5")
PACKAGES = ("flows", "storage", "sfm", "retrieval", "tasks", "report", "browse", "town")
PROTOCOL = {"storage/children/process.py": {"sys.stdout", "sys.stderr"}}
"""A child whose output is caught."""
OWN = {
    "flows/terminal/console.py": {"Console", "sys.stdout"},
    "flows/cli/main.py": {"sys.stdout", "sys.stderr"},
    "storage/inspect/render.py": {"Console", "console.print"},
    "storage/schemas/docs.py": {"print"},
}
"""Where output is made: the one place, how bytes are encoded, a text in memory, generated documentation."""
STREAMS = ("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "typer.echo", "typer.secho")
NASTY = "a\x1b[31m\x9b2J\x07\u202eb[red]c[/red]"
SHOWN = r"a\x1b[31m\x9b2J\x07\u202eb[red]c[/red]"


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def outputs(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, what) of everything in a module that could write to a terminal by itself."""
    for node in ast.walk(tree):
        name = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        if name in (
            "sys.stdout",
            "sys.stderr",
            "sys.__stdout__",
            "sys.__stderr__",
            "typer.echo",
            "typer.secho",
        ):
            yield node.lineno, name
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "Console", "rich.print") or called == "console.print":
                yield node.lineno, called
        if isinstance(node, ast.ImportFrom) and node.module == "rich.markup":
            yield node.lineno, "rich.markup"


def test_output_goes_through_one_module() -> None:
    allowed = {**OWN, **PROTOCOL, "storage/files/escaping.py": {"rich.markup"}}
    found = [
        f"{name}:{line} {what}"
        for name, tree in modules()
        for line, what in outputs(tree)
        if what not in allowed.get(name, set())
    ]
    assert found == []


def test_a_line_is_said_and_only_what_rich_draws_is_printed() -> None:
    """A text in `out.print` would be read as markup."""
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("out.print", "err.print"):
                texts = [each for each in node.args if isinstance(each, ast.Constant | ast.JoinedStr)]
                assert not texts, f"{name}:{node.lineno}: use say() or tell()"


def test_a_table_and_a_tree_show_it_written_out() -> None:
    """Made harmless where it is put in, whole and in the right width; where that was forgotten, harmless."""
    file = io.StringIO()
    table, tree = Table("", title=NASTY), Tree("x")
    table.add_row(as_markup(NASTY))
    table.add_row(NASTY)
    tree.add(table)
    PlainConsole(file=file, width=100, force_terminal=True, color_system=None).print(tree)
    assert SHOWN in file.getvalue()
    assert all(each.isprintable() or each == "\n" for each in file.getvalue())


def test_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "out", console.console())
    monkeypatch.setattr(console, "err", console.console(stderr=True))
    say(f"{NASTY}\nforged")
    tell(f"{NASTY}\nforged", red="error:")
    put('{"a": 1}')
    shown, told = capsys.readouterr()
    assert shown == SHOWN + '\\nforged\n{"a": 1}\n'
    assert told == f"error: {SHOWN}\\nforged\n"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """An HDF5 file whose every text is hostile."""
    import h5py

    path = tmp_path / "esc.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group(NASTY.replace("/", ""))
        group.attrs[NASTY] = NASTY
        group.create_dataset("name", data=np.array([NASTY, "b\nforged"], dtype=h5py.string_dtype()))
        file.attrs["description"] = NASTY
        file.attrs["schema"] = NASTY
    return path


def clean(result: Any) -> str:
    """The output, which has no control character but line ends."""
    assert not [each for each in result.output if not each.isprintable() and each != "\n"]
    assert "Traceback" not in result.output
    return str(result.output)


def test_inspect_shows_a_hostile_file(hostile: Path, tmp_path: Path) -> None:
    call = CliRunner().invoke
    assert r"\x1b[31m" in clean(call(main.app, ["inspect", str(hostile)]))
    group = NASTY.replace("/", "")
    assert r"\x1b[31m" in clean(call(main.app, ["inspect", str(hostile), "--dataset", f"{group}/name"]))
    clean(call(main.app, ["inspect", str(hostile), "--json"]))
    other = tmp_path / f"{group}.h5"
    other.write_bytes(hostile.read_bytes()[:-100])
    clean(call(main.app, ["inspect", str(hostile), str(other)]))
    clean(call(main.app, ["inspect", str(other)]))
    clean(call(main.app, ["inspect", str(hostile), "--dataset", NASTY]))


@needs(CASE)
@pytest.mark.parametrize("options", [[], ["--full"], ["--json"]])
def test_the_case_that_was_seen(options: list[str]) -> None:
    clean(CliRunner().invoke(main.app, ["inspect", str(CASE), *options]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["store", "ls", f"{NASTY}\nforged"],
        ["store", NASTY],
        [NASTY],
        ["run", NASTY, "--store", "x", "--set", NASTY],
        ["run", ".", "--store", "x", f"--{NASTY}"],
        ["run", ".", "--store", "x", "--until", NASTY],
        ["search", NASTY, "--store", NASTY],
        ["browse", NASTY],
    ],
)
def test_what_the_user_typed_is_quoted_harmlessly(arguments: list[str]) -> None:
    result = CliRunner().invoke(main.app, arguments)
    assert result.exit_code == 2
    clean(result)
