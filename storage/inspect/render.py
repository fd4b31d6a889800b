"""A description as a rich tree, or as plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import StringIO
from typing import Any

import numpy as np
from rich.console import Console
from rich.tree import Tree

from storage.files.escaping import escaped, escaped_lines, shown
from storage.files.units import human_bytes
from storage.hdf5.check import Violation
from storage.inspect.tree import Node, Statistics


@dataclass(frozen=True)
class Description:
    """What a file or folder is, where it comes from, what it holds and what is wrong with it.

    `schema` is "" where the file is foreign or damaged. `unchecked`: datasets too large for a quick look.
    `made`: when, how long it took, versions, machine; from the sidecar, {} where there is none.
    """

    path: str
    kind: str
    bytes: int
    schema: str = ""
    version: int | None = None
    stage: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    root: Node | None = None
    violations: tuple[Violation, ...] = ()
    unchecked: tuple[str, ...] = ()
    members: tuple[Description, ...] = ()

    def to_json(self) -> str:
        """The whole description as JSON; nan and infinities become null."""
        return json.dumps(_plain(asdict(self)), indent=2, sort_keys=True)

    def __rich__(self) -> Tree:
        return render(self)

    def __str__(self) -> str:
        return to_text(self)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def render(description: Description) -> Tree:
    """A rich tree of a description: provenance, contents, violations."""
    tree = Tree(_headline(description), guide_style="dim")
    _provenance(tree, description)
    if description.root is not None:
        _children(tree, description.root)
    for member in description.members:
        tree.add(render(member))
    hidden = description.attributes.get("files", 0) - len(description.members) if description.members else 0
    if hidden > 0:
        tree.add(f"[dim]... {hidden} more files[/]")
    for path in description.unchecked:
        tree.add(f"[yellow]not read for its size:[/] {shown(path)}")
    if description.violations:
        branch = tree.add(f"[bold red]{len(description.violations)} violations[/]")
        for violation in description.violations:
            branch.add(f"[red]{shown(str(violation))}[/]")
    return tree


def to_text(description: Description, width: int = 160) -> str:
    """The same tree without colours."""
    console = Console(file=StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(render(description))
    assert isinstance(console.file, StringIO)
    return escaped_lines(console.file.getvalue())


def _headline(description: Description) -> str:
    what = description.kind
    if description.schema:
        what = f"{shown(description.schema)} version {description.version}"
    state = "[red]not valid[/]" if description.violations else "[green]valid[/]" if description.schema else ""
    return f"[bold]{shown(description.path)}[/]  {what}  {human_bytes(description.bytes)}  {state}".rstrip()


def _provenance(tree: Tree, description: Description) -> None:
    if description.stage:
        tree.add(f"stage: {shown(description.stage)}")
    if description.options:
        branch = tree.add("options")
        for name, value in sorted(description.options.items()):
            branch.add(shown(f"{name} = {json.dumps(value, sort_keys=True)}"))
    for digest in description.inputs[:8]:
        tree.add(shown(f"input: {digest}"))
    if len(description.inputs) > 8:
        tree.add(f"[dim]... {len(description.inputs) - 8} more inputs[/]")
    if description.made:
        branch = tree.add("made")
        for name, value in description.made.items():
            branch.add(shown(f"{name}: {value if isinstance(value, str) else json.dumps(value)}"))
    for name, value in sorted(description.attributes.items()):
        tree.add(shown(f"{name}: {value}"))


def _children(tree: Tree, node: Node) -> None:
    for child in node.children:
        branch = tree.add(_line(child))
        _children(branch, child)
    if node.left_out:
        tree.add(f"[dim]... {node.left_out} more[/]")


def _line(node: Node) -> str:
    name = f"[bold]{shown(node.name)}[/]"
    if node.kind != "dataset":
        size = f"  [dim]{human_bytes(node.stored_bytes)}[/]" if node.kind == "group" else ""
        return f"{name}{'/' if node.kind == 'group' else ''}{size}  {shown(node.note or node.description)}"
    shape = " x ".join(map(str, node.shape or ())) or "scalar"
    parts = [
        name,
        shown(f"[{shape}]"),
        shown(node.type),
        shown(node.unit),
        f"[dim]{human_bytes(node.stored_bytes)}[/]",
    ]
    parts += [
        _statistics(node.statistics) if node.statistics else "",
        shown(", ".join(map(_short, node.sample))),
    ]
    parts += [f"[dim]{shown(node.description)}[/]", f"[red]{shown(node.note)}[/]" if node.note else ""]
    return "  ".join(part for part in parts if part)


def _short(text: str, most: int = 24) -> str:
    """A long text by its beginning, on one line."""
    return escaped(text if len(text) <= most else f"{text[:12]}…")


def _statistics(statistics: Statistics) -> str:
    if statistics.minimum != statistics.minimum:
        return f"all {statistics.missing} none"
    missing = f", {statistics.missing} none" if statistics.missing else ""
    return f"{statistics.minimum:.6g} .. {statistics.maximum:.6g}, mean {statistics.mean:.6g}{missing}"
