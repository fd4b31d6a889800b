"""Pieces of HTML. Every text that comes from outside passes `text` on its way into the page."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_AMOUNT = re.compile(r"[+-]?\d[\d,.]*(e[+-]\d+)?( \(.*\))?$")


class Safe(str):
    """Text that is HTML already."""


def text(value: Any) -> Safe:
    """Any value as HTML text, safe between tags and inside quoted attributes; no line breaks or controls."""
    if isinstance(value, Safe):
        return value
    plain = str(value).encode("utf-8", "backslashreplace").decode()
    return Safe(html.escape("".join(each if each.isprintable() else "�" for each in plain), quote=True))


def join(parts: Iterable[Any]) -> Safe:
    """Pieces one after another; what is not HTML is escaped."""
    return Safe("".join(text(part) for part in parts))


def tag(name: str, *content: Any, **attributes: Any) -> Safe:
    """An element: tag("p", "a < b", class_="note"). `_` in attribute names is `-`; None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Safe(f"<{name}{written}>{join(content)}</{name}>")


def section(identifier: str, title: str, *content: Any) -> Safe:
    """A part of the page with a heading that the menu leads to."""
    return tag("section", tag("h2", title), *content, id=identifier, aria_label=title)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> Safe:
    """A table that scrolls sideways where the screen is narrow; numbers stand to the right."""
    lines = [tuple(row) for row in rows]
    sides = [_side([row[at] for row in lines]) for at in range(len(header))]
    named = zip(header, sides, strict=True)
    head = tag("thead", tag("tr", *(tag("th", name, scope="col", class_=side) for name, side in named)))
    body = tag("tbody", *(tag("tr", *map(_cell, row, sides)) for row in lines))
    title = tag("caption", caption) if caption else ""
    return tag("div", tag("table", title, head, body), class_="wide", tabindex="0")


def bars(title: str, labels: Sequence[str], counts: Sequence[int]) -> Safe:
    """A histogram that screen readers can read: one row per bin."""
    most = max([*counts, 1])
    rows = [
        tag(
            "tr",
            tag("th", label, scope="row"),
            tag("td", tag("span", class_="bar", style=f"width:{100 * count / most:.1f}%")),
            tag("td", f"{count:,}", class_="number"),
        )
        for label, count in zip(labels, counts, strict=True)
    ]
    return tag("table", tag("caption", title), tag("tbody", *rows), class_="bars")


def histogram(title: str, values: NDArray[Any], edges: Sequence[float]) -> Safe:
    """`bars` of values between edges; the last bin takes all that is larger."""
    found = np.asarray(values)
    places = np.clip(np.searchsorted(edges, found, side="right") - 1, 0, len(edges) - 1)
    counts = np.bincount(places, minlength=len(edges)).tolist() if found.size else [0] * len(edges)
    whole = found.dtype.kind in "iu"
    labels = [_bin(low, high, whole) for low, high in pairwise(edges)]
    return bars(title, [*labels, f"{edges[-1]:g} or more"], counts)


def details(summary: Any, *content: Any, open_: bool = False) -> Safe:
    """Something to unfold."""
    return tag("details", tag("summary", summary), *content, open="" if open_ else None)


def facts(pairs: Mapping[str, Any]) -> Safe:
    """Big numbers with what they count."""
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs.items()),
        class_="facts",
    )


def json_script(identifier: str, value: Any) -> Safe:
    """Data for the page's own script; nothing in it can end the element."""
    written = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    for each, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        written = written.replace(each, code)
    written = written.encode("utf-8", "backslashreplace").decode()
    return Safe(f'<script type="application/json" id="{identifier}">{written}</script>')


def number(value: float, form: str = ".3g", unknown: str = "–") -> str:
    """A number as text; nan is a dash."""
    return unknown if value != value else format(value, form)


def _bin(low: float, high: float, whole: bool) -> str:
    """What lies between two edges, the upper one left out: of whole numbers 3 or 5–6, else 0.1–0.2."""
    if not whole:
        return f"{low:g}–{high:g}"
    return f"{low:g}" if high - low == 1 else f"{low:g}–{high - 1:g}"


def _side(column: Sequence[Any]) -> str | None:
    """The class of a column's cells: numbers stand to the right, texts of which one is no number do not."""
    absent = ("–", "no query", "")
    numeric = [each for each in column if each not in absent]
    return "number" if numeric and all(map(_is_number, numeric)) else None


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _AMOUNT.match(value) is not None
    return isinstance(value, int | float | np.number)


def _cell(value: Any, side: str | None) -> Safe:
    return tag("td", value, class_=side)
