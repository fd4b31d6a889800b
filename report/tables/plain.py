"""Tables for a terminal: a line under the header, no frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table


def plain_table(
    title: str, left: Sequence[str] = (), right: Sequence[str] = (), *, gap: int = 1, **settings: Any
) -> Table:
    """Columns of text, then columns of numbers. gap: blanks between them; settings: of rich's."""
    look = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, gap, 0, 0)}
    table = Table(title=title, caption_justify="left", **{**look, **settings})
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table
